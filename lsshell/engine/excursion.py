"""What verbs besides `walk` share: where they set out, and points recorded on their way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.events import Progress, Stopped
from lsshell.engine.levelset import LevelSet
from lsshell.engine.path import Point
from lsshell.engine.steppers import Position, Terrain

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine

MOST_RECORDED, MOST_MEASURED = 500, 100


def schedule(steps: int, keep: int | None, measure: int | None) -> tuple[int, int]:
    """Every so manyth step to keep θ of, and to measure at: as asked, or as many as may be."""
    keep = keep or -(-steps // MOST_RECORDED)
    return keep, measure or max(keep, -(-steps // MOST_MEASURED))


@dataclass
class Excursion:
    """Points recorded by one command from `here` on, as a walk records its own.

    steps: how many there may be; θ of every `keep`-th is kept, test loss taken at every
    `measure`-th. The regularisers that are on are evaluated at each, off the count of gradients.
    """

    engine: Engine
    task: str
    terrain: Terrain
    here: Position
    steps: int
    keep: int
    measure: int
    taken: int = 0
    start: Point = field(init=False)

    @classmethod
    def begin(
        cls, engine: Engine, task: str, steps: int, keep: int | None, measure: int | None
    ) -> Excursion:
        """From the current point; fixes the level there if none is. Raises EngineError."""
        problem, theta = engine.ready(), engine.problem_theta()
        for name, value in (("steps", steps), ("record", keep), ("measure", measure)):
            if value is not None and not 0 < value < math.inf:
                raise EngineError(f"--{name} must be above 0")
        level_set = engine.level_set_here()
        terrain = Terrain(problem, level_set, engine.sum, 1.0, engine.listen)
        spent = problem.work
        here = engine._position(terrain, theta)
        problem.work = spent + 1  # R is a measure here
        if engine.level_set is None:
            engine._start_at(theta, "level", level_set)
        keep, measure = schedule(steps, keep, measure)
        excursion = cls(engine, task, terrain, here, steps, keep, measure)
        excursion.start = engine.measure(position=here)
        return excursion

    def position(
        self, theta: Tensor, loss: float, gradient: Tensor, rate: float, corrections: int
    ) -> Position:
        """With R and ∇R of what is on; a measure, not work of the walk's."""
        problem = self.terrain.problem
        spent = problem.work
        with problem.uncancelled():
            found = self.terrain.at(theta, loss, gradient, rate, corrections)
        problem.work = spent
        return found

    def record(self, position: Position, note: str, *, level_set: LevelSet | None = None) -> Point:
        """Records the next point, on another level set if given; it becomes the current one."""
        self.taken += 1
        if level_set is not None:
            self.engine.level_set = level_set
        self.here = position
        self.engine.theta = position.theta
        point = self.engine._record_step(
            position,
            keep=self.taken % self.keep == 0,
            measure=self.taken % self.measure == 0,
            descending=True,
        )
        self.engine.listen(Progress(self.task, self.taken, self.steps, note))
        return point

    def end(self, reason: str) -> Point:
        """The last point is kept and measured, and the ending told."""
        self.engine.forget_walker()
        last = self.engine._finish(self.here, True)
        self.engine.listen(Stopped(reason))
        return last
