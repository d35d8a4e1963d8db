"""How to choose the next point on the level set: one small file a method."""

from __future__ import annotations

from lsshell.engine.steppers.auto import Auto
from lsshell.engine.steppers.gradient import Gradient
from lsshell.engine.steppers.newton import Newton
from lsshell.engine.steppers.paper import Paper, PaperRates
from lsshell.engine.steppers.quasi_newton import QuasiNewton
from lsshell.engine.steppers.stepper import Objective, Position, Stalled, Stepper, Terrain

KINDS = (QuasiNewton, Newton, Auto, Gradient, Paper)
STEPPERS: dict[str, type[Stepper]] = {kind.name: kind for kind in KINDS}

__all__ = [
    "STEPPERS",
    "Auto",
    "Gradient",
    "Newton",
    "Objective",
    "Paper",
    "PaperRates",
    "Position",
    "QuasiNewton",
    "Stalled",
    "Stepper",
    "Terrain",
]
