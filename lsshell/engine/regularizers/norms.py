"""Norms of the parameters: l2, l2-weights, l1, elastic, distance; and `random`, their control."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers.regularizer import Regularizer, smoothing
from lsshell.engine.seeds import generator
from lsshell.engine.vectors import dot, norm, squares


class L2(Regularizer):
    """R = Σ θ² over all parameters, biases too; ∇R = 2θ (Tahir & Katz 2020, released program)."""

    name: ClassVar[str] = "l2"
    formula = "Σ θ²"

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        torch.mul(theta, 2.0, out=out)
        return norm(theta) ** 2

    def values_and_gradients(self, thetas: Tensor, out: Tensor) -> Tensor:
        torch.mul(thetas, 2.0, out=out)
        return squares(thetas)

    def value(self, theta: Tensor) -> float:
        return norm(theta) ** 2


class L2Weights(Regularizer):
    """R = Σ w² over weights (tensors of two or more dimensions); biases are free.

    The penalty of Keras's kernel regulariser, which the published weight-decay runs use
    (Tahir & Katz 2020, released program).
    """

    name: ClassVar[str] = "l2-weights"
    formula = "Σ w², no biases"

    def __init__(self, problem: Problem, theta: Tensor, seed: int) -> None:
        super().__init__(problem, theta, seed)
        self.parts = [s for s in problem.slots if s.is_weight]
        if not self.parts:
            raise EngineError("l2-weights: this network has no weights besides biases")

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        out.zero_()
        for s in self.parts:
            part = slice(s.offset, s.offset + s.size)
            torch.mul(theta[part], 2.0, out=out[part])
        return self.value(theta)

    def values_and_gradients(self, thetas: Tensor, out: Tensor) -> Tensor:
        out.zero_()
        for s in self.parts:
            part = slice(s.offset, s.offset + s.size)
            torch.mul(thetas[:, part], 2.0, out=out[:, part])
        return squares(out) / 4.0

    def value(self, theta: Tensor) -> float:
        return sum(norm(theta[s.offset : s.offset + s.size]) ** 2 for s in self.parts)


class L1(Regularizer):
    """R = Σ √(θ² + ε²), ∇R = θ/√(θ² + ε²); ε (parameter units) is 1e-4·rms(θ) at switching on.

    The smooth stand-in for Σ|θ| (ALGORITHMS 12, row 4), R − Σ|θ| ≤ pε.
    """

    name: ClassVar[str] = "l1"
    formula = "Σ √(θ² + ε²)"

    def __init__(
        self, problem: Problem, theta: Tensor, seed: int, *, eps: float | None = None
    ) -> None:
        super().__init__(problem, theta, seed)
        self.eps = smoothing(theta, eps)
        self.options = {"eps": self.eps}

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        root = torch.hypot(theta, torch.full_like(theta[:1], self.eps))
        torch.div(theta, root, out=out)
        return _sum(root)

    def values_and_gradients(self, thetas: Tensor, out: Tensor) -> Tensor:
        root = torch.hypot(thetas, torch.full_like(thetas[:1, :1], self.eps))
        torch.div(thetas, root, out=out)
        return root.sum(1, dtype=self.problem.accumulate)


class Elastic(Regularizer):
    """R = a·Σ √(θ² + ε²) + (1 − a)·Σ θ², a = `ratio` in [0, 1] (0.5): Zou & Hastie 2005."""

    name: ClassVar[str] = "elastic"
    formula = "a·l1 + (1 − a)·l2"

    def __init__(
        self,
        problem: Problem,
        theta: Tensor,
        seed: int,
        *,
        ratio: float = 0.5,
        eps: float | None = None,
    ) -> None:
        super().__init__(problem, theta, seed)
        if not 0.0 <= ratio <= 1.0:
            raise EngineError(f"--ratio is the share of l1, between 0 and 1, not {ratio:g}")
        self.ratio, self.eps = ratio, smoothing(theta, eps)
        self.options = {"ratio": ratio, "eps": self.eps}

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        root = torch.hypot(theta, torch.full_like(theta[:1], self.eps))
        torch.div(theta, root, out=out)
        out.mul_(self.ratio).add_(theta, alpha=2.0 * (1.0 - self.ratio))
        return self.ratio * _sum(root) + (1.0 - self.ratio) * norm(theta) ** 2

    def values_and_gradients(self, thetas: Tensor, out: Tensor) -> Tensor:
        root = torch.hypot(thetas, torch.full_like(thetas[:1, :1], self.eps))
        torch.div(thetas, root, out=out)
        out.mul_(self.ratio).add_(thetas, alpha=2.0 * (1.0 - self.ratio))
        sums = root.sum(1, dtype=self.problem.accumulate)
        return self.ratio * sums + (1.0 - self.ratio) * squares(thetas)


class Distance(Regularizer):
    """R = ‖θ − θ₀‖², θ₀ the traversal's start, or the parameters of a checkpoint (`reference`)."""

    name: ClassVar[str] = "distance"
    formula = "‖θ − θ₀‖²"

    def __init__(
        self, problem: Problem, theta: Tensor, seed: int, *, reference: Tensor | None = None
    ) -> None:
        super().__init__(problem, theta, seed)
        self.reference = (theta if reference is None else reference).clone()

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        torch.sub(theta, self.reference, out=out)
        value = norm(out) ** 2
        out.mul_(2.0)
        return value

    def values_and_gradients(self, thetas: Tensor, out: Tensor) -> Tensor:
        torch.sub(thetas, self.reference, out=out)
        values = squares(out)
        out.mul_(2.0)
        return values


class Random(Regularizer):
    """R = a·θ, a (p,) a unit vector drawn from the seed: the control for every other regulariser.

    What test loss does along this walk is drift, not regularisation (ALGORITHMS 12, row 26).
    """

    name: ClassVar[str] = "random"
    formula = "a·θ, a random, ‖a‖ = 1"

    def __init__(self, problem: Problem, theta: Tensor, seed: int) -> None:
        super().__init__(problem, theta, seed)
        a = torch.randn(theta.numel(), generator=generator(seed, "random"), dtype=torch.float64)
        self.direction = (a / norm(a)).to(theta.device, theta.dtype)

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        out.copy_(self.direction)
        return dot(self.direction, theta)

    def values_and_gradients(self, thetas: Tensor, out: Tensor) -> Tensor:
        out.copy_(self.direction)
        return (thetas @ self.direction).to(self.problem.accumulate)


def _sum(values: Tensor) -> float:
    wide = torch.float32 if values.device.type == "mps" else torch.float64
    return float(values.sum(dtype=wide))
