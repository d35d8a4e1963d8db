"""Which measures rank places as the test loss does: a table of measures and its correlations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lsshell.engine.errors import EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.places import evenly, kept_points, place_at, visit
from lsshell.engine.landscape.rank_correlation import (
    FEWEST,
    RankCorrelation,
    rank_correlation,
)
from lsshell.engine.landscape.scalars import SCALARS, Context, Scalar

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine

TARGETS = ("test-loss", "test-accuracy")


@dataclass(frozen=True)
class MeasureTable:
    """A value of each measure at each place, in order; None where it is not defined.

    missing: why a measure is nowhere defined.
    """

    places: tuple[str, ...]
    columns: Mapping[str, tuple[float | None, ...]]
    missing: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[dict[str, str | float | None]]:
        """A row for each place: its name, and each measure that is somewhere defined; None where
        it is not, or is infinite, for which a table has no number.
        """
        names = [n for n in self.columns if n not in self.missing]
        return [
            {"place": place, **{name: _finite(self.columns[name][k]) for name in names}}
            for k, place in enumerate(self.places)
        ]


@dataclass(frozen=True)
class Correlations:
    """Rank correlations of each measure with the target over the places of a table."""

    target: str
    table: MeasureTable
    found: Mapping[str, RankCorrelation]


def correlate(table: MeasureTable, target: str, seed: int = 0) -> Correlations:
    """Spearman's ρ and Kendall's τ-b of every other column with the target's.

    p-values are for independent places (`rank_correlation`). Raises EngineError where fewer than
    three places have a value of the target, or all have the same.
    """
    aim = table.columns[target]
    known = [v for v in aim if v is not None and not math.isnan(v)]
    if len(known) < FEWEST:
        why = table.missing.get(target, "")
        raise EngineError(
            why
            or f"a rank correlation needs {FEWEST} places with a {_words(target)}, not {len(known)}"
        )
    if len(set(known)) < 2:
        raise EngineError(
            f"the {_words(target)} is the same, {known[0]:.6g}, at all {len(known)} places: nothing"
            " can rank them as it does"
        )
    found = {
        name: rank_correlation(column, aim, seed)
        for name, column in table.columns.items()
        if name != target
    }
    return Correlations(target, table, found)


def correlate_along(
    engine: Engine,
    measures: Sequence[Scalar],
    target: str = TARGETS[0],
    *,
    points: int = 20,
    listen: Listener = silent,
) -> Correlations:
    """Each measure at up to `points` kept points, evenly chosen, of the way from the start of this
    traversal to here, both ends among them; and how each ranks them beside the target.

    Regularisers that are on are measured with the options that they have, the others with their
    defaults at the start. What draws draws the same at all points. The engine is left as it was.
    Raises EngineError for fewer than three kept points.
    """
    if points < FEWEST:
        raise EngineError(f"a rank correlation needs {FEWEST} points or more, not {points}")
    problem, line = engine.ready(), kept_points(engine)
    if len(line) < FEWEST:
        raise EngineError(
            f"a rank correlation needs {FEWEST} kept points on the way to here, and there are"
            f" {len(line)}: `walk` first, or `goto end`"
        )
    chosen = evenly(line, points)
    wanted = [SCALARS[target], *(m for m in measures if m.name != target)]
    columns: dict[str, list[float | None]] = {m.name: [] for m in wanted}
    why: dict[str, str] = {}
    start, shared = place_at(engine, line[0]), dict(engine.sum.regularizers)
    for k, point in enumerate(chosen):
        place = place_at(engine, point)
        context = Context(place, start, engine.seed, shared)
        for done, measure in enumerate(wanted):
            listen(
                Progress(
                    "correlate",
                    k * len(wanted) + done,
                    len(chosen) * len(wanted),
                    f"{measure.name} at {point.name}",
                )
            )
            with visit(problem, place):
                try:
                    value = measure.function(problem, place.theta, context)
                except EngineError as e:
                    why.setdefault(measure.name, str(e))
                    value = None
            columns[measure.name].append(_number(value))
    missing = {
        name: why.get(name, "nothing is on record of it")
        for name, column in columns.items()
        if all(v is None for v in column)
    }
    table = MeasureTable(
        tuple(p.name for p in chosen),
        {name: tuple(column) for name, column in columns.items()},
        missing,
    )
    return correlate(table, target, engine.seed)


def _number(value: float | None) -> float | None:
    """Infinite values rank; NaN is none."""
    return None if value is None or math.isnan(value) else float(value)


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


def _words(target: str) -> str:
    return target.replace("-", " ")
