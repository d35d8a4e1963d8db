"""Directions in parameter space to look along: random, principal, and from point to point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.path import Path, Point
from lsshell.engine.problem import Problem
from lsshell.engine.projection import gram_matrix
from lsshell.engine.seeds import generator

# Of ‖d‖: below it what is left of a direction beside another is rounding.
PARALLEL = 1e-6


def random_directions(problem: Problem, theta: Tensor, count: int, seed: int) -> Tensor:
    """Filter-normalised Gaussian directions (count, p) at θ (p,).

    d ~ N(0, I); then d_f ← d_f·‖θ_f‖/‖d_f‖ for each filter f (a slice along the first axis: a row
    of a dense layer, a filter of a convolution) of every tensor with two axes or more. Biases and
    normalisation parameters do not move, nor do filters that are zero. Direction k is the same
    whatever `count` is. Li et al. 2018, "Visualizing the loss landscape of neural nets".

    Raises EngineError where nothing would move, and for two that are one (of a single weight).
    """
    if count < 1:
        raise EngineError("ask for one direction at least")
    found = torch.stack([random_direction(problem, theta, k, seed) for k in range(count)])
    if count == 2 and not _independent(found):
        raise EngineError(
            "the two random directions are parallel, so few are the weights: another --seed, or"
            " --dimensions 1"
        )
    return found


def random_direction(problem: Problem, theta: Tensor, number: int, seed: int) -> Tensor:
    """Row `number` of `random_directions` (p,), without the others."""
    found, where = torch.zeros_like(theta, device="cpu"), theta.detach().cpu()
    source = generator(seed, f"direction {number}")
    for slot in problem.slots:
        if not slot.is_weight:
            continue
        span = slice(slot.offset, slot.offset + slot.size)
        filters = where[span].view(slot.shape[0], -1).double()
        drawn = torch.randn(filters.shape, generator=source, dtype=torch.float64)
        lengths = drawn.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        found[span] = (drawn * (filters.norm(dim=1, keepdim=True) / lengths)).view(-1).to(found)
    if not found.any():
        raise EngineError(
            "a random direction has the norms of the weights' filters, and all of these are zero"
            " (or there are only biases)"
        )
    return found.to(theta.device)


def principal_directions(
    path: Path, points: Sequence[Point], tensors: Sequence[str], count: int
) -> tuple[Tensor, tuple[float, ...]]:
    """The first principal axes (count, p) of the kept points, unit vectors, and their shares of
    the points' variance.

    From the T×T Gram matrix of the points: w = Σ v_t(θ_t − mean)/√λ for an eigenvector v of the
    centred matrix. Signs as in `projection`: the last point lies on the positive side of each.
    `tensors`: the names of those that make θ, in their order. Raises EngineError below count + 1
    kept points, or where they span fewer dimensions.
    """
    kept = [p for p in points if p.kept]
    if len(kept) <= count:
        raise EngineError(
            f"{_axes(count)} need{'s' * (count == 1)} {count + 1} kept points at least, and there"
            f" {'is' if len(kept) == 1 else 'are'} {len(kept)}: walk first"
        )
    row = path.store.row
    gram = gram_matrix(lambda i, span: row(kept[i].index, tensors, span), len(kept)).numpy()
    centred = gram - gram.mean(0) - gram.mean(1, keepdims=True) + gram.mean()
    values, vectors = np.linalg.eigh((centred + centred.T) / 2)
    values, vectors = values[::-1].clip(0.0), vectors[:, ::-1]
    if values[count - 1] <= PARALLEL**2 * values[0]:
        raise EngineError(f"the points lie on a line: they have no {_axes(count)}; --dimensions 1")
    vectors = vectors[:, :count] * np.where(vectors[-1, :count] < 0, -1.0, 1.0)
    # Weights that sum to 0: the mean drops out, and differences keep the digits that matter.
    weights = torch.from_numpy(np.ascontiguousarray(vectors - vectors.mean(0)))
    origin = row(kept[0].index, tensors).double()
    found = torch.zeros(count, len(origin), dtype=torch.float64)
    for weight, point in zip(weights, kept, strict=True):
        found.addr_(weight, row(point.index, tensors).double() - origin)
    found /= found.norm(dim=1, keepdim=True)
    return found, tuple((values[:count] / values.sum()).tolist())


def point_directions(origin: Tensor, *others: Tensor) -> Tensor:
    """θ_k − θ (k, p): a coefficient of 1 is at the k-th point.

    Raises EngineError where a point is where another is, or all are on one line.
    """
    found = torch.stack([other - origin for other in others])
    if not bool(found.any(dim=1).all()):
        raise EngineError("there is no line between a point and itself: give another point")
    if len(found) > 1 and not _independent(found):
        raise EngineError("the three points are on one line, through which there is no one plane")
    return found


def cosine(directions: Tensor) -> float | None:
    """The cosine of the angle between two directions (2, p); None of a single one."""
    if len(directions) < 2:
        return None
    a, b = directions.cpu().double()
    return float(a @ b / (a.norm() * b.norm()))


@dataclass(frozen=True)
class Projected:
    """Points seen in a line or plane: coefficients (T, k), what is left of each one's offset from
    the origin (T,), the greatest offset, and the share of the points' variance that lies within.
    """

    coordinates: Tensor
    residuals: Tensor
    farthest: float
    explained: float | None


def project(origin: Tensor, directions: Tensor, points: Iterable[Tensor]) -> Projected:
    """Points θ_t (p,) on the line or plane through the origin (p,), by least squares.

    Coefficients are multiples of the directions (k, p), which may have any length and angle
    (a projection by cosines is right for orthogonal unit vectors only).
    """
    wide, start = directions.cpu().double(), origin.cpu().double()
    inner = wide @ wide.T
    inverse = torch.linalg.inv(inner)
    coordinates, residuals = list[Tensor](), list[float]()
    total, mean, farthest = 0.0, torch.zeros_like(start), 0.0
    for point in points:
        offset = point.cpu().double() - start
        coordinates.append(inverse @ (wide @ offset))
        residuals.append(float((offset - coordinates[-1] @ wide).norm()))
        square = float(offset @ offset)
        total, farthest = total + square, max(farthest, square)
        mean += offset
    count = len(coordinates)
    if not count:
        return Projected(torch.zeros(0, len(wide)), torch.zeros(0), 0.0, None)
    found = torch.stack(coordinates)
    variance = total - float(mean @ mean) / count
    centred = found - found.mean(0)
    within = float(torch.einsum("ti,ij,tj", centred, inner, centred))
    rounding = 1e-12 * total
    explained = min(1.0, within / variance) if variance > rounding else None
    return Projected(found, torch.tensor(residuals), farthest**0.5, explained)


def _independent(directions: Tensor) -> bool:
    a, b = directions.cpu().double()
    left = b - (a @ b) / (a @ a) * a
    return float(left.norm()) > PARALLEL * float(b.norm())


def _axes(count: int) -> str:
    return "a principal axis" if count == 1 else f"{count} principal axes"
