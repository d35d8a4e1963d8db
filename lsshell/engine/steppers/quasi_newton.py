"""`quasi-newton`: L-BFGS on the Lagrangian, in the tangent space of the level set."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lsshell.engine.inverse_hessian import InverseHessian
from lsshell.engine.levelset import Correction
from lsshell.engine.steppers.stepper import Position, Terrain
from lsshell.engine.steppers.tangent_descent import FIRST_STEP, TangentDescent
from lsshell.engine.vectors import dot, norm

MEMORY = 100
# Bytes that the memory may take; fewer pairs where the network is large.
BUDGET = 4 << 30
FEWEST, MOST = 10, 1000


class QuasiNewton(TangentDescent):
    """d = −(u − (u·g)/(w·g)·w), u = H(r + νg), w = Hg: the SQP step for min R on {L = L*}.

    H approximates the inverse of ∇²R + κ∇²L by secant pairs s = Δθ, y = Δr + κΔg; see
    `stiffness` for κ, which is the multiplier ν near the constrained minimum. The corrector's own
    gradients are kept as pairs too: they are paid for, and they lie along the stiff directions
    that the predictor got wrong (on MNIST_FF this halves the gradients that a given R costs).
    """

    name: ClassVar[str] = "quasi-newton"
    rise: ClassVar[float] = 0.02

    def __init__(self, memory: int = MEMORY) -> None:
        super().__init__()
        self.memory = memory
        self.inverse: InverseHessian | None = None

    def direction(self, terrain: Terrain, here: Position) -> Tensor:
        t, g = here.split.tangent, here.gradient
        if self.inverse is None:
            affordable = BUDGET // (2 * t.numel() * t.element_size())
            self.inverse = InverseHessian(min(self.memory, max(FEWEST, affordable), MOST), t)
        if not len(self.inverse):
            length = FIRST_STEP * max(norm(here.theta), 1e-3)
            return t * (-length / here.split.tangent_norm)
        d = self.inverse.constrained_step(t, g)
        # What rounding left along g would be paid for by the corrector.
        return d.sub_(g, alpha=dot(d, g) / dot(g, g))

    def forget(self) -> bool:
        if self.inverse is None or not len(self.inverse):
            return False
        self.inverse.clear()
        self.cap = None
        return True

    def accepted(
        self, terrain: Terrain, here: Position, there: Position, correction: Correction
    ) -> None:
        assert self.inverse is not None
        kappa = self.stiffness(terrain, here, there)
        theta, gradient, slope = here.theta, here.gradient, here.slope
        # Legs in between cost a ∇R each: taken where that is a handful of passes over θ.
        for leg_theta, leg_gradient in correction.trail[:-1] if terrain.objective.cheap else ():
            leg = terrain.at(leg_theta, 0.0, leg_gradient)
            y = torch.sub(leg_gradient, gradient).mul_(kappa).add_(leg.slope).sub_(slope)
            self.inverse.add(leg_theta - theta, y)
            theta, gradient, slope = leg_theta, leg_gradient, leg.slope
        y = torch.sub(there.gradient, gradient).mul_(kappa).add_(there.slope).sub_(slope)
        self.inverse.add(there.theta - theta, y)

    def stiffness(self, terrain: Terrain, here: Position, there: Position) -> float:
        """κ ≥ ν: the multiplier of the best step that lets the loss rise by `rise`·L* at most.

        min t·d + ½dᵀ(∇²R + ν∇²L)d with ½dᵀ∇²L d ≤ rise·L* has κ − ν as the multiplier of its
        bound. The fall of the model, Δ = −t·d, is at least κ dᵀ∇²L d, so κ = Δ/(2·rise·L*) keeps
        the bound; Δ is taken from the last step. As steps shorten κ comes down to ν. Far from
        the minimum ν is small or negative, and with it alone H never learns which directions
        the loss is stiff in (linear regression: never converged; with κ, 60 steps).
        """
        fall = here.value - there.value
        return max(there.split.multiplier, fall / (2.0 * self.rise * terrain.level_set.level))
