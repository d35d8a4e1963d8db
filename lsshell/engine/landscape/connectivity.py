"""How well two points are connected: loss and error along a curve and along the straight line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.alignment import Alignment, align
from lsshell.engine.landscape.batch_norm import recompute_statistics
from lsshell.engine.landscape.chord import over_chord
from lsshell.engine.landscape.curves import (
    BATCH,
    RATE,
    WEIGHT_DECAY,
    Curve,
    CurveKind,
    Init,
    line,
    train_curve,
)
from lsshell.engine.landscape.places import visit
from lsshell.engine.problem import Problem, TestMetrics
from lsshell.engine.vectors import norm, wide

POINTS = 21
MOST_POINTS = 100_001
# What counts as no deviation: a hundredth of what a network that knows nothing is off by.
WELL_CONNECTED = 0.01
BARRIER, WELL, BETTER = "barrier", "well connected", "curve better than its ends"
# The measure looks at the ends too: where they are unlike, they may deviate most.
BETWEEN = "nowhere worse or better than its ends, which differ"


@dataclass(frozen=True)
class Profile:
    """A quantity e(t) at points of a curve, from t = 0 to 1.

    mc = ½(e(0) + e(1)) − e(t*), t* = argmax |e(t) − ½(e(0) + e(1))| (Yang et al. 2021): negative
    where there is a barrier, positive where the curve is better than its ends. barrier: the most
    that e is above the straight interpolation (1 − t)·e(0) + t·e(1), at t = barrier_at (never under
    0, its value at the ends). weighted_mean: over arc length, by the trapezoid rule.
    """

    values: tuple[float, ...]
    mc: float
    t_star: float
    barrier: float
    barrier_at: float
    mean: float
    weighted_mean: float

    @property
    def ends(self) -> tuple[float, float]:
        return self.values[0], self.values[-1]

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def greatest(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Connectivity:
    """A curve's kind; points t; distance along it from its begin at each; profiles of the loss and,
    for classification, of the error in percent; the tolerance of `reading`; gradients spent.
    """

    kind: str
    t: tuple[float, ...]
    distance: tuple[float, ...]
    train_loss: Profile
    test_loss: Profile
    train_error: Profile | None
    test_error: Profile | None
    tolerance: float
    gradients: int = 0

    @property
    def length(self) -> float:
        """Of the chain through the points."""
        return self.distance[-1]

    @property
    def train(self) -> Profile:
        """The training error in percent, or the training loss for regression."""
        return self.train_loss if self.train_error is None else self.train_error

    @property
    def test(self) -> Profile:
        """The test error in percent, or the test loss for regression."""
        return self.test_loss if self.test_error is None else self.test_error

    @property
    def mc(self) -> float:
        """The taxonomy's measure: of the training error in percent (regression: training loss)."""
        return self.train.mc

    @property
    def reading(self) -> str:
        """The sign of mc in words; within the tolerance, and where an end deviates most, it says
        nothing of what is between the ends.
        """
        if abs(self.mc) > self.tolerance and self.train.t_star in (0.0, 1.0):
            return BETWEEN
        return read_sign(self.mc, self.tolerance)


@dataclass(frozen=True, eq=False)
class Connection:
    """Two points, joined by the straight line and by a trained curve; how the second was aligned to
    the first before, None where it was not.
    """

    line: Connectivity
    curve: Connectivity
    trained: Curve
    alignment: Alignment | None = None


