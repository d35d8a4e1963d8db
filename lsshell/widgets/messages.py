"""What widgets ask of the app."""

from __future__ import annotations

from textual.message import Message


class Say(Message):
    """Commands to execute: what was typed, or what was clicked, in the words that do the same."""

    def __init__(self, *lines: str, typed: bool = False) -> None:
        super().__init__()
        self.lines = lines
        self.typed = typed


class Woken(Message):
    """The worker has something to show at once."""
