"""Predict in the tangent space, correct, accept on the Lagrangian: shared by steppers."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lsshell.engine.errors import NotFiniteError
from lsshell.engine.evaluation import Evaluation
from lsshell.engine.events import Corrected, Refused
from lsshell.engine.levelset import newton, secant
from lsshell.engine.steppers.stepper import Position, Stalled, Stepper, Terrain
from lsshell.engine.vectors import dot, norm

ARMIJO = 1e-4
MAX_HALVINGS = 20
# The first step and the first cap on a step's length, relative to ‖θ‖.
FIRST_STEP = 1e-3
FIRST_CAP = 0.02
NO_SHORTER_STEP = (
    "no shorter step lowers R within the tolerance: the point is as good as this precision and"
    " tolerance allow"
)


@dataclass(frozen=True)
class Share:
    """How much residual is allowed: of the tolerance, and of the step's gain in R."""

    of_tolerance: float
    of_gain: float


# Where the corrector ends; and where a point may be taken on the way, if R has come down.
CORRECTED = Share(0.1, 0.1)
TAKEN = Share(0.5, 1.0)
# sin ∠(r, g) below which a walk may end at any step: no point is taken before it is centred.
CENTRED = 0.03


@dataclass(frozen=True)
class Direction:
    """d (p,): d·g = 0, d·r < 0, its length the step wished; n (p,), n·g > 0: along which L is put
    right, each point's own g where there is none.
    """

    tangent: Tensor
    normal: Tensor | None = None


@dataclass(frozen=True)
class Attempt:
    """A step to be tried: αd of this length, and the fall of R that its tangent promises.

    aim: the loss to be brought to. normal: n (p,), scaled so that n·g = g·g = `square`, or None
    for g. multiplier: μ = −(r·n)/(g·n), which is ν where n is g and at constrained stationary
    points.
    """

    here: Position
    length: float
    decrease: float
    aim: float
    normal: Tensor | None
    square: float
    multiplier: float


@dataclass(frozen=True)
class Trail:
    """What the corrector came by: every loss; the last point, and those before it whose gradients
    were asked for.
    """

    losses: tuple[float, ...] = ()
    points: tuple[Evaluation, ...] = ()

    def to(self, point: Evaluation) -> Trail:
        known = (p for p in self.points if p.asked)
        return Trail((*self.losses, point.loss), (*known, point))

    @property
    def corrections(self) -> int:
        return len(self.losses) - 1


