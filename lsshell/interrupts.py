"""Ctrl-C and its kin stop the command under way at a valid point."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])


class Interrupts:
    """`asked` becomes true at the first signal, which also calls `cancel`.

    A second Ctrl-C, where the first is taking long, raises KeyboardInterrupt. `ended`: a signal
    other than Ctrl-C came, one that asks the program itself to end. `patient`: no second signal
    makes any difference.
    """

    def __init__(self, cancel: Callable[[], None], *, patient: bool = False) -> None:
        self.cancel, self.patient = cancel, patient
        self.asked = self.ended = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT and not self.patient:
            raise KeyboardInterrupt
        self.asked = True
        self.ended = self.ended or number != signal.SIGINT
        self.cancel()

    @contextlib.contextmanager
    def watched(self) -> Iterator[Interrupts]:
        """Catches the signals inside the block, and puts back what was there before."""
        before = {s: signal.signal(s, self._handle) for s in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
