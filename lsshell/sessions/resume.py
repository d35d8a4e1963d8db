"""Opens a session that ended or was killed, at its last recorded point."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.errors import SessionError
from lsshell.sessions.journal import Entry, Journal, read_record
from lsshell.sessions.language import split_words
from lsshell.sessions.session import Session

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine
    from lsshell.engine.path import Point


def resume(folder: Path, **options: Any) -> tuple[Session, list[str]]:
    """The session in `folder`, ready for its next command, and notices for people.

    Commands that set things up are done again; what was walked and trained is read back from
    disk, not computed. A walk that was cut off keeps every step recorded. Raises SessionError
    where the folder holds no session, is open elsewhere, or cannot be set up again (a checkpoint
    or data file that has gone, say).
    """
    if not (folder / "session.lss").exists():
        raise SessionError(f"{folder} holds no session")
    journal = Journal(folder, None)
    try:
        record = read_record(folder)
        journal.mend()
        session = Session(folder, **options)
        session.search = [folder.resolve()]
        session.search_as(record.header)
        _use_threads(record.header)
        session.adopt(journal)
        notices = [*record.notices]
        with session.reading_back():
            for index, entry in enumerate(record.entries):
                points = [f for f in record.steps if f["command"] == index]
                _restore(session, entry, points)
        journal.go_on(len(record.entries))
        notices += _close_cut_off(session, journal, record.entries, record.steps)
        journal.note("resumed")
        session.engine.forget_walker()
    except BaseException:
        journal.close()
        raise
    return session, notices


def _use_threads(header: Mapping[str, str]) -> None:
    """As many threads as the session had: another number sums in another order."""
    import torch

    if header.get("threads", "").isdigit():
        torch.set_num_threads(int(header["threads"]))


def _restore(session: Session, entry: Entry, points: list[dict[str, Any]]) -> None:
    words = split_words(entry.line.text, session.variables)
    command = VOCABULARY.commands.get(words[0].text)
    if command is None:
        raise SessionError(f"{entry.line.source}:{entry.line.number}: unknown {words[0].text}")
    if command.kind in ("view", "work"):
        session.history.append(entry.line.text)
    if command.kind == "view":
        return
    if command.kind == "work":
        if command.name == "load" and entry.results is not None:
            _take_network(session, words[1].text, entry)
        if points:
            _restore_points(session.engine, points)
        return
    outcome = session.execute(entry.line)
    if outcome is not None and outcome.failure is not None:
        raise SessionError(f"the session cannot be set up again: {outcome.failure}")


def _take_network(session: Session, file: str, entry: Entry) -> None:
    """A checkpoint that brought its network is read again; parameters alone are in the points."""
    from lsshell.engine.errors import EngineError

    engine = session.engine
    if engine.problem is not None and Path(file).suffix != ".pt2":
        return
    try:
        engine.take_checkpoint(session.find(Path(file)))
    except EngineError as e:
        where = f"{entry.line.source}:{entry.line.number}"
        raise SessionError(f"the session cannot be set up again: {where}: {e}") from e


def _restore_points(engine: Engine, points: list[dict[str, Any]]) -> None:
    from lsshell.engine.path import Point

    latest: dict[int, Point] = {}
    for fields in points:
        point = Point.from_dict({k: v for k, v in fields.items() if k != "command"})
        latest[point.index] = point
    for point in latest.values():
        engine.path.restore(point)
    engine.place_at(_last_with_parameters(engine, list(latest.values())))


def _last_with_parameters(engine: Engine, points: list[Point]) -> Point:
    """The last point, kept under its own name if only the rolling file holds it."""
    last = points[-1]
    if last.kept:
        return last
    if engine.path.recover(last):
        assert engine.path.here is not None
        return engine.path.here
    kept = [p for p in engine.path.points.values() if p.kept]
    if not kept:
        raise SessionError("no point of the session has its parameters on disk")
    return kept[-1]


def _close_cut_off(
    session: Session,
    journal: Journal,
    entries: tuple[Entry, ...],
    steps: tuple[dict[str, Any], ...],
) -> list[str]:
    """Writes the ending of a command that the kill cut off."""
    if not entries or entries[-1].results is not None:
        return []
    last = len(entries) - 1
    words = split_words(entries[-1].line.text, session.variables)
    name = words[0].text
    walked = {f["index"] for f in steps if f["command"] == last and f["kind"] == "step"}
    if walked:
        journal.end({"steps": len(walked), "reason": "killed"})
        return [f"`{name}` was cut off after {len(walked)} steps; all of them are here"]
    if VOCABULARY.commands[name].kind in ("setup", "move", "view"):
        return []
    if any(f["command"] == last for f in steps):
        return []
    journal.take_back(entries[-1].line.text, "cut off before it gave anything")
    return [f"`{name}` was cut off before it gave anything; it is taken out of the script"]
