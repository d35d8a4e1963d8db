"""The end of the process, also while a thread of ours is inside a library's compiled code."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn


class Background(threading.Thread):
    """A daemon thread that `end` knows of: it may be in torch when the process ends."""

    def __init__(self, target: Callable[[], object], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)


def end(code: int) -> NoReturn:
    """Ends the process with the exit code, whatever Background threads are doing.

    The interpreter's own ending would unwind such a thread at its next return from C++ code (of
    torch while it is imported, say), and that aborts the process.
    """
    if any(isinstance(thread, Background) for thread in threading.enumerate()):
        end_at_once(code)
    sys.exit(code)


def end_at_once(code: int) -> NoReturn:
    """Ends the process with the exit code and runs nothing more; what was printed is written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # closed, or its reader has gone
            continue
    os._exit(code)
