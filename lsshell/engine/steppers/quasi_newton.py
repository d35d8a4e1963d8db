"""`quasi-newton`: L-BFGS on the Lagrangian, in the tangent space of the level set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lsshell.engine.evaluation import Evaluation
from lsshell.engine.inverse_hessian import InverseHessian
from lsshell.engine.sample_curvature import SampleCurvature
from lsshell.engine.steppers.stepper import Position, Terrain
from lsshell.engine.steppers.tangent_descent import FIRST_STEP, Direction, TangentDescent
from lsshell.engine.vectors import dot, norm

# Secant pairs: with the loss's curvature on its hardest examples as H₀, and without.
MEMORY, PLAIN_MEMORY = 20, 100
# Bytes that the memory may take; fewer pairs where the network is large.
BUDGET = 4 << 30
FEWEST, MOST = 10, 1000
# Accepted steps after which H₀ is taken anew.
REFRESH = 25


class QuasiNewton(TangentDescent):
    """d = −(u − (u·g)/(w·g)·w), u = H(r + νg), w = Hg: the SQP step for min R on {L = L*}.

    H approximates the inverse of ∇²R + κ∇²L: H₀ = (ρI + κJᵀJ)⁻¹ with the loss's Gauss-Newton
    matrix on its most curved examples (`SampleCurvature`, taken every 25 steps, where the
    network's layers admit it), and secant pairs s = Δθ, y = Δr + κΔg; see `stiffness` for κ,
    which is the multiplier ν near the constrained minimum. Gradients that the corrector asked for
    are kept as pairs too: they are paid for, and they lie along the stiff directions that the
    predictor got wrong. It corrects along w, which changes the Lagrangian's gradient along g alone.
    """

    name: ClassVar[str] = "quasi-newton"
    rise: ClassVar[float] = 0.02
    eager: ClassVar[bool] = True
    memory_unless_asked: ClassVar[int] = MEMORY

    def __init__(self, memory: int | None = None) -> None:
        super().__init__()
        self.memory = memory
        self.inverse: InverseHessian | None = None
        self.curvature: SampleCurvature | None = None
        self.age = 0  # steps since H₀ was taken
        self.kappa: float | None = None  # at the last step

    def direction(self, terrain: Terrain, here: Position) -> Direction:
        t, g = here.split.tangent, here.gradient
        if self.inverse is None:
            self.inverse = self._begin(terrain, here)
        if not len(self.inverse):
            length = FIRST_STEP * max(norm(here.theta), 1e-3)
            return Direction(t * (-length / here.split.tangent_norm))
        if self.curvature is not None and self.age >= REFRESH:
            if not self.curvature.refresh(here.theta):
                self.curvature = None
            self.inverse.model(self.curvature)
            self.age = 0
        d, w = self.inverse.constrained_step(t, g)
        # What rounding left along g would be paid for by the corrector.
        return Direction(d.sub_(g, alpha=dot(d, g) / dot(g, g)), w if dot(w, g) > 0.0 else None)

    def _begin(self, terrain: Terrain, here: Position) -> InverseHessian:
        theta, curvature = here.theta, SampleCurvature(terrain.problem)
        modelled = curvature.refresh(theta)
        pairs = self.memory or (self.memory_unless_asked if modelled else PLAIN_MEMORY)
        affordable = BUDGET // (2 * theta.numel() * theta.element_size())
        inverse = InverseHessian(min(pairs, max(FEWEST, affordable), MOST), theta)
        if modelled:
            self.curvature = curvature
            inverse.model(curvature)
        return inverse

    def forget(self) -> bool:
        if self.inverse is None or not len(self.inverse):
            return False
        self.inverse.clear()
        self.renew()
        return True

    def renew(self) -> None:
        """Length and H₀ are taken anew at the next step, as after a move to another place."""
        self.cap, self.bend, self.age = None, 0.0, REFRESH

    def accepted(
        self, terrain: Terrain, here: Position, there: Position, points: Sequence[Evaluation]
    ) -> None:
        assert self.inverse is not None
        self.kappa = kappa = self.stiffness(terrain, here, there)
        self.inverse.weigh(kappa)
        self.age += 1
        theta, gradient, slope = here.theta, here.gradient, here.slope
        # Those in between cost a ∇R each: taken where that is a handful of passes over θ.
        for point in points[:-1] if terrain.objective.cheap else ():
            seen = terrain.slope(point.theta)
            self._learn(point.theta - theta, kappa, point.gradient - gradient, seen - slope)
            theta, gradient, slope = point.theta, point.gradient, seen
        self._learn(there.theta - theta, kappa, there.gradient - gradient, there.slope - slope)

    def _learn(self, s: Tensor, kappa: float, loss_part: Tensor, part: Tensor) -> None:
        assert self.inverse is not None
        self.inverse.add(s, part.add_(loss_part, alpha=kappa))

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
