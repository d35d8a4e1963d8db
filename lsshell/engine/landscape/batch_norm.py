"""Batch-norm statistics taken anew at another θ, where frozen ones would belong to the old."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem, chunk_sizes

# The statistics at another θ: those the network has, or taken anew there.
BatchNorm = Literal["frozen", "recomputed"]


def taken_anew(problem: Problem, batch_norm: BatchNorm) -> bool:
    """Whether there are statistics, and they are to be recomputed at each θ."""
    return batch_norm == "recomputed" and bool(problem.batch_norms)


def recompute_statistics(problem: Problem, theta: Tensor) -> None:
    """Sets the running statistics to those of the training set at θ (p,), in one pass.

    Each layer's are the plain averages over the chunks of `Problem.chunk` examples, with the layers
    before it normalised by their chunk's own: what a pass in training mode gives with
    momentum 1/k at the k-th chunk (Garipov et al. 2018, `update_bn`). Within `places.visit` the
    network has its own statistics back afterwards. Raises EngineError with one example.
    """
    layers = problem.batch_norms
    if not layers:
        return
    n = len(problem.x_train)
    if n < 2:
        raise EngineError("batch-norm statistics cannot be taken of a single training example")
    problem.unless_cancelled()
    problem.place(theta)
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain average
            layer.train()
        with torch.no_grad():
            for x in problem.x_train.split(chunk_sizes(n, max(2, problem.chunk))):
                problem.network(x)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


@contextlib.contextmanager
def batch_statistics(problem: Problem) -> Iterator[None]:
    """Inside, batch-norm layers normalise by the batch at hand, and their buffers stay as they are:
    the loss that is trained, of networks whose statistics at this θ are not known.
    """
    layers = problem.batch_norms
    modes = [layer.training for layer in layers]
    captured, unseen = problem._captured, problem._unseen
    if layers:
        problem._captured, problem._unseen = None, False  # a graph is of running statistics
    try:
        for layer in layers:
            layer.track_running_stats = False  # in training mode: no buffer is touched
            layer.train()
        yield
    finally:
        problem._captured, problem._unseen = captured, unseen
        for layer, mode in zip(layers, modes, strict=True):
            layer.track_running_stats = True
            layer.train(mode)
