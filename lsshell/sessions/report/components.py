"""Principal components of whole traversals: each run's own, several runs' in one picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from lsshell.engine.path import Point
from lsshell.engine.projection import gram_matrix, principal_axes
from lsshell.engine.store import WHOLE, PointStore
from lsshell.figures.figure import Figure, Series
from lsshell.sessions.report.layout import Picture, Scene, Table
from lsshell.sessions.report.runs import Run
from lsshell.sessions.report.statistics import random_walk_explained

COMPONENTS = 6
MOST_EACH = 200  # points of a run; published: one every fifty steps


def own_components(
    runs: Sequence[Run], name: str, stem: str
) -> tuple[Table | None, Picture | None]:
    """Each run in its own components: the variance that they explain, a random walk of as many
    points beside it, and the first two of them drawn.
    """
    rows, lines = [], []
    for run in runs:
        points = _kept(run, name)
        if len(points) < 3:
            continue
        gram = gram_matrix(_rows([(run.store(), p) for p in points]), len(points)).numpy()
        coordinates, shares = principal_axes(gram, len(points), COMPONENTS)
        lines.append((f"seed {run.seed}", coordinates))
        if len(points) > COMPONENTS:
            null = random_walk_explained(len(points), COMPONENTS)
            rows.append([f"seed {run.seed}", len(points), *_shares(shares)])
            rows.append(["  a random walk", len(points), *_shares(null)])
    headers = ["", "points", *(f"PC {k} %" for k in range(1, COMPONENTS + 1)), "together %"]
    caption = f"Variance of the {name} traversals that each run's own principal components explain"
    table = Table(f"{stem}-{name}-components", caption, headers, rows)
    panel = Figure("", "PC 1", "PC 2", _planes(lines))
    caption = (
        f"{name}: each run in its own first two principal components, about its mean (axes of"
        " different scale)"
    )
    picture = Picture(f"{stem}-{name}-own-components", caption, [panel])
    return table if rows else None, picture if lines else None


def pooled_pictures(runs: Sequence[Run], name: str, stem: str) -> list[Picture]:
    """All runs' points in one set of components, every coordinate standardised, as published.

    Runs of different seeds differ by far more than any moves, so these components mostly tell the
    runs apart: see the table of each run's own.
    """
    each = [(run, _kept(run, name)) for run in runs]
    each = [(run, points) for run, points in each if len(points) > 1]
    members = [(run.store(), p) for run, points in each for p in points]
    if len(members) <= COMPONENTS:
        return []
    rows = _rows(members)
    decayed = [(run.store(), run.decayed[-1]) for run, _ in each if run.decayed]
    extra = [_mean([(run.store(), points[-1]) for run, points in each])]
    if decayed:
        extra.append(_mean(decayed))
    mean, scale = _standardisation(rows, len(members))

    def standardised(index: int, span: slice) -> Tensor:
        inside = index < len(members)
        row = rows(index, span) if inside else extra[index - len(members)][span]
        return ((row - mean[span]) * scale[span]).float()

    gram = gram_matrix(standardised, len(members) + len(extra))
    coordinates, shares = principal_axes(gram.numpy(), len(members), COMPONENTS)
    lines, marks, at = [], [], 0
    centres = []
    for run, points in each:
        part = coordinates[at : at + len(points)]
        lines.append((f"seed {run.seed}", part))
        centres.append(part.mean(0))
        at += len(points)
    marks.append(("mean point of a run", "*", np.stack(centres)))
    marks.append(("mean end point", "+", coordinates[at : at + 1]))
    if decayed:
        marks.append(("mean end point of weight decay", "p", coordinates[at + 1 : at + 2]))
    over = f"{name}, {len(each)} run{'s' * (len(each) != 1)}, coordinates standardised"
    if len(each) > 1:
        over += "; pooled components mostly tell runs of different seeds apart"
    cumulative = float(shares.sum())
    bars = Series("explained", tuple(map(float, range(COMPONENTS + 1))),
                  (*map(float, shares), cumulative), "bars")  # fmt: skip
    names = (*(f"PC {k}" for k in range(1, COMPONENTS + 1)), "cumulative")
    return [
        Picture(
            f"{stem}-{name}-explained",
            f"Explained variance: {over}",
            [Figure("", "", "share of the variance", (bars,), categories=names)],
        ),
        Picture(
            f"{stem}-{name}-components-3d",
            f"PC 1–3 and 4–6: {over}",
            [],
            Scene(lines, marks),
        ),
    ]


def branches_picture(run: Run, stem: str) -> Picture | None:
    """Every walk of one session from their common start, in one plane of principal components."""
    each = [(name, _kept(run, name)) for name in run.walks]
    each = [(name, points) for name, points in each if len(points) > 1]
    alike = {(p[0].loss, p[0].regularizers.get("l2")) for _, p in each}
    if len(each) < 2 or len(alike) != 1:  # of other starts
        return None
    store = run.store()
    members = [(store, p) for _, points in each for p in points]
    gram = gram_matrix(_rows(members), len(members)).numpy()
    coordinates, shares = principal_axes(gram, len(members), 2)
    lines, at = [], 0
    for name, points in each:
        lines.append((name, coordinates[at : at + len(points)]))
        at += len(points)
    first, second = (f"PC {k + 1} ({100 * shares[k]:.1f} %)" for k in (0, 1))
    start = Series("start", (float(coordinates[0, 0]),), (float(coordinates[0, 1]),), "mark")
    caption = f"The walks of seed {run.seed} from one start, in one plane of principal components"
    panel = Figure("", first, second, (*_planes(lines), start), equal_axes=True)
    return Picture(f"{stem}-branches", caption, [panel])


def points_of(runs: Sequence[Run], name: str) -> dict[str, np.ndarray]:
    """All kept points of a walk over runs, as the published notebooks store them.

    theta (T, p) float32 in the order of the tensors' names, seed and step (T,), and mean_end (p,),
    the mean of the runs' ends: of networks of different seeds it is no network.
    """
    members = [(r, p) for r in runs if name in r.walks for p in r.walks[name].points if p.kept]
    row = _rows([(r.store(), p) for r, p in members])
    last = {id(run): (run.store(), point) for run, point in members}
    return {
        "theta": np.stack([row(k).float().numpy() for k in range(len(members))]),
        "seed": np.array([r.seed for r, _ in members]),
        "step": np.array([p.step for _, p in members]),
        "mean_end": _mean(list(last.values())).float().numpy(),
    }


def _planes(lines: Sequence[tuple[str, np.ndarray]]) -> tuple[Series, ...]:
    """The first two components of each line."""
    return tuple(
        Series(name, tuple(map(float, part[:, 0])), tuple(map(float, part[:, 1])))
        for name, part in lines
    )


def _kept(run: Run, name: str) -> list[Point]:
    """A walk's points with θ on disk, thinned evenly to MOST_EACH, its end among them."""
    walked = run.walks.get(name)
    points = [p for p in walked.points if p.kept] if walked is not None else []
    every = -(-len(points) // MOST_EACH) if points else 1
    return [p for k, p in enumerate(points) if k % every == 0 or k == len(points) - 1]


def _rows(members: Sequence[tuple[PointStore, Point]]) -> Callable[..., Tensor]:
    """θ (p,) of each, or a span of it, read from disk when asked for."""
    store, point = members[0]
    first = store.get(point.index)
    names = sorted(name for name, tensor in first.items() if tensor.is_floating_point())

    def row(index: int, span: slice = WHOLE) -> Tensor:
        store, point = members[index]
        return store.row(point.index, names, span)

    return row


def _mean(members: Sequence[tuple[PointStore, Point]]) -> Tensor:
    row = _rows(members)
    return torch.stack([row(i).double() for i in range(len(members))]).mean(0)


def _standardisation(rows: Callable[[int], Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Mean (p,) and 1/standard deviation (p,) over all points; 0 where nothing varies."""
    first = rows(0).double()
    total, square = torch.zeros_like(first), torch.zeros_like(first)
    for index in range(count):
        moved = rows(index).double() - first
        total += moved
        square += moved.square()
    mean = total / count
    deviation = (square / count - mean.square()).clamp_min(0.0).sqrt()
    scale = torch.where(deviation > 1e-12, 1.0 / deviation.clamp_min(1e-12), 0.0)
    return first + mean, scale


def _shares(values: np.ndarray) -> list[float]:
    return [*(100.0 * float(v) for v in values), 100.0 * float(values.sum())]
