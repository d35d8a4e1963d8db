"""Inputs as networks like them: pixels in [0, 1], columns with mean 0 and deviation 1."""

from __future__ import annotations

import numpy as np


def pixels(x: np.ndarray) -> np.ndarray:
    """Bytes (N, …) divided by 255, float32."""
    return x.astype(np.float32) / np.float32(255.0)


def standardise(
    x_train: np.ndarray, *others: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, ...]:
    """z-scores of `columns` (features,), true where to be scaled, in every part (N, features).

    Mean and deviation (N − 1 in the denominator) are those of the training part alone. A column
    that is constant there is only centred.
    """
    parts = tuple(x.astype(np.float64) for x in (x_train, *others))
    chosen = parts[0][:, columns]
    mean = chosen.mean(0)
    deviation = chosen.std(0, ddof=1) if len(chosen) > 1 else np.zeros_like(mean)
    # Rounding leaves a constant column a deviation of some 1e-16 of its value.
    deviation[deviation <= 1e-12 * np.abs(mean)] = 1.0
    deviation[deviation == 0.0] = 1.0
    for x in parts:
        x[:, columns] = (x[:, columns] - mean) / deviation
    return parts
