"""Rank correlations with ties, and how often chance does as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lsshell.engine.seeds import generator

DRAWS = 9_999
FEWEST = 3
BLOCK = 1 << 22  # ranks shuffled at once


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ and Kendall's τ-b of n pairs, and the p-value of ρ; None where one of the two
    columns never changes or there are fewer than three pairs.
    """

    n: int
    spearman: float | None
    kendall: float | None
    p: float | None


def rank_correlation(
    x: Sequence[float | None], y: Sequence[float | None], seed: int = 0
) -> RankCorrelation:
    """Over the pairs in which both are numbers (None and NaN are none).

    p: the share of shufflings of y, itself among them, whose |ρ| is at least that found (two-sided
    permutation test, `DRAWS` shufflings drawn from `seed`), which is right for any n and ties, but
    only for independent pairs: those along one walk are not.
    """
    a, b = _whole(
        [math.nan if v is None else v for v in x], [math.nan if v is None else v for v in y]
    )
    rho = spearman(a, b) if len(a) >= FEWEST else math.nan
    if math.isnan(rho):
        return RankCorrelation(len(a), None, None, None)
    return RankCorrelation(len(a), rho, kendall(a, b), _permutation_p(a, b, seed))


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's ρ of two columns, the linear correlation of their ranks, in [−1, 1].

    Equal values share the mean of their ranks. NaN where one of the columns does not vary, or fewer
    than two pairs are whole; a pair with a NaN is left out. Raises ValueError where the lengths
    differ.
    """
    a, b = _whole(x, y)
    if len(set(a)) < 2 or len(set(b)) < 2:
        return math.nan
    u, v = _centred(ranks(a)), _centred(ranks(b))
    # One root of both, which is exact where the ranks are alike.
    return min(1.0, max(-1.0, float(u @ v) / math.sqrt(float(u @ u) * float(v @ v))))


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's τ-b: (C − D)/√((C + D + T_x)(C + D + T_y)) with C concordant and D discordant pairs
    of pairs, T_x and T_y tied in y or x alone. As `spearman` where that is not defined. O(n²) work.
    """
    a, b = (ranks(column) for column in _whole(x, y))
    agreement, in_a, in_b = 0.0, 0.0, 0.0
    for k in range(1, len(a)):
        up_a, up_b = np.sign(a[k] - a[:k]), np.sign(b[k] - b[:k])
        agreement += float(up_a @ up_b)
        in_a += float(up_a @ up_a)
        in_b += float(up_b @ up_b)
    return agreement / math.sqrt(in_a * in_b) if in_a and in_b else math.nan


def _whole(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Both columns without the pairs that are not both numbers."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if not (math.isnan(a) or math.isnan(b))]
    return [float(a) for a, _ in pairs], [float(b) for _, b in pairs]


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks (n,) from 1; equal values share their mean rank."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places].astype(np.float64)


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()


def _permutation_p(x: Sequence[float], y: Sequence[float], seed: int) -> float:
    a, b = _centred(ranks(x)), _centred(ranks(y))
    found, draw = abs(float(a @ b)), generator(seed, "permutations")
    block, as_great, left = max(1, BLOCK // len(a)), 1, DRAWS
    while left:
        count = min(block, left)
        order = torch.rand(count, len(a), generator=draw, dtype=torch.float64).argsort(1).numpy()
        # Sums of ranks are whole or half numbers: what differs less differs by rounding.
        as_great += int((np.abs(b[order] @ a) >= found - 1e-6).sum())
        left -= count
    return as_great / (DRAWS + 1)
