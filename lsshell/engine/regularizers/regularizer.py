"""What a regulariser is: a function R(θ) with an exact gradient."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.vectors import norm

# l1, elastic, group and compress are smoothed at zero over this share of the weights' root mean
# square when they are switched on; without it a walk chatters across the kinks.
SMOOTHING = 1e-4


class Regularizer(ABC):
    """R(θ) and ∇R(θ) on one problem. Subclasses state formula, cost and source.

    name: the word for it; formula: for people; cheap: costs a handful of passes over θ, not over
    the data; options: what it was made with. Sums are accumulated in float64.
    """

    name: ClassVar[str]
    formula: str  # of the class with default options, of an instance with its own
    cheap: ClassVar[bool] = True

    def __init__(self, problem: Problem, theta: Tensor, seed: int) -> None:
        """`theta` (p,) is the point where R is switched on; `seed` draws what is random in it."""
        self.problem = problem
        self.options: Mapping[str, Any] = {}

    @abstractmethod
    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        """R(θ); ∇R(θ) (p,) overwrites `out`."""

    def values_and_gradients(self, thetas: Tensor, out: Tensor) -> Tensor:
        """R (k,) of the rows of θ (k, p), on their device; ∇R (k, p) overwrites `out`."""
        rows = zip(thetas, out, strict=True)
        values = [self.value_and_gradient(theta, gradient) for theta, gradient in rows]
        return torch.tensor(values, dtype=self.problem.accumulate, device=thetas.device)

    def value(self, theta: Tensor) -> float:
        """R(θ)."""
        return self.value_and_gradient(theta, torch.empty_like(theta))


def root_mean_square(theta: Tensor) -> float:
    """√(Σθ²/p); the smallest normal float32 where that is zero."""
    return max(norm(theta) / math.sqrt(theta.numel()), 1.2e-38)


def smoothing(theta: Tensor, eps: float | None) -> float:
    """ε as asked, or SMOOTHING of the root mean square; raises EngineError unless positive."""
    if eps is not None and not 0.0 < eps < float("inf"):
        raise EngineError(f"--eps must be above 0, not {eps:g}")
    return SMOOTHING * root_mean_square(theta) if eps is None else eps


@contextlib.contextmanager
def derivatives(name: str) -> Iterator[None]:
    """Says it for people where an operation of the network has no higher derivative."""
    try:
        yield
    except RuntimeError as e:
        if "derivative" not in str(e) and "double backward" not in str(e):
            raise
        reason = str(e).splitlines()[0]
        raise EngineError(f"{name} needs higher derivatives than this network has: {reason}") from e
