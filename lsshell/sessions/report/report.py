"""A report over sessions: one part for each experiment among them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from lsshell.sessions.report.components import (
    branches_picture,
    own_components,
    points_of,
    pooled_pictures,
)
from lsshell.sessions.report.layout import Picture, Section, Table
from lsshell.sessions.report.rivals import (
    matched_table,
    paired_table,
    penalties_table,
    settings_of,
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
    """What the sessions in these folders say, a section a group; see `group_runs`."""
    return [_section(runs, stem) for stem, runs in group_runs(folders).items()]


def write_points(folders: Sequence[Path], out: Path) -> list[Path]:
    """NAME-points.npz for each group and walk: all kept points of all runs; see `points_of`."""
    import numpy as np

    written = []
    out.mkdir(parents=True, exist_ok=True)
    for stem, runs in group_runs(folders).items():
        for name in names_of(runs):
            file = out / f"{stem}-{name}-points.npz"
            np.savez(file, **points_of(runs, name))
            written.append(file)
    return written


def group_runs(folders: Sequence[Path]) -> dict[str, list[Run]]:
    """The runs in these folders by a name for files: those of one network and data set, in which
    the same walks were taken, with the weighted-sum trainings of that network and data set.

    Raises SessionError where there are none.
    """
    runs = find_runs(folders)
    groups: dict[tuple[str, str, tuple[str, ...]], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.model, run.data, tuple(sorted(run.walks))), []).append(run)
    # Trainings alone go with the walks that were compared with some, where there are such.
    for key in [k for k in groups if not k[2]]:
        with_walks = [
            found for k, found in groups.items()
            if k[:2] == key[:2] and k[2] and any(r.sweeps for r in found)
        ]  # fmt: skip
        if with_walks:
            with_walks[0] += groups.pop(key)
    named: dict[str, list[Run]] = {}
    for found in groups.values():
        stem = re.sub(r"[^a-z0-9]+", "-", f"{found[0].model} {found[0].data}".lower()).strip("-")
        names = itertools.chain([stem], (f"{stem}-{k}" for k in itertools.count(2)))
        named[next(n for n in names if n not in named)] = found
    return named


def _section(runs: Sequence[Run], stem: str) -> Section:
    run, walking = runs[0], [r for r in runs if r.walks]
    names = names_of(runs)
    text = f"Data: {run.data} ({run.notes})."
    if walking:
        seeds = ", ".join(str(s) for s in sorted({r.seed for r in walking}))
        text += f" Walks of {len(walking)} session{'s' * (len(walking) != 1)}, seeds {seeds}."
    tables: list[Table | None] = []
    shown: list[Picture | None] = []
    if names:
        tables += [ends_table(runs, stem), best_table(runs, stem), changes_table(runs, stem)]
        tables.append(correlations_table(runs, stem))
        shown += [effects_picture(walking, stem), branches_picture(walking[0], stem)]
    for name in names if len(names) <= MOST_DRAWN else ():
        shown += pictures(runs, name, stem)
        table, picture = own_components(runs, name, stem)
        tables.append(table)
        shown.append(picture)
        shown += pooled_pictures(runs, name, stem)
    for number, setting in enumerate(settings_of(runs), start=1):
        tables.append(penalties_table(runs, setting, f"{stem}-weight-decay-{number}"))
    if names:
        tables += [paired_table(runs, stem), matched_table(runs, stem)]
    title = f"{run.model} on {run.data}"
    if len(names) > MOST_DRAWN:
        title += ": which regulariser helps"
    return Section(
        title, text, [t for t in tables if t is not None], [p for p in shown if p is not None]
    )
