"""How fast a task goes on, and how long it will take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsshell.engine.events import Progress


class Pace:
    """Units a second since a task began, from its progress events."""

    def __init__(self) -> None:
        self.task = ""
        self._began = 0.0
        self._first = self._last = 0

    def hear(self, event: Progress) -> None:
        """Notes where a task begins: another one, or the same one from its start."""
        if event.task != self.task or event.done < self._last:
            self.task, self._began, self._first = event.task, time.monotonic(), event.done
        self._last = event.done

    def rate(self, event: Progress) -> float:
        """Units a second; 0 where that is not known yet."""
        seconds = time.monotonic() - self._began
        return (event.done - self._first) / seconds if seconds > 0 else 0.0

    def words(self, event: Progress) -> str:
        """`120/400 105.3/s, 0:03 left`."""
        rate = self.rate(event)
        if rate <= 0:
            return f"{event.done}/{event.total}"
        left = clock((event.total - event.done) / rate)
        return f"{event.done}/{event.total} {rate:.1f}/s, {left} left"


def bar(event: Progress, width: int) -> str:
    """How much of a task is done."""
    full = int(width * event.done / event.total) if event.total else 0
    return "━" * full + "╌" * (width - full)


def clock(seconds: float) -> str:
    """H:MM:SS, or M:SS."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
