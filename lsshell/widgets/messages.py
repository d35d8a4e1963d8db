"""What widgets ask of the app."""

from __future__ import annotations

from textual.message import Message


class Say(Message):
    """A command to execute: what was clicked, in the words that do the same."""

    def __init__(self, *lines: str) -> None:
        super().__init__()
        self.lines = lines


class Woken(Message):
    """The worker has something to show at once."""
