"""Runs a saved session again and holds the new results against the recorded ones."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsshell.sessions.errors import SessionError
from lsshell.sessions.journal import SCRIPT, Entry, Record, read_record
from lsshell.sessions.reply import Outcome
from lsshell.sessions.results import extent, flatten
from lsshell.sessions.session import Session, header, threads_kept_on_failure, use_threads

# Everything in the header that decides whether results are the same bit for bit.
DECISIVE = ("lsshell", "torch", "machine", "accelerator", "threads", "ranks")
# Elsewhere: relative, by the last part of a result's name; counts and hashes are left out, since
# another order of summation turns a walk a little at every step.
TOLERANCES = {"loss": 0.02, "level": 0.02, "test_loss": 0.05, "value": 0.05, "angle_deg": 0.05}
DEFAULT_TOLERANCE = 0.05
UNCOMPARED_ELSEWHERE = (
    "theta",
    "sha256",
    "steps",
    "refused",
    "reason",
    "gradients",
    "implied_weight_decay",
    "random",
)


@dataclass(frozen=True)
class Compared:
    """A recorded result beside the one that came out now; in words, as a difference."""

    entry: Entry
    name: str
    recorded: Any
    found: Any
    same: bool

    def __str__(self) -> str:
        line = self.entry.line
        command = line.text.split()[0]
        return (
            f"{line.source}:{line.number}: {command}: {self.name} is {self.found!r},"
            f" recorded as {self.recorded!r}"
        )


@dataclass(frozen=True)
class Replayed:
    """Commands run, results compared, and how many of them differ, with the first that does.

    elsewhere: why they were not compared bit for bit; failed: the command it ended with;
    interrupted: the user stopped it.
    """

    commands: int
    compared: int
    elsewhere: tuple[str, ...]
    difference: Compared | None
    differences: int = 0
    failed: Outcome | None = None
    interrupted: bool = False


def replay(
    path: Path,
    session: Session,
    *,
    check: bool,
    outcome: Callable[[Outcome], None] | None = None,
    compared: Callable[[Compared], None] = lambda compared: None,
) -> Replayed:
    """Runs a session folder or script in `session`; with `check`, stops at the first difference.

    Results must be the same bit for bit where versions, machine and threads are; otherwise within
    TOLERANCES. A walk that was paused, interrupted, killed or timed is run for as many steps as it
    took. `compared` is told of every result that is compared. Raises SessionError where there is
    nothing to read, or nothing to check.
    """
    record = session.ranks.from_first(lambda: _recorded(path, check=check))
    elsewhere = _prepare(session, path, record.header)
    return _run_again(record, session, elsewhere, check, outcome, compared)


def replay_in_place(path: Path, session: Session, *, check: bool, speed: float | None) -> Replayed:
    """`session` ends and goes on as a new one, in which the session or script is run again.

    `speed`: at most so many recorded steps a second. Those told of `session` are told of it all.
    SessionError is raised, with nothing changed, where there is nothing to read or to check, or
    the new session cannot be written.
    """
    ranks = session.ranks
    record = ranks.from_first(lambda: _recorded(path, check=check))
    fresh = Session(name=f"{_name(path)}-replay", record=session.record, ranks=ranks)
    with threads_kept_on_failure():
        elsewhere = _prepare(fresh, path, record.header)
        fresh.engine.cancel, fresh.engine.pause = session.engine.cancel, session.engine.pause
        fresh.open_journal()
    session.take_over(fresh)
    session.pace = speed
    try:
        return _run_again(record, session, elsewhere, check, None, session.compared)
    finally:
        session.pace = None


def _recorded(path: Path, *, check: bool) -> Record:
    record = read_record(path)
    if check and not any(entry.results for entry in record.entries):
        raise SessionError(f"{path} holds no recorded results to check against: `lsshell run` it")
    return record


def _name(path: Path) -> str:
    """What a recorded session or script was called."""
    path = path.resolve()
    name = path.parent.name if path.name == SCRIPT else path.name if path.is_dir() else path.stem
    return re.sub(r"^\d{4}-\d\d-\d\d-|-replay(-\d+)?$", "", name) or "session"


def _run_again(
    record: Record,
    session: Session,
    elsewhere: tuple[str, ...],
    check: bool,
    outcome: Callable[[Outcome], None] | None,
    told: Callable[[Compared], None],
) -> Replayed:
    commands = compared = 0
    differences: list[Compared] = []
    failed, interrupted = None, False
    with session.running_again(recorded=bool(record.header)):
        for entry in record.entries:
            if interrupted := session.cancelled:
                break
            with _cut_as(entry, session):
                result = session.execute(entry.line, outcome)
            if result is None:
                continue
            commands += 1
            if result.reply is None:
                interrupted = session.cancelled
                failed = None if interrupted else result
                break
            if result.reply.interrupted or result.reply.quits:
                interrupted = result.reply.interrupted
                break
            if "resumed" in entry.notes or (entry.results or {}).get("reason") == "interrupted":
                session.forget_walker()
            found = _compare(entry, flatten(result.reply.checked), exact=not elsewhere)
            for one in found:
                told(one)
            compared += len(found)
            differences += [one for one in found if not one.same]
            if check and differences:
                break
    first = differences[0] if differences else None
    return Replayed(commands, compared, elsewhere, first, len(differences), failed, interrupted)


@contextlib.contextmanager
def _cut_as(entry: Entry, session: Session) -> Iterator[None]:
    """A command that did not end by itself takes as many steps (or epochs) again, and says so."""
    results = entry.results or {}
    if cut_short(results):
        session.step_limit = extent(results)
        session.cut_reason = results["reason"]
    try:
        yield
    finally:
        session.step_limit = session.cut_reason = None


def _prepare(session: Session, path: Path, recorded: Mapping[str, str]) -> tuple[str, ...]:
    """Same threads and search folders as the record; says in what this machine differs."""
    use_threads(recorded)
    session.search = [path.resolve() if path.is_dir() else path.resolve().parent]
    session.search_as(recorded)
    here = header(session.ranks.count)
    recorded = {"ranks": "1", **recorded}
    return tuple(
        f"{name} {recorded[name]} there, {here[name]} here"
        for name in DECISIVE
        if name in recorded and recorded[name] != here[name]
    )


def cut_short(results: Mapping[str, Any]) -> bool:
    """Whether a command with these results on record did not end by itself."""
    reason = str(results.get("reason", ""))
    return (
        reason in ("interrupted", "paused", "killed")
        or reason.startswith("failed")
        or (reason.endswith("seconds are over"))
    )


def _compare(entry: Entry, found: Mapping[str, Any], *, exact: bool) -> list[Compared]:
    results = dict(entry.results or {})
    if cut_short(results):
        results.pop("reason")
    compared = []
    for name, recorded in results.items():
        last = name.rpartition(".")[2]
        happened = name.startswith("events.")  # there may be fewer elsewhere
        if not exact and (happened or last in UNCOMPARED_ELSEWHERE or isinstance(recorded, str)):
            continue
        value = found.get(name)
        same = _same(last, recorded, value, exact=exact)
        compared.append(Compared(entry, name, recorded, value, same))
    return compared


def _same(name: str, recorded: Any, found: Any, *, exact: bool) -> bool:
    if isinstance(found, float) and not math.isfinite(found):
        found = str(found)
    if exact or isinstance(recorded, bool | str) or not isinstance(found, int | float):
        return recorded == found
    return math.isclose(recorded, found, rel_tol=TOLERANCES.get(name, DEFAULT_TOLERANCE))
