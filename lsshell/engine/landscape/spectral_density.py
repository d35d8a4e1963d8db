"""How the eigenvalues of a curvature matrix are distributed, by stochastic Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.curvature_operator import CurvatureOperator, check_memory
from lsshell.engine.landscape.lanczos import CANCELLED
from lsshell.engine.landscape.trace import rademacher
from lsshell.engine.seeds import generator
from lsshell.engine.vectors import wide

Numbers = NDArray[np.float64]

DEFAULT_STEPS, DEFAULT_PROBES = 64, 4
# Bytes that the bases of the probes that go on together may take (of one alone, any).
TOGETHER = 1 << 30
# σ as a share of the range of the nodes.
WIDTH = 0.005


@dataclass(frozen=True)
class SpectralDensity:
    """φ(x) = mean over probes of Σᵢ wᵢ N(x; λᵢ, σ²): the share of the p eigenvalues about x.

    nodes λ and weights w (probes, steps): a row of weights adds up to 1; width σ; p: how many
    eigenvalues there are; products: what it cost.
    """

    nodes: Numbers
    weights: Numbers
    width: float
    p: int
    products: int

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest node that carries weight."""
        carried = self.nodes[self.weights > 0.0]
        return float(carried.min()), float(carried.max())

    def at(self, x: Numbers) -> Numbers:
        """φ at points x (n,): integrates to 1 over all x."""
        apart = (np.asarray(x, dtype=float)[:, None] - self.nodes.ravel()) / self.width
        bells = np.exp(-0.5 * apart**2) / (self.width * np.sqrt(2.0 * np.pi))
        return np.asarray(bells @ self.weights.ravel()) / len(self.nodes)

    def moment(self, order: int) -> float:
        """Σ λᵢ^order / p over all eigenvalues, by the quadrature: tr H/p for 1, ‖H‖²_F/p for 2."""
        return float(self._moments(order).mean())

    def moment_error(self, order: int) -> float | None:
        """The standard error of a moment, from the spread over probes; None for one probe."""
        found = self._moments(order)
        return float(found.std(ddof=1)) / len(found) ** 0.5 if len(found) > 1 else None

    def _moments(self, order: int) -> Numbers:
        """Each probe's."""
        return np.asarray((self.weights * self.nodes**order).sum(1))

    @property
    def negative_share(self) -> float:
        """Σ |λ| over the negative eigenvalues, as a share of that over all; 0 of a zero matrix."""
        mass = self.weights * np.abs(self.nodes)
        whole = float(mass.sum())
        return float(mass[self.nodes < 0.0].sum()) / whole if whole > 0.0 else 0.0


def spectral_density(
    operator: CurvatureOperator,
    steps: int = DEFAULT_STEPS,
    probes: int = DEFAULT_PROBES,
    seed: int = 0,
    *,
    width: float | None = None,
) -> SpectralDensity:
    """The spectral density of a symmetric matrix by stochastic Lanczos quadrature (SLQ).

    From each Rademacher vector z/√p, `steps` of Lanczos' iteration with full reorthogonalisation
    give a tridiagonal T; its eigenvalues are the nodes and the squared first components of its
    eigenvectors the weights: exact for zᵀf(H)z/p where f is a polynomial of degree 2·steps − 1
    (Golub & Meurant 1994; Ghorbani, Krishnan & Xiao 2019). `width` is σ of the Gaussians (0.5 % of
    the range of the nodes).

    At most p steps. Holds steps vectors (p,) for each probe, as many probes at a time as fit into
    1 GiB. Raises EngineError for steps or probes below 1, and where the memory does not do.
    """
    if steps < 1 or probes < 1:
        raise EngineError(f"{steps} steps of {probes} probes: at least 1 of each")
    if width is not None and not 0.0 < width < np.inf:
        raise EngineError(f"width {width:g}: it must be above 0")
    steps = min(steps, operator.p)
    spent, draw = operator.products, generator(seed, "density probes")
    one = steps * operator.p * operator.theta.element_size()
    together = max(1, min(probes, TOGETHER // one))
    check_memory(operator, one * together)
    found: list[tuple[Numbers, Numbers]] = []
    while len(found) < probes:
        count = min(together, probes - len(found))
        starts = rademacher(operator, count, draw).mul_(operator.p**-0.5)
        found += [_quadrature(a, b) for a, b in _tridiagonal(operator, starts, steps)]
    nodes, weights = (np.stack(rows) for rows in zip(*found, strict=True))
    carried = nodes[weights > 0.0]
    if width is None:
        apart = float(carried.max() - carried.min())
        # One eigenvalue alone (a multiple of the identity) has no range.
        width = WIDTH * (apart or float(np.abs(carried).max()) or 1.0)
    return SpectralDensity(nodes, weights, width, operator.p, operator.products - spent)


def _tridiagonal(
    operator: CurvatureOperator, starts: Tensor, steps: int
) -> list[tuple[Numbers, Numbers]]:
    """The diagonal (steps,) and the elements beside it (steps − 1,) for each unit start (k, p).

    Where a start's space is closed under H, what follows is zero, and carries no weight.
    """
    count, p = starts.shape
    basis = torch.zeros(count, steps, p, device=starts.device, dtype=starts.dtype)
    diagonal, beside = np.zeros((count, steps)), np.zeros((count, steps))
    scale, small = np.zeros(count), 10.0 * torch.finfo(starts.dtype).eps
    v = starts
    for j in range(steps):
        basis[:, j] = v
        w = operator.times(v)
        alpha = torch.linalg.vecdot(wide(w), wide(v))
        w.sub_(alpha.to(w)[:, None] * v)
        if j:
            w.sub_(torch.from_numpy(beside[:, j - 1]).to(w)[:, None] * basis[:, j - 1])
        left = _lengths(w)
        again = True
        while again:  # twice only where much went
            before = left
            for one, rows in zip(w, basis[:, : j + 1], strict=True):
                one.sub_((rows @ one) @ rows)
            left = _lengths(w)
            again = bool(((left < CANCELLED * before) & (left > small * scale)).any())
        diagonal[:, j] = alpha.cpu().double().numpy()
        scale = np.maximum(scale, np.hypot(np.abs(diagonal[:, j]), left))
        left[left <= small * scale] = 0.0
        beside[:, j] = left
        inverse = np.divide(1.0, left, out=np.zeros(count), where=left > 0.0)
        v = w.mul_(torch.from_numpy(inverse).to(w)[:, None])
    return [(a, b[:-1]) for a, b in zip(diagonal, beside, strict=True)]


def _lengths(rows: Tensor) -> Numbers:
    """‖w‖ of each row."""
    return np.asarray(torch.linalg.vector_norm(wide(rows), dim=1).cpu().double().numpy())


def _quadrature(diagonal: Numbers, beside: Numbers) -> tuple[Numbers, Numbers]:
    """Nodes and weights of a symmetric tridiagonal matrix: of the part joined to the first row."""
    ends = np.flatnonzero(beside == 0.0)
    size = int(ends[0]) + 1 if len(ends) else len(diagonal)
    t = np.diag(diagonal[:size]) + np.diag(beside[: size - 1], 1) + np.diag(beside[: size - 1], -1)
    values, vectors = np.linalg.eigh(t)
    nodes, weights = np.zeros(len(diagonal)), np.zeros(len(diagonal))
    nodes[:size], weights[:size] = values, vectors[0] ** 2
    return nodes, weights
