"""Where lsshell keeps what outlives a session: the history of lines, the theme."""

from __future__ import annotations

import contextlib
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


def read_theme() -> str | None:
    """The theme that the app had last; None where none is remembered."""
    folder = state_folder()
    try:
        return (folder / "theme").read_text().strip() if folder is not None else None
    except (OSError, UnicodeDecodeError):
        return None


def write_theme(name: str) -> None:
    """Remembers a theme, where that can be written."""
    folder = state_folder()
    if folder is not None:
        with contextlib.suppress(OSError):
            (folder / "theme").write_text(f"{name}\n")


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
