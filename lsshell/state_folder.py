"""Where lsshell keeps what outlives a session: the history of lines, the theme."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path | None:
    """`$XDG_STATE_HOME/lsshell`, made where it was not; None where it cannot be."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    try:
        folder = base / "lsshell"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder


def history_file() -> Path | None:
    """The file of lines typed before; None where it cannot be written."""
    folder = state_folder()
    if folder is None:
        return None
    try:
        file = folder / "history"
        file.touch()
    except OSError:
        return None
    return file
