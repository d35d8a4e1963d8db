"""Predict in the tangent space, correct by Newton, accept on the Lagrangian: shared by steppers."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from lsshell.engine.errors import NotFiniteError
from lsshell.engine.events import Corrected, Refused
from lsshell.engine.levelset import Correction, LevelSet, correct
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


class TangentDescent(Stepper):
    """Descends R by tangent directions d of the subclass's choice.

    A trial point θ + αd, re-centred for the residual at θ, is brought back to
    |L − L*| ≤ tolerance/10, and closer where the expected decrease of R is smaller than what the
    residual is worth (ν per unit of loss). It is accepted where the Lagrangian
    R + ν(L − L*) falls by Armijo's rule and R falls; otherwise α is halved.
    The cap on ‖αd‖ follows the predictor's own error: the loss it left to the corrector, wanted
    at `rise` (a share of L*).
    """

    rise: ClassVar[float]

    def __init__(self) -> None:
        self.cap: float | None = None

    @abstractmethod
    def direction(self, terrain: Terrain, here: Position) -> Tensor:
        """A tangent descent direction d (p,): d·g = 0, d·r < 0; its length is the step wished."""

    def accepted(
        self, terrain: Terrain, here: Position, there: Position, correction: Correction
    ) -> None:
        """A step was taken; curvature can be learned from the corrector's trail."""

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
        parts = here.split
        d = self.direction(terrain, here)
        slope = dot(d, parts.tangent)
        if not slope < 0.0:
            return None
        if self.cap is None:
            self.cap = FIRST_CAP * max(norm(here.theta), 1e-3)
        alpha = self.cap / norm(d)
        if terrain.sign > 0.0:  # climbing has no end of its own: only the cap bounds the step
            alpha = min(1.0, alpha)
        square = norm(here.gradient) ** 2
        for halvings in range(MAX_HALVINGS):
            decrease = -alpha * slope
            aim = self._aim(terrain, here, decrease)
            recentre = (here.loss - aim.level) / square
            trial = torch.add(here.theta, d, alpha=alpha).sub_(here.gradient, alpha=recentre)
            within = self._within(terrain, here, decrease)
            try:
                correction = correct(terrain.problem, aim, trial, within=within)
                there = self._judge(terrain, here, correction, decrease, alpha * norm(d))
            except NotFiniteError:
                there = None
            if there is not None:
                self._adapt(terrain, here, correction, halvings)
                self.accepted(terrain, here, there, correction)
                return there
            terrain.listen(Refused(alpha * norm(d), "the loss or R did not come down"))
            alpha /= 2
        return None

    @staticmethod
    def _aim(terrain: Terrain, here: Position, decrease: float) -> LevelSet:
        """Where to centre: L*, or as near to it as half of the step's gain in R pays for.

        Moving the loss by δ costs ν·δ of R; under a wide tolerance that can be more than a step.
        """
        level_set = terrain.level_set
        residual = level_set.residual(here.loss)
        cost = here.split.multiplier * residual
        share = min(1.0, 0.5 * decrease / cost) if cost > 0.0 else 1.0
        return LevelSet(level_set.level + (1.0 - share) * residual, level_set.tolerance)

    def _within(self, terrain: Terrain, here: Position, decrease: float) -> float:
        """How well to centre: what residual is left must be worth less than the step gains."""
        level, tolerance = terrain.level_set.level, terrain.level_set.tolerance
        floor = (1e-12 if here.theta.dtype == torch.float64 else 1e-6) * level
        worth = abs(here.split.multiplier)
        wanted = 0.1 * decrease / worth if worth else tolerance
        return min(tolerance / 10, max(wanted, floor))

    def _judge(
        self,
        terrain: Terrain,
        here: Position,
        correction: Correction,
        decrease: float,
        rate: float,
    ) -> Position | None:
        level_set = terrain.level_set
        if not level_set.contains(correction.loss):
            return None
        spent = len(correction.trail) - 1
        there = terrain.at(correction.theta, correction.loss, correction.gradient, rate, spent)
        lagrangian = there.value - here.value
        lagrangian += here.split.multiplier * (there.loss - here.loss)
        if lagrangian > -ARMIJO * decrease or there.value >= here.value:
            return None
        if spent:
            terrain.listen(Corrected(spent, abs(level_set.residual(there.loss))))
        return there

    def _adapt(
        self, terrain: Terrain, here: Position, correction: Correction, halvings: int
    ) -> None:
        rise = abs(correction.first_residual) / terrain.level_set.level
        factor = min(1.6, max(0.5, (self.rise / max(rise, 1e-9)) ** 0.5))
        if halvings:
            factor = min(factor, 0.7)
        self.cap = factor * norm(correction.theta - here.theta)
