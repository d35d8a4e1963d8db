"""Persistence diagrams and merge trees as figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lsshell.figures.figure import Figure, Series

if TYPE_CHECKING:
    from lsshell.engine.landscape.merge_tree import MergeTree
    from lsshell.engine.landscape.topology import Topology

Show = Literal["diagram", "tree"]
DOTS = 100  # of the diagonal: without colours a line is drawn as its points


def diagram_figure(found: Topology, title: str, quantity: str, level: float | None) -> Figure:
    """Births and deaths: what lies far above the diagonal persists.

    The global minimum, whose death is the greatest value, is drawn only where it is alone.
    """
    pairs = found.tree.pairs[1:] or (() if found.loops else found.tree.pairs)
    both = [(p.birth, p.death) for p in (*pairs, *(found.loops or ()))]
    low, high = min(birth for birth, _ in both), max(death for _, death in both)
    diagonal = tuple(low + (high - low) * k / DOTS for k in range(DOTS + 1))
    series = [Series("birth = death", diagonal, diagonal)]
    if pairs:
        series.append(_points("components", [(p.birth, p.death) for p in pairs]))
    if found.loops:
        series.append(_points("loops", [(p.birth, p.death) for p in found.loops]))
    return Figure(
        title,
        f"birth ({quantity})",
        f"death ({quantity})",
        tuple(series),
        _band(level, low, high),
    )


def tree_figure(found: Topology, title: str, quantity: str, level: float | None) -> Figure:
    """The merge tree: a line down to each minimum, joined at saddles.

    Above the last saddle, a tenth of what lies below stands for the way to the greatest value.
    """
    tree = found.tree
    saddles = [n.value for n in tree.nodes if n.kind == "saddle"]
    top = found.greatest
    if saddles:
        top = min(top, max(saddles) + 0.1 * (max(saddles) - found.least))
    xs, ys = _around(tree, top)
    return Figure(
        title,
        "minima, in the order of the tree",
        quantity,
        (Series("merge tree", xs, ys),),
        _band(level, found.least, top),
    )


def _band(level: float | None, low: float, high: float) -> tuple[tuple[str, float], ...]:
    """The level, where it is within the picture."""
    return () if level is None or not low <= level <= high else (("level", level),)


def _points(name: str, places: list[tuple[float, float]]) -> Series:
    return Series(name, tuple(x for x, _ in places), tuple(y for _, y in places), "points")


def _children(tree: MergeTree) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in tree.nodes]
    for k, node in enumerate(tree.nodes):
        if node.parent is not None:
            found[node.parent].append(k)
    return found


def _root(tree: MergeTree) -> int:
    return next(k for k, node in enumerate(tree.nodes) if node.parent is None)


def _across(tree: MergeTree) -> list[float]:
    """An x for each node: minima beside one another, the others over the middle of their own."""
    children = _children(tree)
    order, stack = [], [_root(tree)]
    while stack:
        node = stack.pop()
        order.append(node)
        stack += reversed(children[node])
    found, leaves = [0.0] * len(tree.nodes), 0
    for node in order:
        if not children[node]:
            found[node], leaves = float(leaves), leaves + 1
    for node in reversed(order):
        if children[node]:
            below = [found[child] for child in children[node]]
            found[node] = (min(below) + max(below)) / 2
    return found


def _around(tree: MergeTree, top: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """One line that goes along every edge, down and up again, from the root at `top`."""
    children, x = _children(tree), _across(tree)
    root = _root(tree)
    y = [top if k == root else node.value for k, node in enumerate(tree.nodes)]
    path = [(x[root], top)]
    stack = [(root, iter(children[root]))]
    while stack:
        node, left = stack[-1]
        child = next(left, None)
        if child is not None:
            path += [(x[child], y[node]), (x[child], y[child])]
            stack.append((child, iter(children[child])))
            continue
        stack.pop()
        if stack:
            above = stack[-1][0]
            path += [(x[node], y[above]), (x[above], y[above])]
    return tuple(a for a, _ in path), tuple(b for _, b in path)
