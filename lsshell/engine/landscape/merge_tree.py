"""The merge tree of a field's sub-level sets on a grid, by union-find, and what it pairs.

Cells of a 1-D grid are neighbours where they are next to each other; those of a 2-D grid along
the edges of its Freudenthal triangulation: (i, j) with (i ± 1, j), (i, j ± 1) and ±(1, 1), so
that each square is cut in two by the same diagonal. Equal values count as rising with the cell's
index (simulation of simplicity), which is what makes every answer one and the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lsshell.engine.errors import Cancelled, EngineError

Cell = tuple[int, ...]
MOST_CELLS = 4_000_000
ASKED_EVERY = 20_000  # cells between two questions whether to stop


@dataclass(frozen=True)
class Pair:
    """A component of {f ≤ c}, from its minimum (c = birth) to where an older one takes it (death).

    minimum, saddle: their cells; a saddle of None is that of the global minimum, which no other
    takes: its death is the field's greatest value.
    """

    birth: float
    death: float
    minimum: Cell
    saddle: Cell | None

    @property
    def persistence(self) -> float:
        """death − birth, in units of f."""
        return self.death - self.birth


@dataclass(frozen=True)
class Loop:
    """A ring of {f ≤ c} around something higher: closed at c = birth, filled at c = death.

    saddle: the cell that closes it; maximum: the highest cell within.
    """

    birth: float
    death: float
    saddle: Cell
    maximum: Cell

    @property
    def persistence(self) -> float:
        """death − birth, in units of f."""
        return self.death - self.birth


@dataclass(frozen=True)
class Node:
    """A node of a merge tree: its value and cell, the node above it (None: the root), and how many
    cells its component holds when it comes about (a minimum: just before it merges).
    """

    kind: Literal["minimum", "saddle", "maximum"]
    value: float
    cell: Cell
    parent: int | None
    size: int


@dataclass(frozen=True)
class MergeTree:
    """Components of {f ≤ c} as c rises: minima are leaves, they merge at saddles, and the root is
    the greatest value. `pairs`: the most persistent first, which is the global minimum's.

    Without the components whose persistence is at most `threshold`; in units of f.
    """

    shape: Cell
    threshold: float
    nodes: tuple[Node, ...]
    pairs: tuple[Pair, ...]

    @property
    def rises(self) -> list[float]:
        """From each minimum to the saddle above it, the global one's too; none without a saddle."""
        return [
            self.nodes[n.parent].value - n.value
            for n in self.nodes
            if n.kind == "minimum" and n.parent is not None and len(self.pairs) > 1
        ]

    def as_json(self) -> dict[str, Any]:
        """Nodes and pairs as JSON-able objects."""
        return {
            "shape": list(self.shape),
            "threshold": self.threshold,
            "nodes": [
                {
                    "id": k,
                    "kind": n.kind,
                    "value": n.value,
                    "cell": list(n.cell),
                    "parent": n.parent,
                    "size": n.size,
                }
                for k, n in enumerate(self.nodes)
            ],
            "pairs": [
                {
                    "birth": p.birth,
                    "death": p.death,
                    "minimum": list(p.minimum),
                    "saddle": None if p.saddle is None else list(p.saddle),
                }
                for p in self.pairs
            ],
        }


def as_field(values: Any) -> np.ndarray:
    """Values on a 1-D or 2-D grid as float64; raises EngineError for anything else, and for NaN.

    A cell of ∞ is refused too: no persistence could be told there.
    """
    try:
        field = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as e:
        raise EngineError("a field is numbers on a 1-D or 2-D grid, all rows of one length") from e
    if field.ndim not in (1, 2) or field.size == 0:
        raise EngineError(
            f"a field lies on a 1-D or 2-D grid, not on one of shape {field.shape or '()'}"
        )
    if field.size > MOST_CELLS:
        raise EngineError(f"{field.size} cells are too many: at most {MOST_CELLS}")
    wrong = np.argwhere(~np.isfinite(field))
    if len(wrong):
        at = ", ".join(map(str, wrong[0]))
        raise EngineError(
            f"{len(wrong)} of {field.size} cells are NaN or infinite, the first at ({at}): no"
            " minimum or saddle can be told there; take a slice over a smaller distance"
        )
    return field


