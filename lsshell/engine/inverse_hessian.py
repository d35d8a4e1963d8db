"""The limited-memory BFGS inverse Hessian in compact form: two passes over its memory a step."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lsshell.engine.sample_curvature import SampleCurvature
from lsshell.engine.vectors import dot, spans

# Pairs that the scale of H₀ is taken from: the latest.
SCALING_WINDOW = 12
CURVATURE = 1e-8
BLOCK = 4
# Of log ρ over 1e5: to 1.4e-3.
BISECTIONS = 12


class InverseHessian:
    """H ≈ B⁻¹ from pairs (s, y), y ≈ Bs, in the compact form of Byrd, Nocedal & Schnabel (1994):

        H = H₀ + [S H₀Y] [[R⁻ᵀ(D + YᵀH₀Y)R⁻¹, −R⁻ᵀ], [−R⁻¹, 0]] [S H₀Y]ᵀ

    with S, Y (p, m), R the upper triangle of SᵀY and D its diagonal. Pairs without positive
    curvature are left out. Holds 2·memory vectors of length p; the small matrices are float64.

    H₀ = I/ρ, 1/ρ the largest sᵀy/yᵀy of the latest pairs (those along stiff corrections alone
    would make every step timid); or, once `model` has given it J, H₀ = (ρI + κJᵀJ)⁻¹ with ρ the
    median of those for which sᵀy = yᵀH₀y.
    """

    def __init__(self, memory: int, like: Tensor) -> None:
        self.memory = memory
        self._s = torch.empty(memory, like.numel(), device=like.device, dtype=like.dtype)
        self._y = torch.empty_like(self._s)
        self._sy = torch.zeros(memory, memory, dtype=torch.float64)
        self._yy = torch.zeros(memory, memory, dtype=torch.float64)
        self._order: list[int] = []  # rows, oldest first
        self._fresh: list[int] = []  # rows whose products with the others are not yet known
        self._curvature: SampleCurvature | None = None
        self._kappa = 0.0
        self._jy = torch.zeros(memory, 0, dtype=torch.float64)
        self._scales: deque[float] = deque(maxlen=SCALING_WINDOW)

    def __len__(self) -> int:
        return len(self._order)

    def clear(self) -> None:
        self._order.clear()
        self._fresh.clear()
        self._scales.clear()

    def model(self, curvature: SampleCurvature | None) -> None:
        """From now on H₀ has this J, which has just been taken; or none."""
        self._curvature = curvature
        if curvature is None:
            self._jy = torch.zeros(self.memory, 0, dtype=torch.float64)
            return
        self._jy = torch.zeros(self.memory, len(curvature.eigenvalues), dtype=torch.float64)
        known = [row for row in self._order if row not in self._fresh]
        if known:
            for part in torch.tensor(known).split(BLOCK):  # the rows are copied
                self._jy[part] = curvature.times(self._y[part])

    def weigh(self, kappa: float) -> None:
        """κ, the weight of JᵀJ in B, and in the pairs to come."""
        self._kappa = kappa

    def add(self, s: Tensor, y: Tensor) -> bool:
        """Takes the pair (s, y), each (p,); False (and nothing kept) where sᵀy is not positive."""
        squares = dot(s, s) * dot(y, y)  # 0 where they are too short for the precision
        if not (squares > 0.0 and dot(s, y) > CURVATURE * math.sqrt(squares)):
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
        (step,) = self.times([g])
        return step.neg_()

    def constrained_step(self, t: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """d = −(u − (u·g)/(w·g)·w), u = Ht, w = Hg: minimises the model with d·g = 0; and w."""
        u, w = self.times([t, g])
        w_g = dot(w, g)
        return u.sub_(w, alpha=dot(u, g) / w_g if w_g > 0.0 else 0.0).neg_(), w

    def times(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """Hv for each v (p,)."""
        rows = torch.stack([*vectors, *(self._y[row] for row in self._fresh)])
        s_v, y_v, j_v = self._products(rows, len(vectors))
        order = torch.tensor(self._order)
        sy, yy = self._sy[order][:, order], self._yy[order][:, order]
        jy = self._jy[order]
        rho, weights = self._initial(sy, yy)
        y_h_y = (yy - (jy * weights) @ jy.T) / rho
        y_h_v = (y_v - (jy * weights) @ j_v.T) / rho
        # Hv = H₀(v + Yb) + Sa
        upper = sy.triu()
        b = -torch.linalg.solve_triangular(upper, s_v, upper=True)
        inner = sy.diagonal()[:, None] * -b - y_h_y @ b - y_h_v
        a = torch.linalg.solve_triangular(upper.T, inner, upper=False)
        along_j = (j_v + b.T @ jy) * weights

        count = len(order)
        weights_s, weights_y = torch.zeros(2, len(vectors), count, dtype=torch.float64)
        weights_s[:, order], weights_y[:, order] = a.T, b.T
        weights_s, weights_y = weights_s.to(rows), weights_y.to(rows)
        v = rows[: len(vectors)]
        found = torch.empty_like(v)  # not in `rows`, all of which would live on with it
        for part in spans(v):  # addmm_ takes twice as long
            torch.add(v[:, part], weights_y @ self._y[:count, part], out=found[:, part])
        if self._curvature is not None:
            self._curvature.subtract_transposed(along_j, found)
        for part in spans(v):
            found[:, part].mul_(1.0 / rho).add_(weights_s @ self._s[:count, part])
        return list(found)

    def _dots(self, memory: Tensor, rows: Tensor) -> Tensor:
        """Inner products of the pairs' vectors with rows (number, p): float64 on the CPU."""
        known = memory[: len(self._order)]
        # Transposed views of rows: matrix products read both sides along p, thrice as fast.
        parts = [known[:, part] @ rows[:, part].T for part in spans(rows)]
        return torch.stack(parts).cpu().double().sum(0)

    def _products(self, rows: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """SᵀV and YᵀV (m, number) in the order of age, JV (number, k), where V are the first
        `number` of the rows, and the fresh pairs' y the others, which are taken in.
        """
        count = len(self._order)
        s_dots, y_dots = self._dots(self._s, rows), self._dots(self._y, rows)
        j_dots = torch.zeros(len(rows), 0, dtype=torch.float64)
        if self._curvature is not None:
            j_dots = self._curvature.times(rows)
        for k, row in enumerate(self._fresh, start=number):
            self._sy[:count, row] = s_dots[:, k]
            self._yy[:count, row] = self._yy[row, :count] = y_dots[:, k]
            self._jy[row] = j_dots[k]
        self._take_scales(self._fresh)
        self._fresh.clear()
        return s_dots[self._order, :number], y_dots[self._order, :number], j_dots[:number]

    def _initial(self, sy: Tensor, yy: Tensor) -> tuple[float, Tensor]:
        """ρ, and the weights 1/(ρ/κ + eigenvalues) of J's coordinates (k,) in H₀."""
        if self._curvature is None or not self._scales:
            ratios = (sy.diagonal() / yy.diagonal())[-SCALING_WINDOW:]
            return 1.0 / float(ratios.max()), torch.zeros(self._jy.shape[1], dtype=torch.float64)
        rho = statistics.median(self._scales)
        return rho, 1.0 / (rho / self._kappa + self._curvature.eigenvalues)

    def _take_scales(self, rows: Sequence[int]) -> None:
        """For each pair the ρ at which sᵀy = yᵀH₀y, which falls with ρ: by bisection of log ρ."""
        if self._curvature is None or not rows:
            return
        sy, yy = self._sy.diagonal()[rows].numpy(), self._yy.diagonal()[rows].numpy()
        squares = self._jy[rows].square().numpy()
        values = self._curvature.eigenvalues.numpy()
        most = high = yy / sy  # without J
        least = low = 1e-5 * high
        for _ in range(BISECTIONS):
            rho = np.sqrt(low * high)
            y_h_y = (yy - (squares / (rho[:, None] / self._kappa + values)).sum(1)) / rho
            short = y_h_y > sy
            low, high = np.where(short, rho, low), np.where(short, high, rho)
        inside = (low > least) & (high < most)  # others have no such ρ
        self._scales.extend(np.sqrt(low * high)[inside].tolist())
