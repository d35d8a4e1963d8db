"""Where a logarithmic axis has its names."""

from __future__ import annotations

import math


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round values from `low` to `high`, both above 0: powers of ten; where
    there are fewer than two, 1, 2 and 5 times those; else the ends.
    """
    first, last = math.ceil(_decade(low)), math.floor(_decade(high))
    if last > first:
        step = -(-(last - first + 1) // most)
        return [_power(k) for k in range(first, last + 1, step)]
    finer = [m * _power(k) for k in range(first - 1, last + 2) for m in (1, 2, 5)]
    found = [v for v in finer if low <= v <= high]
    return found if len(found) > 1 else sorted({low, high})


def _decade(value: float) -> float:
    """The logarithm; that of a power of ten is whole, whatever was rounded on the way."""
    found = math.log10(value)
    return round(found) if abs(found - round(found)) < 1e-9 else found


def _power(k: int) -> float:
    return float(f"1e{k}")
