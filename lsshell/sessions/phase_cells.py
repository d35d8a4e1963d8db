"""The cells of a phase grid: taken from disk where they are there, else measured, in processes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.sessions.errors import CommandError
from lsshell.sessions.whole_file import write_whole

if TYPE_CHECKING:
    from lsshell.engine.data import DataSet
    from lsshell.engine.landscape.phase_grid import CellResult, Recipe

FORMAT = 1  # of what a cell is measured by: a change of it measures all anew


@dataclass(frozen=True)
class CellJob:
    """A cell of a grid: all that its numbers depend on."""

    data: DataSet
    recipe: Recipe
    load: str
    temperature: str
    seed: int
    device: str
    dtype: str
    chunk: int | None
    search: Path | None

    @property
    def name(self) -> str:
        """As in `width=8 batch_size=64`."""
        places = (self.load, self.temperature)
        return " ".join(f"{name}={getattr(self.recipe, name):g}" for name in places)

    def settings(self) -> dict[str, Any]:
        """What the cell's file is known by."""
        from importlib.metadata import version

        return {
            "format": FORMAT,
            "torch": version("torch"),
            "data": self.data.name,
            "sha256": self.data.digest,
            "axes": [self.load, self.temperature],
            "recipe": json.loads(json.dumps(asdict(self.recipe))),
            "seed": self.seed,
            "device": self.device.partition(":")[0],
            "dtype": self.dtype,
            "chunk": self.chunk,
        }

    @property
    def file(self) -> str:
        """The name of its file: its place, and a hash of its settings."""
        text = json.dumps(self.settings(), sort_keys=True)
        return (
            f"{self.name.replace(' ', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        )

    def measure(self, cancelled: Callable[[], bool] = lambda: False) -> CellResult:
        """Here and now, in one thread: as many give other last bits."""
        from lsshell.engine.engine import DTYPES
        from lsshell.engine.landscape.phase_grid import measure_cell

        with _one_thread():
            return measure_cell(
                self.data,
                self.recipe,
                self.load,
                self.temperature,
                seed=self.seed,
                device=self.device,
                dtype=DTYPES[self.dtype],
                chunk=self.chunk,
                cancelled=cancelled,
                search=self.search,
            )


def measure_cells(
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
        result = _stored(job, folder)
        if result is not None:
            found[k] = result
            finished(len(found), job, result)
    missing = [k for k in range(len(cells)) if k not in found]

    def keep(k: int, result: CellResult) -> None:
        _store(cells[k], result, folder)
        found[k] = result
        finished(len(found), cells[k], result)

    if jobs == 1 or len(missing) < 2:
        for k in missing:
            keep(k, cells[k].measure(cancelled))
    else:
        with _Workers(min(jobs, len(missing)), cancelled) as workers:
            workers.measure({k: cells[k] for k in missing}, keep)
    return [found[k] for k in range(len(cells))]


# -- on disk -------------------------------------------------------------------------------------


def _store(job: CellJob, result: CellResult, folder: Path | None) -> None:
    if folder is None:
        return
    data = json.dumps({"settings": job.settings()} | result_values(result), indent=1) + "\n"
    try:
        write_whole(folder / job.file, data.encode())
    except OSError as e:
        raise CommandError(f"{folder / job.file} cannot be written: {e.strerror}") from e


def _stored(job: CellJob, folder: Path | None) -> CellResult | None:
    """What the cell's file says; None where there is none, or it is not whole."""
    if folder is None:
        return None
    try:
        said = json.loads((folder / job.file).read_text())
        return result_of(said) if said["settings"] == job.settings() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def result_values(result: CellResult) -> dict[str, Any]:
    """A result as JSON has it: floats to the last bit, NaN as null."""
    return {
        "cell": _nullified(asdict(result.cell)),
        "runs": [_nullified(asdict(run)) for run in result.runs],
        "note": result.note,
    }


def result_of(values: Any) -> CellResult:
    """The inverse of `result_values`; raises KeyError, TypeError or ValueError for other things."""
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


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- in processes --------------------------------------------------------------------------------


class _Workers:
    """Processes (`phase_worker`) that measure a cell at a time; killed when this closes.

    Killing is safe: all that they give goes through this process. They die with it.
    """

    def __init__(self, count: int, cancelled: Callable[[], bool]) -> None:
        self._cancelled = cancelled
        self._processes: list[subprocess.Popen[bytes]] = []
        self._idle = [self._start() for _ in range(count)]
        self._lock = threading.Lock()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "lsshell.sessions.phase_worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for this process to hear
        )
        self._processes.append(process)
        return process

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._kill()
        for process in self._processes:
            process.communicate()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()

    def measure(
        self, cells: Mapping[int, CellJob], keep: Callable[[int, CellResult], None]
    ) -> None:
        """Tells `keep` of each result as it comes; raises what the first one that fails raises."""
        with ThreadPoolExecutor(len(self._idle)) as pool:
            waiting = {pool.submit(self._one, job): k for k, job in cells.items()}
            try:
                while waiting:
                    if self._cancelled():
                        raise Cancelled
                    done, _ = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
                    for future in done:
                        keep(waiting.pop(future), future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._kill()
                raise

    def _one(self, job: CellJob) -> CellResult:
        """A cell by an idle process."""
        with self._lock:
            process = self._idle.pop()
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump(job, process.stdin)
            process.stdin.flush()
            said = process.stdout.readline()
        except OSError:
            said = b""
        if not said:
            raise EngineError(f"the process of {job.name} ended: {_last_words(process)}")
        with self._lock:
            self._idle.append(process)
        answer = json.loads(said)
        if "error" in answer:
            raise EngineError(answer["error"])
        return result_of(answer)


def _last_words(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr is not None
    lines = process.stderr.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it was killed"
