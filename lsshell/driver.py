"""Textual's driver of a terminal, for lines that break."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from textual.drivers.linux_driver import LinuxDriver


class TerminalDriver(LinuxDriver):
    """Draws on standard output, so that standard error can go elsewhere.

    Textual's own dies of a terminal that has gone while the app waits for it to write: there,
    what cannot be written is dropped, and the app comes to its end.
    """

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self._file = _Output(sys.__stdout__.fileno())  # type: ignore[assignment, union-attr]

    def _sigcont_application(self, *_: object) -> None:
        if os.isatty(self.fileno):  # a line that breaks sends SIGCONT, too
            super()._sigcont_application()


class _Output:
    """What the writing thread writes to."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> None:
        data = text.encode(errors="replace")
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]

    def flush(self) -> None:
        """Nothing is held back."""
