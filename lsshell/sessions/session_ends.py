"""Where saved sessions ended: their recorded measures, a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lsshell.sessions.errors import CommandError, SessionError

if TYPE_CHECKING:
    from lsshell.engine.landscape.correlation import MeasureTable
    from lsshell.engine.path import Point


def ends_table(folders: Sequence[Path], but: Path | None = None) -> MeasureTable:
    """The measures on record of the end of the last walk of each session in these folders, at any
    depth, named by folder; a session with several networks, data sets or seeds has a row for each.

    `but`: a session that is left out, since it is being written. Raises CommandError where a
    folder cannot be read, or nothing was walked in any.
    """
    from lsshell.engine.landscape.correlation import MeasureTable
    from lsshell.sessions.report.runs import find_runs

    try:
        runs = [r for r in find_runs(folders) if but is None or r.folder != but.resolve()]
    except SessionError as e:
        raise CommandError(str(e)) from e
    ends: list[tuple[str, dict[str, float | None]]] = []
    for run in runs:
        if run.walks:
            last = max(run.walks.values(), key=lambda walked: walked.points[-1].index)
            ends.append((run.folder.name, recorded(last.end)))
    names = list(dict.fromkeys(name for _, row in ends for name in row))
    columns = {n: tuple(row.get(n) for _, row in ends) for n in names}
    missing = {
        n: "nothing is on record of it"
        for n, column in columns.items()
        if all(v is None for v in column)
    }
    return MeasureTable(tuple(name for name, _ in ends), columns, missing)


def recorded(point: Point) -> dict[str, float | None]:
    """What is on record of a point, by the names of the measures."""
    implied = point.implied_weight_decay
    return {
        "test-loss": point.test_loss,
        "test-accuracy": point.test_accuracy,
        "validation-loss": point.validation_loss,
        "loss": point.loss,
        "steps": float(point.step),
        "gradients": float(point.gradients),
        "length": point.length,
        "distance-to-start": point.distance,
        "angle": point.angle_deg,
        "multiplier": 1.0 / implied if implied else None,
        **point.regularizers,
    }
