"""Rank correlations with ties, and how often chance does as well."""

from __future__ import annotations

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
    """Over the pairs in which both are finite numbers.

    p: the share of shufflings of y, itself among them, whose |ρ| is at least that found (two-sided
    permutation test, `DRAWS` shufflings drawn from `seed`), which is right for any n and ties, but
    only for independent pairs: those along one walk are not.
    """
    pairs = [
        (a, b)
        for a, b in zip(x, y, strict=True)
        if a is not None and b is not None and np.isfinite(a) and np.isfinite(b)
    ]
    n = len(pairs)
    a, b = [float(u) for u, _ in pairs], [float(v) for _, v in pairs]
    rho = spearman(a, b)
    if rho is None:
        return RankCorrelation(n, None, None, None)
    return RankCorrelation(n, rho, kendall(a, b), _permutation_p(a, b, seed))


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's ρ: the linear correlation of the ranks; equal values share their mean rank.

    None for fewer than three pairs, or where one of the two never changes.
    """
    if len(x) < FEWEST or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return float(np.clip(_standardised(ranks(x)) @ _standardised(ranks(y)), -1.0, 1.0))


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Kendall's τ-b: (C − D)/√((C + D + T_x)(C + D + T_y)) with C concordant and D discordant pairs
    of pairs, T_x and T_y tied in y or x alone; None as `spearman`. O(n²) work, O(n) memory.
    """
    if len(x) < FEWEST or len(set(x)) < 2 or len(set(y)) < 2:
        return None
    a, b = ranks(x), ranks(y)
    agreement, in_a, in_b = 0.0, 0.0, 0.0
    for k in range(1, len(a)):
        up_a, up_b = np.sign(a[k] - a[:k]), np.sign(b[k] - b[:k])
        agreement += float(up_a @ up_b)
        in_a += float(up_a @ up_a)
        in_b += float(up_b @ up_b)
    return agreement / float(np.sqrt(in_a) * np.sqrt(in_b))


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks (n,) from 1; equal values share their mean rank."""
    _, places, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places].astype(np.float64)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Mean 0 and length 1."""
    centred = values - values.mean()
    return centred / np.linalg.norm(centred)


def _permutation_p(x: Sequence[float], y: Sequence[float], seed: int) -> float:
    a, b = _standardised(ranks(x)), _standardised(ranks(y))
    found, draw = abs(float(a @ b)), generator(seed, "permutations")
    block, as_great, left = max(1, BLOCK // len(a)), 1, DRAWS
    while left:
        count = min(block, left)
        order = torch.rand(count, len(a), generator=draw, dtype=torch.float64).argsort(1).numpy()
        # Shufflings that differ in rounding alone are as great.
        as_great += int((np.abs(b[order] @ a) >= found - 1e-12).sum())
        left -= count
    return as_great / (DRAWS + 1)
