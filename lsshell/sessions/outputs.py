"""Files that a command is asked to write besides what it shows: pictures and tables."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.sessions.errors import CommandError
from lsshell.sessions.results import finite
from lsshell.sessions.whole_file import write_whole

if TYPE_CHECKING:
    from lsshell.figures.figure import Figure
    from lsshell.sessions.reply import Reply
    from lsshell.sessions.session import Session


def check_files(
    session: Session, out: Path | None, save: Path | None, *others: Path | None
) -> None:
    """Raises CommandError for what cannot be written: before the work, not after it."""
    check_picture(session, out)
    check_table(session, save)
    for file in others:
        check_writable(session, file)


def with_files(
    session: Session,
    reply: Reply,
    out: Path | None,
    save: Path | None,
    rows: Callable[[], Sequence[Mapping[str, Any]]],
    panels: Sequence[Figure] = (),
    whole: Callable[[], Mapping[str, Any]] | None = None,
) -> Reply:
    """The reply, once its figure (or `panels`) is written to `out`, in place of being drawn, and
    the rows to `save`, where these are given: a FILE.json holds `whole` instead where there is
    one. Its values name the files; a replay compares neither.
    """
    values, text, figure = dict(reply.values), reply.text, reply.figure
    if save is not None:
        one = whole is not None and save.suffix == ".json"
        write_table(session, save, whole() if one else rows())
        values["saved"], text = str(save), f"{text}\nwrote {save}"
    if out is not None:
        figures = panels or [found for found in (figure,) if found is not None]
        write_picture(session, out, figures)
        values["file"], text, figure = str(out), f"{text}\nwrote {out}", None
    return replace(reply, values=values, text=text, check=reply.checked, figure=figure)


def write_picture(session: Session, out: Path, figures: Sequence[Figure]) -> None:
    """Writes a figure, or several as panels, to FILE.png, .svg, .pdf or .txt; the session keeps a
    copy. Raises CommandError where it cannot be.
    """
    from lsshell.figures.files import write_figure, write_panels

    check_picture(session, out)
    if len(figures) > 1 and out.suffix == ".txt":
        raise CommandError(f"--out {out}: several panels go into .png, .svg or .pdf")
    targets = [] if session.replaying else [session.writable(out)]
    if session.journal is not None:
        targets.append(session.journal.figures_folder / out.name)
    try:
        for target in targets:
            if session.journal is not None and target.parent == session.journal.figures_folder:
                target.parent.mkdir(exist_ok=True)
            if len(figures) == 1:
                write_figure(figures[0], target)
            else:
                write_panels(figures, target)
    except OSError as e:
        raise CommandError(f"{out} cannot be written: {e.strerror}") from e


def check_picture(session: Session, out: Path | None) -> None:
    """Raises CommandError for a file that is no picture, or that cannot be written: before the
    work, not after it.
    """
    from lsshell.figures.files import FORMATS

    if out is not None and out.suffix not in FORMATS:
        raise CommandError(f"--out {out}: a figure ends in {', '.join(FORMATS)}")
    check_writable(session, out)


def write_table(
    session: Session, file: Path, rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]
) -> None:
    """Writes rows, all with the same columns, to FILE.csv or .json, or one object to FILE.json;
    whole or not at all. NaN and infinities are empty in JSON.

    Raises CommandError where it cannot be.
    """
    check_table(session, file)
    data = _WRITERS[file.suffix](rows)
    target = session.writable(file)
    try:
        write_whole(target, data)
    except OSError as e:
        raise CommandError(f"{file} cannot be written: {e.strerror}") from e


def check_table(session: Session, file: Path | None) -> None:
    """Raises CommandError for a file that is no table, or that cannot be written: before the work,
    not after it.
    """
    if file is not None and file.suffix not in _WRITERS:
        raise CommandError(f"--save {file}: a table ends in {', '.join(_WRITERS)}")
    check_writable(session, file)


def check_writable(session: Session, file: Path | None) -> None:
    """Raises CommandError where a file cannot be made: its folder is not there, for one.

    Of several ranks the first writes, so all take its word. A replay writes into its own folder.
    """
    if file is None or session.replaying:
        return
    why = session.ranks.from_first(lambda: _unwritable(file))
    if why is not None:
        raise CommandError(f"{file} cannot be written: {why}")


def _unwritable(file: Path) -> str | None:
    from lsshell.sessions.session import expanded

    try:
        target = expanded(file)
        if target.is_dir():
            return "it is a folder"
        if not target.parent.is_dir():
            return f"there is no folder {file.parent}"
    except CommandError:
        return f"there is no home folder {file.parts[0]}"
    except OSError as e:  # a name too long, say
        return e.strerror
    return None if os.access(target.parent, os.W_OK) else f"{file.parent} may not be written to"


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _json(rows: Any) -> bytes:
    return (json.dumps(finite(rows), indent=1, allow_nan=False) + "\n").encode()


_WRITERS: Mapping[str, Callable[[Any], bytes]] = {
    ".csv": _csv,
    ".json": _json,
}
