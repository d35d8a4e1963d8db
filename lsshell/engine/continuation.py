"""Continuation in L*: the constrained minimum of R followed as the level varies."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lsshell.engine.errors import Cancelled, EngineError, NotFiniteError
from lsshell.engine.excursion import Excursion
from lsshell.engine.levelset import LevelNotReached, LevelSet, correct, move_to
from lsshell.engine.path import Point
from lsshell.engine.steppers import Position, Stalled, Terrain
from lsshell.engine.steppers.quasi_newton import QuasiNewton
from lsshell.engine.vectors import dot
from lsshell.engine.walk import INTERRUPTED, PAUSED, STATIONARY_SINE, STEPS_TAKEN, WalkEnd, walk

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine

DEFAULT_POINTS = 10
DEFAULT_ANGLE = 179.0


@dataclass(frozen=True)
class ContinuationRequest:
    """to: the last level; points: levels on the way, geometrically spaced (10); method: of the walk
    to the first minimum; until_angle: at which a minimum counts as reached (179°); steps: at most
    so many at each level (400); stop_after: points recorded, at which a replay ends.
    """

    to: float
    points: int = DEFAULT_POINTS
    method: str = "quasi-newton"
    until_angle: float = DEFAULT_ANGLE
    steps: int | None = None
    stop_after: int | None = None


@dataclass(frozen=True)
class ContinuationResult:
    """Where it set out, the minimum at each level in order, points recorded (those of the walk to
    the first minimum too), gradients spent, and why it ended.
    """

    start: Point
    minima: tuple[Point, ...]
    steps: int
    gradients: int
    reason: str
    theta: str


def regularization_path(engine: Engine, request: ContinuationRequest) -> ContinuationResult:
    """Minima of R on {L = L*} for levels from the one at hand to `to`, each recorded as a point.

    First the walk to the constrained minimum at the current level, then for every level: a
    predictor along the curve of minima and the quasi-Newton walk, with the memory of the levels
    before, to `until_angle`. The tolerance keeps its share of L*. At each minimum ∇R + ν∇L = 0, so
    that it is a stationary point of L + λR with λ = 1/ν: the curve is the regularisation path, by
    the level in the place of λ. Ends early, and says so, where a level is not reached or lies
    beyond R's own minimum. Raises EngineError on bad input, with nothing changed.
    """
    from lsshell.engine.engine import WalkRequest

    level_set = _check(engine, request)
    approach = engine.walk(
        WalkRequest(
            method=request.method,
            steps=request.steps,
            until_angle=request.until_angle,
            stop_after=request.stop_after,
        )
    )
    if approach.reason in (INTERRUPTED, PAUSED) or approach.reason.endswith(STEPS_TAKEN):
        reason = approach.reason
        if reason.endswith(STEPS_TAKEN):
            reason = f"{reason} before the first minimum: give more --steps"
        spent = approach.end.gradients - approach.start.gradients
        return ContinuationResult(approach.start, (), approach.steps, spent, reason, approach.theta)
    warm = engine._walker[1] if engine._walker is not None else None
    stepper = warm if isinstance(warm, QuasiNewton) else QuasiNewton()
    excursion = Excursion.begin(engine, "regularization-path", request.points, 1, 1)
    curve = _Curve(excursion, level_set, stepper, request)
    most = request.points
    if request.stop_after is not None:
        most = min(most, request.stop_after - approach.steps)
    minima, reason = [approach.end], f"level {request.to:g} reached"
    for k in range(1, most + 1):
        share = (request.to / level_set.level) ** (k / request.points)
        level = request.to if k == request.points else level_set.level * share
        whole = engine.ready().work
        try:
            found = curve.next(level)
        except (Cancelled, KeyboardInterrupt):
            engine.ready().work = whole  # the level under way leaves no trace
            reason = INTERRUPTED
            break
        except _Ended as e:
            engine.ready().work = whole
            reason = str(e)
            break
        minima.append(excursion.record(found, _note(found), level_set=curve.level_set))
        if engine.pause.is_set():
            reason = PAUSED
            break
    last = excursion.end(reason)
    if len(minima) > 1:
        minima[-1] = last
    return ContinuationResult(
        approach.start,
        tuple(minima),
        approach.steps + excursion.taken,
        last.gradients - approach.start.gradients,
        reason,
        engine.theta_hash(),
    )


def _check(engine: Engine, request: ContinuationRequest) -> LevelSet:
    level_set = engine.level_set_here()
    if not engine.sum.terms:
        raise EngineError("no regulariser is on: say `reg l2 on` first")
    if not 0.0 < request.to < math.inf:
        raise EngineError(f"--to {request.to:g}: a level is a loss above 0")
    if math.isclose(request.to, level_set.level, rel_tol=1e-9):
        raise EngineError(f"--to {request.to:g} is the level at hand: give another")
    if not 0 < request.points < 10**6:
        raise EngineError("--points must be above 0")
    return level_set


class _Ended(Exception):  # noqa: N818 - an ending; the message is the sentence it ends with
    """No further minimum."""


class _Curve:
    """θ*(L*), the curve of constrained minima, level after level."""

    def __init__(
        self,
        excursion: Excursion,
        level_set: LevelSet,
        stepper: QuasiNewton,
        request: ContinuationRequest,
    ) -> None:
        self.excursion, self.level_set, self.stepper = excursion, level_set, stepper
        self.share = level_set.tolerance / level_set.level
        self.request = request
        self.before: tuple[float, Tensor] | None = None  # the level before the last, and θ* there

    def next(self, level: float) -> Position:
        """The minimum at the next level. Raises _Ended."""
        excursion, here = self.excursion, self.excursion.here
        terrain = replace(excursion.terrain, level_set=LevelSet(level, self.share * level))
        begin = self._begin(terrain, here)
        end = self._descend(terrain, begin)
        if end.reason == INTERRUPTED:
            raise Cancelled
        if end.position.split.multiplier <= 0.0:
            raise _Ended(
                f"R's own minimum was passed before the level {level:g}: no λ above 0 leads there"
            )
        if end.reason.endswith(STEPS_TAKEN):
            raise _Ended(
                f"{end.reason} at the level {level:g} before its minimum: give more --steps"
            )
        self.before = (self.level_set.level, here.theta)
        self.level_set = terrain.level_set
        return end.position

    def _begin(self, terrain: Terrain, here: Position) -> Position:
        """The predicted point, brought onto the new level: by the shortest way or by L-BFGS."""
        problem, level_set = terrain.problem, terrain.level_set
        within = level_set.tolerance / 10
        for trial in (self._predicted(terrain, here), here.theta):
            try:
                found = correct(problem, level_set, trial, within=within)
            except NotFiniteError:
                continue
            if found.converged:
                return terrain.at(found.theta, found.loss, found.gradient)
        try:
            theta, _ = move_to(problem, level_set, here.theta)
        except (LevelNotReached, NotFiniteError) as e:
            raise _Ended(
                f"the level {level_set.level:g} was not reached from the one before"
            ) from e
        return terrain.at(theta, *problem.loss_and_gradient(theta))

    def _predicted(self, terrain: Terrain, here: Position) -> Tensor:
        """Secant in log L* through the last two minima; at first Euler's step with H ≈ B⁻¹,

        dθ*/dL* = Hg/(g·Hg), the derivative of the KKT conditions Bθ' + ν'g = 0, g·θ' = 1.
        """
        rise = math.log(terrain.level_set.level / self.level_set.level)
        if self.before is not None:
            level, theta = self.before
            return torch.lerp(
                theta, here.theta, 1.0 + rise / math.log(self.level_set.level / level)
            )
        inverse = self.stepper.inverse
        if inverse is None or not len(inverse):
            return here.theta
        step = inverse.descent_step(here.gradient)
        return torch.add(
            here.theta, step, alpha=rise * self.level_set.level / dot(step, here.gradient)
        )

    def _descend(self, terrain: Terrain, begin: Position) -> WalkEnd:
        self.stepper.renew()  # the last steps to a minimum are short: not a measure of the first
        steps = self.request.steps or self.excursion.engine.default_steps("quasi-newton")
        angle = self.request.until_angle
        end = walk(
            terrain,
            self.stepper,
            begin,
            steps=steps,
            record=lambda position: None,
            until_angle=angle,
        )
        # A walk takes 179.994° for 180°; who asks for more gets it, as far as precision goes.
        taken, position = end.steps, end.position
        if end.reason == INTERRUPTED or position.split.sine > STATIONARY_SINE:
            return end
        with contextlib.suppress(Stalled):
            while position.split.angle_deg < angle and taken < steps:
                position, taken = self.stepper.step(terrain, position), taken + 1
        return replace(end, position=position, steps=taken)


def _note(found: Position) -> str:
    nu = found.split.multiplier
    return f"L {found.loss:.4g}, R {found.value:.5g}, λ {1.0 / nu:.3g}"
