"""The path: every point walked, as a tree of branches; nothing walked is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import Tensor

from lsshell.engine.convergence import Convergence
from lsshell.engine.errors import EngineError
from lsshell.engine.store import PointStore

Kind = Literal["start", "level", "step", "located"]


@dataclass(frozen=True)
class Point:
    """One recorded point.

    step: steps since the traversal's start; loss: training loss L; level, tolerance: the level
    set it is on; test_loss, test_accuracy in [0, 1] or test_rmse: None where not measured;
    regularizers: unweighted values; angle_deg: between ∇L and ∇R; implied_weight_decay: 1/ν, the
    λ for which a stationary point of L + λR has this multiplier; gradients: spent since the
    traversal's start; distance: ‖θ − θ_start‖; length: of the path walked. `kept` where θ itself
    is on record; seed: the session's at the traversal's start; validation_loss: where the data
    has examples to choose by; rate, corrections: the predictor's length of the step that led here
    and the corrector's steps after it; convergence: how that step was made. A `located` point
    lies between two steps, aside from the walk.
    """

    index: int
    parent: int | None
    branch: str
    kind: Kind
    step: int
    loss: float
    level: float | None
    tolerance: float | None
    test_loss: float | None
    test_accuracy: float | None
    test_rmse: float | None
    regularizers: Mapping[str, float]
    angle_deg: float | None
    implied_weight_decay: float | None
    gradients: int
    distance: float
    length: float
    kept: bool = False
    seed: int = 0
    validation_loss: float | None = None
    rate: float | None = None
    corrections: int = 0
    convergence: Convergence | None = None

    @property
    def name(self) -> str:
        """BRANCH:STEP, as `goto` takes it."""
        return f"{self.branch}:{self.step}"

    @property
    def begins(self) -> bool:
        """Whether a traversal starts here; any other point belongs to its parent's."""
        return self.kind in ("start", "level")

    @property
    def chosen_by(self) -> float | None:
        """What `best` is least in: the validation loss, or the test loss where there is none."""
        return self.test_loss if self.validation_loss is None else self.validation_loss

    @property
    def residual(self) -> float | None:
        """(L − L*)/tolerance; None off any level set."""
        if self.level is None or not self.tolerance:
            return None
        return (self.loss - self.level) / self.tolerance

    @property
    def squared_residual(self) -> float | None:
        """(L − L*)², the paper's measure; None off any level set."""
        return None if self.level is None else (self.loss - self.level) ** 2

    def as_dict(self) -> dict[str, Any]:
        """Every field, JSON-able."""
        return asdict(self) | {"regularizers": dict(self.regularizers)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Point:
        found = fields.get("convergence")
        made = None if found is None else Convergence.from_dict(found)
        return cls(**{**fields, "convergence": made})


def best_of(points: Iterable[Point]) -> Point | None:
    """The kept point of least validation (else test) loss; the first of equals."""
    measured = [p for p in points if p.chosen_by is not None and p.kept]
    return min(measured, key=lambda p: (p.chosen_by, p.index), default=None)


class Path:
    """Recorded points with their parents; `here` is the point that the next step starts from."""

    def __init__(self, store: PointStore | None = None, first_index: int = 0) -> None:
        self.store = store or PointStore()
        self.points: dict[int, Point] = {}
        self.here: Point | None = None
        self.branch = "main"
        self.next_index = first_index
        self._continued: set[tuple[int, str]] = set()  # (point, branch) that a step goes on from

    def __len__(self) -> int:
        return len(self.points)

    # -- growing -----------------------------------------------------------------------------

    def add(self, point: Point, tensors: Mapping[str, Tensor], *, keep: bool) -> Point:
        """Records a point as the new `here`; θ is kept, or held until the next step only."""
        if keep:
            self.store.keep(point.index, tensors)
        else:
            self.store.roll(point.index, tensors)
        point = replace(point, kept=keep)
        self.restore(point)
        return point

    def restore(self, point: Point) -> None:
        """Takes a point whose parameters are already on record; it becomes `here`."""
        self.points[point.index] = point
        if point.parent is not None:
            self._continued.add((point.parent, point.branch))
        self.here = point
        self.branch = point.branch
        self.next_index = max(self.next_index, point.index + 1)

    def add_aside(self, point: Point, tensors: Mapping[str, Tensor]) -> Point:
        """Records and keeps a point without going there."""
        self.store.keep(point.index, tensors)
        point, here, branch = replace(point, kept=True), self.here, self.branch
        self.restore(point)
        self.here, self.branch = here, branch
        return point

    def learn(self, point: Point) -> None:
        """Takes what has since been measured at a recorded point other than `here`."""
        self.points[point.index] = point

    def keep_here(self, tensors: Mapping[str, Tensor]) -> bool:
        """Keeps θ of `here` if it is not kept yet; True where that changed anything."""
        changed = self.here is not None and not self.here.kept
        if self.here is not None and changed:
            self.store.keep(self.here.index, tensors)
            self.restore(replace(self.here, kept=True))
        self.store.drop_rolling()
        return changed

    def recover(self, point: Point) -> bool:
        """Keeps a point that is not on record as kept, where its tensors are on disk all the same;
        False where they are not.
        """
        tensors = self.store.found(point.index)
        if tensors is None:
            return False
        self.restore(point)
        return self.keep_here(tensors)

    def branch_for_next(self) -> str:
        """The branch of the next point: this one at its tip, a new one (`main-2`, …) elsewhere."""
        here = self.here
        if here is None or here.branch != self.branch:
            return self.branch
        if (here.index, here.branch) in self._continued:
            return self.free_name(here.branch)
        return self.branch

    def free_name(self, base: str) -> str:
        """`base-2`, `base-3`, …: the first that no branch has."""
        base = base.rstrip("0123456789").rstrip("-") or base
        taken, k = self.branches(), 2
        while f"{base}-{k}" in taken or f"{base}-{k}" == self.branch:
            k += 1
        return f"{base}-{k}"

    # -- finding -----------------------------------------------------------------------------

    def branches(self) -> dict[str, list[Point]]:
        """Points of each branch in the order in which they were made."""
        found: dict[str, list[Point]] = {}
        for point in list(self.points.values()):  # another thread may be walking
            found.setdefault(point.branch, []).append(point)
        return found

    def lineage(self, point: Point | None = None) -> list[Point]:
        """From the traversal's start to the point (default: here), both included."""
        line: list[Point] = []
        at = point or self.here
        while at is not None:
            line.append(at)
            if at.begins or at.parent is None:
                break
            at = self.points.get(at.parent)
        return line[::-1]

    def traversal(self) -> list[Point]:
        """All points, on any branch, that share `here`'s start."""
        if self.here is None:
            return []
        members = {self.lineage()[0].index}
        found = []
        for point in list(self.points.values()):  # another thread may be walking
            if not point.begins and point.parent in members:
                members.add(point.index)
            if point.index in members:
                found.append(point)
        return found

    def start(self) -> Point:
        return self._some(self.lineage())[0]

    def back(self, steps: int) -> Point:
        """The nearest kept point at least `steps` before here on this lineage."""
        line = self._some(self.lineage())
        target = line[-1].step - steps
        if target < line[0].step:
            raise EngineError(f"only {line[-1].step - line[0].step} steps lie behind this point")
        return max((p for p in line if p.kept and p.step <= target), key=lambda p: p.step)

    def find(self, where: str) -> Point:
        """`STEP` on this lineage or branch, `BRANCH`, `BRANCH:STEP`, `start`, `end` or `best`.

        `best` is the kept point of least validation loss on this traversal, of least test loss
        where the data has no validation examples. Raises EngineError, naming
        what there is, where nothing fits.
        """
        self._some(list(self.points.values()))
        if where == "start":
            return self.start()
        if where == "best":
            return self._best()
        branches = self.branches()
        name, _, step = where.rpartition(":")
        if where in branches:
            return self._kept_at(branches[where], None)
        if where == "end":
            return self._kept_at(branches.get(self.branch) or self.lineage(), None)
        if name and name not in branches:
            raise EngineError(f"no branch {name}; there are {', '.join(branches)}")
        if not (step.isascii() and step.isdecimal()):
            raise EngineError(
                f"no branch or step {where}; give a step, start, end, best, BRANCH or BRANCH:STEP"
                f" (branches: {', '.join(branches)})"
            )
        if name:
            line = self.lineage(branches[name][-1])
        else:
            line = {p.index: p for p in (*self.lineage(), *self._beyond())}.values()
        return self._kept_at(list(line), int(step))

    def _beyond(self) -> Iterator[Point]:
        """Later points of here's branch, within the same traversal."""
        assert self.here is not None
        for point in self.traversal():
            if point.index > self.here.index and point.branch == self.here.branch:
                yield point

    def _best(self) -> Point:
        best = best_of(self.traversal())
        if best is None:
            raise EngineError("no kept point of this traversal has a measured test loss")
        return best

    @staticmethod
    def _kept_at(line: list[Point], step: int | None) -> Point:
        kept = [p for p in line if p.kept]
        if not kept:
            raise EngineError("no point of that branch has its parameters on record")
        if step is None:
            return kept[-1]
        for point in kept:
            if point.step == step:
                return point
        end = max(p.step for p in line)
        if step > end:
            raise EngineError(f"there is no step {step}: the branch ends at step {end}")
        near = sorted(kept, key=lambda p: abs(p.step - step))[:2]
        names = " and ".join(str(p.step) for p in sorted(near, key=lambda p: p.step))
        raise EngineError(f"the parameters of step {step} are not kept; the nearest are {names}")

    @staticmethod
    def _some(points: list[Point]) -> list[Point]:
        if not points:
            raise EngineError("nothing has been walked yet")
        return points