def connect(
    problem: Problem,
    a: Tensor,
    b: Tensor,
    *,
    kind: CurveKind = "bezier",
    bends: int = 1,
    epochs: int | None = None,
    rate: float = RATE,
    batch: int = BATCH,
    weight_decay: float = WEIGHT_DECAY,
    init: Init = "linear",
    points: int = POINTS,
    permute: bool = False,
    seed: int = 0,
    listen: Listener = silent,
) -> Connection:
    """Trains a curve from a to b (p,) and measures along it and along the straight line.

    The settings are those of `train_curve` and `mode_connectivity`. permute: b is aligned to a
    before (`align`). Raises EngineError as these do, and where a and b are the same.
    """
    _check_points(points)
    if torch.equal(a, b):
        raise EngineError("A and B are the same parameters: there is nothing to connect")
    alignment = align(problem, a, b, seed=seed) if permute else None
    if alignment is not None:
        b = alignment.theta
    straight = mode_connectivity(problem, line(a, b), points, listen=listen)
    trained = train_curve(
        problem,
        a,
        b,
        kind=kind,
        bends=bends,
        epochs=epochs,
        rate=rate,
        batch=batch,
        weight_decay=weight_decay,
        init=init,
        seed=seed,
        listen=listen,
    )
    curve = mode_connectivity(problem, trained, points, listen=listen)
    return Connection(straight, curve, trained, alignment)


def mode_connectivity(
    problem: Problem, curve: Curve, points: int = POINTS, *, listen: Listener = silent
) -> Connectivity:
    """Loss and error on training and test examples at `points` even t, the ends among them.

    Batch-norm statistics are recomputed at each (Garipov et al. 2018). The tolerance within which
    mc counts as 0 is one percent of error, or for regression one hundredth of the targets'
    variance. The problem is left as it was. Raises EngineError for fewer than 3 points and where
    the loss is not finite, Cancelled where the user asked to stop.
    """
    _check_points(points)
    at = tuple(i / (points - 1) for i in range(points))
    train: list[TestMetrics] = []
    test: list[TestMetrics] = []
    steps = []
    with visit(problem) as spent:
        previous = curve.points[0]
        for done, t in enumerate(at, start=1):
            theta = curve.at(t)
            recompute_statistics(problem, theta)
            train.append(problem.metrics(theta, "train"))
            test.append(problem.metrics(theta, "test"))
            steps.append(norm(theta - previous))
            previous = theta
            listen(Progress(f"along the {curve.kind}", done, points))
    distance = tuple(itertools.accumulate(steps))

    def losses(found: Sequence[TestMetrics]) -> Profile:
        return profile(at, distance, [m.loss for m in found])

    def errors(found: Sequence[TestMetrics]) -> Profile | None:
        rates = [m.accuracy for m in found if m.accuracy is not None]
        return profile(at, distance, [100.0 * (1.0 - r) for r in rates]) if rates else None

    return Connectivity(
        curve.kind,
        at,
        distance,
        losses(train),
        losses(test),
        errors(train),
        errors(test),
        _tolerance(problem),
        curve.gradients + spent.gradients,
    )


def _check_points(points: int) -> None:
    if not 3 <= points <= MOST_POINTS:
        raise EngineError(f"a curve is measured at 3 to {MOST_POINTS} points, not {points}")


def profile(t: Sequence[float], distance: Sequence[float], values: Sequence[float]) -> Profile:
    """What there is to say of e(t), given the distance along the curve at each t; from 0 to 1."""
    middle = 0.5 * (values[0] + values[-1])
    star = max(range(len(values)), key=lambda i: abs(values[i] - middle))
    above = over_chord(t, values)
    top = max(range(len(above)), key=above.__getitem__)
    length = distance[-1]
    area = math.fsum(
        0.5 * (values[i - 1] + values[i]) * (distance[i] - distance[i - 1])
        for i in range(1, len(values))
    )
    mean = math.fsum(values) / len(values)
    return Profile(
        tuple(values),
        middle - values[star],
        t[star],
        above[top],
        t[top],
        mean,
        area / length if length else mean,
    )


def read_sign(mc: float, tolerance: float) -> str:
    """Poorly connected (a barrier), well connected, or a curve that is better than its ends."""
    if abs(mc) <= tolerance:
        return WELL
    return BARRIER if mc < 0.0 else BETTER


def _tolerance(problem: Problem) -> float:
    if problem.classification:
        return 100.0 * WELL_CONNECTED
    y = wide(problem.y_train.reshape(len(problem.y_train), -1))
    return WELL_CONNECTED * float(torch.var(y, dim=0, correction=0).mean())