def merge_tree(
    values: Any, threshold: float = 0.0, *, cancelled: Callable[[], bool] = lambda: False
) -> MergeTree:
    """The merge tree of the sub-level sets of `values` (n,) or (n, m), in O(n log n).

    Cells are visited in the order of their values. One without an earlier neighbour is a minimum,
    where a component is born; one between several components is a saddle, where all but the
    oldest (of least minimum) die: the elder rule (Edelsbrunner & Harer 2010, VII.1). Components
    whose persistence is `threshold` or less are left out; by default those of none, which plateaus
    make. Raises EngineError as `as_field`, and for a threshold that is below 0 or no number;
    Cancelled where `cancelled`, asked now and then, says so.
    """
    field = as_field(values)
    if not 0.0 <= threshold < math.inf:
        raise EngineError(f"a persistence threshold is 0 or above, not {threshold:g}")
    nodes: list[Node] = []
    parents: list[int | None] = []
    pairs: list[Pair] = []
    top: dict[int, int] = {}  # the root of a component → its topmost node

    def node(kind: Literal["minimum", "saddle", "maximum"], at: int, size: int) -> int:
        nodes.append(Node(kind, float(flat[at]), _cell(at, field.shape), None, size))
        parents.append(None)
        return len(nodes) - 1

    def top_of(root: int, size: int) -> int:
        return top.pop(root) if root in top else node("minimum", root, size)

    flat = field.ravel()
    for saddle, (eldest, *others), sizes in _merges(field, cancelled):
        died = [
            (root, size)
            for root, size in zip(others, sizes[1:], strict=True)
            if flat[saddle] - flat[root] > threshold
        ]
        if not died:
            continue
        below = [top_of(eldest, sizes[0])]
        for root, size in died:
            below.append(top_of(root, size))
            pairs.append(
                Pair(
                    float(flat[root]),
                    float(flat[saddle]),
                    _cell(root, field.shape),
                    _cell(saddle, field.shape),
                )
            )
        above = node("saddle", saddle, sum(sizes) + 1)
        for child in below:
            parents[child] = above
        top[eldest] = above
    least, greatest = int(flat.argmin()), int(field.size - 1 - flat[::-1].argmax())
    last = top_of(least, field.size)
    parents[last] = node("maximum", greatest, field.size)
    pairs.append(Pair(float(flat[least]), float(flat[greatest]), _cell(least, field.shape), None))
    pairs.sort(key=lambda p: (p.saddle is not None, -p.persistence, p.birth, p.minimum))
    made = tuple(
        Node(n.kind, n.value, n.cell, parent, n.size)
        for n, parent in zip(nodes, parents, strict=True)
    )
    return MergeTree(field.shape, float(threshold), made, tuple(pairs))


def loops(
    values: Any, threshold: float = 0.0, *, cancelled: Callable[[], bool] = lambda: False
) -> tuple[Loop, ...]:
    """Rings of {f ≤ c} in the plane, `values` (n, m), the most persistent first.

    Persistence of dimension 1 by duality: what a ring encloses is a component of {f > c} that does
    not reach the border, so loops are the pairs of −f with all that lies beyond the border as its
    lowest cell (Edelsbrunner & Harer 2010, VII.2 and V.4). Raises EngineError as `merge_tree`, and
    for a 1-D grid, where there are none.
    """
    field = as_field(values)
    if field.ndim != 2:
        raise EngineError("loops are of a 2-D grid")
    if not 0.0 <= threshold < math.inf:
        raise EngineError(f"a persistence threshold is 0 or above, not {threshold:g}")
    # A border all at −∞ is one component, the oldest; reversed, so that of equal values the later
    # index is the lower one here as it is the higher one there.
    sea = np.pad(-field[::-1, ::-1], 1, constant_values=-math.inf)
    flat, found = sea.ravel(), []
    rows, columns = field.shape

    def cell(at: int) -> Cell:
        i, j = divmod(at, columns + 2)
        return (rows - i, columns - j)

    for saddle, (_, *others), _ in _merges(sea, cancelled):
        for root in others:
            if np.isfinite(flat[root]) and flat[saddle] - flat[root] > threshold:
                birth, death = -float(flat[saddle]), -float(flat[root])
                found.append(Loop(birth, death, cell(saddle), cell(root)))
    return tuple(sorted(found, key=lambda p: (-p.persistence, p.birth, p.maximum)))


