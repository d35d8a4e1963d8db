"""Opens a session that ended or was killed, at its last recorded point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.engine.ranks import ALONE, Ranks
from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.errors import CommandError, SessionError
from lsshell.sessions.journal import Entry, Journal, Record, read_record
from lsshell.sessions.language import Word, split_words
from lsshell.sessions.remainder import many_walkers
from lsshell.sessions.replay import cut_short
from lsshell.sessions.results import flatten
from lsshell.sessions.session import Session, threads_kept_on_failure, use_threads

if TYPE_CHECKING:
    from lsshell.sessions.reply import Reply


def resume(folder: Path, *, ranks: Ranks = ALONE, **options: Any) -> tuple[Session, list[str]]:
    """The session in `folder`, ready for its next command, and notices for people.

    Commands that set things up are done again; what was walked and trained is read back from
    disk, not computed. A walk that was cut off keeps every step recorded. Raises SessionError
    where the folder holds no session, is open elsewhere, or cannot be set up again (a checkpoint
    or data file that has gone, say). Of several `ranks` only the first opens the folder.
    """
    journal: Journal | None = None

    def opened() -> Record:
        nonlocal journal
        if not (folder / "session.lss").exists():
            raise SessionError(f"{folder} holds no session")
        journal = Journal(folder, None)
        found = read_record(folder)
        journal.mend()
        return found

    try:
        record = ranks.from_first(opened)
        session = Session(folder if ranks.first else None, ranks=ranks, **options)
        session.search = [folder.resolve()]
        session.search_as(record.header)
        use_threads(record.header)
        if journal is not None:
            session.adopt(journal)
        notices = [*record.notices]
        made: dict[int, list[dict[str, Any]]] = {}
        for fields in record.steps:
            made.setdefault(fields["command"], []).append(fields)
        with session.reading_back():
            for index, entry in enumerate(record.entries):
                notices += _restore(session, entry, index, made.get(index, []))
        if journal is not None:
            journal.go_on(len(record.entries))
            notices += _close_cut_off(session, journal, record.entries, record.steps)
            if record.header.get("ranks", "1").split()[-1] != str(ranks.count):
                journal.ranks_are(ranks.count)
        session.forget_walker()
    except BaseException:
        if journal is not None:
            journal.close()
        raise
    return session, notices


def resume_in_place(folder: Path, session: Session) -> list[str]:
    """`session` ends and goes on as the one in `folder`; gives notices for people.

    Where that one cannot be opened, SessionError says why, and `session` stands as it was.
    """
    at_hand = session.journal
    if at_hand is not None and at_hand.folder.resolve() == folder.resolve():
        raise CommandError(f"{folder} is the session at hand: there is nothing to resume")
    with threads_kept_on_failure():
        other, notices = resume(folder, ranks=session.ranks)
    session.take_over(other)
    return notices


def _restore(session: Session, entry: Entry, index: int, points: list[dict[str, Any]]) -> list[str]:
    """Does a recorded command again, or reads back what it made; notices for people."""
    words = split_words(entry.line.text, session.variables)
    command = VOCABULARY.commands.get(words[0].text)
    if command is None:
        raise SessionError(f"{entry.line.source}:{entry.line.number}: unknown {words[0].text}")
    if command.leaves_no_trace or command.kind == "work":
        session.history.append(entry.line.text)
    if command.leaves_no_trace:
        return []
    if command.kind == "work":
        if command.name == "load" and entry.results is not None:
            _take_network(session, words[1].text, entry)
        if cut_short(entry.results or {"reason": "killed"}):  # a replay does not come to these
            points = [f for f in points if f["kind"] != "located"]
        if points:
            _restore_points(session, index, points)
            if many_walkers(entry.line.text, session.variables):
                _go_back(session, points[0])
            _restore_origin(session, words, entry)
        return []
    outcome = session.execute(entry.line)
    if outcome is None or outcome.reply is None:
        why = "" if outcome is None else f": {outcome.failure}"
        raise SessionError(f"the session cannot be set up again{why}")
    return _changed(entry, outcome.reply)


def _restore_origin(session: Session, words: list[Word], entry: Entry) -> None:
    """What the engine says of where its parameters came from."""
    if words[0].text == "load":
        session.engine.origin = Path(words[1].text).name
    elif words[0].text == "train":
        session.engine.origin = f"trained {(entry.results or {}).get('epochs', '')} epochs"


def _changed(entry: Entry, reply: Reply) -> list[str]:
    """Says where a file or module is no longer what the session was made with."""
    found = flatten(reply.checked)
    where = f"{entry.line.source}:{entry.line.number}: {entry.line.text.split()[0]}"
    return [
        f"{where}: not what the session was made with any more ({name} differs)"
        for name in ("sha256", "theta")
        if name in (entry.results or {}) and entry.results[name] != found.get(name)
    ]


def _take_network(session: Session, file: str, entry: Entry) -> None:
    """A checkpoint that brought its network is read again; parameters alone are in the points."""
    from lsshell.engine.errors import EngineError

    if not (entry.results or {}).get("own_network"):
        return
    try:
        session.engine.take_checkpoint(session.find(Path(file)))
    except EngineError as e:
        where = f"{entry.line.source}:{entry.line.number}"
        raise SessionError(f"the session cannot be set up again: {where}: {e}") from e


def _restore_points(session: Session, index: int, points: list[dict[str, Any]]) -> None:
    from lsshell.engine.path import Point

    engine = session.engine
    latest: dict[int, Point] = {}
    for fields in points:
        point = Point.from_dict({k: v for k, v in fields.items() if k != "command"})
        latest[point.index] = point
    last = None
    for point in latest.values():
        engine.path.restore(point)
        last = point if point.kind != "located" else last
    assert last is not None
    engine.path.here, engine.path.branch = last, last.branch
    if not last.kept and engine.path.recover(last):
        last = engine.path.here
        if session.journal is not None:
            session.journal.point(last.as_dict(), index)
    if not last.kept:
        kept = [p for p in engine.path.points.values() if p.kept]
        if not kept:
            raise SessionError("no point of the session has its parameters on disk")
        last = kept[-1]
    engine.place_at(last)


def _go_back(session: Session, first: dict[str, Any]) -> None:
    """To the point that many walkers left from; `first` is the first that they recorded."""
    path = session.engine.path
    fork = path.points[first["index"] if first["kind"] != "step" else first["parent"]]
    session.engine.place_at(fork)


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
    if walked or (name == "walk" and any(f["command"] == last for f in steps)):
        journal.end({"steps": len(walked), "reason": "killed"})
        measured = session.engine.measure_on_record()
        if measured is not None:
            journal.point(measured.as_dict(), last)
        return [f"`{name}` was cut off after {len(walked)} steps; all of them are here"]
    command = VOCABULARY.commands[name]
    if command.leaves_no_trace or command.kind in ("setup", "move"):
        return []
    if any(f["command"] == last for f in steps):
        return []
    journal.take_back(entries[-1].line, "cut off before it gave anything")
    return [f"`{name}` was cut off before it gave anything; it is taken out of the script"]
