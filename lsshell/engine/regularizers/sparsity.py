"""Regularisers that favour zeros: whole units (`group`), single weights (`compress`)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem, Slot
from lsshell.engine.regularizers.regularizer import Regularizer, smoothing


class _OfWeights(Regularizer):
    """A sum over the network's weight tensors, each with its own smoothing ε."""

    def __init__(
        self, problem: Problem, theta: Tensor, seed: int, *, eps: float | None = None
    ) -> None:
        super().__init__(problem, theta, seed)
        self.parts: list[tuple[Slot, float]] = []
        for slot in problem.slots:
            if slot.is_weight:
                weights = theta[slot.offset : slot.offset + slot.size]
                self.parts.append((slot, smoothing(weights, eps)))
        if not self.parts:
            raise EngineError(f"{self.name}: this network has no weights besides biases")
        self.options = {} if eps is None else {"eps": eps}

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        out.zero_()
        total = 0.0
        for slot, eps in self.parts:
            part = slice(slot.offset, slot.offset + slot.size)
            weights = theta[part].view(slot.shape[0], -1).to(self.problem.accumulate)
            value, gradient = self.of(weights, eps)
            out[part].copy_(gradient.reshape(-1))
            total += value
        return total

    def of(self, weights: Tensor, eps: float) -> tuple[float, Tensor]:
        """Value and gradient for one weight tensor as (units, weights of each)."""
        raise NotImplementedError


class Group(_OfWeights):
    """R = Σ over units √n·√(‖w_u‖² + ε²), w_u (n,) a neuron's or channel's incoming weights.

    Group lasso (Yuan & Lin 2006) on units, as in structured sparsity learning (Wen et al. 2016);
    biases are free. ε is 1e-4 of a layer's rms weight at switching on.
    """

    name: ClassVar[str] = "group"
    formula = "Σ units √n ‖w_u‖"

    def of(self, weights: Tensor, eps: float) -> tuple[float, Tensor]:
        root = (weights.square().sum(1) + eps**2).sqrt()
        scale = math.sqrt(weights.shape[1])
        return scale * float(root.sum()), scale * weights / root[:, None]


class Compress(_OfWeights):
    """R = Σ over layers ‖w‖₁/‖w‖₂, the compressibility loss (Aytekin, Cricri & Aksu 2019).

    In [1, √n] for each layer of n weights, indifferent to their scale; biases are free. Smoothed:
    Σ√(w² + ε²)/√(‖w‖² + ε²), ε 1e-4 of a layer's rms weight at switching on.
    """

    name: ClassVar[str] = "compress"
    formula = "Σ layers ‖w‖₁/‖w‖₂"

    def of(self, weights: Tensor, eps: float) -> tuple[float, Tensor]:
        root, one, two = smoothed_norms(weights, eps)
        value = one / two
        return float(value), weights / root / two - weights * (value / two**2)


def smoothed_norms(weights: Tensor, eps: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """√(w² + ε²) of each weight, their sum, and √(‖w‖² + ε²)."""
    root = torch.hypot(weights, torch.full_like(weights[:1], eps))
    return root, root.sum(), (weights.square().sum() + eps**2).sqrt()


def compressibility(weights: Tensor) -> float | None:
    """C = ‖w‖₁/‖w‖₂ in [1, √n]; None where all n weights are zero."""
    _, one, two = smoothed_norms(weights.flatten())
    return float(one / two) if float(two) > 0.0 else None
