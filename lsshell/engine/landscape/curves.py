"""Curves of low loss between two θ: Bézier curves and polygonal chains with trained bends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.batch_norm import batch_statistics
from lsshell.engine.landscape.places import visit
from lsshell.engine.networks import initialise
from lsshell.engine.problem import Problem
from lsshell.engine.seeds import generator
from lsshell.engine.training import batches
from lsshell.engine.vectors import norm

CurveKind = Literal["bezier", "chain"]
Init = Literal["linear", "random"]

# The settings of Yang et al. 2021 (released code).
EPOCHS = 50
UPDATES = 1000  # at least, unless epochs are given: small data sets have few batches in an epoch
RATE = 0.01
BATCH = 128
WEIGHT_DECAY = 5e-4
MOMENTUM = 0.9
# How far linear bends are put off the line, as a share of ‖b − a‖.
PERTURBATION = 1e-3
MOST_BENDS = 20


@dataclass(frozen=True, eq=False)
class Curve:
    """γ: [0, 1] → ℝᵖ through `points` = (a, bends…, b), each (p,), with γ(0) = a and γ(1) = b.

    bezier: γ(t) = Σ_k C(n, k) tᵏ (1 − t)ⁿ⁻ᵏ θ_k, quadratic with one bend; chain: straight from each
    point to the next, t even over the pieces (Garipov et al. 2018, eqs. 3, 4); line: the straight
    line. epochs, gradients: what was spent on training it; loss: the mean over the last epoch of
    the mini-batches' losses (without the penalty), None where it was not trained.
    """

    kind: CurveKind | Literal["line"]
    points: tuple[Tensor, ...]
    epochs: int = 0
    gradients: int = 0
    loss: float | None = None

    def weights(self, t: float) -> tuple[float, ...]:
        """∂γ(t)/∂θ_k, a number for each of `points`; they sum to 1."""
        n = len(self.points) - 1
        if self.kind == "bezier":
            return tuple(math.comb(n, k) * t**k * (1.0 - t) ** (n - k) for k in range(n + 1))
        return tuple(max(0.0, 1.0 - abs(n * t - k)) for k in range(n + 1))

    def at(self, t: float, out: Tensor | None = None) -> Tensor:
        """γ(t) (p,), written to `out` if given; a and b themselves, to the last bit, at 0 and 1."""
        out = torch.empty_like(self.points[0]) if out is None else out
        if t in (0.0, 1.0):
            return out.copy_(self.points[-1 if t else 0])
        out.zero_()
        for weight, point in zip(self.weights(t), self.points, strict=True):
            if weight:
                out.add_(point, alpha=weight)
        return out


def line(a: Tensor, b: Tensor) -> Curve:
    """The straight line from a to b (p,)."""
    return Curve("line", (a, b))


def train_curve(
    problem: Problem,
    a: Tensor,
    b: Tensor,
    *,
    kind: CurveKind = "bezier",
    bends: int = 1,
    epochs: int | None = None,
    rate: float = RATE,
    batch: int = BATCH,
    weight_decay: float = WEIGHT_DECAY,
    init: Init = "linear",
    perturbation: float = PERTURBATION,
    seed: int = 0,
    listen: Listener = silent,
) -> Curve:
    """A curve from a to b (p,), both fixed, along which the loss is low.

    Minimises E over t ~ U(0, 1) of L(γ(t)) + ½·weight_decay·‖γ(t)‖² over the bends, one t for each
    mini-batch, by stochastic gradient descent with momentum 0.9; the rate is constant up to half
    of the epochs, then falls linearly to a hundredth at nine tenths (Garipov et al. 2018; settings
    of Yang et al. 2021). Batch norm normalises by the mini-batch, dropout is off.

    init: linear puts the bends evenly on the line from a to b, off it by `perturbation`·‖b − a‖ in
    random directions, since a line of symmetry has no gradient across it; random draws them as new
    networks (batch-norm scales uniform in [0, 1)), as the released code does, whose flag for
    linear bends has no effect. epochs: 50, or as many as make 1000 updates.

    Takes 4 + 2·bends parameter vectors and leaves the problem as it was (`places.visit`); counts a
    gradient for each epoch. Raises EngineError for settings out of range and where the training
    diverges, Cancelled where the user asked to stop.
    """
    if epochs is None:
        per_epoch = max(1, math.ceil(len(problem.x_train) / max(1, batch)))
        epochs = max(EPOCHS, math.ceil(UPDATES / per_epoch))
    _check(kind, bends, epochs, rate, batch, weight_decay, perturbation)
    with visit(problem) as spent:
        points = (a, *_begin(problem, a, b, bends, init, perturbation, seed), b)
        curve = Curve(kind, points)
        with batch_statistics(problem):
            loss = _descend(problem, curve, epochs, rate, batch, weight_decay, seed, listen)
    return Curve(kind, points, epochs, spent.gradients, loss)


def _check(
    kind: str,
    bends: int,
    epochs: int,
    rate: float,
    batch: int,
    weight_decay: float,
    perturbation: float,
) -> None:
    if kind not in ("bezier", "chain"):
        raise EngineError(f"there is no curve {kind!r}: bezier or chain")
    if not 1 <= bends <= MOST_BENDS:
        raise EngineError(f"a curve has 1 to {MOST_BENDS} bends, not {bends}")
    if epochs < 1 or batch < 1:
        raise EngineError("a curve needs 1 epoch and batches of 1 example, or more")
    if not 0.0 < rate < math.inf:
        raise EngineError(f"the rate must be above 0, not {rate:g}")
    if not (0.0 <= weight_decay < math.inf and 0.0 <= perturbation < math.inf):
        raise EngineError("weight decay and perturbation must be 0 or more")


def _begin(
    problem: Problem,
    a: Tensor,
    b: Tensor,
    bends: int,
    init: str,
    perturbation: float,
    seed: int,
) -> list[Tensor]:
    """The bends (p,) before training."""
    source = generator(seed, "bends")
    points = []
    for k in range(1, bends + 1):
        bend = torch.lerp(a, b, k / (bends + 1))
        if init == "random":
            problem.place(bend)  # what `initialise` does not know stays on the line
            initialise(problem.network, source)
            for layer in problem.batch_norms:
                if layer.affine:
                    with torch.no_grad():
                        layer.weight.copy_(torch.rand(layer.weight.shape, generator=source))
                        layer.bias.zero_()
            bend.copy_(problem.theta)
        elif perturbation:
            noise = torch.randn(bend.shape, generator=source, dtype=torch.float64)
            noise *= perturbation * norm(b - a) / norm(noise)
            bend += noise.to(bend)
        points.append(bend)
    return points


def _descend(
    problem: Problem,
    curve: Curve,
    epochs: int,
    rate: float,
    batch: int,
    weight_decay: float,
    seed: int,
    listen: Listener,
) -> float:
    """Trains the bends in place; returns the mean loss over the last epoch."""
    inner = range(1, len(curve.points) - 1)
    velocities = {k: torch.zeros_like(curve.points[k]) for k in inner}
    source = generator(seed, "curve")
    n, mean = len(problem.x_train), math.nan
    total = torch.zeros((), device=problem.device, dtype=problem.accumulate)
    for epoch in range(1, epochs + 1):
        step, seen = rate * _schedule(epoch / epochs), 0
        total.zero_()  # summed on the device: no waiting for it within an epoch
        for x, y in batches(problem, n, batch, source):
            t = float(torch.rand((), generator=source, dtype=torch.float64))
            gradient = problem.begin_gradient()
            curve.at(t, out=problem.theta)
            loss = problem.loss_sum(problem.network(x), y)
            (loss / len(x)).backward()
            gradient.add_(problem.theta, alpha=weight_decay)
            weights = curve.weights(t)
            for k in inner:
                velocities[k].mul_(MOMENTUM).add_(gradient, alpha=weights[k])
                curve.points[k].sub_(velocities[k], alpha=step)
            total += loss.detach()
            seen += len(x)
        problem.ranks.share(*curve.points[1:-1])
        problem.work += 1
        mean = float(total) / min(seen, n)
        mean = problem.ranks.from_first(lambda mean=mean: mean)
        listen(Progress("curve", epoch, epochs, f"loss {mean:.4g}"))
        if not mean < math.inf:
            raise EngineError(
                f"the curve's training diverged at epoch {epoch} (loss {mean}): lower --rate"
            )
    return mean


def _schedule(done: float) -> float:
    """The factor of the rate where this share of the epochs is done (Garipov et al. 2018)."""
    if done <= 0.5:
        return 1.0
    return 1.0 - 0.99 * (done - 0.5) / 0.4 if done <= 0.9 else 0.01
