"""How long tests wait for what another thread or process brings about."""

from __future__ import annotations

import time

PATIENCE = 60.0  # seconds
BY_THE_CLOCK = 240.0  # seconds, where only the clock can be asked; a test may take 300
MOMENT = 0.5  # seconds, more than what lies between two looks takes


class Patience:
    """Runs out when one has looked again and again for 60 seconds.

    While the machine stands still nobody looks, and what is waited for stands still, too: of the
    time between two looks no more than a moment counts.
    """

    def __init__(self) -> None:
        self._left, self._looked = PATIENCE, time.monotonic()

    def lasts(self) -> bool:
        """Whether to look once more; to be asked after each look that saw nothing."""
        now = time.monotonic()
        self._left -= min(now - self._looked, MOMENT)
        self._looked = now
        return self._left > 0.0
