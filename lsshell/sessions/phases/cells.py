"""The cells of a phase grid: taken from disk where they are there, else measured."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.sessions.errors import CommandError
from lsshell.sessions.whole_file import write_whole

if TYPE_CHECKING:
    from lsshell.engine.data import DataSet
    from lsshell.engine.landscape.phase_grid import CellResult, Recipe

FORMAT = 1  # of what a cell is measured by: a change of it measures all anew


@dataclass(frozen=True)
class CellJob:
    """A cell to measure: its recipe, and the two fields of it that are its place."""

    recipe: Recipe
    load: str
    temperature: str

    @property
    def name(self) -> str:
        """As in `width=8 batch_size=64`."""
        places = (self.load, self.temperature)
        return " ".join(f"{name}={getattr(self.recipe, name):g}" for name in places)


@dataclass(frozen=True)
class Laboratory:
    """What all cells are measured with; with the cell's recipe, all that its numbers depend on.

    search: where MODULE:FACTORY is looked for (the working directory).
    """

    data: DataSet
    seed: int
    device: str
    dtype: str
    chunk: int | None = None
    search: Path | None = None

    def measure(self, job: CellJob, cancelled: Callable[[], bool] = lambda: False) -> CellResult:
        """Here and now, in one thread: as many give other last bits."""
        from lsshell.engine.engine import DTYPES
        from lsshell.engine.landscape.phase_grid import measure_cell

        with _one_thread():
            return measure_cell(
                self.data,
                job.recipe,
                job.load,
                job.temperature,
                seed=self.seed,
                device=self.device,
                dtype=DTYPES[self.dtype],
                chunk=self.chunk,
                cancelled=cancelled,
                search=self.search,
            )

    def settings(self, job: CellJob) -> dict[str, Any]:
        """What a cell's file is known by."""
        from importlib.metadata import version

        found = {
            "format": FORMAT,
            "torch": version("torch"),
            "data": self.data.name,
            "sha256": self.data.digest,
            "seed": self.seed,
            "device": self.device.partition(":")[0],
            "dtype": self.dtype,
            "chunk": self.chunk,
            "axes": [job.load, job.temperature],
            "recipe": asdict(job.recipe),
        }
        return dict(json.loads(json.dumps(found)))

    def file(self, job: CellJob) -> str:
        """The name of a cell's file: its place, and a hash of its settings."""
        text = json.dumps(self.settings(job), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{job.name.replace(' ', '-')}-{digest}.json"


def measure_cells(
    laboratory: Laboratory,
    cells: Sequence[CellJob],
    folder: Path | None,
    *,
    jobs: int = 1,
    cancelled: Callable[[], bool] = lambda: False,
    finished: Callable[[int, CellJob, CellResult], None] = lambda done, job, result: None,
) -> list[CellResult]:
    """The results of all cells, in their order; each is in `folder` as soon as it is there.

    A cell whose file is in the folder is read; the others are measured, `jobs` at a time, each in
    one thread, so that their number changes nothing. `finished` is told of each and how many are
    done. Several commands may fill one folder. Raises Cancelled where the user asked to stop (what
    is on disk stays), EngineError for the first cell that cannot be measured, and CommandError
    where the folder cannot be written.
    """
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise CommandError(f"{folder} cannot be made: {e.strerror}") from e
    found: dict[int, CellResult] = {}
    for k, job in enumerate(cells):
        result = _stored(laboratory, job, folder)
        if result is not None:
            found[k] = result
            finished(len(found), job, result)
    missing = [k for k in range(len(cells)) if k not in found]

    def keep(k: int, result: CellResult) -> None:
        _store(laboratory, cells[k], result, folder)
        found[k] = result
        finished(len(found), cells[k], result)

    if jobs == 1 or len(missing) < 2:
        for k in missing:
            keep(k, laboratory.measure(cells[k], cancelled))
    else:
        from lsshell.sessions.phases.processes import Processes

        with Processes(laboratory, min(jobs, len(missing)), cancelled) as processes:
            processes.measure({k: cells[k] for k in missing}, keep)
    return [found[k] for k in range(len(cells))]


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- on disk -------------------------------------------------------------------------------------


def _store(laboratory: Laboratory, job: CellJob, result: CellResult, folder: Path | None) -> None:
    if folder is None:
        return
    file = folder / laboratory.file(job)
    said = {"settings": laboratory.settings(job)} | result_values(result)
    try:
        write_whole(file, (json.dumps(said, indent=1) + "\n").encode())
    except OSError as e:
        raise CommandError(f"{file} cannot be written: {e.strerror}") from e


def _stored(laboratory: Laboratory, job: CellJob, folder: Path | None) -> CellResult | None:
    """What the cell's file says; None where there is none, or it is not whole."""
    if folder is None:
        return None
    try:
        said = json.loads((folder / laboratory.file(job)).read_text())
        return result_of(said) if said["settings"] == laboratory.settings(job) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def result_values(result: CellResult) -> dict[str, Any]:
    """A result as JSON has it: floats to the last bit, NaN as null."""
    return {
        "cell": _nullified(asdict(result.cell)),
        "runs": [_nullified(asdict(run)) for run in result.runs],
        "note": result.note,
    }


def result_of(values: Any) -> CellResult:
    """The inverse of `result_values`; raises KeyError, TypeError or the like for other things."""
    from lsshell.engine.landscape.phase_grid import CellResult, Run
    from lsshell.engine.landscape.phases import Cell

    cell = Cell(**{name: _number(v) for name, v in values["cell"].items()})
    runs = [
        Run(**{n: int(v) if n == "seed" else _number(v) for n, v in run.items()})
        for run in values["runs"]
    ]
    return CellResult(cell, tuple(runs), str(values["note"]))


def _nullified(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(v, float) and math.isnan(v) else v for name, v in values.items()
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
