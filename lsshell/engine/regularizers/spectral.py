"""`spectral`: the largest singular value of each layer."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers.regularizer import Regularizer
from lsshell.engine.seeds import generator

# G is squared this often: 2¹¹ power iterations in eleven products.
SQUARINGS = 11
# Rows beyond which products with vectors are less work, and how many at the most.
DENSE, MOST_PRODUCTS, LOOK_EVERY = 512, 200, 20


class Spectral(Regularizer):
    """R = Σ over layers log σ₁(W) (`form` log, the default) or Σ σ₁(W)² (`form` square).

    W (units, weights of each); a convolution's filters are its rows. ∇σ₁ = u vᵀ, so R is smooth
    where σ₁ > σ₂. With squares: Yoshida & Miyato 2017; the logarithm is that of the product of
    norms in margin bounds (Bartlett et al. 2017).
    """

    name: ClassVar[str] = "spectral"
    formula = "Σ layers log σ₁(W)"

    def __init__(
        self,
        problem: Problem,
        theta: Tensor,
        seed: int,
        *,
        form: Literal["log", "square"] = "log",
    ) -> None:
        super().__init__(problem, theta, seed)
        self.form = form
        if form == "square":
            self.formula = "Σ layers σ₁(W)²"
        self.options = {"form": form}
        self.parts = [s for s in problem.slots if s.is_weight]
        if not self.parts:
            raise EngineError("spectral: this network has no weights besides biases")

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        out.zero_()
        total = 0.0
        for slot in self.parts:
            part = slice(slot.offset, slot.offset + slot.size)
            w = theta[part].view(slot.shape[0], -1).to(self.problem.accumulate)
            sigma, u, v = top_singular(w)
            if self.form == "square":
                total += sigma**2
                factor = 2.0 * sigma
            else:
                if sigma == 0.0:
                    raise EngineError(f"spectral: {slot.name} is all zeros; use --form square")
                total += math.log(sigma)
                factor = 1.0 / sigma
            out[part].copy_(torch.outer(factor * u, v).reshape(-1))
        return total


def top_singular(w: Tensor) -> tuple[float, Tensor, Tensor]:
    """σ₁, u (m,), v (n,) of w (m, n), by power iteration on the smaller Gram matrix G.

    G is squared and normalised repeatedly, so there is no state from one point to the next: the
    same w gives the same numbers. Large ones by Lanczos' iteration, from one random start. Where
    the gap is too small for that, eigh decides.
    """
    if w.shape[0] > w.shape[1]:
        sigma, v, u = top_singular(w.T)
        return sigma, u, v
    if w.shape[0] > DENSE and (found := _lanczos(w)) is not None:
        v = w.T @ found
        sigma = float(torch.linalg.vector_norm(v))
        if sigma > 0.0:
            return sigma, found, v / sigma
    gram = w @ w.T
    scale = float(torch.linalg.matrix_norm(gram))
    if scale == 0.0:
        return 0.0, torch.zeros_like(gram[0]), torch.zeros_like(w[0])
    power = gram / scale
    for _ in range(SQUARINGS):
        power = power @ power
        power = power / torch.linalg.matrix_norm(power)
    # The longest column: the start among the unit vectors that has most of the top eigenvector.
    u = power[:, torch.linalg.vector_norm(power, dim=0).argmax()]
    u = u / torch.linalg.vector_norm(u)
    value = torch.dot(u, gram @ u)
    residual = float(torch.linalg.vector_norm(gram @ u - value * u))
    if residual > max(1e-9, 64 * torch.finfo(gram.dtype).eps) * scale:
        u = torch.linalg.eigh(gram).eigenvectors[:, -1]
    v = w.T @ u
    sigma = float(torch.linalg.vector_norm(v))
    return sigma, u, v / sigma


def _lanczos(w: Tensor) -> Tensor | None:
    """The top eigenvector (m,) of wwᵀ to rounding; None where that takes too long."""
    basis = torch.zeros(MOST_PRODUCTS, len(w), dtype=w.dtype, device=w.device)
    start = torch.randn(len(w), generator=generator(0, "Lanczos")).to(w)
    basis[0] = start / torch.linalg.vector_norm(start)
    tridiagonal = torch.zeros(MOST_PRODUCTS, MOST_PRODUCTS, dtype=torch.float64)
    for k in range(MOST_PRODUCTS):
        q = w @ (w.T @ basis[k])
        tridiagonal[k, k] = float(torch.dot(q, basis[k]))
        for _ in range(2):  # once more: what rounding left
            q -= (basis[: k + 1] @ q) @ basis[: k + 1]
        beta = float(torch.linalg.vector_norm(q))
        ended = beta <= 1e-14 * float(tridiagonal.max())  # of all that w acts on
        if (k + 1) % LOOK_EVERY == 0 or ended:
            values, vectors = torch.linalg.eigh(tridiagonal[: k + 1, : k + 1])
            if beta * abs(float(vectors[-1, -1])) <= 1e-12 * float(values[-1]):
                u = vectors[:, -1].to(w) @ basis[: k + 1]
                return u / torch.linalg.vector_norm(u)
        if ended or k + 1 == MOST_PRODUCTS:
            break
        tridiagonal[k, k + 1] = tridiagonal[k + 1, k] = beta
        basis[k + 1] = q / beta
    return None
