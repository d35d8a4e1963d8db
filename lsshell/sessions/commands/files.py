"""Sessions on disk: new, resume, replay, save-as."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.sessions.errors import CommandError, SessionError
from lsshell.sessions.points import point_values, point_words
from lsshell.sessions.reply import Reply
from lsshell.sessions.vocabulary import VOCABULARY, Flag, FromSession, positive

if TYPE_CHECKING:
    from lsshell.sessions.replay import Replayed


@VOCABULARY.command("talk")
def new(*, session: FromSession) -> Reply:
    """End this session (it is on disk already) and begin another, with nothing loaded."""
    from lsshell.sessions.session import Session

    session.refuse_within()
    before = session.folder if session.journal is not None else None
    session.take_over(Session(record=session.record, ranks=session.ranks))
    values = {"before": str(before) if before is not None else None}
    was = f"; the one before is in {before}" if before is not None else ""
    return Reply(values, f"a new session{was}")


@VOCABULARY.command("talk")
def resume(folder: Path, /, *, session: FromSession) -> Reply:
    """Go on with another session where it ended; this one is on disk already.

    Parameters
    ----------
    folder
        The session's folder.
    """
    from lsshell.sessions.resume import resume_in_place
    from lsshell.sessions.session import expanded

    session.refuse_within()
    try:
        notices = resume_in_place(expanded(folder), session)
    except SessionError as e:
        raise CommandError(str(e)) from e
    values, where = _here(session)
    return Reply(values | {"notices": notices}, "\n".join([*notices, where]))


@VOCABULARY.command("talk")
def replay(
    path: Path, /, *, check: Flag = False, speed: float | None = None, session: FromSession
) -> Reply:
    """Run a recorded session again, as a new one, and hold its results against the record.

    This session ends (it is on disk already); one goes on from where the new one ends. Results
    are compared bit for bit where versions, machine and threads are those of the record, otherwise
    within tolerances.

    Parameters
    ----------
    path
        A session's folder, or a .lss script.
    check
        Stop at the first difference.
    speed
        At most so many recorded steps a second.
    """
    from lsshell.sessions.replay import replay_in_place

    session.refuse_within()
    if speed is not None:
        positive(speed=speed)
    try:
        found = replay_in_place(session.find(path), session, check=check, speed=speed)
    except SessionError as e:
        raise CommandError(str(e)) from e
    if found.failed is not None:
        raise CommandError(f"stopped at {found.failed.failure}")
    if check and found.difference is not None:
        raise CommandError(str(found.difference))
    values, where = _here(session)
    values |= {
        "commands": found.commands,
        "compared": found.compared,
        "differences": found.differences,
        "elsewhere": list(found.elsewhere),
    }
    return Reply(values, f"{_verdict(found)}\n{where}", interrupted=found.interrupted)


def _verdict(found: Replayed) -> str:
    stopped = "interrupted: " if found.interrupted else ""
    of = f"of {found.commands} commands"
    how = "bit for bit"
    if found.elsewhere:
        how = f"within tolerances ({'; '.join(found.elsewhere)})"
    if not found.compared:
        return f"{stopped}{found.commands} commands, with no recorded results to compare"
    if found.difference is None:
        return f"{stopped}all {found.compared} results {of} agree {how}"
    agree = found.compared - found.differences
    first = f"the first that does not: {found.difference}"
    return f"{stopped}{agree} of {found.compared} results {of} agree {how}; {first}"


@VOCABULARY.command("talk", "save-as")
def save_as(folder: Path, /, *, session: FromSession) -> Reply:
    """Keep this session, and what follows, in another folder; the old one stays as it is.

    Parameters
    ----------
    folder
        A new or empty folder.
    """
    session.refuse_within()
    try:
        session.save_as(folder)
    except SessionError as e:
        raise CommandError(str(e)) from e
    return Reply({"session": str(session.folder)}, f"this session is now in {session.folder}")


def _here(session: FromSession) -> tuple[dict[str, Any], str]:
    """Where one is, and in which session: values and words."""
    point, folder = session.engine.path.here, session.folder
    values: dict[str, Any] = {"session": str(folder) if folder is not None else None}
    if point is None:
        return values, f"nothing walked yet (session in {folder})"
    words = f"at {point_words(point)}"
    if folder is not None:
        words += f" (session in {folder})"
    return values | {"point": point_values(point)}, words
