"""The loop: step, record, stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lsshell.engine.errors import Cancelled
from lsshell.engine.events import Event, Refused
from lsshell.engine.location import Until, crossing, met
from lsshell.engine.steppers.stepper import Position, Stalled, Stepper, Terrain

# Angles this close to a constrained stationary point are one: sin(∠(r, g)) below it.
STATIONARY_SINE = 1e-4
PAUSED, INTERRUPTED = "paused", "interrupted"
NO_TANGENT_SPACE = "∇L is zero here: the level set has no tangent space at this point"
STEPS_TAKEN = " steps taken"  # how a reason ends where they ran out


@dataclass(frozen=True)
class WalkEnd:
    """Where a walk ended: the last accepted position, steps taken, steps refused, and why.

    crossed: the value that met its target.
    """

    position: Position
    steps: int
    refused: int
    reason: str
    crossed: Until | None = None


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
    stop: Callable[[], str | None] = lambda: None,
) -> WalkEnd:
    """Walks at most `steps` steps from `here`, calling `record` after each accepted one.

    Ends early where the angle between ∇L and ∇R reaches `until_angle` degrees (from below when
    descending, from above when ascending), where an `until` value crosses its target (the last
    step is shortened to meet it), after `seconds`, at a constrained stationary point, where no
    step is acceptable, where `stop` gives a reason between two steps, or where the user asked to
    stop (between gradients; the last accepted point stays). Every recorded point satisfies
    |L − L*| ≤ tolerance.
    """
    refused = 0
    problem, ranks = terrain.problem, terrain.problem.ranks
    whole = (0, problem.work)  # refused steps and work at the last accepted point

    def count(event: Event) -> None:
        nonlocal refused
        refused += isinstance(event, Refused)
        terrain.listen(event)

    counted = Terrain(terrain.problem, terrain.level_set, terrain.objective, terrain.sign, count)
    taken, deadline = 0, None if seconds is None else time.monotonic() + seconds
    sides = [u.value(here) - u.target for u in until]
    for u, side in zip(until, sides, strict=True):
        if met(u, side):
            return WalkEnd(here, 0, 0, _reached(u), u)
    while True:
        reason = arrived(here, terrain.sign, until_angle)
        if reason is None and taken >= steps:
            reason = f"{steps}{STEPS_TAKEN}"
        if reason is None and deadline is not None and ranks.any(time.monotonic() >= deadline):
            reason = f"{seconds:g} seconds are over"
        if reason is None:
            reason = stop()
        if reason is not None:
            return WalkEnd(here, taken, refused, reason)
        try:
            there = stepper.step(counted, here)
            crossed = next(
                (u for u, s in zip(until, sides, strict=True) if _crossed(s, u, there)), None
            )
            if crossed is not None:
                there = crossing(counted, crossed, here, there)
        except (Cancelled, KeyboardInterrupt):
            # The step under way leaves no trace, so that walking as many steps gives this again.
            refused, problem.work = whole
            return WalkEnd(here, taken, refused, INTERRUPTED)
        except Stalled as e:
            return WalkEnd(here, taken, refused, str(e))
        taken += 1
        here = there
        record(here)
        whole = (refused, problem.work)
        if crossed is not None:
            return WalkEnd(here, taken, refused, _reached(crossed), crossed)


def _reached(until: Until) -> str:
    return f"{until.name} = {until.target:g} reached"


def arrived(here: Position, sign: float, until_angle: float | None) -> str | None:
    """Why a walk ends at this position, in words; None where it goes on."""
    angle = here.split.angle(sign)
    if here.split.slope_norm == 0.0:
        return "∇R is zero here: nothing to descend"
    if math.isnan(angle):
        return NO_TANGENT_SPACE
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
