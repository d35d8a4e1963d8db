"""The objective of a walk: the weighted sum of the regularisers that are on."""

from __future__ import annotations

import torch
from torch import Tensor

from lsshell.engine.regularizers.regularizer import Regularizer


class WeightedSum:
    """R(θ) = Σ weight·R_k(θ); `terms` maps a regulariser's name to itself and its weight."""

    def __init__(self) -> None:
        self.terms: dict[str, tuple[Regularizer, float]] = {}

    @property
    def regularizers(self) -> dict[str, Regularizer]:
        """The terms without their weights."""
        return {name: regularizer for name, (regularizer, _) in self.terms.items()}

    @property
    def cheap(self) -> bool:
        """Whether every term costs a handful of passes over θ only."""
        return all(regularizer.cheap for regularizer, _ in self.terms.values())

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        """R(θ); ∇R(θ) (p,) overwrites `out`. Both are 0 where nothing is on."""
        total, scratch = 0.0, None
        if not self.terms:
            out.zero_()
        for k, (regularizer, weight) in enumerate(self.terms.values()):
            if k == 0:
                total = weight * regularizer.value_and_gradient(theta, out)
                if weight != 1.0:
                    out.mul_(weight)
            else:
                scratch = torch.empty_like(out) if scratch is None else scratch
                total += weight * regularizer.value_and_gradient(theta, scratch)
                out.add_(scratch, alpha=weight)
        return total

    def values_and_gradients(self, thetas: Tensor, out: Tensor) -> Tensor:
        """R (k,) of the rows of θ (k, p), on their device; ∇R (k, p) overwrites `out`."""
        total, scratch = torch.zeros(len(thetas), device=thetas.device), None
        for k, (regularizer, weight) in enumerate(self.terms.values()):
            if k == 0:
                total = weight * regularizer.values_and_gradients(thetas, out)
                out.mul_(weight)
            else:
                scratch = torch.empty_like(out) if scratch is None else scratch
                total = total + weight * regularizer.values_and_gradients(thetas, scratch)
                out.add_(scratch, alpha=weight)
        return total
