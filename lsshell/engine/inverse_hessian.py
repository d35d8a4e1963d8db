"""The limited-memory BFGS inverse Hessian in compact form: two passes over its memory a step."""

from __future__ import annotations

import torch
from torch import Tensor

from lsshell.engine.vectors import dot, norm

# γ in H₀ = γI is the largest sᵀy/yᵀy among this many latest pairs: pairs along stiff corrections
# alone would make every step timid.
SCALING_WINDOW = 12
CURVATURE = 1e-8


class InverseHessian:
    """H ≈ B⁻¹ from pairs (s, y), y ≈ Bs, in the compact form of Byrd, Nocedal & Schnabel (1994):

        H = γI + [S γY] [[R⁻ᵀ(D + γYᵀY)R⁻¹, −R⁻ᵀ], [−R⁻¹, 0]] [S γY]ᵀ

    with S, Y (p, m), R the upper triangle of SᵀY and D its diagonal. Pairs without positive
    curvature are left out. Holds 2·memory vectors of length p; the small matrices are float64.
    """

    def __init__(self, memory: int, like: Tensor) -> None:
        self.memory = memory
        self._s = torch.empty(memory, like.numel(), device=like.device, dtype=like.dtype)
        self._y = torch.empty_like(self._s)
        self._sy = torch.zeros(memory, memory, dtype=torch.float64)
        self._yy = torch.zeros(memory, memory, dtype=torch.float64)
        self._order: list[int] = []  # rows, oldest first
        self._fresh: list[int] = []  # rows whose products with the others are not yet known

    def __len__(self) -> int:
        return len(self._order)

    def clear(self) -> None:
        self._order.clear()
        self._fresh.clear()

    def add(self, s: Tensor, y: Tensor) -> bool:
        """Takes the pair (s, y), each (p,); False (and nothing kept) where sᵀy is not positive."""
        if not dot(s, y) > CURVATURE * norm(s) * norm(y):
            return False
        if len(self._order) < self.memory:
            row = len(self._order)
        else:
            row = self._order.pop(0)
            if row in self._fresh:
                self._fresh.remove(row)
        self._s[row].copy_(s)
        self._y[row].copy_(y)
        self._order.append(row)
        self._fresh.append(row)
        return True

    def descent_step(self, g: Tensor) -> Tensor:
        """d = −Hg."""
        return self._step(g, None)

    def constrained_step(self, t: Tensor, g: Tensor) -> Tensor:
        """d = −(u − (u·g)/(w·g)·w), u = Ht, w = Hg: minimises the model with d·g = 0."""
        return self._step(t, g)

    def _step(self, t: Tensor, normal: Tensor | None) -> Tensor:
        g = t if normal is None else normal
        count = len(self._order)
        s, y = self._s[:count], self._y[:count]
        # Transposed views of rows: matrix products read both sides along p, thrice as fast.
        rows = torch.stack([t, g, *(self._y[row] for row in self._fresh)])
        s_dots = (s @ rows.T).to("cpu", torch.float64)
        y_dots = (y @ rows.T).to("cpu", torch.float64)
        for k, row in enumerate(self._fresh, start=2):
            self._sy[:count, row] = s_dots[:, k]
            self._yy[:count, row] = self._yy[row, :count] = y_dots[:, k]
        self._fresh.clear()

        order = torch.tensor(self._order)
        sy = self._sy[order][:, order]
        yy = self._yy[order][:, order]
        gamma = float((sy.diagonal() / yy.diagonal())[-SCALING_WINDOW:].max())
        s_tg, y_tg = s_dots[order, :2], y_dots[order, :2]
        upper = sy.triu()
        a = torch.linalg.solve_triangular(upper, s_tg, upper=True)
        inner = sy.diagonal()[:, None] * a + gamma * (yy @ a) - gamma * y_tg
        s_part = torch.linalg.solve_triangular(upper.T, inner, upper=False)
        y_part = -gamma * a

        products = s_part.T @ s_tg + y_part.T @ y_tg  # [u, w]ᵀ[t, g] less the γ terms
        u_g = gamma * dot(t, g) + float(products[0, 1])
        w_g = gamma * dot(g, g) + float(products[1, 1])
        ratio = u_g / w_g if normal is not None and w_g > 0.0 else 0.0

        weights = torch.zeros(2, count, dtype=torch.float64)
        weights[0, order] = s_part[:, 0] - ratio * s_part[:, 1]
        weights[1, order] = y_part[:, 0] - ratio * y_part[:, 1]
        weights = weights.to(t.device, t.dtype)
        d = torch.add(t, g, alpha=-ratio).mul_(-gamma)
        return d.sub_(weights[0] @ s).sub_(weights[1] @ y)
