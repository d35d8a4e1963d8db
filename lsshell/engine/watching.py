"""What a walk notices on its way, and stops for: its best point, a plateau of R."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from lsshell.engine.events import Noticed
from lsshell.engine.path import Point

# A plateau is seen over so many steps: single steps of quasi-newton fall unevenly.
PLATEAU_STEPS = 10
# A minimum has been passed once so many measures in a row are not below it.
PASSED = 3


@dataclass
class Watch:
    """Told of every step, it says what there is to notice, and why to stop.

    by: "validation loss", or "test loss" where the data has no validation examples; patience: so
    many measures in a row that are not below the least; plateau: a relative decrease of R per
    gradient.
    """

    by: str
    patience: int | None = None
    plateau: float | None = None
    best: Point | None = None
    reason: str | None = None
    patient: bool = False  # it is patience that has run out
    _first: Point | None = None
    _worse: int = 0
    _values: deque[tuple[float, int]] = field(
        default_factory=lambda: deque(maxlen=PLATEAU_STEPS + 1)
    )

    def measured(self, point: Point) -> Noticed | None:
        """A measured point, the walk's start first; gives a minimum once it has been passed."""
        assert point.chosen_by is not None
        self._first = self._first or point
        if self.best is None or point.chosen_by < self._least(self.best):
            self.best, self._worse = point, 0
            return None
        self._worse += 1
        if self._worse == self.patience:
            times = "1 measure" if self.patience == 1 else f"{self.patience} measures"
            self.reason, self.patient = f"the {self.by} has not fallen for {times}", True
        if self._worse != PASSED or self.best is self._first:
            return None
        return Noticed(f"least {self.by}", self.best, self._least(self.best))

    def stepped(self, point: Point, value: float) -> Noticed | None:
        """A step to this point, with R (negated when climbing) there; gives a plateau."""
        self._values.append((value, point.gradients))
        if self.plateau is None or len(self._values) <= PLATEAU_STEPS:
            return None
        (first, then), (last, now) = self._values[0], self._values[-1]
        rate = (first - last) / (max(abs(first), 1e-30) * max(now - then, 1))
        if rate >= self.plateau:
            return None
        self.reason = (
            f"R changes by {rate:.2g} of itself a gradient, less than {self.plateau:g}"
            f" ({PLATEAU_STEPS} steps)"
        )
        return Noticed("R plateau", point, rate)

    @staticmethod
    def _least(point: Point) -> float:
        assert point.chosen_by is not None
        return point.chosen_by
