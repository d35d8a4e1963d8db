"""Principal components of a path: the T×T Gram matrix of its points, so p never enters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.path import Path, Point
from lsshell.engine.store import WHOLE, PointStore

GROWING_BYTES = 128 << 20
BLOCK_BYTES = 256 << 20


@dataclass(frozen=True)
class Projection:
    """Points in principal coordinates: (T, k) coordinates, (k,) explained share of the variance."""

    points: tuple[Point, ...]
    coordinates: Tensor
    explained: Tensor


def principal_coordinates(
    path: Path, points: list[Point], names: Sequence[str], k: int = 2
) -> Projection:
    """PCA of the kept points among `points` by their T×T Gram matrix; p never enters it.

    `names`: of the tensors that make θ, in their order. Coordinates are in units of parameter
    length; signs are fixed so that the last point lies on the positive side of each axis. Points
    are read once, in blocks: see `gram_matrix`.
    """
    kept = [p for p in points if p.kept]
    if len(kept) < 2:
        raise EngineError("PCA needs at least two kept points: walk first")
    store = path.store
    gram = gram_matrix(lambda i, span: store.row(kept[i].index, names, span), len(kept))
    return _project(kept, gram.numpy(), k)


def _project(points: Sequence[Point], gram: np.ndarray, k: int) -> Projection:
    """By numpy, since a growing path is projected beside a walk (see `GrowingProjection`)."""
    coordinates, explained = principal_axes(gram, len(points), k)
    coordinates *= np.where(coordinates[-1] < 0, -1.0, 1.0)
    return Projection(tuple(points), torch.from_numpy(coordinates), torch.from_numpy(explained))


def principal_axes(gram: np.ndarray, count: int, k: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (T, k) of all points in the principal components of the first `count`, and the
    shares (k,) of those points' variance that the components explain.

    `gram`: inner products (T, T), T ≥ count, about any origin. Points beyond the first `count` are
    projected onto the components that those make.
    """
    inner = gram[:count, :count]
    centred = inner - inner.mean(0, keepdims=True)
    centred = centred - centred.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh((centred + centred.T) / 2)
    values = values[::-1].clip(0.0)
    k, total = min(k, count - 1), float(values.sum())
    explained = values[:k] / total if total > 0 else np.zeros(k)
    vectors, lengths = vectors[:, ::-1][:, :k], np.sqrt(values[:k])
    coordinates = vectors * lengths
    if len(gram) > count:
        # x·w for an axis w = Σ vᵢ(xᵢ − mean)/√λ, both about the mean of the first points.
        across = gram[count:, :count] - inner.mean(0) - gram[count:, :count].mean(1, keepdims=True)
        beyond = (across + inner.mean()) @ vectors / np.where(lengths > 0, lengths, 1.0)
        coordinates = np.concatenate([coordinates, beyond])
    return coordinates, explained


def explained_shares(gram: np.ndarray, k: int) -> np.ndarray:
    """Shares of the variance that the first k principal components explain."""
    return principal_axes(gram, len(gram), k)[1]


def gram_matrix(row: Callable[[int, slice], Tensor], count: int) -> Tensor:
    """Inner products (T, T) of row(t) − row(0) in float64, T = `count`.

    `row(t, span)` is a span of row t, (p,). Differences keep the digits that matter. All rows are
    read once, BLOCK_BYTES of their spans at a time.
    """
    size = len(row(0, WHOLE))
    width = max(1, min(size, BLOCK_BYTES // (8 * count)))
    held = torch.zeros(count, width, dtype=torch.float64)
    gram = torch.zeros(count, count, dtype=torch.float64)
    for start in range(0, size, width):
        span = slice(start, min(start + width, size))
        block, origin = held[:, : span.stop - start], row(0, span).double()
        for i in range(1, count):
            torch.sub(row(i, span).double(), origin, out=block[i])
        gram.addmm_(block, block.T)
    return gram


class GrowingProjection:
    """PCA of a path that is still being walked, from some of its kept points.

    Each update reads only the points that are new, thinned evenly as the path grows so that there
    are no more than asked for and what is held stays under `GROWING_BYTES` (but for a handful of
    points). Signs are those of the update before, so that a picture of it does not flip.

    Nothing here enters OpenMP: a second thread that does makes the walk's own threads sleep at
    every barrier rather than spin (libgomp, where there are more threads than processors), which
    costs a walk half its speed.
    """

    def __init__(self) -> None:
        self._held: list[int] = []  # points, in the order of rows and of the Gram matrix
        self._rows: list[np.ndarray] = []  # θ_t − θ_0, float32 (p,)
        self._gram = np.zeros((0, 0))
        self._origin: tuple[int, np.ndarray] | None = None
        self._before: dict[int, np.ndarray] = {}

    def update(
        self,
        store: PointStore,
        points: Sequence[Point],
        names: Sequence[str],
        here: Point | None = None,
        most: int = 200,
    ) -> Projection | None:
        """The projection of about `most` of the kept ones among `points`; None below two.

        `names`: of the tensors that make θ, in their order (see `Problem.slots`); `here`: a point
        that is not to be left out.
        """
        kept = [p for p in points if p.kept]
        if len(kept) < 2:
            return None
        first = kept[0].index
        if self._origin is None or self._origin[0] != first:
            self.__init__()
            self._origin = (first, store.row(first, names).numpy())
        origin = self._origin[1]
        most = min(most, max(8, GROWING_BYTES // (4 * origin.size)))
        chosen = _thinned(kept, most, here)
        self._keep_only({p.index for p in chosen})
        for point in chosen:
            if point.index not in self._held:
                self._add(point.index, store.row(point.index, names).numpy() - origin)
        order = [self._held.index(p.index) for p in chosen]
        return self._as_before(_project(chosen, self._gram[np.ix_(order, order)], 2))

    def _keep_only(self, wanted: set[int]) -> None:
        places = [k for k, index in enumerate(self._held) if index in wanted]
        if len(places) < len(self._held):
            self._held = [self._held[k] for k in places]
            self._rows = [self._rows[k] for k in places]
            self._gram = self._gram[np.ix_(places, places)]

    def _add(self, index: int, row: np.ndarray) -> None:
        self._held.append(index)
        self._rows.append(row.astype(np.float32))
        # einsum, since BLAS has threads of its own that spin after each call.
        products = [float(np.einsum("i,i", self._rows[-1], other)) for other in self._rows]
        count = len(products)
        gram = np.zeros((count, count))
        gram[:-1, :-1] = self._gram
        gram[-1, :] = gram[:, -1] = products
        self._gram = gram

    def _as_before(self, projection: Projection) -> Projection:
        """The same picture, mirrored where that brings it nearer to the one before."""
        now = {p.index: c for p, c in zip(projection.points, projection.coordinates, strict=True)}
        both = [i for i in now if i in self._before]
        coordinates = projection.coordinates
        for axis in range(coordinates.shape[1]):
            agreement = sum(
                float(now[i][axis]) * float(self._before[i][axis])
                for i in both
                if len(self._before[i]) > axis
            )
            if agreement < 0:
                coordinates[:, axis] *= -1.0
        points = projection.points
        self._before = {p.index: c.numpy().copy() for p, c in zip(points, coordinates, strict=True)}
        return Projection(points, coordinates, projection.explained)


def _thinned(points: Sequence[Point], most: int, here: Point | None) -> list[Point]:
    """Every 2^k-th point, the last and `here`: as a path grows, the old choice stays within."""
    every = 1
    while len(points) > every * most:
        every *= 2
    last = len(points) - 1
    return [p for i, p in enumerate(points) if i % every == 0 or i == last or p is here]
