"""A point of the loss whose gradient may never be wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from lsshell.engine.problem import Problem


class Evaluation:
    """θ (p,) and L(θ); ∇L(θ) (p,) from the first time that it is asked for.

    `Problem.evaluate` makes it. θ must not be changed before the gradient was asked for.
    """

    def __init__(
        self, problem: Problem, theta: Tensor, loss: float, gradient: Tensor | None = None
    ) -> None:
        self.theta, self.loss = theta, loss
        self.asked = False  # for the gradient
        self._problem, self._gradient = problem, gradient

    @property
    def gradient(self) -> Tensor:
        """∇L (p,). Raises Cancelled where the user asked to stop and it is not at hand."""
        self.asked = True
        if self._gradient is None:
            self._gradient = self._problem.gradient_at(self)
        return self._gradient
