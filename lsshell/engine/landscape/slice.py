"""Slices of the loss: its values along a line or over a plane through a point of the path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.events import Progress
from lsshell.engine.landscape.batch_norm import BatchNorm, taken_anew
from lsshell.engine.landscape.directions import (
    Projected,
    cosine,
    point_directions,
    principal_directions,
    project,
    random_directions,
)
from lsshell.engine.landscape.grid import Values, evaluate, grid
from lsshell.engine.landscape.places import Place, find_place, visit
from lsshell.engine.path import Point
from lsshell.engine.problem import Split

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine

Kind = Literal["random", "principal", "hessian", "points"]
Span = tuple[float, float]

ON_A_LINE, ON_A_SIDE = 51, 31  # grid points where not said
MOST_CELLS = 1_000_000
MOST_WALK = 500  # points of the walk that are projected
MARGIN = 0.25  # of the walk's extent, around it


@dataclass(frozen=True)
class Slice:
    """L and accuracy at o + Σ a_k d_k over a grid, and the walk seen in that line or plane.

    origin: where all coefficients are 0, `centre` its values; directions: (k, p); names: of the
    axes; axes: the coefficients along each; values: for each split, grids (n,) or (n_1, n_2) with
    [i, j] at (a_i, b_j); eigenvalues: of Hessian directions; level: L* where one is fixed; walk:
    the kept points of this traversal, and where they lie in the slice (`projected`); here: the
    current one; toward: names of the places gone towards. lengths: ‖d_k‖.
    """

    origin: Place
    kind: Kind
    names: tuple[str, ...]
    directions: Tensor
    lengths: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    values: Mapping[Split, Values]
    centre: Mapping[Split, Values]
    cosine: float | None
    level: float | None
    walk: tuple[Point, ...]
    projected: Projected
    eigenvalues: tuple[float, ...] = ()
    here: Point | None = None
    toward: tuple[str, ...] = ()

    @property
    def under_level(self) -> float | None:
        """The share of grid points with training loss at most L*."""
        if self.level is None or "train" not in self.values:
            return None
        return float((self.values["train"].loss <= self.level).double().mean())

    def extreme(self, split: Split, *, greatest: bool = False) -> tuple[float, tuple[float, ...]]:
        """The least (or greatest) finite loss and its coefficients; NaN where none is finite."""
        loss = self.values[split].loss
        worst = -math.inf if greatest else math.inf
        flat = torch.where(loss.isfinite(), loss, worst).flatten()
        index = int(flat.argmax() if greatest else flat.argmin())
        places = torch.unravel_index(torch.tensor(index), loss.shape)
        at = tuple(axis[int(i)] for axis, i in zip(self.axes, places, strict=True))
        return (float(flat[index]) if math.isfinite(flat[index]) else math.nan), at


def take_slice(
    engine: Engine,
    origin: Place | None = None,
    *,
    directions: Literal["random", "principal", "hessian"] = "random",
    toward: Sequence[Place] = (),
    dimensions: int | None = None,
    points: int | None = None,
    spans: Sequence[Span] | None = None,
    seed: int | None = None,
    batch_norm: BatchNorm = "frozen",
    splits: Sequence[Split] = ("train", "test"),
) -> Slice:
    """The slice through a place (default: here) along one direction or two.

    directions: random (filter-normalised; 1 is the weights' own norm), principal (of the kept
    points; in units of parameter length) or hessian (unit eigenvectors of the greatest
    eigenvalues; parameter length). `toward` gives one place or two instead: 1 is there. spans:
    least and greatest coefficient, of each axis or of both. Defaults: two dimensions, one towards
    a single place; 51 points on a line, 31 on a side of a plane; −1 … 1 for random, −0.5 … 1.5
    towards places, the walk and a quarter of its extent on either side for principal, and for
    hessian to where the quadratic model a²λ₁/2 is four times the loss. seed: of the random
    directions (the session's).

    Batch-norm statistics are the origin's throughout ("frozen", as the walk has them) or taken
    anew at every point; then L* is a level of another loss, and `level` None. Li et al. 2018,
    "Visualizing the loss landscape of neural nets".
    """
    problem = engine.ready()
    origin = origin or find_place(engine)
    dimensions = _dimensions(dimensions, toward)
    points = _points(points, dimensions)
    kept = _kept(engine)
    eigenvalues: tuple[float, ...] = ()
    with visit(problem, origin):
        theta = origin.theta
        if toward:
            kind: Kind = "points"
            found = point_directions(theta, *(p.theta for p in toward))
            names = tuple(f"from {origin.name} to {place.name}" for place in toward)
        elif directions == "principal":
            kind = "principal"
            found, shares = principal_directions(
                engine.path, kept, problem.tensor_names, dimensions
            )
            names = tuple(
                f"principal axis {k + 1} ({100 * share:.1f} % of variance)"
                for k, share in enumerate(shares)
            )
        elif directions == "hessian":
            kind = "hessian"
            eigenvalues, found = _eigenvectors(engine, theta, dimensions)
            names = tuple(
                f"Hessian eigenvector {k + 1} (λ = {value:.3g})"
                for k, value in enumerate(eigenvalues)
            )
        else:
            kind = "random"
            seed = engine.seed if seed is None else seed
            found = random_directions(problem, theta, dimensions, seed)
            names = tuple(f"random direction {k + 1}" for k in range(dimensions))
        found = found.to(theta)
        projected = project(theta, found, _thetas(engine, kept))
        if spans is None:
            loss = problem.loss(theta) if kind == "hessian" else 0.0
            spans = _default_spans(kind, projected, eigenvalues, loss, dimensions)
        axes = tuple(_axis(span, points) for span in _spans(spans, dimensions))
        anew = taken_anew(problem, batch_norm)
        listen = engine.listen
        values = evaluate(
            problem, theta, found, grid(*axes),
            splits=splits, batch_norm=batch_norm, listen=listen, task="slice",
        )  # fmt: skip
        middle = torch.zeros(1, dimensions, dtype=torch.float64)
        centre = evaluate(problem, theta, found, middle, splits=splits, batch_norm=batch_norm)
    return Slice(
        origin=origin,
        kind=kind,
        names=names,
        directions=found,
        lengths=tuple(found.cpu().double().norm(dim=1).tolist()),
        axes=axes,
        values={split: _shaped(v, len(axes)) for split, v in values.items()},
        centre=centre,
        cosine=cosine(found),
        level=None if anew else _level(engine, origin),
        walk=tuple(kept),
        projected=projected,
        eigenvalues=eigenvalues,
        here=engine.path.here,
        toward=tuple(place.name for place in toward),
    )


def _dimensions(asked: int | None, toward: Sequence[Place]) -> int:
    if asked not in (None, 1, 2):
        raise EngineError("a slice has one dimension or two")
    if toward and asked is not None and asked != len(toward):
        raise EngineError(
            "a plane takes a third point: --and C"
            if asked == 2
            else "two points to go towards make a plane: leave out --and"
        )
    return asked or len(toward) or 2


def _points(asked: int | None, dimensions: int) -> int:
    points = asked if asked is not None else ON_A_LINE if dimensions == 1 else ON_A_SIDE
    if points < 2 or points**dimensions > MOST_CELLS:
        most = MOST_CELLS if dimensions == 1 else math.isqrt(MOST_CELLS)
        raise EngineError(f"--points must lie between 2 and {most}")
    return points


def _spans(spans: Sequence[Span], dimensions: int) -> list[Span]:
    for low, high in spans:
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise EngineError(f"--range {low:g}:{high:g}: two numbers, the lower first")
    if len(spans) not in (1, dimensions):
        has = "one dimension" if dimensions == 1 else "two dimensions"
        raise EngineError(f"--range has {len(spans)} parts and the slice {has}")
    return [*spans] * dimensions if len(spans) < dimensions else [*spans]


def _axis(span: Span, points: int) -> tuple[float, ...]:
    """Both ends included, and an exact 0 in the middle of a range about it."""
    low, high = span
    step = (high - low) / (points - 1)
    found = [low + k * step for k in range(points - 1)]
    return tuple(0.0 if abs(a) < 1e-9 * step else a for a in (*found, high))


def _default_spans(
    kind: Kind, projected: Projected, eigenvalues: Sequence[float], loss: float, dimensions: int
) -> list[Span]:
    if kind == "random":
        return [(-1.0, 1.0)]
    if kind == "points":
        return [(-0.5, 1.5)]
    if kind == "hessian":
        reach = math.sqrt(8.0 * loss / abs(eigenvalues[0])) if eigenvalues[0] and loss else 1.0
        return [(-reach, reach)]
    spans = []
    for k in range(dimensions):
        across = [0.0, *projected.coordinates[:, k].tolist()]
        low, high = min(across), max(across)
        spans.append((low - MARGIN * (high - low), high + MARGIN * (high - low)))
    return spans


def _eigenvectors(engine: Engine, theta: Tensor, count: int) -> tuple[tuple[float, ...], Tensor]:
    """The Hessian's greatest eigenvalues and their unit eigenvectors (k, p)."""
    from lsshell.engine.landscape.curvature_operator import CurvatureOperator
    from lsshell.engine.landscape.lanczos import top_eigenvalues

    def moved(products: int) -> None:
        engine.listen(Progress("eigenvectors", products, 0))

    operator = CurvatureOperator(engine.ready(), theta, moved=moved)
    found = top_eigenvalues(operator, count, "top", seed=engine.seed)
    if len(found.values) < count:
        raise EngineError("a single parameter has one direction: --dimensions 1")
    return tuple(found.values.tolist()), found.eigenvectors


def _kept(engine: Engine) -> list[Point]:
    """The kept points of this traversal, evenly thinned where they are many."""
    points = [p for p in engine.path.traversal() if p.kept]
    every, here = -(-len(points) // MOST_WALK), engine.path.here
    return [p for i, p in enumerate(points) if i % every == 0 or p is here or p.begins]


def _thetas(engine: Engine, points: Sequence[Point]) -> Iterator[Tensor]:
    problem = engine.ready()
    for point in points:
        yield problem.flat(engine.path.store.get(point.index))


def _level(engine: Engine, origin: Place) -> float | None:
    if origin.point is not None and origin.point.level is not None:
        return origin.point.level
    return None if engine.level_set is None else engine.level_set.level


def _shaped(values: Values, dimensions: int) -> Values:
    if dimensions == 1:
        return values
    side = math.isqrt(len(values.loss))
    rates = values.accuracy
    return Values(values.loss.view(side, side), None if rates is None else rates.view(side, side))
