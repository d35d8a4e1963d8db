"""What a screen shows of a session, read at one moment from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lsshell.engine.vocabulary import REGULARIZERS
from lsshell.sessions.plots import Traversal, other_options_until

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine, Switched
    from lsshell.engine.path import Point
    from lsshell.sessions.session import Session


@dataclass(frozen=True)
class RegularizerView:
    """One regulariser: its weight where it is on, its value at the start and the last one known.

    since: the point up to which recorded values are of other options than it has now.
    """

    name: str
    formula: str = ""
    weight: float | None = None
    value: float | None = None
    first: float | None = None
    since: int = -1

    @property
    def on(self) -> bool:
        return self.weight is not None

    @property
    def change(self) -> float | None:
        """Relative to the start; None where there is no such thing."""
        if self.value is None or self.first is None or self.first <= 0.0:
            return None
        return self.value / self.first - 1.0


@dataclass(frozen=True)
class View:
    """Nothing in here computes a gradient: it is what the engine has at hand.

    memory: bytes in use and there are, of the device; gradients: spent by this problem so far.
    """

    checkpoint: str = ""
    network: str = ""
    parameters: int = 0
    data: str = ""
    device: str = ""
    dtype: str = ""
    memory: tuple[int, int] | None = None
    session: str = ""
    level: float | None = None
    tolerance: float | None = None
    gradients: int = 0
    here: Point | None = None
    tested: Point | None = None  # the latest whose test loss was measured
    regularizers: tuple[RegularizerView, ...] = field(
        default_factory=lambda: tuple(RegularizerView(name) for name in REGULARIZERS)
    )

    @property
    def loaded(self) -> bool:
        """Whether there is something to walk on."""
        return self.parameters > 0

    @property
    def weights(self) -> Mapping[str, float]:
        """Those that are on."""
        return {r.name: r.weight for r in self.regularizers if r.weight is not None}

    @property
    def since(self) -> Mapping[str, int]:
        """The points up to which recorded values are of other options than now."""
        return {r.name: r.since for r in self.regularizers if r.since >= 0}

    @property
    def share(self) -> float | None:
        """(L − L*)/tolerance here; None off any level set."""
        return self.here.residual if self.here is not None else None


def look(session: Session, traversal: Traversal | None) -> View:
    """The view of a session whose points are those of `traversal`."""
    folder = str(session.folder) if session.folder is not None else ""
    if not session.has_engine:
        return View(session=folder)
    engine = session.engine
    problem, level_set = engine.problem, engine.level_set
    return View(
        checkpoint=engine.origin,
        network=engine.model_words,
        parameters=problem.p if problem is not None else 0,
        data=engine.data_words,
        device=engine.device,
        dtype=engine.dtype,
        memory=engine.memory(),
        session=folder,
        level=level_set.level if level_set is not None else None,
        tolerance=level_set.tolerance if level_set is not None else None,
        gradients=problem.gradients if problem is not None else 0,
        here=engine.path.here,
        tested=traversal.tested if traversal is not None else None,
        regularizers=_regularizers(engine, traversal),
    )


def _regularizers(engine: Engine, traversal: Traversal | None) -> tuple[RegularizerView, ...]:
    from lsshell.engine.regularizers import REGULARIZERS as KINDS

    terms, switched = dict(engine.sum.terms), dict(engine.switched)
    first, last = values_at_the_ends(traversal)
    since = other_options_until(engine, traversal) if traversal is not None else {}
    views = []
    for name in REGULARIZERS:
        view = RegularizerView(name, KINDS[name].formula, None, last.get(name), first.get(name))
        if name in terms:
            view = replace(view, weight=terms[name][1], formula=terms[name][0].formula)
        if name in since:
            view = _as_switched(view, switched[name], traversal)
        views.append(view)
    return tuple(views)


def _as_switched(
    view: RegularizerView, when: Switched, traversal: Traversal | None
) -> RegularizerView:
    """With its value at the start and the last one, both of the options that it has now."""
    lineage = traversal.lineage if traversal is not None else ()
    here = lineage[-1].index if lineage else -1
    later = (p for p in reversed(lineage) if p.index > when.at and view.name in p.regularizers)
    last = next((p.regularizers[view.name] for p in later), when.now if here == when.at else None)
    return replace(view, value=last, first=when.first, since=when.at)


def values_at_the_ends(
    traversal: Traversal | None,
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Each regulariser's value at the start (or where it was first recorded) and the latest."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    if traversal is None:
        return first, last
    for point in traversal.lineage:
        if len(point.regularizers) > 1 or not first:
            for name, value in point.regularizers.items():
                first.setdefault(name, value)
    for point in reversed(traversal.lineage):
        for name, value in point.regularizers.items():
            last.setdefault(name, value)
        if len(point.regularizers) > 1:
            break
    return first, last


def objective(point: Point, weights: Mapping[str, float], since: Mapping[str, int]) -> float | None:
    """R = Σ weight · regulariser of those that are on; None where one was not taken here, or
    (`since`) with other options.
    """
    if not weights or any(name not in point.regularizers for name in weights):
        return None
    if any(point.index <= since.get(name, -1) for name in weights):
        return None
    return sum(weight * point.regularizers[name] for name, weight in weights.items())
