"""From a value to a colour: one scale for terminals and files."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lsshell.figures.figure import Surface

Colour = tuple[int, int, int]

# Anchors of viridis and of a blue-white-red scale, evenly spaced (matplotlib's own names below).
_SEQUENTIAL: tuple[Colour, ...] = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
    (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
)  # fmt: skip
_DIVERGING: tuple[Colour, ...] = (
    (33, 60, 160), (86, 125, 205), (160, 190, 230), (240, 240, 240),
    (235, 175, 150), (205, 100, 80), (160, 20, 40),
)  # fmt: skip
SEQUENTIAL_NAME, DIVERGING_NAME = "viridis", "RdBu_r"


@dataclass(frozen=True)
class Scale:
    """What a surface's colours stand for: `low` to `high`, evenly or evenly in the logarithm."""

    low: float
    high: float
    log: bool
    diverging: bool

    def place(self, value: float) -> float | None:
        """Where in [0, 1] a value lies; None for one that has no colour."""
        if not math.isfinite(value) or (self.log and value <= 0.0):
            return None
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        if high <= low:
            return 0.5
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def colour(self, place: float) -> Colour:
        """The colour at a place in [0, 1]."""
        anchors = _DIVERGING if self.diverging else _SEQUENTIAL
        at = place * (len(anchors) - 1)
        k = min(int(at), len(anchors) - 2)
        mixed = [a + (b - a) * (at - k) for a, b in zip(anchors[k], anchors[k + 1], strict=True)]
        return round(mixed[0]), round(mixed[1]), round(mixed[2])


def scale_of(surface: Surface) -> Scale:
    """The surface's own limits, or the least and greatest of its values; even about 0 where the
    colours part there.
    """
    values = [
        v for row in surface.z for v in row if math.isfinite(v) and (v > 0 or not surface.log)
    ]
    if surface.z_ticks:
        return Scale(0.0, float(len(surface.z_ticks) - 1), log=False, diverging=False)
    low, high = surface.limits or (min(values, default=1.0), max(values, default=1.0))
    if surface.diverging and surface.limits is None:
        high = max(abs(low), abs(high))
        low = -high
    return Scale(low, high, surface.log, surface.diverging)