def connecting_level(
    values: Any, a: Cell, b: Cell, *, cancelled: Callable[[], bool] = lambda: False
) -> float:
    """The least c at which cells a and b lie in one component of {f ≤ c} of this grid.

    That is the least, over all ways along the grid, of the greatest f on the way. Raises
    EngineError where a or b is not on the grid.
    """
    field = as_field(values)
    first, second = (_index(at, field.shape) for at in (a, b))
    flat = field.ravel()
    root_of, seen = list(range(flat.size)), [False] * flat.size
    for visited, at in enumerate(np.argsort(flat, kind="stable").tolist()):
        _ask(visited, cancelled)
        seen[at] = True
        for other in _neighbours(at, field.shape):
            if seen[other]:
                _unite(root_of, at, other)
        if seen[first] and seen[second] and _root(root_of, first) == _root(root_of, second):
            return float(flat[at])
    raise AssertionError  # a grid is connected


def sublevel_components(values: Any, level: float) -> np.ndarray:
    """A label for each cell, of the grid's shape: 0, 1, … by component of {f ≤ level}, in the order
    of their first cells; −1 above the level.

    Raises EngineError as `as_field`, and where the level is no number.
    """
    field = as_field(values)
    if math.isnan(level):
        raise EngineError("the level is no number")
    inside = field.ravel() <= level
    root_of = list(range(field.size))
    for at in np.flatnonzero(inside).tolist():
        for other in _neighbours(at, field.shape):
            if inside[other]:
                _unite(root_of, at, other)
    labels = np.full(field.size, -1)
    names: dict[int, int] = {}
    for at in np.flatnonzero(inside).tolist():
        labels[at] = names.setdefault(_root(root_of, at), len(names))
    return labels.reshape(field.shape)


# -- union-find ----------------------------------------------------------------------------------


def _merges(
    field: np.ndarray, cancelled: Callable[[], bool]
) -> Iterator[tuple[int, list[int], list[int]]]:
    """Each cell at which components merge, with their minima, the least first, and their sizes."""
    flat = field.ravel()
    order = np.argsort(flat, kind="stable").tolist()
    rank = np.empty(flat.size, dtype=np.int64)
    rank[order] = np.arange(flat.size)
    place, shape = rank.tolist(), field.shape
    root_of = list(range(flat.size))  # the root of a component is its minimum
    sizes = [1] * flat.size
    for visited, at in enumerate(order):
        _ask(visited, cancelled)
        found = {
            _root(root_of, other) for other in _neighbours(at, shape) if place[other] < visited
        }
        if not found:
            continue
        below = sorted(found, key=place.__getitem__)
        if len(below) > 1:
            yield at, below, [sizes[root] for root in below]
        eldest = below[0]
        for root in (at, *below[1:]):
            root_of[root] = eldest
            sizes[eldest] += sizes[root]


def _ask(visited: int, cancelled: Callable[[], bool]) -> None:
    if visited % ASKED_EVERY == 0 and cancelled():
        raise Cancelled


def _unite(root_of: list[int], a: int, b: int) -> None:
    root_of[_root(root_of, a)] = _root(root_of, b)


def _root(root_of: list[int], at: int) -> int:
    while root_of[at] != at:
        root_of[at] = root_of[root_of[at]]  # halves the way for the next who asks
        at = root_of[at]
    return at


# -- the grid ------------------------------------------------------------------------------------


def _neighbours(at: int, shape: Cell) -> list[int]:
    """The cells next to one, by their index in row-major order."""
    if len(shape) == 1:
        return [k for k in (at - 1, at + 1) if 0 <= k < shape[0]]
    rows, columns = shape
    i, j = divmod(at, columns)
    up, down, left, right = i > 0, i < rows - 1, j > 0, j < columns - 1
    found = []
    if up:
        found.append(at - columns)
        if left:
            found.append(at - columns - 1)
    if left:
        found.append(at - 1)
    if right:
        found.append(at + 1)
    if down:
        found.append(at + columns)
        if right:
            found.append(at + columns + 1)
    return found


def _cell(at: int, shape: Cell) -> Cell:
    return tuple(int(k) for k in np.unravel_index(at, shape))


def _index(cell: Cell, shape: Cell) -> int:
    if len(cell) != len(shape) or any(not 0 <= k < n for k, n in zip(cell, shape, strict=True)):
        raise EngineError(f"cell {cell} is not on the grid of shape {shape}")
    return int(np.ravel_multi_index(cell, shape))
