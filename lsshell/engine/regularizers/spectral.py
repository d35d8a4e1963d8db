"""`spectral`: the largest singular value of each layer."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers.regularizer import Regularizer

# G is squared this often: 2¹¹ power iterations in eleven products.
SQUARINGS = 11


class Spectral(Regularizer):
    """R = Σ over layers log σ₁(W) (`form` log, the default) or Σ σ₁(W)² (`form` square).

    W (units, weights of each); a convolution's filters are its rows. ∇σ₁ = u vᵀ, so R is smooth
    where σ₁ > σ₂. With squares: Yoshida & Miyato 2017; the logarithm is that of the product of
    norms in margin bounds (Bartlett et al. 2017).
    """

    name: ClassVar[str] = "spectral"
    formula: ClassVar[str] = "Σ layers log σ₁(W)"

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
    same w gives the same numbers. Where the gap is too small for that, eigh decides.
    """
    if w.shape[0] > w.shape[1]:
        sigma, v, u = top_singular(w.T)
        return sigma, u, v
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
