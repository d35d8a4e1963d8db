"""A report over sessions: one part for each experiment among them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lsshell.sessions.report.components import (
    branches_picture,
    components_table,
    pooled_pictures,
)
from lsshell.sessions.report.layout import Picture, Section, Table
from lsshell.sessions.report.rivals import (
    begins_of,
    matched_table,
    paired_table,
    penalties_table,
)
from lsshell.sessions.report.runs import Run, find_runs
from lsshell.sessions.report.traversals import (
    best_table,
    changes_table,
    correlations_table,
    effects_picture,
    ends_table,
    names_of,
    pictures,
)

MOST_DRAWN = 3  # walks of an experiment whose own pictures are drawn


def make_report(folders: Sequence[Path]) -> list[Section]:
    """What the sessions in these folders say, those of one network and data set together.

    Raises SessionError where there are none.
    """
    runs = find_runs(folders)
    experiments: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        experiments.setdefault(run.experiment, []).append(run)
    return [_section(found) for found in experiments.values()]


def _walks(run: Run) -> int:
    return len(run.walks)


def _section(runs: Sequence[Run]) -> Section:
    run = runs[0]
    stem = re.sub(r"[^a-z0-9]+", "-", f"{run.model} {run.data}".lower()).strip("-")
    seeds = ", ".join(str(r.seed) for r in runs)
    sessions = f"{len(runs)} session{'s' * (len(runs) != 1)}"
    text = f"Data: {run.data} ({run.notes}). {sessions}, seeds {seeds}."
    tables: list[Table | None] = []
    shown: list[Picture | None] = []
    names = names_of(runs)
    if names:
        tables += [ends_table(runs, stem), best_table(runs, stem), changes_table(runs, stem)]
        tables.append(correlations_table(runs, stem))
        shown += [effects_picture(runs, stem), branches_picture(max(runs, key=_walks), stem)]
    for name in names if len(names) <= MOST_DRAWN else ():
        shown += pictures(runs, name, stem)
        tables.append(components_table(runs, name, stem))
        shown += pooled_pictures(runs, name, stem)
    tables += [penalties_table(runs, begin, stem) for begin in begins_of(runs)]
    if names:
        tables += [paired_table(runs, stem), matched_table(runs, stem)]
    title = f"{run.model} on {run.data}"
    return Section(
        title, text, [t for t in tables if t is not None], [p for p in shown if p is not None]
    )
