"""Where on a walk its validation (else test) loss is least, between the points that are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lsshell.engine.errors import NotFiniteError
from lsshell.engine.levelset import Correction
from lsshell.engine.location import between, least
from lsshell.engine.path import Path, Point
from lsshell.engine.steppers.stepper import Terrain


@dataclass(frozen=True)
class Best:
    """The place found: a kept point with its θ (p,), or what the corrector gave after that point
    (`found`); `value` is the loss there.
    """

    before: Point
    theta: Tensor
    found: Correction | None
    value: float


def locate_best(terrain: Terrain, path: Path, first: Point) -> Best | None:
    """Halves the bracket around the least loss measured since `first` on this lineage.

    None where that is at either end. Costs test losses, and the corrector's gradients for points
    between those that are kept; records nothing.
    """
    problem = terrain.problem
    line = [p for p in path.lineage() if p.kept and p.index >= first.index]
    known = {float(k): p.chosen_by for k, p in enumerate(line) if p.chosen_by is not None}
    middle = min(known, key=lambda k: (known[k], k))
    if middle in (min(known), max(known)):
        return None
    found: dict[float, Correction] = {}

    def theta(k: int) -> Tensor:
        return problem.flat(path.store.get(line[k].index)).to(problem.device)

    def at(place: float) -> float | None:
        k = math.floor(place)
        point = theta(k)
        try:
            if k != place:
                correction = between(terrain, point, theta(k + 1), place - k)
                if correction is None:
                    return None
                point, found[place] = correction.theta, correction
            return problem.test(point).chosen_by
        except NotFiniteError:
            return None

    place = least(known, at, middle)
    k = math.floor(place)
    return Best(line[k], theta(k), found.get(place), known[place])
