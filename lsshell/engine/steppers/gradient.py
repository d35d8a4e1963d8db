"""`gradient`: steepest descent of R in the tangent space."""

from __future__ import annotations

from typing import ClassVar

from lsshell.engine.steppers.stepper import Position, Terrain
from lsshell.engine.steppers.tangent_descent import FIRST_STEP, Direction, TangentDescent
from lsshell.engine.vectors import norm


class Gradient(TangentDescent):
    """d = −h·t/‖t‖, t the tangent part of ∇R; h follows the predictor's error in the loss.

    The published direction (Tahir & Katz 2020) with a Newton corrector and an error-controlled
    length in the place of fixed rates.
    """

    name: ClassVar[str] = "gradient"
    rise: ClassVar[float] = 0.1

    def direction(self, terrain: Terrain, here: Position) -> Direction:
        if self.cap is None:
            self.cap = FIRST_STEP * max(norm(here.theta), 1e-3)
        return Direction(here.split.tangent * (-self.cap / here.split.tangent_norm))
