"""A grid of load and temperature, from words to a table."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.sessions.errors import CommandError
from lsshell.sessions.phases.cells import CellJob, Laboratory, measure_cells

if TYPE_CHECKING:
    from lsshell.engine.landscape.phase_grid import CellResult, Recipe
    from lsshell.engine.landscape.phases import PhaseTable
    from lsshell.sessions.session import Session

# Words of the axes, and their names in tables and recipes.
LOAD_WORDS = {"width": "width", "examples": "examples", "noise": "noise"}
TEMPERATURE_WORDS = {"batch": "batch_size", "rate": "lr", "weight-decay": "weight_decay"}
_FIELDS = {"batch": "batch_size", "rate": "lr"}  # where an option's name is not the recipe's
FOLDER = "phases"
MOST_CELLS = 10_000


def measured_table(
    session: Session,
    load: str,
    temperature: str,
    given: Mapping[str, Any],
    jobs: int,
    work: Path | None,
) -> tuple[PhaseTable, list[str]]:
    """The table of a grid on the session's data, and notes for people on its cells.

    load, temperature: as in `width=2,4`; given: options of the recipe. Raises CommandError and
    EngineError for what cannot be, before anything is trained.
    """
    from lsshell.engine.errors import Cancelled
    from lsshell.engine.events import Progress
    from lsshell.engine.landscape.phase_grid import build
    from lsshell.engine.landscape.phases import PhaseTable

    x_name, xs = _axis("--load", load, LOAD_WORDS)
    t_name, ts = _axis("--temperature", temperature, TEMPERATURE_WORDS)
    if len(xs) * len(ts) > MOST_CELLS:
        raise CommandError(f"{len(xs)} × {len(ts)} cells: {MOST_CELLS} are the most")
    engine = session.engine
    if engine.data is None:
        raise CommandError("no data yet: say `data` (for example `data digits`) first")
    recipe = _recipe(given, x_name, t_name)
    cells = [CellJob(recipe.at(x_name, x, t_name, t), x_name, t_name) for t in ts for x in xs]
    for cell in cells:
        cell.recipe.check(engine.data)
    build(cells[0].recipe, engine.data, engine.seed, session.modules)  # what the words name
    laboratory = Laboratory(
        engine.data, engine.seed, engine.device, engine.dtype, engine.chunk, session.modules
    )
    folder, kept = _folder(session, work), 0

    def finished(done: int, job: CellJob, result: CellResult) -> None:
        nonlocal kept
        kept = done
        accuracy = result.cell.test_accuracy_pct
        word = "diverged" if math.isnan(accuracy) else f"{accuracy:.2f} %"
        engine.listen(Progress("phases", done, len(cells), f"{job.name}: {word}"))

    engine.listen(Progress("phases", 0, len(cells)))
    try:
        results = measure_cells(
            laboratory, cells, folder, jobs=jobs, cancelled=engine.cancel.is_set, finished=finished
        )
    except Cancelled as e:
        if folder is None:
            raise
        raise CommandError(
            f"interrupted; {kept} of {len(cells)} cells are in {folder}: the same command goes on"
            " from there"
        ) from e
    table = PhaseTable(x_name, t_name, tuple(result.cell for result in results))
    notes = [f"{c.name}: {r.note}" for c, r in zip(cells, results, strict=True) if r.note]
    return table, notes


def _axis(option: str, words: str, names: Mapping[str, str]) -> tuple[str, list[float]]:
    name, equals, listed = words.partition("=")
    example = next(iter(names))
    if name not in names or not equals:
        raise CommandError(
            f"{option} {words}: write NAME=VALUE,VALUE,…, as in {example}=2,8; NAME is one of"
            f" {', '.join(names)}"
        )
    values = []
    for word in listed.split(","):
        try:
            values.append(float(word))
        except ValueError as e:
            raise CommandError(f"{option} {words}: {word!r} is not a number") from e
        if not math.isfinite(values[-1]):
            raise CommandError(f"{option} {words}: {word} is no place")
        if values[-1] in values[:-1]:
            raise CommandError(f"{option} {words}: {word} is there twice")
    return names[name], values


def _recipe(given: Mapping[str, Any], *axes: str) -> Recipe:
    from lsshell.engine.landscape.phase_grid import Recipe

    fields: dict[str, Any] = {_FIELDS.get(name, name): value for name, value in given.items()}
    for name in given:
        if _FIELDS.get(name, name) in axes:
            raise CommandError(f"--{name.replace('_', '-')} is an axis of the grid already")
    if "network" in fields:
        fields["network"] = tuple(shlex.split(fields["network"]))
        if not fields["network"]:
            raise CommandError("--network names no network")
    return Recipe(**fields)


def _folder(session: Session, work: Path | None) -> Path | None:
    """Where the cells are: never those of the session that is replayed."""
    own = None if session.journal is None else session.journal.folder / FOLDER
    return own if work is None or session.replaying else session.writable(work)
