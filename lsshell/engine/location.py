"""Where between two points of a walk something happens, to be found on the level set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lsshell.engine.errors import NotFiniteError
from lsshell.engine.events import Corrected
from lsshell.engine.levelset import Correction, correct
from lsshell.engine.steppers.stepper import Position, Terrain

LOCATE_STEPS = 8
HALVINGS = 8
# Relative: of a value met, and of a minimum (a loss on examples not trained on is no more exact).
MET, FLAT = 1e-4, 1e-3


class Until(Protocol):
    """A value that ends the walk when it crosses a target."""

    name: str
    target: float

    def value(self, position: Position) -> float: ...


def met(until: Until, difference: float) -> bool:
    """Whether value − target is as good as zero."""
    return abs(difference) <= MET * max(abs(until.target), 1e-12)


def between(terrain: Terrain, a: Tensor, b: Tensor, share: float) -> Correction | None:
    """The point at `share` of the way from a to b (p,), corrected back to the level set; None
    where it is not brought back.
    """
    within = terrain.level_set.tolerance / 10
    try:
        correction = correct(
            terrain.problem, terrain.level_set, torch.lerp(a, b, share), within=within
        )
    except NotFiniteError:
        return None
    return correction if correction.converged else None


def crossing(terrain: Terrain, until: Until, here: Position, there: Position) -> Position:
    """The point between two accepted ones where the value meets its target, by regula falsi.

    The far end is returned where no point between is acceptable. The predictor's length of the
    point found is its share of the whole step's.
    """
    low, high = 0.0, 1.0
    f_low, f_high = until.value(here) - until.target, until.value(there) - until.target
    best = there
    for _ in range(LOCATE_STEPS):
        if met(until, f_high):
            break
        share = low + (high - low) * f_low / (f_low - f_high)
        share = min(max(share, low + 0.05 * (high - low)), high - 0.05 * (high - low))
        correction = between(terrain, here.theta, there.theta, share)
        if correction is None:
            break
        spent = len(correction.residuals) - 1
        rate = None if there.rate is None else share * there.rate
        middle = terrain.at(correction.theta, correction.loss, correction.gradient, rate, spent)
        f_middle = until.value(middle) - until.target
        if f_middle * f_low > 0.0:
            low, f_low = share, f_middle
        else:
            high, f_high, best = share, f_middle, middle
            terrain.listen(Corrected(spent, abs(correction.residuals[-1]), correction.residuals))
    return best


def least(known: dict[float, float], at: Callable[[float], float | None], middle: float) -> float:
    """Where on a line a value is least, by halving the bracket around `middle`.

    `known`: values at places already seen, with at least one place, not below `middle`'s value,
    on either side; whole numbers stand for points at hand and are tried first. `at` gives the
    value at another place, None where there is no point. Ends where the bracket's ends are within
    a share of 1e-3 of its middle, or after eight halvings. What is returned is least of all seen.
    """
    low = max(s for s in known if s < middle)
    high = min(s for s in known if s > middle)
    for _ in range(HALVINGS):
        flat = max(known[low], known[high]) - known[middle]
        if flat <= FLAT * abs(known[middle]):
            break
        for a, b in ((low, middle), (middle, high)):
            place = _halfway(a, b)
            value = at(place)
            if value is None:
                return middle
            known[place] = value
        inside = sorted(s for s in known if low <= s <= high)
        k = min(range(1, len(inside) - 1), key=lambda k: (known[inside[k]], inside[k]))
        low, middle, high = inside[k - 1 : k + 2]
    return middle


def _halfway(a: float, b: float) -> float:
    """The whole number nearest to the middle, where one lies between; otherwise the middle."""
    whole = float(round((a + b) / 2))
    return whole if a < whole < b else (a + b) / 2
