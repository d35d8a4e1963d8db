"""Which word names which place: a point of the path, or a checkpoint file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsshell.engine.landscape.places import Place
    from lsshell.sessions.session import Session


def named_place(session: Session, where: str) -> Place:
    """`here`, a point as in `goto`, `init` or a checkpoint file; raises EngineError where there is
    none.

    A word with a dot or a slash is a file: no branch has such a name.
    """
    from lsshell.engine.landscape.places import find_place

    file = as_file(session, where)
    if file is None:
        return find_place(session.engine, where)
    return replace(find_place(session.engine, file), name=Path(where).name)  # as said, in replays


def as_file(session: Session, where: str) -> Path | None:
    """The file that a word names; None where it names a point."""
    return session.find(Path(where)) if "." in where or "/" in where else None
