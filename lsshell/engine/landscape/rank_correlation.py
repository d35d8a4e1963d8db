"""Rank correlation, with ties."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's ρ of two measures: Pearson's correlation of their ranks, in [−1, 1].

    Equal values share the mean of their ranks. NaN where one of the measures does not vary, or
    fewer than two pairs are whole; a pair with a NaN is left out. Raises ValueError where the
    lengths differ.
    """
    pairs = np.array([p for p in zip(x, y, strict=True) if not any(map(math.isnan, p))])
    if len(pairs) < 2:
        return math.nan
    a, b = (_ranks(column) - (len(pairs) - 1) / 2.0 for column in pairs.T)
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return min(1.0, max(-1.0, float(a @ b) / scale)) if scale else math.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    """0 for the least, …; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2.0)[inverse.reshape(-1)]
