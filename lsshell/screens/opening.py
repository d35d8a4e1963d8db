"""File pickers, for what can be opened and for where a session is saved."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input
from textual_fspicker import FileOpen, FileSave, Filters

from lsshell.sessions.saved import CHECKPOINTS, TABLES

KNOWN = (*CHECKPOINTS, *TABLES, ".lss")


def open_picker() -> FileOpen:
    """Picks a checkpoint, data, a script, or a session (its session.lss)."""
    filters = Filters(
        ("All known", lambda p: p.suffix in KNOWN),
        ("Checkpoints", lambda p: p.suffix in CHECKPOINTS),
        ("Data", lambda p: p.suffix in TABLES),
        ("Sessions, scripts", lambda p: p.suffix == ".lss"),
        ("All files", lambda p: True),
    )
    return FileOpen(Path.cwd(), "Open: checkpoint, data, script, session.lss", filters=filters)


class FolderSave(FileSave):
    """Asks for a name first: the list is for going elsewhere."""

    def on_mount(self) -> None:
        self.call_after_refresh(self.query_one(Input).focus)


def save_picker(name: str) -> FileSave:
    """Picks the folder that a session is saved in."""
    return FolderSave(Path.cwd(), "Save the session in a new folder", default_file=name)
