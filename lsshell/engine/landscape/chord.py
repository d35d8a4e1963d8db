"""A quantity on the way between two points, against its straight interpolation."""

from __future__ import annotations

from collections.abc import Sequence


def over_chord(t: Sequence[float], values: Sequence[float]) -> list[float]:
    """e(t) − (1 − t)·e(0) − t·e(1) at each t, ascending from 0 to 1: exactly 0 at both ends, and
    wherever nothing changes. The greatest is the barrier.
    """
    first, rise = values[0], values[-1] - values[0]
    # In this order rounding adds nothing there.
    return [e - first - s * rise for s, e in zip(t, values, strict=True)]
