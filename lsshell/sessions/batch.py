"""Many scripts, each in a process and a session of its own, and a table of what came out."""

from __future__ import annotations

import itertools
import json
import threading
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from lsshell.sessions.batch_engine import Ended, Engine
from lsshell.sessions.batch_record import BatchRecord, Job, Row, not_ended
from lsshell.sessions.errors import SessionError
from lsshell.sessions.tables import number, table


def read_matrix(file: Path) -> dict[str, list[str]]:
    """Variables and their values from a TOML file: `seed = [0, 1, 2]`, at top or under [matrix]."""
    try:
        with file.open("rb") as handle:
            found = tomllib.load(handle)
    except FileNotFoundError as e:
        raise SessionError(f"no matrix file {file}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SessionError(f"{file} is not TOML: {e}") from e
    except OSError as e:
        raise SessionError(f"{file} cannot be read: {e.strerror}") from e
    matrix = found.get("matrix", found)
    if not isinstance(matrix, dict) or not matrix:
        raise SessionError(f"{file} names no variables: write `seed = [0, 1, 2]`")
    for name, values in matrix.items():
        if not isinstance(values, list) or not values:
            raise SessionError(f"{file}: {name} must be a list of values")
    return {name: [str(v) for v in values] for name, values in matrix.items()}


def plan(scripts: Sequence[Path], matrix: Mapping[str, Sequence[str]], folder: Path) -> list[Job]:
    """Every script with every combination of variables, each with a folder named after both."""
    jobs: list[Job] = []
    for script in scripts:
        for values in itertools.product(*matrix.values()):
            variables = dict(zip(matrix, values, strict=True))
            name = "-".join([script.stem, *(f"{k}={v}" for k, v in variables.items())])
            name = "".join(c if c.isalnum() or c in "-_=.+" else "_" for c in name)
            taken = {job.folder.name for job in jobs}
            unique = next(
                n
                for k in itertools.count(1)
                if (n := name if k == 1 else f"{name}-{k}") not in taken
            )
            jobs.append(Job(script, variables, folder / unique))
    return jobs


def run_batch(
    jobs: Sequence[Job],
    engine: Engine,
    *,
    folder: Path,
    begun: Callable[[list[Row]], None] = lambda done: None,
    finished: Callable[[Row], None] = lambda row: None,
    cancelled: threading.Event | None = None,
) -> list[Row]:
    """Runs those of the jobs that are not done, by the workers of `engine`; gives the rows of all.

    `begun` is told the rows of what is done already, `finished` each new one. A failed job does
    not stop the others. The rows, in the order of the jobs, are also written to
    `folder`/results.json as they come, before those of other jobs that it holds. Cancelling ends
    the running ones by an interrupt, at a valid point of their sessions. Raises SessionError where
    another batch runs in the folder, or the engine has no workers.
    """
    cancelled = cancelled or threading.Event()
    lock = threading.Lock()

    with BatchRecord(folder, jobs) as record:
        rows = [record.done(job) for job in jobs]
        done = [row for row in rows if row is not None]
        record.put(*done)
        begun(done)
        if len(done) == len(jobs):
            return done

        def work(index: int, run: Callable[[Job], Ended]) -> None:
            if rows[index] is not None or cancelled.is_set():
                return
            row = not_ended(jobs[index])
            try:
                with lock:
                    record.make_room(jobs[index])
                    record.put(row)
            except SessionError as e:
                row = replace(row, error=str(e))
            else:
                row = _row_of(row, run(jobs[index]))
            with lock:
                rows[index] = row
                record.put(row)
                finished(row)

        with (
            engine(folder, len(jobs), cancelled) as workers,
            ThreadPoolExecutor(workers.count) as pool,
        ):
            list(pool.map(lambda index: work(index, workers.run), range(len(jobs))))
    return [row for row in rows if row is not None]


def _row_of(row: Row, ended: Ended) -> Row:
    """The job's row, as it is when the job has ended."""
    point, error = _last_point(ended.out)
    row = replace(row, seconds=ended.seconds, point=point)
    if ended.code == 0:
        return replace(row, ok=True, error=None)
    if error is None:
        error = (ended.err.strip().splitlines() or [f"ended with code {ended.code}"])[-1]
    return replace(row, error=error)


def _last_point(out: str) -> tuple[dict[str, Any] | None, str | None]:
    """The last point among the JSON lines, and the error where one is the last word."""
    point, error = None, None
    for line in out.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if not said.get("ok"):
            found = said.get("error", {})
            error = f"{found.get('file')}:{found.get('line')}: {found.get('message')}"
            continue
        result = said.get("result", {})
        candidate = result.get("end") or result.get("point")
        if candidate is None and "regularizers" in result and "loss" in result:
            candidate = result
        point = candidate or point
    return point, error


def results_table(rows: Sequence[Row]) -> str:
    """A row a run: variables, how it ended, and the numbers of its last point."""
    names = list(dict.fromkeys(n for row in rows for n in row.variables))
    headers = ["script", *names, "", "seconds", "steps", "loss", "test loss", "accuracy", "l2",
               "angle"]  # fmt: skip
    lines = []
    for row in rows:
        point = row.point or {}
        accuracy = point.get("test_accuracy")
        lines.append(
            [
                Path(row.script).name,
                *(row.variables.get(n, "") for n in names),
                "done" if row.ok else "failed",
                f"{row.seconds:.1f}",
                str(point.get("step", "–")),
                number(point.get("loss")),
                number(point.get("test_loss")),
                "–" if accuracy is None else f"{100 * accuracy:.2f} %",
                number(point.get("regularizers", {}).get("l2")),
                number(point.get("angle_deg")),
            ]
        )
    failed = [f"{Path(r.script).name}: {r.error}" for r in rows if not r.ok]
    return "\n".join([table(headers, lines), *failed])
