"""Eigenvalues and eigenvectors at the ends of the spectrum, by Lanczos' iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.curvature_operator import CurvatureOperator, check_memory
from lsshell.engine.seeds import generator
from lsshell.engine.vectors import dot, norm, wide

End = Literal["both", "top", "bottom"]
Numbers = NDArray[np.float64]

DEFAULT_TOLERANCE = 1e-3
DEFAULT_PRODUCTS = 600
# The basis: so many vectors, fewer where they would take more bytes, but room for what is wanted.
BASIS, BASIS_BYTES, ROOM = 96, 2 << 30, 16
# Convergence is looked at after so many products.
EVERY = 4
# Where orthogonalising leaves less than this share, it is done once more (Kahan).
CANCELLED = 0.5
# Products from a new start, once all have converged: do they find an eigenvalue that was missed?
SECOND_LOOK = 8


@dataclass(frozen=True)
class Eigenvalues:
    """Eigenpairs, the greatest eigenvalue first.

    values (k,): Rayleigh quotients, float64 on the CPU; eigenvectors (k, p): orthonormal rows on
    the device, the greatest component of each positive; residuals (k,): ‖Hv − λv‖, so that an
    eigenvalue of H lies within that of λ; converged: whether each residual is within what was
    asked; products: what they cost; top: how many of them were asked as the greatest (the rest, as
    the least).
    """

    values: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    converged: tuple[bool, ...]
    products: int
    top: int

    @property
    def greatest(self) -> float:
        """λ_max, where the greatest were asked for."""
        return float(self.values[0])

    @property
    def least(self) -> float:
        """λ_min, where the least were asked for."""
        return float(self.values[-1])


def top_eigenvalues(
    operator: CurvatureOperator,
    k: int = 5,
    end: End = "both",
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    seed: int = 0,
    most_products: int = DEFAULT_PRODUCTS,
) -> Eigenvalues:
    """The k greatest ("top") or least ("bottom") eigenvalues of a symmetric matrix, or both.

    Lanczos' iteration with full reorthogonalisation and thick restarts (Wu & Simon 2000), from a
    random start. An eigenpair has converged where ‖Hv − λv‖ ≤ tolerance·|λ|, or where that is at
    the level of rounding (100 ε of the greatest |λ|); its λ is then exact to about the square of
    that over the gap to the next. Since one start sees every multiple eigenvalue once only, a
    second random start (8 products) then looks for those missed, until none is found.

    Ends after `most_products`, converged or not. Holds up to 96 vectors (p,), fewer beyond 2 GiB.
    At most p pairs come back. Raises EngineError for k < 1, and where the memory does not do.
    """
    if k < 1:
        raise EngineError(f"{k} eigenvalues: at least 1 is needed")
    if end not in get_args(End):
        raise EngineError(f"{end} is no end of the spectrum: {', '.join(get_args(End))}")
    if not tolerance > 0.0:
        raise EngineError(f"tolerance {tolerance:g}: it must be above 0")
    p = operator.p
    above = min(k, p) if end != "bottom" else 0
    below = min(k, p - above) if end != "top" else 0
    spent = operator.products
    krylov = _Krylov(operator, _rows(operator, above + below), seed)
    _iterate(krylov, above, below, tolerance, max(most_products - above - below, 1))
    values, weights = krylov.ritz()
    chosen = _wanted(len(values), above, below)
    vectors = krylov.combine(weights[:, chosen])
    products = operator.times(vectors)
    quotients = [dot(wide(a), wide(b)) for a, b in zip(vectors, products, strict=True)]
    residuals = [
        norm(b - value * a) for value, a, b in zip(quotients, vectors, products, strict=True)
    ]
    order = np.argsort(quotients)[::-1].copy()
    found, errors = np.array(quotients)[order], np.array(residuals)[order]
    bounds = _bounds(found, max(float(np.abs(values).max()), 0.0), tolerance, vectors.dtype)
    return Eigenvalues(
        torch.from_numpy(found),
        _signed(vectors[torch.from_numpy(order).to(vectors.device)]),
        torch.from_numpy(errors),
        tuple(bool(e <= b) for e, b in zip(errors, bounds, strict=True)),
        operator.products - spent,
        min(above, len(found)),
    )


class _Krylov:
    """An orthonormal basis V (j, p), T = VHVᵀ, and the next direction."""

    def __init__(self, operator: CurvatureOperator, rows: int, seed: int) -> None:
        self.operator, self.generator = operator, generator(seed, "Lanczos")
        like = operator.theta
        self.basis = torch.zeros(rows, len(like), device=like.device, dtype=like.dtype)
        self.t = np.zeros((rows, rows))
        self.count = 0  # rows that H has been applied to
        self.beta = 0.0  # of the last coupling
        self.small = 10.0 * torch.finfo(like.dtype).eps
        self.whole = False  # the basis is all there is
        self._start()

    @property
    def full(self) -> bool:
        return self.count == len(self.basis)

    def _start(self) -> None:
        """A random next direction, outside what there is."""
        like, rows = self.basis, self.basis[: self.count]
        drawn = torch.randn(like.shape[1], generator=self.generator, dtype=torch.float32).to(like)
        for _ in range(2):
            drawn.sub_((rows @ drawn) @ rows)
            drawn.mul_(1.0 / norm(drawn))
        self.next = drawn
        self.beta = 0.0

    def restart_at_random(self) -> None:
        """Goes on from a direction that what was found so far has no part in."""
        if self.count < self.basis.shape[1]:
            self._start()

    def step(self) -> bool:
        """Takes in one more direction; False where the space it spans is closed under H."""
        j = self.count
        self.basis[j].copy_(self.next)
        w = self.operator.times(self.basis[j])
        along, left = orthogonalise(w, self.basis[: j + 1])
        self.t[j, : j + 1] = self.t[: j + 1, j] = along
        self.count += 1
        self.beta = left
        self.whole = self.count == self.basis.shape[1]
        scale = float(np.abs(self.t[: j + 1, : j + 1]).max())
        if self.whole or not self.beta > self.small * scale:
            self.beta = 0.0
            return False
        self.next = w.mul_(1.0 / self.beta)
        return True

    def ritz(self) -> tuple[Numbers, Numbers]:
        """Ritz values, ascending, and their vectors in the basis, as columns."""
        values, vectors = np.linalg.eigh(self.t[: self.count, : self.count])
        return values, vectors

    def combine(self, weights: Numbers) -> Tensor:
        """Ritz vectors (k, p) of these columns, orthonormal."""
        mix = torch.from_numpy(np.ascontiguousarray(weights.T)).to(self.basis)
        rows = mix @ self.basis[: self.count]
        return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)

    def shrink(self, values: Numbers, weights: Numbers, chosen: Numbers) -> None:
        """The basis becomes these Ritz vectors; the next direction stays."""
        kept = len(chosen)
        self.basis[:kept] = self.combine(weights[:, chosen])
        self.t[:] = 0.0
        self.t[np.arange(kept), np.arange(kept)] = values[chosen]
        self.count = kept


def orthogonalise(w: Tensor, rows: Tensor) -> tuple[Numbers, float]:
    """Takes from w (p,), in place, its part along orthonormal rows (j, p): that part, and ‖w‖ then.

    First the last two rows', nearly all in Lanczos' recurrence, so that one pass over all is
    accurate; where it is not, another.
    """
    near = rows[-2:]
    found = near @ w
    w.sub_(found @ near)
    along = np.zeros(len(rows))
    along[-len(near) :] = found.cpu().double().numpy()
    left = norm(w)
    while True:
        before = left
        found = rows @ w
        w.sub_(found @ rows)
        along += found.cpu().double().numpy()
        left = norm(w)
        if left >= CANCELLED * before or left == 0.0:
            return along, left
        if float(found.norm()) <= torch.finfo(w.dtype).eps * np.abs(along).max():
            return along, left


def _iterate(krylov: _Krylov, above: int, below: int, tolerance: float, most_products: int) -> None:
    """Goes on until the wanted Ritz pairs have converged and a new start finds no others."""
    seen: Numbers | None = None  # the wanted values when they last had converged
    since = products = 0  # products since the last random start
    wanted = above + below
    while True:
        alive = krylov.step()
        products += 1
        since += 1
        done = products >= most_products
        if alive and not done and not krylov.full and since % EVERY:
            continue
        values, weights = krylov.ritz()
        chosen = _wanted(len(values), above, below)
        bounds = _bounds(
            values[chosen], float(np.abs(values).max()), tolerance / 2, krylov.basis.dtype
        )
        errors = np.abs(krylov.beta * weights[-1, chosen])
        settled = len(chosen) == wanted and bool((errors <= bounds).all())
        if krylov.whole:
            return
        if settled and (since >= SECOND_LOOK or not alive):
            if seen is not None and bool((np.abs(values[chosen] - seen) <= 2 * bounds).all()):
                return
            seen, since = values[chosen], 0
        if done:
            return
        if krylov.full:
            krylov.shrink(values, weights, _kept(values, above, below, len(krylov.basis)))
        if since == 0 or not alive:
            krylov.restart_at_random()
            since = 0


def _wanted(count: int, above: int, below: int) -> NDArray[np.int64]:
    """Which of `count` ascending values are wanted."""
    return np.unique(np.r_[: min(below, count), max(0, count - above) : count])


def _kept(values: Numbers, above: int, below: int, rows: int) -> NDArray[np.int64]:
    """Ritz vectors that a restart keeps: the wanted, and as many neighbours as leave half free."""
    spare = max(0, rows // 2 - above - below)
    top = round(spare * above / (above + below))
    return _wanted(len(values), above + top, below + spare - top)


def _bounds(values: Numbers, scale: float, tolerance: float, dtype: torch.dtype) -> Numbers:
    """The residuals at which eigenvalues count as converged."""
    return np.maximum(tolerance * np.abs(values), 100.0 * torch.finfo(dtype).eps * scale)


def _rows(operator: CurvatureOperator, wanted: int) -> int:
    """How many vectors the basis holds."""
    vector = operator.p * operator.theta.element_size()
    rows = min(operator.p, max(min(BASIS, BASIS_BYTES // vector), 2 * wanted + ROOM))
    check_memory(operator, rows * vector)
    return rows


def _signed(vectors: Tensor) -> Tensor:
    """With the greatest component of each row positive."""
    places = vectors.abs().argmax(1, keepdim=True)
    return vectors * vectors.gather(1, places).sign()
