"""How much of the walk's time the screen may take."""

from __future__ import annotations

import time

LEAST = 0.1  # seconds between two drawings, whatever else
MOST = 5.0  # and after so many one is due, whatever was spent meanwhile
SHARE = 0.015  # of one processor, during a walk: OpenMP waits for the slowest thread


class Budget:
    """Says when plots and tables may be drawn again.

    Counts all processor time of the thread that asks, also that of writing to the terminal, since
    the last drawing began; during a walk the next one waits until that is under `SHARE`, though
    no longer than `MOST`: a screen that stands still looks dead.
    """

    def __init__(self) -> None:
        self._wall = float("-inf")
        self._spent = 0.0

    def allows(self, *, walking: bool) -> bool:
        """Whether now is a time to draw; if so, this is where the next count begins."""
        wall, spent = time.monotonic(), time.thread_time()
        elapsed = wall - self._wall
        if elapsed < LEAST:
            return False
        if walking and elapsed < MOST and spent - self._spent > SHARE * elapsed:
            return False
        self._wall, self._spent = wall, spent
        return True

    def forgive(self) -> None:
        """Begins to count anew: what the user did is not on the walk's account."""
        self._wall, self._spent = time.monotonic(), time.thread_time()
