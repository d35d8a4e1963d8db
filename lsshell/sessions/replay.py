"""Runs a saved session again and holds the new results against the recorded ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsshell.sessions.errors import SessionError
from lsshell.sessions.journal import Entry, read_record
from lsshell.sessions.reply import Outcome
from lsshell.sessions.results import flatten
from lsshell.sessions.session import Session, header, use_threads

# Everything in the header that decides whether results are the same bit for bit.
DECISIVE = ("lsshell", "torch", "machine", "accelerator", "threads")
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
class Difference:
    """The first result that came out differently."""

    entry: Entry
    name: str
    recorded: Any
    found: Any

    def __str__(self) -> str:
        line = self.entry.line
        command = line.text.split()[0]
        return (
            f"{line.source}:{line.number}: {command}: {self.name} is {self.found!r},"
            f" recorded as {self.recorded!r}"
        )


@dataclass(frozen=True)
class Replayed:
    """Commands run, results compared, whether bit for bit (or why not), and what differed."""

    commands: int
    compared: int
    elsewhere: tuple[str, ...]
    difference: Difference | None
    failed: Outcome | None = None


def replay(
    path: Path,
    session: Session,
    *,
    check: bool,
    outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Replayed:
    """Runs a session folder or script in `session`; with `check`, stops at the first difference.

    Results must be the same bit for bit where versions, machine and threads are; otherwise within
    TOLERANCES. A walk that was interrupted, killed or timed is run for as many steps as it took.
    """
    record = read_record(path)
    if check and not any(entry.results for entry in record.entries):
        raise SessionError(f"{path} holds no recorded results to check against: `lsshell run` it")
    elsewhere = _prepare(session, path, record.header)
    commands = compared = 0
    for entry in record.entries:
        session.step_limit = _limit(entry)
        result = session.execute(entry.line, outcome)
        session.step_limit = None
        if result is None:
            continue
        commands += 1
        if result.failure is not None:
            return Replayed(commands, compared, elsewhere, None, result)
        assert result.reply is not None
        if result.reply.interrupted or result.reply.quits:
            break
        if "resumed" in entry.notes or (entry.results or {}).get("reason") == "interrupted":
            session.engine.forget_walker()
        if check and entry.results is not None:
            given = flatten(result.reply.checked)
            count, difference = _compare(entry, given, exact=not elsewhere)
            compared += count
            if difference is not None:
                return Replayed(commands, compared, elsewhere, difference)
    return Replayed(commands, compared, elsewhere, None)


def _prepare(session: Session, path: Path, recorded: Mapping[str, str]) -> tuple[str, ...]:
    """Same threads and search folders as the record; says in what this machine differs."""
    use_threads(recorded)
    session.replaying = bool(recorded)
    session.search = [path.resolve() if path.is_dir() else path.resolve().parent]
    session.search_as(recorded)
    here = header()
    return tuple(
        f"{name} {recorded[name]} there, {here[name]} here"
        for name in DECISIVE
        if name in recorded and recorded[name] != here[name]
    )


def _limit(entry: Entry) -> int | None:
    """How many steps (or epochs) to take of a command that did not end by itself."""
    results = entry.results or {}
    if not _cut_short(results):
        return None
    return results.get("steps", results.get("epochs"))


def _cut_short(results: Mapping[str, Any]) -> bool:
    reason = str(results.get("reason", ""))
    return (
        reason in ("interrupted", "killed")
        or reason.startswith("failed")
        or (reason.endswith("seconds are over"))
    )


def _compare(
    entry: Entry, found: Mapping[str, Any], *, exact: bool
) -> tuple[int, Difference | None]:
    results = dict(entry.results or {})
    if _cut_short(results):
        results.pop("reason")
    count = 0
    for name, recorded in results.items():
        last = name.rpartition(".")[2]
        if not exact and (last in UNCOMPARED_ELSEWHERE or isinstance(recorded, str)):
            continue
        count += 1
        value = found.get(name)
        if not _same(last, recorded, value, exact=exact):
            return count, Difference(entry, name, recorded, value)
    return count, None


def _same(name: str, recorded: Any, found: Any, *, exact: bool) -> bool:
    if isinstance(found, float) and not math.isfinite(found):
        found = str(found)
    if exact or isinstance(recorded, bool | str) or not isinstance(found, int | float):
        return recorded == found
    return math.isclose(recorded, found, rel_tol=TOLERANCES.get(name, DEFAULT_TOLERANCE))
