"""The loop: step, record, stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from lsshell.engine.errors import Cancelled, EngineError, NotFiniteError
from lsshell.engine.events import Event, Refused
from lsshell.engine.levelset import correct
from lsshell.engine.steppers.stepper import Position, Stalled, Stepper, Terrain

# Angles this close to a constrained stationary point are one: sin(∠(r, g)) below it.
STATIONARY_SINE = 1e-4
LOCATE_STEPS = 8
PAUSED, INTERRUPTED = "paused", "interrupted"


class Until(Protocol):
    """A value that ends the walk when it crosses a target."""

    name: str
    target: float

    def value(self, position: Position) -> float: ...


@dataclass(frozen=True)
class WalkEnd:
    """Where a walk ended: the last accepted position, steps taken, steps refused, and why."""

    position: Position
    steps: int
    refused: int
    reason: str


def walk(
    terrain: Terrain,
    stepper: Stepper,
    here: Position,
    *,
    steps: int,
    record: Callable[[Position], None],
    until: Sequence[Until] = (),
    until_angle: float | None = None,
    seconds: float | None = None,
    paused: Callable[[], bool] = lambda: False,
) -> WalkEnd:
    """Walks at most `steps` steps from `here`, calling `record` after each accepted one.

    Ends early where the angle between ∇L and ∇R reaches `until_angle` degrees (from below when
    descending, from above when ascending), where an `until` value crosses its target (the last
    step is shortened to meet it), after `seconds`, at a constrained stationary point, where no
    step is acceptable, where `paused` says so between two steps, or where the user asked to stop
    (between gradients; the last accepted point stays). Every recorded point satisfies
    |L − L*| ≤ tolerance.
    """
    refused = 0
    problem, ranks = terrain.problem, terrain.problem.ranks
    whole = (0, problem.gradients)  # refused steps and gradients at the last accepted point

    def count(event: Event) -> None:
        nonlocal refused
        refused += isinstance(event, Refused)
        terrain.listen(event)

    counted = Terrain(terrain.problem, terrain.level_set, terrain.objective, terrain.sign, count)
    taken, deadline = 0, None if seconds is None else time.monotonic() + seconds
    sides = [u.value(here) - u.target for u in until]
    while True:
        reason = _arrived(here, terrain.sign, until_angle)
        if reason is None and taken >= steps:
            reason = f"{steps} steps taken"
        if reason is None and deadline is not None and ranks.any(time.monotonic() >= deadline):
            reason = f"{seconds:g} seconds are over"
        if reason is None and ranks.any(paused()):
            reason = PAUSED
        if reason is not None:
            return WalkEnd(here, taken, refused, reason)
        try:
            there = stepper.step(counted, here)
            crossed = next(
                (u for u, s in zip(until, sides, strict=True) if _crossed(s, u, there)), None
            )
            if crossed is not None:
                there = _locate(counted, crossed, here, there)
        except (Cancelled, KeyboardInterrupt):
            # The step under way leaves no trace, so that walking as many steps gives this again.
            refused, problem.gradients = whole
            return WalkEnd(here, taken, refused, INTERRUPTED)
        except Stalled as e:
            return WalkEnd(here, taken, refused, str(e))
        taken += 1
        here = there
        record(here)
        whole = (refused, problem.gradients)
        if crossed is not None:
            return WalkEnd(here, taken, refused, f"{crossed.name} = {crossed.target:g} reached")


def _arrived(here: Position, sign: float, until_angle: float | None) -> str | None:
    angle = here.split.angle_deg if sign > 0 else 180.0 - here.split.angle_deg
    if here.split.slope_norm == 0.0:
        return "∇R is zero here: nothing to descend"
    if math.isnan(angle):
        raise EngineError("∇L is zero here: the level set has no tangent space at this point")
    if until_angle is not None and sign * angle >= sign * until_angle:
        return f"angle {angle:.4g}° reached"
    if here.split.sine <= STATIONARY_SINE:
        kind = "minimum" if angle > 90 else "stationary point"
        if sign < 0:
            kind = "maximum"
        return f"constrained {kind} reached (angle {angle:.4g}°)"
    return None


def _crossed(side: float, until: Until, there: Position) -> bool:
    return side != 0.0 and (until.value(there) - until.target) * side <= 0.0


def _locate(terrain: Terrain, until: Until, here: Position, there: Position) -> Position:
    """The point between two accepted ones where the value meets its target, by regula falsi.

    Points between are corrected back to the level set; the far end is returned where none is
    acceptable.
    """
    low, high = 0.0, 1.0
    f_low, f_high = until.value(here) - until.target, until.value(there) - until.target
    best = there
    for _ in range(LOCATE_STEPS):
        if abs(f_high) <= 1e-4 * max(abs(until.target), 1e-12):
            break
        share = low + (high - low) * f_low / (f_low - f_high)
        share = min(max(share, low + 0.05 * (high - low)), high - 0.05 * (high - low))
        trial = torch.lerp(here.theta, there.theta, share)
        try:
            correction = correct(
                terrain.problem, terrain.level_set, trial, within=terrain.level_set.tolerance / 10
            )
        except NotFiniteError:
            break
        if not correction.converged:
            break
        middle = terrain.at(correction.theta, correction.loss, correction.gradient)
        f_middle = until.value(middle) - until.target
        if f_middle * f_low > 0.0:
            low, f_low = share, f_middle
        else:
            high, f_high, best = share, f_middle, middle
    return best
