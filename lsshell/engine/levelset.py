"""The level set {L = L*}: its residual, its tangent space, and the correctors onto it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lsshell.engine.errors import NotFiniteError
from lsshell.engine.evaluation import Evaluation
from lsshell.engine.inverse_hessian import InverseHessian
from lsshell.engine.problem import Problem
from lsshell.engine.vectors import dot, norm

MAX_CORRECTIONS = 6
DESCENT_MEMORY = 20
# Of L*, and of the residual before: beyond them the secant corrector asks for a gradient.
FAR, SLOW = 0.1, 0.5
# A normal along which L rises by less than this share of what it did is left for the gradient.
FLAT = 0.2


@dataclass(frozen=True)
class LevelSet:
    """{θ : L(θ) = level}; a point is on it where |L − level| ≤ tolerance (both in units of L)."""

    level: float
    tolerance: float

    def residual(self, loss: float) -> float:
        """L − L*."""
        return loss - self.level

    def contains(self, loss: float) -> bool:
        return abs(self.residual(loss)) <= self.tolerance


@dataclass(frozen=True)
class Split:
    """∇R = r split by g = ∇L: the tangent part r + νg (p,), and its place relative to g.

    multiplier ν = −r·g/‖g‖², the least-squares multiplier of min R on {L = L*};
    angle between r and g in degrees, by atan2 of the tangent and the parallel length
    (acos loses it near 180°, where the constrained minimum is).
    """

    tangent: Tensor
    multiplier: float
    angle_deg: float
    tangent_norm: float
    slope_norm: float

    @property
    def sine(self) -> float:
        """‖tangent‖/‖r‖ in [0, 1]; 0 at a constrained stationary point."""
        return self.tangent_norm / self.slope_norm if self.slope_norm else 0.0

    def angle(self, sign: float) -> float:
        """The angle between g and ∇R in degrees, r being ∇R (sign 1) or −∇R (sign −1)."""
        return self.angle_deg if sign > 0 else 180.0 - self.angle_deg


def split(slope: Tensor, gradient: Tensor) -> Split:
    """The rejection of r (p,) from g (p,), with multiplier and angle (Tahir & Katz 2020, §3)."""
    g_norm, r_norm = norm(gradient), norm(slope)
    if g_norm == 0.0:
        return Split(slope.clone(), 0.0, math.nan, r_norm, r_norm)
    unit = gradient / g_norm
    parallel = dot(slope, unit)
    tangent = torch.add(slope, unit, alpha=-parallel)
    # A second pass: near 180° the first rejection is what rounding left of two long vectors.
    again = dot(tangent, unit)
    tangent.sub_(unit, alpha=again)
    parallel += again
    length = norm(tangent)
    angle = math.degrees(math.atan2(length, parallel)) if r_norm else math.nan
    return Split(tangent, -parallel / g_norm, angle, length, r_norm)


@dataclass(frozen=True)
class Correction:
    """Every point that the corrector came by, the predicted one first and its end last, with their
    L − L*, and whether that end is as near as asked.
    """

    legs: tuple[Evaluation, ...]
    residuals: tuple[float, ...]
    converged: bool

    @property
    def theta(self) -> Tensor:
        return self.legs[-1].theta

    @property
    def loss(self) -> float:
        return self.legs[-1].loss

    @property
    def gradient(self) -> Tensor:
        return self.legs[-1].gradient


def newton(problem: Problem, level: float, theta: Tensor) -> Iterator[Evaluation]:
    """One-dimensional Newton from θ: θ ← θ − (L − L*)·g/(g·g), a gradient a point, θ the first.

    Far above the level the same step is taken for log L = log L* (same set, and near zero loss
    far closer to linear). Ends where the residual more than doubles, or after MAX_CORRECTIONS.
    """
    previous = math.inf
    for spent in range(MAX_CORRECTIONS + 1):
        here = Evaluation(problem, theta, *problem.loss_and_gradient(theta))
        yield here
        residual = abs(here.loss - level)
        if spent == MAX_CORRECTIONS or residual == 0.0 or residual > 2 * previous:
            return
        previous, square = residual, dot(here.gradient, here.gradient)
        if square == 0.0 or not math.isfinite(square):
            return
        theta = torch.add(theta, here.gradient, alpha=-newton_length(here.loss, level) / square)


def secant(
    problem: Problem, level: float, theta: Tensor, normal: Tensor, slope: float
) -> Iterator[Evaluation]:
    """`newton` along a normal n (p,), at a loss a point: L is known to rise along n by `slope`, and
    from two points on by their secant.

    The gradient is asked for where the residual is more than a tenth of L*, or more than half of
    the one before; n is left for it where n has come to lie too flat on the level set.
    """
    along, previous, before, step = normal, math.inf, math.nan, 0.0
    for spent in range(MAX_CORRECTIONS + 1):
        here = problem.evaluate(theta)
        yield here
        residual = abs(here.loss - level)
        if spent == MAX_CORRECTIONS or residual == 0.0 or residual > 2 * previous:
            return
        if residual > min(FAR * level, SLOW * previous):
            along, slope = here.gradient, dot(here.gradient, here.gradient)
            if (rise := dot(normal, here.gradient)) > FLAT * slope:
                along, slope = normal, rise
        elif spent:
            slope = (before - here.loss) / step
        if slope == 0.0 or not math.isfinite(slope):
            return
        previous, before, step = residual, here.loss, newton_length(here.loss, level) / slope
        theta = torch.add(theta, along, alpha=-step)


def correct(problem: Problem, level_set: LevelSet, theta: Tensor, *, within: float) -> Correction:
    """`newton` along g until |L − L*| ≤ `within`; unconverged where it ended before.

    `level_set` gives L*; its tolerance is not used.
    """
    legs, converged = [], False
    for leg in newton(problem, level_set.level, theta):
        legs.append(leg)
        if converged := abs(level_set.residual(leg.loss)) <= within:
            break
    residuals = tuple(level_set.residual(leg.loss) for leg in legs)
    return Correction(tuple(legs), residuals, converged)


def newton_length(loss: float, level: float) -> float:
    """By how much to lower L in one Newton step: L − L*, or L·log(L/L*) well above the level."""
    if loss > 1.1 * level > 0.0:
        return loss * math.log(loss / level)
    return loss - level


def move_to(
    problem: Problem, level_set: LevelSet, theta: Tensor, *, budget: int = 1000
) -> tuple[Tensor, float]:
    """Brings any θ onto the level set, with at most `budget` gradients.

    Newton steps along g, the shortest way, to a level above; L-BFGS steps, no longer than the
    level asks, to a level below; either is halved where it does not help. Returns θ and L with
    |L − L*| ≤ tolerance/10. Raises LevelNotReached with the closest loss where no step helps.
    """
    within = level_set.tolerance / 10
    loss, gradient = problem.loss_and_gradient(theta)
    curvature = InverseHessian(DESCENT_MEMORY, theta)
    spent, damping = 1, 1.0
    while abs(level_set.residual(loss)) > within:
        if spent >= budget or damping < 1e-6 or norm(gradient) == 0.0:
            raise LevelNotReached(loss)
        step = _towards(level_set, curvature, loss, gradient)
        trial = torch.add(theta, step, alpha=damping)
        spent += 1
        try:
            trial_loss, trial_gradient = problem.loss_and_gradient(trial)
        except NotFiniteError:  # too far, as for any step that does not help
            damping /= 2
            continue
        curvature.add(trial - theta, trial_gradient - gradient)
        if abs(level_set.residual(trial_loss)) < abs(level_set.residual(loss)):
            theta, loss, gradient = trial, trial_loss, trial_gradient
            damping = min(1.0, 2 * damping)
        else:
            damping /= 2
    return theta, loss


def _towards(
    level_set: LevelSet, curvature: InverseHessian, loss: float, gradient: Tensor
) -> Tensor:
    """The step whose linear model meets the level."""
    wanted = newton_length(loss, level_set.level)
    if wanted > 0.0 and len(curvature):
        step = curvature.descent_step(gradient)
        slope = -dot(step, gradient)
        return step.mul_(min(1.0, wanted / slope))
    return gradient * (-wanted / norm(gradient) ** 2)


class LevelNotReached(Exception):  # noqa: N818 - carries the closest loss to whoever words it
    """The corrector could not bring θ to the level; `closest` is the loss it came to."""

    def __init__(self, closest: float) -> None:
        super().__init__(f"closest loss {closest:g}")
        self.closest = closest
