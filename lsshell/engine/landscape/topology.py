"""How many basins a slice of the loss has, how deep they are, and what a level set cuts it into."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.merge_tree import (
    Loop,
    MergeTree,
    as_field,
    loops,
    merge_tree,
    sublevel_components,
)

EPS = 1e-3


@dataclass(frozen=True)
class Topology:
    """Measures of the sub-level sets of a field f on a grid, without what is `eps`·range or less
    persistent; all but the counts and ratios in units of f.

    least, greatest: of f; minima: components that were born; total_persistence, most_persistence:
    the sum and greatest of death − birth over the pairs but the global minimum's, whose death is
    the field's greatest value and says nothing (0 where there is one minimum).
    smad: the mean of saddle − minimum over the tree's leaves, the global minimum and its first
    saddle among them (Landscaper's saddle-minimum average distance); smad_elder: the mean
    persistence without the global minimum's (each saddle counts once); both 0 without a saddle.
    loops: rings in the plane, where they were asked for.
    """

    eps: float
    tree: MergeTree
    least: float
    greatest: float
    minima: int
    total_persistence: float
    most_persistence: float
    smad: float
    smad_elder: float
    loops: tuple[Loop, ...] | None = None

    @property
    def minima_inside(self) -> int:
        """Those that do not lie on the grid's border, beyond which the field may well fall on."""
        size = self.tree.shape
        return sum(
            all(0 < k < n - 1 for k, n in zip(p.minimum, size, strict=True))
            for p in self.tree.pairs
        )

    @property
    def range(self) -> float:
        """greatest − least."""
        return self.greatest - self.least

    @property
    def smad_share(self) -> float:
        """smad over the range of f: alike for a·f + b; 0 where f is constant."""
        return self.smad / self.range if self.range else 0.0


@dataclass(frozen=True)
class Cut:
    """What {f ≤ level} is in the plane of a slice: how many components, and of how many cells of
    the whole; the number of the component that each of the cells asked about lies in (−1: above
    the level).
    """

    level: float
    components: int
    share: float
    inside: tuple[int, ...] = ()

    def connected(self, a: int = 0, b: int = 1) -> bool:
        """Whether two of the cells asked about lie in one component of {f ≤ level}."""
        return self.inside[a] >= 0 and self.inside[a] == self.inside[b]


def topology(
    values: Any,
    eps: float = EPS,
    *,
    with_loops: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Topology:
    """Dimension-0 (and, `with_loops`, dimension-1) persistence of f on a grid (n,) or (n, m).

    Persistence pairs by union-find on the Freudenthal neighbourhood with ties broken by index
    (`merge_tree`); the measures are those of Vis4SciML's Landscaper (arXiv 2602.07135), on a fixed
    neighbourhood and without noise. Pairs of persistence ≤ eps·(max f − min f) are left out of all
    of them. Raises EngineError for NaN and infinite cells, and eps outside [0, 1).
    """
    if not 0.0 <= eps < 1.0:
        raise EngineError(f"--eps is a share of the range, 0 or above and below 1, not {eps:g}")
    field = as_field(values)
    least, greatest = float(field.min()), float(field.max())
    if not math.isfinite(greatest - least):
        raise EngineError("the values span more than a float64 can tell: take a smaller distance")
    threshold = eps * (greatest - least)
    tree = merge_tree(field, threshold, cancelled=cancelled)
    rises, falls = tree.rises, [p.persistence for p in tree.pairs[1:]]
    return Topology(
        eps=eps,
        tree=tree,
        least=least,
        greatest=greatest,
        minima=len(tree.pairs),
        total_persistence=math.fsum(falls),
        most_persistence=max(falls, default=0.0),
        smad=math.fsum(rises) / len(rises) if rises else 0.0,
        smad_elder=math.fsum(falls) / len(falls) if falls else 0.0,
        loops=loops(field, threshold, cancelled=cancelled) if with_loops else None,
    )


def cut(values: Any, level: float, cells: tuple[tuple[int, ...], ...] = ()) -> Cut:
    """{f ≤ level} on the grid: its components, and which of them the given cells lie in.

    Two points of a slice that lie in one component are connected at this level in this plane;
    where they are not, they may still be so outside of it. Raises EngineError where a cell is
    not on the grid.
    """
    labels = sublevel_components(values, level)
    for cell in cells:
        outside = any(not 0 <= k < n for k, n in zip(cell, labels.shape, strict=True))
        if outside:
            raise EngineError(f"cell {cell} is not on the grid of shape {labels.shape}")
    return Cut(
        level=level,
        components=int(labels.max()) + 1,
        share=float(np.mean(labels >= 0)),
        inside=tuple(int(labels[cell]) for cell in cells),
    )
