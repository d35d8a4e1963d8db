"""What a stepper is: the choice of the next point on the level set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from lsshell.engine.events import Listener
from lsshell.engine.levelset import LevelSet, Split, split
from lsshell.engine.problem import Problem


class Objective(Protocol):
    """R(θ) with its gradient written to `out` (p,): a weighted sum of regularisers.

    `cheap` where that costs a handful of passes over θ, not passes over the data.
    """

    @property
    def cheap(self) -> bool: ...

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float: ...


@dataclass(frozen=True)
class Position:
    """A point with all that a step needs: θ, L, g = ∇L, R, r = ∇R (R negated when ascending).

    rate: length of the predictor that led here; corrections: how many followed it.
    """

    theta: Tensor
    loss: float
    gradient: Tensor
    value: float
    slope: Tensor
    rate: float | None = None
    corrections: int = 0

    @cached_property
    def split(self) -> Split:
        """r split into its tangent part and its part along g."""
        return split(self.slope, self.gradient)


@dataclass(frozen=True)
class Terrain:
    """What a walk walks on: min (or, with sign −1, max) of R on the level set of L."""

    problem: Problem
    level_set: LevelSet
    objective: Objective
    sign: float
    listen: Listener

    def at(
        self,
        theta: Tensor,
        loss: float,
        gradient: Tensor,
        rate: float | None = None,
        corrections: int = 0,
    ) -> Position:
        """Adds R and ∇R to a point whose loss and gradient are known."""
        value, slope = self.objective_at(theta)
        return Position(theta, loss, gradient, value, slope, rate, corrections)

    def slope(self, theta: Tensor) -> Tensor:
        """∇R (p,) at θ, negated when ascending."""
        return self.objective_at(theta)[1]

    def objective_at(self, theta: Tensor) -> tuple[float, Tensor]:
        """R and ∇R (p,) at θ, both negated when ascending."""
        slope = torch.empty_like(theta)
        value = self.sign * self.objective.value_and_gradient(theta, slope)
        if self.sign < 0:
            slope.neg_()
        return value, slope


class Stalled(Exception):  # noqa: N818 - an ending, not an error
    """No acceptable step is left; the message is the sentence that the walk ends with."""


class Stepper(ABC):
    """One way to choose steps. Holds its own memory; one instance serves one traversal."""

    name: ClassVar[str]

    @abstractmethod
    def step(self, terrain: Terrain, here: Position) -> Position:
        """From an accepted point to the next, |L − L*| ≤ tolerance. Raises Stalled."""
