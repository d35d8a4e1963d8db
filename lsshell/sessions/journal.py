"""The append-only record of a session on disk; survives kill -9; opens again where it ended."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lsshell.sessions.errors import SessionError
from lsshell.sessions.language import Line
from lsshell.sessions.results import MARK, read_results, result_lines

FORMAT = "1"
SESSIONS_VARIABLE = "LSSHELL_SESSIONS"
SCRIPT, STEPS, POINTS, FIGURES = "session.lss", "steps.jsonl", "points", "figures"
HEADER, NOTE = "#:", "#!"


@dataclass(frozen=True)
class Entry:
    """A recorded command: its line, what it gave (None where it never ended), and notes (`#!`)."""

    line: Line
    results: dict[str, Any] | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """A session as read back from disk."""

    header: dict[str, str]
    entries: tuple[Entry, ...]
    steps: tuple[dict[str, Any], ...] = ()
    notices: tuple[str, ...] = field(default=())


class Journal:
    """Writes one session folder. Every line is flushed before the next thing happens.

    Raises SessionError, naming folder and reason, where the folder exists already, cannot be
    made or written, or is open in another process.
    """

    def __init__(self, folder: Path, header: Mapping[str, str] | None) -> None:
        """`header` starts a new session in a new or empty folder; None goes on with an old one."""
        self.folder = folder
        self.points_folder = folder / POINTS
        self.figures_folder = folder / FIGURES
        self._command = -1
        self._began: int | None = None
        self._stepped: set[int] = set()
        self._searched: set[Path] = set()
        try:
            if header is not None:
                refuse_occupied(folder)
                folder.mkdir(parents=True, exist_ok=True)
                self.points_folder.mkdir(exist_ok=True)
            self._lock = FileLock(folder / ".lock", timeout=0)
            self._lock.acquire()
            self._script = (folder / SCRIPT).open("ab")
            self._steps = (folder / STEPS).open("ab")
        except Timeout as e:
            raise SessionError(f"the session {folder} is open in another process") from e
        except OSError as e:
            raise SessionError(f"the session folder {folder} cannot be written: {_why(e)}") from e
        if header is not None:
            self._write_script(_header_line(name, value) for name, value in header.items())

    def begin(self, text: str) -> None:
        """Writes a command before it runs."""
        self._began = self._script.tell()
        self._command += 1
        self._stepped: set[int] = set()
        self._write_script([text])

    @property
    def steps_of_command(self) -> int:
        """Steps recorded since the last `begin`."""
        return len(self._stepped)

    def end(self, results: Mapping[str, Any]) -> None:
        """Writes what the command gave."""
        self._began = None
        self._write_script(result_lines(results))

    def fail(self, text: str, message: str) -> None:
        """Turns the command begun into a comment: a failed command is no part of the script."""
        if self._began is not None:
            self._script.truncate(self._began)
            self._script.seek(self._began)
            self._began = None
            self._command -= 1
            self._searched.clear()
        self._write_script([f"# {text}", *(f"{NOTE} {part}" for part in message.splitlines())])

    def take_back(self, line: Line, why: str) -> None:
        """Turns the last command of a script read back from disk into a comment."""
        lines = (self.folder / SCRIPT).read_bytes().split(b"\n")
        self._began = sum(len(text) + 1 for text in lines[: line.number - 1])
        self.fail(line.text, why)

    def mend(self) -> None:
        """Cuts a torn last line off both files, so that the next line starts on its own."""
        for file in (self._script, self._steps):
            data = Path(file.name).read_bytes()
            if data and not data.endswith(b"\n"):
                file.truncate(data.rfind(b"\n") + 1)

    def search_too(self, folder: Path) -> None:
        """Adds a folder to those in which a replay looks for files."""
        if folder not in self._searched:
            self._searched.add(folder)
            self._write_script([_header_line("search", str(folder.resolve()))])

    def ranks_are(self, count: int) -> None:
        """From here on so many processes walk together."""
        self._write_script([_header_line("ranks", str(count))])

    def note(self, text: str) -> None:
        """A remark that replay and resume read, and scripts skip."""
        self._write_script([f"{NOTE} {text}"])

    def point(self, fields: Mapping[str, Any], command: int | None = None) -> None:
        """Writes the line of a recorded point; a later line of the same index replaces it.

        `command` is the number of the command that made it, the one under way unless given.
        """
        if fields["kind"] == "step":
            self._stepped.add(fields["index"])
        number = self._command if command is None else command
        line = json.dumps({"command": number, **fields}, ensure_ascii=False)
        self._append(self._steps, line + "\n", STEPS)

    def go_on(self, commands: int) -> None:
        """After `commands` commands read back from disk."""
        self._command = commands - 1

    def copied(self, folder: Path) -> Journal:
        """A whole copy in a new folder, open to go on where this one is; this one stays open.

        Raises SessionError, and leaves nothing behind, where it cannot be made.
        """
        refuse_occupied(folder)
        target = folder.resolve()
        if target.is_relative_to(self.folder.resolve()):
            raise SessionError(f"{folder} lies inside the session itself; give another folder")
        if target == Path.cwd():
            raise SessionError(f"{folder} is the working directory; give a folder in it")
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        ours = [temporary]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(self.folder, temporary, ignore=shutil.ignore_patterns(".*"))
            temporary.replace(target)
            ours.append(target)
            copy = Journal(folder, None)
        except BaseException as e:
            for made in ours:
                shutil.rmtree(made, ignore_errors=True)
            if isinstance(e, OSError):
                raise SessionError(f"the session cannot be kept in {folder}: {_why(e)}") from e
            raise
        copy._command, copy._searched = self._command, set(self._searched)
        return copy

    def close(self) -> None:
        """Releases the lock (its file stays: who removes it may remove another's)."""
        try:
            self._script.close()
        finally:
            try:
                self._steps.close()
            finally:
                self._lock.release()

    def _write_script(self, lines: Iterable[str]) -> None:
        self._append(self._script, "".join(line + "\n" for line in lines), SCRIPT)

    def _append(self, file: Any, text: str, name: str) -> None:
        try:
            file.write(text.encode())
            file.flush()
        except OSError as e:
            raise SessionError(
                f"{self.folder / name} cannot be written: {_why(e)}. What was written stays;"
                " free some space, or `save` the parameters elsewhere"
            ) from e


def refuse_occupied(folder: Path) -> None:
    """Raises SessionError where the folder is not new or empty."""
    if folder.is_file():
        raise SessionError(f"{folder} is a file; a session needs a folder")
    if (folder / SCRIPT).exists():
        raise SessionError(
            f"the folder {folder} holds a session already: `lsshell resume"
            f" {shlex.quote(str(folder))}`"
            " goes on with it; otherwise give another folder"
        )
    if folder.is_dir() and any(p.name != ".lock" for p in folder.iterdir()):
        raise SessionError(f"the folder {folder} is not empty; give a new one")


def read_record(path: Path) -> Record:
    """A session folder, or a script alone, as it stands on disk; a torn last line is dropped.

    Raises SessionError where there is no such thing, or a line in the middle cannot be read.
    """
    script = path / SCRIPT if path.is_dir() else path
    try:
        data = script.read_bytes()
        whole = data[: data.rfind(b"\n") + 1] if path.is_dir() else data
        text = whole.decode()
    except FileNotFoundError as e:
        raise SessionError(f"no session or script {path}") from e
    except UnicodeDecodeError as e:
        raise SessionError(f"{script} is not a text file") from e
    except OSError as e:
        raise SessionError(f"{script} cannot be read: {_why(e)}") from e
    notices: list[str] = []
    if len(whole) < len(data):
        torn = data[len(whole) :].decode(errors="replace")
        notices.append(f"{SCRIPT}: the last line was torn and is dropped: {torn}")
    header, entries = _parse(script, text.split("\n"))
    steps = _read_steps(path / STEPS, notices) if path.is_dir() else []
    return Record(header, tuple(entries), tuple(steps), tuple(notices))


def _parse(script: Path, lines: list[str]) -> tuple[dict[str, str], list[Entry]]:
    header: dict[str, str] = {}
    entries: list[Entry] = []
    for number, text in enumerate(lines, start=1):
        stripped = text.strip()
        if stripped.startswith(HEADER):
            name, _, value = stripped.removeprefix(HEADER).strip().partition(" ")
            between = {"search": "\n", "ranks": " then "}.get(name)
            again = between is not None and name in header
            header[name] = f"{header[name]}{between}{value}" if again else value
        elif stripped.startswith(MARK) and entries:
            try:
                found = read_results([stripped])
            except ValueError as e:
                raise SessionError(f"{script.name}:{number}: unreadable results: {e}") from e
            last = entries[-1]
            entries[-1] = Entry(last.line, (last.results or {}) | found, last.notes)
        elif stripped.startswith(NOTE) and entries:
            last = entries[-1]
            note = stripped.removeprefix(NOTE).strip()
            entries[-1] = Entry(last.line, last.results, (*last.notes, note))
        elif stripped and not stripped.startswith("#"):
            entries.append(Entry(Line(script.name, number, stripped), None))
    return header, entries


def _read_steps(file: Path, notices: list[str]) -> list[dict[str, Any]]:
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as e:
        raise SessionError(f"{file} cannot be read: {_why(e)}") from e
    steps: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            steps.append(json.loads(line))
        except ValueError as e:
            if number < len(lines):
                raise SessionError(f"{file.name}:{number}: not a recorded point: {e}") from e
            notices.append(f"{STEPS}: the last line was torn and is dropped")
    return steps


def _header_line(name: str, value: str) -> str:
    """One line, whatever there is in a folder's name."""
    line = f"{HEADER} {name} {' '.join(value.splitlines())}"
    return line.encode(errors="replace").decode()


def sessions_root() -> Path:
    """Where sessions go that name no folder: $LSSHELL_SESSIONS, or `sessions` here."""
    return Path(os.environ.get(SESSIONS_VARIABLE, "sessions"))


def new_folder(root: Path, name: str) -> Path:
    """Makes `root/DATE-name`, with -2, -3, … where that exists.

    Raises SessionError where it cannot be made.
    """
    base = f"{datetime.now(UTC).astimezone():%Y-%m-%d}-{name}"
    for k in itertools.count(1):
        folder = root / (base if k == 1 else f"{base}-{k}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # perhaps made by another process just now
            continue
        except OSError as e:
            raise SessionError(f"the session folder {folder} cannot be made: {_why(e)}") from e
        return folder
    raise AssertionError  # unreachable: count never ends


def make_folder(folder: Path) -> None:
    """Raises SessionError where the folder is not there and cannot be made, or not written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise SessionError(f"the session folder {folder} cannot be made: {_why(e)}") from e
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SessionError(f"the session folder {folder} cannot be written: Permission denied")


def _why(e: OSError) -> str:
    if isinstance(e, shutil.Error):  # (from, to, why) of each file; one is enough
        return str(e.args[0][0][2])
    return os.strerror(e.errno) if e.errno else str(e)
