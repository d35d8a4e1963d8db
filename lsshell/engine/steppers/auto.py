"""`auto`: quasi-newton, and newton near the end where that pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lsshell.engine.errors import EngineError, NotFiniteError
from lsshell.engine.evaluation import Evaluation
from lsshell.engine.steppers.newton import Newton
from lsshell.engine.steppers.quasi_newton import MEMORY, QuasiNewton
from lsshell.engine.steppers.stepper import Position, Terrain
from lsshell.engine.steppers.tangent_descent import Direction

# sin ∠(r, g) below which newton is tried; steps by one method before the other is tried again.
NEAR = 0.1
TERM = 20


class Auto(Newton):
    """Each step by the method of which the last steps lowered R more per gradient.

    Far from the constrained minimum (angle below 174°) that is quasi-newton: there the trust
    region, not the model, bounds a step. Nearer, newton is tried, and each again after 20 steps of
    the other. Both share their memory.
    """

    name: ClassVar[str] = "auto"
    memory_unless_asked: ClassVar[int] = MEMORY

    def __init__(self, memory: int | None = None) -> None:
        super().__init__(memory)
        self.method: type[QuasiNewton] = QuasiNewton
        self.rates: dict[type[QuasiNewton], float] = {}  # fall of R per gradient
        self.term = 0
        self.spent = 0.0
        self.second = True

    def step(self, terrain: Terrain, here: Position) -> Position:
        self.spent = terrain.problem.work
        return super().step(terrain, here)

    def forget(self) -> bool:
        self.method, self.term = QuasiNewton, 0
        self.rates.clear()
        return super().forget()

    def direction(self, terrain: Terrain, here: Position) -> Direction:
        if here.split.sine > NEAR:
            self.method, self.term = QuasiNewton, 0
        try:
            return self.method.direction(self, terrain, here)
        except NotFiniteError:
            raise
        except EngineError:
            if self.method is QuasiNewton:
                raise
            self.second, self.method = False, QuasiNewton  # the network has first derivatives only
            return self.method.direction(self, terrain, here)

    def accepted(
        self, terrain: Terrain, here: Position, there: Position, points: Sequence[Evaluation]
    ) -> None:
        super().accepted(terrain, here, there, points)
        spent = max(1.0, terrain.problem.work - self.spent)
        rate, before = (here.value - there.value) / spent, self.rates.get(self.method)
        self.rates[self.method] = rate if before is None else 0.7 * before + 0.3 * rate
        self.term += 1
        other = Newton if self.method is QuasiNewton else QuasiNewton
        behind = self.rates[self.method] < self.rates.get(other, 0.0)
        untried = other not in self.rates or self.term >= TERM
        if self.second and there.split.sine <= NEAR and (behind or untried):
            self.method, self.term = other, 0
            self.rates.pop(other, None)
