"""The straight line between two points: its loss, monotonicity, and how far the outputs turn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.batch_norm import BatchNorm, recompute_statistics, taken_anew
from lsshell.engine.landscape.chord import over_chord
from lsshell.engine.landscape.directions import point_directions
from lsshell.engine.landscape.gauss_length import gauss_length, output_turning
from lsshell.engine.landscape.grid import Values, evaluate
from lsshell.engine.landscape.places import Place, visit
from lsshell.engine.problem import Problem, Split
from lsshell.engine.vectors import norm

MONOTONE = 1e-6  # of the loss's range: a rise below it is rounding
MOST_POINTS = 100_000
TURNED = 1000  # test examples whose outputs' turning is averaged at most
BENT = 0.01  # of the loss's range: an interval that bends less is not refined


@dataclass(frozen=True)
class Bump:
    """A stretch of α on which the loss is above the least before it, and by how much at most."""

    begins: float
    ends: float
    height: float


@dataclass(frozen=True)
class Interpolation:
    """L and accuracy at θ_A + α(θ_B − θ_A), α ascending from 0 to 1.

    rise: Δ = max_i (L_i − min_{j≤i} L_j) of the training loss; threshold: the rise that counts as
    none; barrier: the greatest height over the straight line between the ends' losses. distance:
    ‖θ_B − θ_A‖, relative: over ‖θ_A‖ (None where that is 0). gauss: the Gauss length (n,) of each
    of the first test examples, None where the network cannot be differentiated forwards twice
    (`why` says so).
    """

    a: Place
    b: Place
    alphas: tuple[float, ...]
    values: Mapping[Split, Values]
    rise: float
    threshold: float
    bumps: tuple[Bump, ...]
    barrier: float
    distance: float
    relative: float | None
    gauss: Tensor | None
    why: str = ""

    @property
    def monotone(self) -> bool:
        """Whether the training loss never rises by more than the threshold."""
        return self.rise <= self.threshold


def interpolate(
    problem: Problem,
    a: Place,
    b: Place,
    *,
    points: int = 50,
    refine: int = 0,
    batch_norm: BatchNorm = "recomputed",
    listen: Listener = silent,
) -> Interpolation:
    """The straight line from A to B at `points` equidistant α, both ends included.

    refine: at most so many more points, each in the middle of an interval in which the training
    loss bends by more than 1 % of its range: narrow bumps are found out so. Batch-norm statistics
    are taken anew at each α, or are A's throughout ("frozen"). The Gauss length is the mean of
    the first 1000 test examples', with those statistics held.

    Lucas et al. 2021, "Analyzing monotonic linear interpolation in neural network loss
    landscapes" (Δ and the Gauss length). Raises EngineError where A is B.
    """
    if not 2 <= points <= MOST_POINTS or not 0 <= refine <= MOST_POINTS:
        raise EngineError(f"--points takes 2 to {MOST_POINTS}, --refine 0 to {MOST_POINTS}")
    with visit(problem, a):
        origin = a.theta
        direction = point_directions(origin, b.theta)
        known: dict[float, tuple[dict[Split, float], dict[Split, float]]] = {}

        def measure(alphas: Sequence[float]) -> None:
            rows = torch.tensor(alphas, dtype=torch.float64)[:, None]
            found = evaluate(
                problem, origin, direction, rows,
                batch_norm=batch_norm, listen=listen, task="interpolate",
            )  # fmt: skip
            for i, alpha in enumerate(alphas):
                losses: dict[Split, float] = {s: float(v.loss[i]) for s, v in found.items()}
                rates: dict[Split, float] = {
                    s: float(v.accuracy[i]) for s, v in found.items() if v.accuracy is not None
                }
                known[alpha] = (losses, rates)

        measure([k / (points - 1) for k in range(points)])
        left = refine
        while left > 0:
            alphas = sorted(known)
            more = bent(alphas, [known[x][0]["train"] for x in alphas])[:left]
            if not more:
                break
            measure(sorted(more))
            left -= len(more)
        alphas = sorted(known)
        gauss, why = _gauss(problem, origin, direction[0], alphas, batch_norm, listen)
    values = {split: _values(problem, [known[x] for x in alphas], split) for split in known[0.0][0]}
    train = values["train"].loss.tolist()
    if not all(bool(v.loss.isfinite().all()) for v in values.values()):
        raise EngineError("the loss is not finite everywhere between these points")
    threshold = MONOTONE * (max(train) - min(train))
    length = norm(origin)
    distance = norm(direction[0])
    return Interpolation(
        a=a,
        b=b,
        alphas=tuple(alphas),
        values=values,
        rise=largest_rise(train),
        threshold=threshold,
        bumps=bumps(alphas, train, threshold),
        barrier=max(over_chord(alphas, train)),
        distance=distance,
        relative=distance / length if length > 0.0 else None,
        gauss=gauss,
        why=why,
    )


def largest_rise(losses: Sequence[float]) -> float:
    """Δ = max_i (L_i − min_{j≤i} L_j), the greatest draw-up: the smallest D for which
    L(α₂) − L(α₁) ≤ D whenever α₁ < α₂. 0 exactly where the losses never rise.
    """
    least, rise = math.inf, 0.0
    for loss in losses:
        least = min(least, loss)
        rise = max(rise, loss - least)
    return rise


def bumps(
    alphas: Sequence[float], losses: Sequence[float], threshold: float = 0.0
) -> tuple[Bump, ...]:
    """Stretches on which the loss is above the least before it by more than the threshold.

    Each begins at that least; it ends at the next point that is no more than it, or with the line.
    """
    found = list[Bump]()
    low = begins = 0  # index of the least so far; of the least before the bump under way
    height = 0.0
    for i, loss in enumerate(losses):
        if loss <= losses[low]:
            if height > 0.0:
                found.append(Bump(alphas[begins], alphas[i], height))
                height = 0.0
            low = i
        elif loss - losses[low] > threshold:
            begins = low
            height = max(height, loss - losses[low])
    if height > 0.0:
        found.append(Bump(alphas[begins], alphas[-1], height))
    return tuple(found)


def bent(alphas: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Middles of the intervals in which the curve bends most, worst first.

    An interval's bend is h²/8 times the second divided difference at its worse end: how far a
    parabola through its neighbours departs from the chord. Those under 1 % of the range are left.
    """
    reach = max(losses) - min(losses)
    slopes = [
        (v - u) / (y - x) for (x, y), (u, v) in zip(pairwise(alphas), pairwise(losses), strict=True)
    ]
    curvature = [0.0] * len(alphas)
    for i in range(1, len(alphas) - 1):
        curvature[i] = abs(slopes[i] - slopes[i - 1]) / ((alphas[i + 1] - alphas[i - 1]) / 2)
    bends = []
    for i, (x, y) in enumerate(pairwise(alphas)):
        middle = (x + y) / 2
        bend = (y - x) ** 2 / 8 * max(curvature[i], curvature[i + 1])
        if bend > BENT * reach and x < middle < y:
            bends.append((-bend, middle))
    return [middle for _, middle in sorted(bends)]


def _gauss(
    problem: Problem,
    origin: Tensor,
    direction: Tensor,
    alphas: Sequence[float],
    batch_norm: BatchNorm,
    listen: Listener,
) -> tuple[Tensor | None, str]:
    x = problem.x_test[:TURNED]
    anew = taken_anew(problem, batch_norm)
    rates = []
    for k, alpha in enumerate(alphas):
        if anew:
            recompute_statistics(problem, origin + alpha * direction)
        try:
            rates.append(output_turning(problem, origin, direction, alpha, x))
        except Cancelled:
            raise
        except Exception as e:  # the network may be the user's own
            return None, (str(e).splitlines() or [type(e).__name__])[0].strip()[:120]
        listen(Progress("Gauss length", k + 1, len(alphas)))
    return gauss_length(alphas, rates), ""


def _values(
    problem: Problem, known: Sequence[tuple[dict[Split, float], dict[Split, float]]], split: Split
) -> Values:
    losses = torch.tensor([losses[split] for losses, _ in known], dtype=torch.float64)
    if not problem.classification:
        return Values(losses, None)
    return Values(losses, torch.tensor([rates[split] for _, rates in known], dtype=torch.float64))
