"""How each step was made: what a convergence report shows, at no gradient of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lsshell.engine.events import Corrected, Event, Listener, Refused
from lsshell.engine.levelset import Split
from lsshell.engine.problem import Problem
from lsshell.engine.steppers.stepper import Position
from lsshell.engine.vectors import dot


@dataclass(frozen=True)
class Convergence:
    """One step of a walk.

    residuals: L − L* after the predictor and after each correction (units of L); decrease: of
    the weighted sum of regularisers, above 0 where it fell (climbing: where it rose); predicted:
    the same by the tangent, −α t·d, None where the method makes no such model; turning_deg:
    between the tangent parts of ∇R before and after; refused: length and reason of each trial;
    gradients: all that were spent on the step.
    """

    residuals: tuple[float, ...]
    decrease: float
    predicted: float | None
    turning_deg: float | None
    refused: tuple[tuple[float, str], ...]
    gradients: int

    @property
    def contraction(self) -> float | None:
        """κ₁ = |second residual|/|first residual|; None without a correction."""
        if len(self.residuals) < 2 or self.residuals[0] == 0.0:
            return None
        return abs(self.residuals[1] / self.residuals[0])

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Convergence:
        """From JSON, where tuples are lists."""
        refused = tuple((length, why) for length, why in fields["refused"])
        return cls(**{**fields, "residuals": tuple(fields["residuals"]), "refused": refused})


class StepLog:
    """Puts together, from what a stepper tells, how each step was made."""

    def __init__(self, listen: Listener, problem: Problem) -> None:
        self._listen, self._problem = listen, problem
        self._before: Position | None = None
        self._spent = 0
        self._refused: list[tuple[float, str]] = []
        self._corrected: Corrected | None = None

    def begin(self, here: Position) -> None:
        """The next step starts here."""
        self._before, self._spent = here, self._problem.gradients
        self._refused, self._corrected = [], None

    def hear(self, event: Event) -> None:
        """Takes an event down and passes it on."""
        if isinstance(event, Refused):
            self._refused.append((event.length, event.why))
        elif isinstance(event, Corrected):
            self._corrected = event
        self._listen(event)

    def step(self, there: Position) -> Convergence:
        """The step that led there; the next one starts there."""
        assert self._before is not None
        made, told = self._before, self._corrected
        found = Convergence(
            told.residuals if told is not None else (),
            made.value - there.value,
            told.predicted if told is not None else None,
            turning(made.split, there.split),
            tuple(self._refused),
            self._problem.gradients - self._spent,
        )
        self.begin(there)
        return found


def turning(before: Split, after: Split) -> float | None:
    """The angle between two tangents in degrees; None where one is zero."""
    lengths = before.tangent_norm * after.tangent_norm
    if lengths == 0.0:
        return None
    cosine = dot(before.tangent, after.tangent) / lengths
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