class TangentDescent(Stepper):
    """Descends R by tangent directions d of the subclass's choice.

    A trial point θ + αd, re-centred along n for the residual at θ, is brought by secants along n
    (Newton steps along g where there is no n) to |L − L*| ≤ tolerance/10, and closer where a tenth
    of the expected decrease of R is less than the residual is worth: μ per unit of loss, by which
    R changes along n. It is accepted where R + μ(L − L*) falls by Armijo's rule and R falls;
    otherwise α is halved.
    An `eager` stepper also makes up beforehand for the rise of the loss that the last step's tells
    to expect (it goes with the square of the length), and takes a point before the corrector ends,
    within half of the tolerance and a residual worth no more than the decrease.
    The cap on ‖αd‖ follows the predictor's own error: the rise of the loss, wanted at `rise` (a
    share of L*).
    """

    rise: ClassVar[float]
    eager: ClassVar[bool] = False

    def __init__(self) -> None:
        self.cap: float | None = None
        self.bend = 0.0  # rise of the loss over the squared length of the last step

    @abstractmethod
    def direction(self, terrain: Terrain, here: Position) -> Direction:
        """Where to go from here."""

    def accepted(
        self, terrain: Terrain, here: Position, there: Position, points: Sequence[Evaluation]
    ) -> None:
        """A step was taken; curvature can be learned from the corrector's points whose gradients
        were asked for, `there` the last.
        """

    def forget(self) -> bool:
        """Drops what was learned; False where nothing was (then the walk has stalled)."""
        return False

    def step(self, terrain: Terrain, here: Position) -> Position:
        while True:
            there = self._try(terrain, here)
            if there is not None:
                return there
            if not self.forget():
                raise Stalled(NO_SHORTER_STEP)

    def _try(self, terrain: Terrain, here: Position) -> Position | None:
        direction = self.direction(terrain, here)
        d, g, n = direction.tangent, here.gradient, direction.normal
        slope = dot(d, here.split.tangent)
        if not slope < 0.0:
            return None
        if self.cap is None:
            self.cap = FIRST_CAP * max(norm(here.theta), 1e-3)
        whole = norm(d)
        alpha = self.cap / whole
        if terrain.sign > 0.0:  # climbing has no end of its own: only the cap bounds the step
            alpha = min(1.0, alpha)
        square, multiplier = dot(g, g), here.split.multiplier
        if n is not None:
            n *= square / dot(n, g)
            multiplier = -dot(here.slope, n) / square
        for halvings in range(MAX_HALVINGS):
            decrease, length = -alpha * slope, alpha * whole
            aim = self._aim(terrain, here, decrease, multiplier)
            attempt = Attempt(here, length, decrease, aim, n, square, multiplier)
            expected = self.bend * length**2 if self.eager else 0.0
            trial = torch.add(here.theta, d, alpha=alpha)
            trial.sub_(g if n is None else n, alpha=(here.loss - aim + expected) / square)
            there: Position | str = "the loss is not finite"
            with contextlib.suppress(NotFiniteError):
                there, trail = self._correct(terrain, attempt, trial)
            if isinstance(there, Position):
                rise = trail.losses[0] - aim + expected
                self.bend = rise / length**2
                self._adapt(abs(rise) / terrain.level_set.level, length, halvings)
                residuals = tuple(terrain.level_set.residual(loss) for loss in trail.losses)
                terrain.listen(
                    Corrected(trail.corrections, abs(residuals[-1]), residuals, decrease)
                )
                self.accepted(terrain, here, there, trail.points)
                return there
            terrain.listen(Refused(length, there))
            alpha /= 2
        return None

    def _correct(
        self, terrain: Terrain, attempt: Attempt, trial: Tensor
    ) -> tuple[Position | str, Trail]:
        """The first acceptable point of the corrector's and the way there, or why there is none."""
        within = loose = self._within(terrain, attempt, CORRECTED)
        # A look at R costs a gradient or more where R is dear: then only at the corrector's end.
        if self.eager and terrain.objective.cheap and attempt.here.split.sine > CENTRED:
            loose = max(within, self._within(terrain, attempt, TAKEN))
        trail, nearest = Trail(), math.inf
        found: tuple[Position | str, Trail] | None = None
        for point in self._corrector(terrain, attempt, trial):
            trail = trail.to(point)
            residual = abs(point.loss - attempt.aim)
            if residual > loose or residual > nearest:
                continue
            there = self._judge(terrain, attempt, point, trail.corrections)
            if isinstance(there, str) and found is not None and isinstance(found[0], Position):
                break
            found, nearest = (there, trail), residual
            if residual <= within or (isinstance(there, Position) and there.split.sine > CENTRED):
                break
        if found is None:  # as near as it comes may be near enough
            found = self._judge(terrain, attempt, trail.points[-1], trail.corrections), trail
        return found

    @staticmethod
    def _corrector(terrain: Terrain, attempt: Attempt, trial: Tensor) -> Iterator[Evaluation]:
        problem, n = terrain.problem, attempt.normal
        if n is None:
            return newton(problem, attempt.aim, trial)
        return secant(problem, attempt.aim, trial, n, attempt.square)

    @staticmethod
    def _aim(terrain: Terrain, here: Position, decrease: float, multiplier: float) -> float:
        """The loss to centre at: L*, or as near to it as half of the step's gain in R pays for.

        Moving the loss by δ costs the multiplier times δ of R; under a wide tolerance that can be
        more than a step.
        """
        level_set = terrain.level_set
        residual = level_set.residual(here.loss)
        cost = multiplier * residual
        share = min(1.0, 0.5 * decrease / cost) if cost > 0.0 else 1.0
        return level_set.level + (1.0 - share) * residual

    @staticmethod
    def _within(terrain: Terrain, attempt: Attempt, share: Share) -> float:
        """How well to centre: what residual is left must be worth less than the step gains."""
        level, tolerance = terrain.level_set.level, terrain.level_set.tolerance
        floor = (1e-12 if attempt.here.theta.dtype == torch.float64 else 1e-6) * level
        worth = abs(attempt.multiplier)
        wanted = share.of_gain * attempt.decrease / worth if worth else tolerance
        return min(share.of_tolerance * tolerance, max(wanted, floor))

    def _judge(
        self, terrain: Terrain, attempt: Attempt, point: Evaluation, corrections: int
    ) -> Position | str:
        """The position there, or why it is refused."""
        if not terrain.level_set.contains(point.loss):
            return "not brought back to the level"
        if not terrain.objective.cheap:
            point.gradient  # noqa: B018 - R's passes over the data take the place of its graph
        value, slope = terrain.objective_at(point.theta)
        here, decrease, length = attempt.here, attempt.decrease, attempt.length
        lagrangian = value - here.value + attempt.multiplier * (point.loss - here.loss)
        if lagrangian <= -ARMIJO * decrease and value < here.value:  # false of a NaN
            theta, loss, gradient = point.theta, point.loss, point.gradient
            return Position(theta, loss, gradient, value, slope, length, corrections)
        return "R did not come down" if terrain.sign > 0 else "R did not go up"

    def _adapt(self, rise: float, length: float, halvings: int) -> None:
        # Bounds on the corrector's contraction or the tangent's turning, as in Allgower & Georg
        # (1990, §6.1), cost gradients: MNIST_FF to ‖θ‖² = 136.47 by `gradient` takes 3235 as it
        # is, 3464 with κ₁ ≤ 0.5, 5722 with turning ≤ 60°.
        factor = min(1.6, max(0.5, (self.rise / max(rise, 1e-9)) ** 0.5))
        if halvings:
            factor = min(factor, 0.7)
        self.cap = factor * length
