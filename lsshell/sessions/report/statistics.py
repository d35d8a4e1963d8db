"""Statistics over runs, each a few lines of numpy that can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lsshell.engine.landscape.rank_correlation import ranks
from lsshell.engine.projection import explained_shares

DRAWS = 10_000
ENOUGH = 10  # pairs: the percentile bootstrap of five calls one in six of nothings something
GRID = 200


@dataclass(frozen=True)
class Band:
    """Mean and population standard deviation (ddof 0, as published) over runs, at each x (n,)."""

    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray


Curve = tuple[Sequence[float], Sequence[float]]


def band_at_steps(curves: Sequence[Curve]) -> Band:
    """At each x that half of the curves (x, y) or more have, over those; no interpolation."""
    values: dict[float, list[float]] = {}
    for xs, ys in curves:
        for x, y in dict(zip(xs, ys, strict=True)).items():
            values.setdefault(x, []).append(y)
    common = sorted(x for x, ys in values.items() if 2 * len(ys) >= len(curves))
    return Band(
        np.array(common, dtype=float),
        np.array([np.mean(values[x]) for x in common]),
        np.array([np.std(values[x]) for x in common]),
    )


def band_between(curves: Sequence[Curve], count: int = GRID) -> Band:
    """Over curves (x, y), each interpolated linearly, at `count` x that all of them span.

    For x that differs from run to run (‖θ‖²). Where a curve comes by an x twice, its later y is
    taken. Empty where the curves have no stretch in common.
    """
    sorted_curves = []
    for xs, ys in curves:
        table = dict(zip(xs, ys, strict=True))
        order = sorted(table)
        sorted_curves.append((np.array(order), np.array([table[x] for x in order])))
    low = max((x[0] for x, _ in sorted_curves), default=1.0)
    high = min((x[-1] for x, _ in sorted_curves), default=0.0)
    grid = np.linspace(low, high, count) if low < high else np.zeros(0)
    if not grid.size:
        return Band(grid, grid, grid)
    values = np.array([np.interp(grid, x, y) for x, y in sorted_curves])
    return Band(grid, values.mean(0), values.std(0))


def relative_change(first: float, last: float) -> float | None:
    """last/first − 1; None where the first is zero."""
    return last / first - 1.0 if first else None


def pearson(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Linear correlation; None for fewer than three pairs, or where one of them never changes."""
    if len(x) < 3 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Rank correlation; equal values share their mean rank."""
    return pearson(ranks(x).tolist(), ranks(y).tolist())


@dataclass(frozen=True)
class Paired:
    """Mean of paired differences with a 95 % bootstrap interval over `pairs` of them."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def sure(self) -> bool:
        """Whether the interval leaves zero out; never for fewer than ENOUGH pairs."""
        return self.pairs >= ENOUGH and self.low * self.high > 0.0


def paired(differences: Sequence[float], seed: int = 0) -> Paired:
    """Percentile bootstrap of the mean: `DRAWS` resamples of the pairs, from `seed`."""
    values = np.asarray(differences, dtype=float)
    chosen = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[chosen].mean(1), [2.5, 97.5])
    return Paired(float(values.mean()), float(low), float(high), len(values))


def random_walk_explained(points: int, k: int) -> np.ndarray:
    """Variance explained by the first k principal components of a random walk of so many points.

    In as many dimensions that its steps are orthogonal (p ≫ points): eigenvalues of the centred
    Gram matrix min(i, j). Near 6/(π²k²): what a path must be held against before its principal
    components mean anything (Antognini & Sohl-Dickstein 2018).
    """
    index = np.arange(points, dtype=float)
    return explained_shares(np.minimum.outer(index, index), k)
