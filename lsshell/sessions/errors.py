"""Errors of the session layer, worded for people."""

from __future__ import annotations

DEBUG_VARIABLE = "LSSHELL_DEBUG"  # set: defects show their traceback


class CommandError(Exception):
    """A command that cannot be done; `column` (from 1) is where in its line, if known."""

    def __init__(self, message: str, column: int | None = None) -> None:
        super().__init__(message)
        self.column = column


class SessionError(Exception):
    """The session itself cannot go on: its folder, its lock, its files."""
