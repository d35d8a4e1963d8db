"""`paper`: the published path follower, kept as it is so that results compare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lsshell.engine.errors import NotFiniteError
from lsshell.engine.events import Corrected
from lsshell.engine.steppers.stepper import Position, Stalled, Stepper, Terrain
from lsshell.engine.vectors import dot, norm


@dataclass(frozen=True)
class PaperRates:
    """Constants of the published program (lengths in parameter space, angles in degrees)."""

    minimum: float = 1e-4
    maximum: float = 0.1
    corrector: float = 1e-4
    grow: float = 1.1
    shrink: float = 0.1
    turn_deg: float = 0.1
    vanishing_rms: float = 1e-6
    most_corrections: int = 10_000


TABULAR = PaperRates(minimum=1e-5, corrector=1e-6)


class Paper(Stepper):
    """Tahir & Katz 2020 (released program): unit-length predictor × rate, fixed-length corrector.

    Predictor: p = t/‖t‖, t the rejection of ∇R from ∇L (∇R itself where the root mean square of
    ∇L is under 1e-6). Rate: ×1.1 where p turned by less than 0.1° since the last predictor,
    ×0.1 otherwise, within [minimum, maximum]; back to the minimum after a correction.
    Corrector: unit gradient of (L − L*)², its component along the last p removed, × 1e-4; its
    rate never adapts (that block is unreachable in the published program).
    A step is one predictor and the corrections after it. The published program corrects for ever
    where the corrector's length jumps over the band (rate·‖∇L‖ > 2·tolerance): here it stops
    after `most_corrections` in a row and says so.
    """

    name: ClassVar[str] = "paper"

    def __init__(self, rates: PaperRates | None = None) -> None:
        self.rates = rates or PaperRates()
        self.rate = self.rates.minimum
        self.predictor: Tensor | None = None
        self.corrected = False

    def step(self, terrain: Terrain, here: Position) -> Position:
        p = self._predictor(here)
        self._adapt(p)
        self.predictor = p
        theta = torch.add(here.theta, p, alpha=-self.rate)
        return self._correct(terrain, theta, p)

    def _predictor(self, here: Position) -> Tensor:
        rms = norm(here.gradient) / math.sqrt(here.gradient.numel())
        t = here.split.tangent if rms >= self.rates.vanishing_rms else here.slope
        length = norm(t)
        if length == 0.0:
            raise Stalled("∇R has no tangent part: nothing to descend")
        return t / length

    def _adapt(self, p: Tensor) -> None:
        rates = self.rates
        if self.predictor is None or self.corrected:
            self.rate = rates.minimum
            return
        # By the chord: acos of a float32 dot product has a noise floor near the 0.1° threshold.
        turn = math.degrees(2 * math.asin(min(1.0, norm(p - self.predictor) / 2)))
        if turn >= rates.turn_deg:
            self.rate = max(round(rates.shrink * self.rate, 10), rates.minimum)
        else:
            self.rate = min(round(rates.grow * self.rate, 10), rates.maximum)

    def _correct(self, terrain: Terrain, theta: Tensor, p: Tensor) -> Position:
        self.corrected = False
        first: float | None = None
        for corrections in range(self.rates.most_corrections + 1):
            try:
                loss, gradient = terrain.problem.loss_and_gradient(theta)
            except NotFiniteError as e:
                raise Stalled(str(e)) from e
            residual = terrain.level_set.residual(loss)
            first = residual if first is None else first
            if terrain.level_set.contains(loss):
                seen = (first, residual) if corrections else (first,)  # between: thousands
                terrain.listen(Corrected(corrections, abs(residual), seen))
                return terrain.at(theta, loss, gradient, self.rate, corrections)
            self.corrected = True
            q = gradient if residual > 0 else -gradient
            q = torch.sub(q, p, alpha=dot(q, p))
            theta = torch.sub(theta, q, alpha=self.rates.corrector / norm(q))
        raise Stalled(
            f"the corrector took {self.rates.most_corrections} steps in a row without reaching the"
            f" level: its fixed length {self.rates.corrector:g} jumps over the tolerance"
            f"; lower --corrector-rate or use --method quasi-newton"
        )
