"""Batch-norm statistics taken anew at another θ, where frozen ones would belong to the old."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.problem import Problem


def has_batch_norm(problem: Problem) -> bool:
    """Whether the network normalises by running statistics."""
    return bool(_layers(problem))


def recompute_statistics(problem: Problem, theta: Tensor) -> None:
    """Sets the running statistics to those of the training set at θ (p,), in one pass.

    Each layer's are the plain averages over the chunks of `Problem.chunk` examples, with the layers
    before it normalised by their chunk's own: what a pass in training mode gives with
    momentum 1/k at the k-th chunk (Garipov et al. 2018, `update_bn`). Within `places.visit` the
    network has its own statistics back afterwards.
    """
    layers = _layers(problem)
    if not layers:
        return
    if problem.ranks.any(problem.cancelled()):
        raise Cancelled
    problem.place(theta)
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain average
            layer.train()
        with torch.no_grad():
            for x in problem.x_train.split(problem.chunk):
                problem.network(x)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()


@contextlib.contextmanager
def batch_statistics(problem: Problem) -> Iterator[None]:
    """Inside, batch norm takes the statistics of each chunk of `Problem.chunk` examples, so that
    losses and gradients are functions of θ alone; the running statistics stay as they are.

    Raises EngineError where a chunk is of one example, which has no variance.
    """
    layers = _layers(problem)
    if not layers:
        yield
        return
    for n in (len(problem.x_train), len(problem.x_test)):
        if n % problem.chunk == 1:
            raise EngineError(
                f"batch norm needs more than one example: {n} in chunks of {problem.chunk} leave"
                " one over; say `data … --chunk` with another number"
            )
    momenta = [layer.momentum for layer in layers]
    counts = [layer.num_batches_tracked.clone() for layer in layers]
    captured, unseen = problem._captured, problem._unseen
    problem._captured, problem._unseen = None, False  # a graph is of running statistics
    try:
        for layer in layers:
            layer.momentum = 0.0
            layer.train()
        yield
    finally:
        problem._captured, problem._unseen = captured, unseen
        for layer, momentum, count in zip(layers, momenta, counts, strict=True):
            layer.momentum = momentum
            layer.num_batches_tracked.copy_(count)
            layer.eval()


def _layers(problem: Problem) -> list[nn.modules.batchnorm._BatchNorm]:
    return [
        m
        for m in problem.network.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]
