"""Roughness index: how differently the loss varies along random lines through a point."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.directions import random_direction
from lsshell.engine.landscape.grid import evaluate
from lsshell.engine.landscape.places import Place, visit
from lsshell.engine.problem import Problem

MOST = 10_000
FLAT = 8.0  # units of rounding of the largest value: a slice that varies less is flat


@dataclass(frozen=True)
class Roughness:
    """At one range l, over the directions: the index, and total variations per unit of length.

    index: std(T)/mean(T) (ddof 1) of the normalised total variations T_k; None below two slices
    that are not flat. mean: of T_k, in units of 1/(2l), so 1 for monotone slices, up to 2 for a
    single extremum. variation: mean of the total variations that are not normalised, loss per
    unit of s. flat: slices left out, whose values differ by rounding alone. monotone: how many
    of the others rise or fall throughout.
    """

    span: float
    index: float | None
    mean: float | None
    variation: float
    flat: int
    monotone: int
    normalised: tuple[float | None, ...]


@dataclass(frozen=True)
class RoughnessResult:
    """A row a range; slices: f_k(s) (M, m + 1) of each range."""

    place: Place
    rows: tuple[Roughness, ...]
    slices: tuple[Tensor, ...]


def roughness(
    problem: Problem,
    place: Place,
    *,
    directions: int = 50,
    points: int = 10,
    spans: Sequence[float] = (0.001, 0.01, 0.1, 1.0),
    seed: int = 0,
    listen: Listener = silent,
) -> RoughnessResult:
    """The roughness index of the training loss around a place.

    f_k(s) = L(θ + s·d_k) on `points` + 1 equidistant s of [−l, l], l each of `spans`, along M =
    `directions` filter-normalised Gaussian directions (`random_directions`); with
    T_k = (1/2l)·Σ_j |f_k(s_{j+1}) − f_k(s_j)| / (max f_k − min f_k),

        RI = std_k(T_k) / mean_k(T_k).

    The loss is that of the full training set. Wu, Du, Chen et al. 2021, with 50 directions, 10
    intervals and l = 0.01. Raises EngineError below two directions or one interval.
    """
    if not 2 <= directions <= MOST:
        raise EngineError(f"--directions takes 2 to {MOST}")
    if not 1 <= points <= MOST:
        raise EngineError(f"--points takes 1 to {MOST}")
    if not spans or not all(0.0 < span < math.inf for span in spans):
        raise EngineError("--range takes lengths above 0, as in 0.01 or 0.001,0.01,0.1")
    grids = [torch.linspace(-span, span, points + 1, dtype=torch.float64) for span in spans]
    rows = torch.cat(grids)[:, None]
    found = []
    with visit(problem, place):
        theta = place.theta
        for k in range(directions):
            direction = random_direction(problem, theta, k, seed)[None]
            losses = evaluate(problem, theta, direction, rows, splits=("train",))["train"].loss
            if not bool(losses.isfinite().all()):
                raise EngineError("the loss is not finite along a direction: a smaller --range")
            found.append(losses.view(len(spans), points + 1))
            listen(Progress("roughness", k + 1, directions))
    slices = torch.stack(found, dim=1)
    rounding = torch.finfo(problem.dtype).eps
    return RoughnessResult(
        place,
        tuple(roughness_index(f, span, rounding) for f, span in zip(slices, spans, strict=True)),
        tuple(slices),
    )


def roughness_index(slices: Tensor, span: float, rounding: float = 0.0) -> Roughness:
    """The index of slices f_k(s_j) (M, m + 1) over [−span, span].

    rounding: relative, of a value; slices that vary by less than 8 of it are flat.
    """
    f = slices.double()
    rises = f.diff(dim=1)
    variation = rises.abs().sum(1)
    heights = f.amax(1) - f.amin(1)
    flat = heights <= FLAT * rounding * f.abs().amax(1)
    # In units of 1/(2l): the index is the same, and no power of l is lost to rounding.
    shapes = [
        None if still else v / h
        for still, v, h in zip(flat.tolist(), variation.tolist(), heights.tolist(), strict=True)
    ]
    known = [shape for shape in shapes if shape is not None]
    monotone = ((rises >= 0.0).all(1) | (rises <= 0.0).all(1)) & ~flat
    mean = statistics.fmean(known) if known else None
    return Roughness(
        span=span,
        index=statistics.stdev(known) / mean if mean and len(known) > 1 else None,
        mean=mean,
        variation=float(variation.mean()) / (2.0 * span),
        flat=int(flat.sum()),
        monotone=int(monotone.sum()),
        normalised=tuple(None if s is None else s / (2.0 * span) for s in shapes),
    )
