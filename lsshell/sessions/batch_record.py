"""What is on record of a batch: the rows of results.json, and what its sessions tell."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.errors import CommandError, SessionError
from lsshell.sessions.journal import SCRIPT, STEPS, Entry, Record, read_record, refuse_occupied
from lsshell.sessions.language import assignment, split_words, spoken
from lsshell.sessions.session import Session, read_lines
from lsshell.sessions.whole_file import write_whole

RESULTS = "results.json"
# Fields of a point that may be None, which a session leaves out.
MAY_LACK = ("level", "tolerance", "test_loss", "angle_deg", "implied_weight_decay")


@dataclass(frozen=True)
class Job:
    """One run of a script with its variables, in its session folder."""

    script: Path
    variables: Mapping[str, str]
    folder: Path


@dataclass(frozen=True)
class Row:
    """How a job ended: seconds, the last point it gave, or the error that stopped it.

    sha256: of the script as it was run; None where that is not known.
    """

    script: str
    variables: Mapping[str, str]
    session: str
    ok: bool
    seconds: float
    point: Mapping[str, Any] | None
    error: str | None
    sha256: str | None = None


def not_ended(job: Job) -> Row:
    """The row of a job that begins; it stays where the batch is killed before the job ends."""
    error = "has not ended: it is running, or its batch was killed"
    script, session, sha256 = str(job.script), str(job.folder), _sha256(job.script)
    return Row(script, dict(job.variables), session, False, 0.0, None, error, sha256)


class BatchRecord:
    """results.json of a batch's folder, in the hands of one batch at a time (and one thread).

    Rows are in the order of `jobs`; those of other jobs, from earlier, follow. Raises SessionError
    where another batch has it, or it is there but cannot be read.
    """

    def __init__(self, folder: Path, jobs: Sequence[Job]) -> None:
        self._file = folder / RESULTS
        self._place = {job.folder.name: k for k, job in enumerate(jobs)}
        self._lock = FileLock(folder / ".batch.lock", timeout=0)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as e:
            raise SessionError(
                f"another batch is running in {folder}: wait until it ends, or give another folder"
            ) from e
        try:
            self._known = self._file.exists()
            rows = _read_rows(self._file) if self._known else []
        except BaseException:
            self._lock.release()
            raise
        self._rows = {Path(row.session).name: row for row in rows}

    def __enter__(self) -> BatchRecord:
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def done(self, job: Job) -> Row | None:
        """The row of a job that need not be run; None for one that must be.

        Done is what ended well by its row, with the script as it is now, and what has a row that
        it never ended by, but a session that did. Files that a script reads are not looked at.
        """
        row = self._rows.get(job.folder.name)
        if row is None or not _is_of(row, job) or not (job.folder / SCRIPT).exists():
            return None
        if row.ok:
            return row if row.sha256 in (None, _sha256(job.script)) else None
        return _row_of_session(job)

    def make_room(self, job: Job) -> None:
        """Moves what an earlier run left in the job's folder aside (see `move_aside`).

        In a folder that held no batch nothing is moved: SessionError, where it is occupied.
        """
        if self._known:
            move_aside(job.folder)
        else:
            refuse_occupied(job.folder)

    def put(self, *rows: Row) -> None:
        """Writes rows; each replaces the one of the same session folder."""
        self._rows |= {Path(row.session).name: row for row in rows}
        last = len(self._place)
        order = sorted(self._rows, key=lambda name: self._place.get(name, last))
        text = json.dumps([asdict(self._rows[name]) for name in order], indent=1)
        write_whole(self._file, f"{text}\n".encode())


def move_aside(folder: Path, *, wait: float = 0.0) -> None:
    """Renames a job's folder, where there is one, to NAME.cut-off-1 (-2, …).

    Raises SessionError where its session is open in another process, and still so after `wait`
    seconds, or cannot be moved.
    """
    if not folder.exists():
        return
    names = (f"{folder.name}.cut-off-{k}" for k in itertools.count(1))
    aside = next(a for name in names if not (a := folder.with_name(name)).exists())
    try:
        if (folder / ".lock").exists():
            with FileLock(folder / ".lock", timeout=wait):
                pass
        folder.rename(aside)
    except Timeout as e:
        raise SessionError(
            f"the session {folder} is still open in another process: let that end, or end it,"
            " and run the batch again"
        ) from e
    except OSError as e:
        raise SessionError(f"{folder} cannot be moved to {aside}: {e.strerror}") from e


def _read_rows(file: Path) -> list[Row]:
    try:
        return [Row(**fields) for fields in json.loads(file.read_bytes())]
    except (ValueError, TypeError) as e:
        raise SessionError(
            f"{file} is not the record of a batch ({e}); move it away, or give another folder"
        ) from e


def _sha256(script: Path) -> str | None:
    try:
        return hashlib.sha256(script.read_bytes()).hexdigest()
    except OSError:
        return None


def _is_of(row: Row, job: Job) -> bool:
    same_script = Path(row.script).resolve() == job.script.resolve()
    return same_script and row.variables == dict(job.variables)


def _row_of_session(job: Job) -> Row | None:
    """The row of a job whose session says that it ended well; None where that is not certain.

    Certain it is where the session holds the very commands of the script, none of them cut short,
    and what the last one gave. A last command that gives nothing (`plot`, say) may have been cut.
    """
    try:
        record = read_record(job.folder)
        wanted = list(_commands([job.script], dict(job.variables)))
        said = [entry.line.text for entry in record.entries]
        whole = not record.notices and not any(map(_cut_short, record.entries))
        if not whole or not said or said != wanted or record.entries[-1].results is None:
            return None
        began = datetime.fromisoformat(record.header["created"]).timestamp()
        seconds = (job.folder / STEPS).stat().st_mtime - began  # until the last point
    except (CommandError, SessionError, OSError, ValueError, KeyError):
        return None
    found = replace(not_ended(job), ok=True, error=None, point=_last_point(record))
    return replace(found, seconds=round(max(0.0, seconds), 2))


def _commands(scripts: Sequence[Path], variables: dict[str, str]) -> Iterator[str]:
    """What a run of the last script, which the others include, writes into its session.

    Raises CommandError where the script cannot be read, or goes beyond its session.
    """
    session = Session(record=False)  # it knows where to look for files
    for script in scripts:
        session.begin_script(script)
    for line in read_lines(scripts[-1]):
        words = split_words(line.text, variables)
        match [word.text for word in words]:
            case []:
                continue
            case ["quit"]:
                return
            case ["source", name]:
                file = session.find(Path(name))
                if file.resolve() in [script.resolve() for script in scripts]:
                    raise CommandError(f"{name} includes itself")
                yield from _commands([*scripts, file], variables)
                continue
            case ["set", text]:
                name, value = assignment(text)
                variables[name] = value
        command = VOCABULARY.commands.get(words[0].text)
        if command is None or command.kind == "talk":
            raise CommandError(f"{words[0].text} leaves nothing in the session")
        yield spoken(line.text, words)


def _cut_short(entry: Entry) -> bool:
    reason = str((entry.results or {}).get("reason", ""))
    return reason in ("interrupted", "paused", "killed") or reason.startswith("failed")


def _last_point(record: Record) -> dict[str, Any] | None:
    """The last point that a command gave, as `run --json` prints it."""
    for entry in reversed(record.entries):
        results = entry.results or {}
        for prefix in ("end.", "point.", ""):  # walks; level, train and the like; measure
            if f"{prefix}loss" in results:
                point: dict[str, Any] = dict.fromkeys(MAY_LACK) | {"regularizers": {}}
                for name, value in results.items():
                    if name.startswith(prefix):
                        value = None if isinstance(value, str) else value  # "nan", "inf"
                        group, _, inner = name.removeprefix(prefix).rpartition(".")
                        (point.setdefault(group, {}) if group else point)[inner] = value
                return point
    return None
