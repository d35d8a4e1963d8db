"""`newton`: projected conjugate gradients on the Lagrangian's Hessian, within a trust region."""

from __future__ import annotations

import math
from collections import deque
from typing import ClassVar

import torch
from torch import Tensor

from lsshell.engine.inverse_hessian import InverseHessian
from lsshell.engine.regularizers.regularizer import derivatives
from lsshell.engine.steppers.quasi_newton import QuasiNewton
from lsshell.engine.steppers.stepper import Position, Terrain
from lsshell.engine.steppers.tangent_descent import Direction
from lsshell.engine.vectors import dot, norm

# Hessian products of one step, at most; the residual is wanted at min(LOOSEST, √sin ∠(r, g)) of
# its start, which is what makes the steps converge superlinearly.
MOST_PRODUCTS = 60
LOOSEST = 0.5
# Length of the difference that ∇²R·v is taken from, relative to ‖θ‖.
DIFFERENCE = 1e-2
PAIRS = 60


class Newton(QuasiNewton):
    """The tangent d, d·g = 0, with (∇²R + κ∇²L)d = −t up to a multiple of g.

    By conjugate gradients projected along g (Gould, Hribar & Nocedal 2001), preconditioned by
    what `quasi-newton` knows of the same Hessian (so each solve starts warm), and ended at the
    edge of a trust region (Steihaug 1983; its radius is the cap on a step's length) or where the
    curvature is not positive. ∇²L·v by double backward, two gradients each; ∇²R·v by a central
    difference of ∇R. Each product also becomes a secant pair.
    """

    name: ClassVar[str] = "newton"
    memory_unless_asked: ClassVar[int] = PAIRS

    def direction(self, terrain: Terrain, here: Position) -> Direction:
        first = super().direction(terrain, here)
        if self.inverse is None or not len(self.inverse) or self.kappa is None:
            return first
        d = self._solve(terrain, here, self.inverse, first)
        return first if d is None else Direction(d, first.normal)

    def _solve(
        self, terrain: Terrain, here: Position, inverse: InverseHessian, first: Direction
    ) -> Tensor | None:
        """The solution, or where the trust region or the curvature ended the search for it."""
        g, kappa = here.gradient, self.kappa
        assert kappa is not None
        radius = math.inf if self.cap is None else self.cap
        square = dot(g, g)
        x, residual = torch.zeros_like(g), -here.split.tangent
        p, w = first.tangent.clone(), first.normal
        rz = dot(residual, p)
        if not rz > 0.0:  # rounding: then there is nothing to start from
            return None
        wanted = rz * min(LOOSEST, math.sqrt(here.split.sine)) ** 2
        # The latest are what the memory would keep of them.
        products: deque[tuple[Tensor, Tensor]] = deque(maxlen=inverse.memory)
        for _ in range(MOST_PRODUCTS):
            bp = self._curved(terrain, here, p, kappa)
            curvature = dot(p, bp)
            if curvature > 0.0:
                products.append((p.clone(), bp))
            alpha = rz / curvature if curvature > 0.0 else math.inf
            edge = _to_edge(x, p, radius)
            if alpha >= edge or not math.isfinite(alpha):
                if not math.isfinite(edge):
                    break
                x.add_(p, alpha=edge)
                break
            x.add_(p, alpha=alpha)
            residual = torch.sub(residual, bp, alpha=alpha)
            residual.sub_(g, alpha=dot(residual, g) / square)
            (z,) = inverse.times([residual])
            if w is not None:
                z.sub_(w, alpha=dot(z, g) / dot(w, g))
            z.sub_(g, alpha=dot(z, g) / square)
            before, rz = rz, dot(residual, z)
            if not rz > wanted:
                break
            p.mul_(rz / before).add_(z)
        for s, y in products:
            inverse.add(s, y)
        x.sub_(g, alpha=dot(x, g) / square)
        return x if dot(x, here.split.tangent) < 0.0 else None

    @staticmethod
    def _curved(terrain: Terrain, here: Position, v: Tensor, kappa: float) -> Tensor:
        """(∇²R + κ∇²L)v (p,)."""
        with derivatives("newton"):
            product = terrain.problem.hessian_vector(here.theta, v).mul_(kappa)
        half = DIFFERENCE * max(norm(here.theta), 1e-3) / norm(v)
        ahead = terrain.slope(torch.add(here.theta, v, alpha=half))
        behind = terrain.slope(torch.sub(here.theta, v, alpha=half))
        return product.add_(ahead.sub_(behind), alpha=0.5 / half)


def _to_edge(x: Tensor, p: Tensor, radius: float) -> float:
    """The multiple of p that takes x to the trust region's edge."""
    if not math.isfinite(radius):
        return math.inf
    a, b, c = dot(p, p), dot(x, p), dot(x, x) - radius**2
    return (-b + math.sqrt(max(0.0, b * b - a * c))) / a
