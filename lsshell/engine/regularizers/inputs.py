"""How outputs and losses depend on the inputs: `jacobian`, `gradient-norm`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers.regularizer import Regularizer, derivatives
from lsshell.engine.seeds import generator


class _OfInputGradients(Regularizer):
    """R = (1/N) Σ over examples and scalars s of ‖∂s/∂x‖², over the full training set."""

    cheap: ClassVar[bool] = False

    def scalars(self, x: Tensor, y: Tensor, start: int) -> Iterator[Tensor]:
        """Sums over the examples of what is differentiated by x; `start` is the first example."""
        raise NotImplementedError

    def value(self, theta: Tensor) -> float:
        return self._accumulate(theta, None)

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        return self._accumulate(theta, out.zero_())

    def _accumulate(self, theta: Tensor, out: Tensor | None) -> float:
        problem = self.problem
        if not problem.x_train.is_floating_point():
            raise EngineError(f"{self.name} needs inputs that are real numbers")
        n = len(problem.x_train)

        def compute() -> tuple[float]:
            start, total = problem.part.start, 0.0
            for chunk, y in problem.chunks(problem.x_part, problem.y_part):
                x = chunk.detach().clone().requires_grad_()
                with derivatives(self.name):
                    for scalar in self.scalars(x, y, start):
                        if problem.cancelled():
                            raise Cancelled
                        (slope,) = torch.autograd.grad(
                            scalar, x, create_graph=out is not None, retain_graph=True
                        )
                        square = slope.to(problem.accumulate).square().sum() / n
                        total += float(square.detach())
                        if out is not None:
                            problem.add_flat(out, problem.gradient_of(square, retain_graph=True))
                start += len(x)
            return (total,)

        cost = self.cost * (2 if out is not None else 1)
        sums = () if out is None else (out,)
        return problem.sum_over_examples(self.name, theta, cost, compute, *sums)[0]

    @property
    def cost(self) -> int:
        """Backward passes to the inputs, in loss-and-gradients."""
        return 1


class Jacobian(_OfInputGradients):
    """R = (1/N) Σ ‖∂f(x)/∂x‖²_F over training inputs (Sokolić et al. 2017).

    Exact by default, one backward pass an output; with `projections` m > 0, the mean over m
    frozen random ±1 combinations of the outputs for each example (Hoffman, Roberts & Yaida 2019),
    unbiased and one deterministic function of θ.
    """

    name: ClassVar[str] = "jacobian"
    formula = "mean ‖∂f/∂x‖²"

    def __init__(self, problem: Problem, theta: Tensor, seed: int, *, projections: int = 0) -> None:
        super().__init__(problem, theta, seed)
        if projections < 0:
            raise EngineError("--projections must not be negative")
        with torch.no_grad():
            self.outputs = problem.network(problem.x_train[:1]).reshape(1, -1).shape[1]
        self.signs: Tensor | None = None
        if projections:
            shape = (projections, len(problem.x_train), self.outputs)
            drawn = torch.randint(0, 2, shape, generator=generator(seed, "jacobian"))
            self.signs = (2 * drawn - 1).to(theta.device, theta.dtype)
        self.options = {"projections": projections}

    @property
    def cost(self) -> int:
        return self.outputs if self.signs is None else len(self.signs)

    def scalars(self, x: Tensor, y: Tensor, start: int) -> Iterator[Tensor]:
        outputs = self.problem.network(x).reshape(len(x), -1)
        if self.signs is None:
            for k in range(self.outputs):
                yield outputs[:, k].sum()
        else:
            scale = len(self.signs) ** -0.5
            for signs in self.signs:
                yield scale * (outputs * signs[start : start + len(x)]).sum()


class GradientNorm(_OfInputGradients):
    """R = (1/N) Σ ‖∂ℓ(x, y)/∂x‖² over training examples: double backpropagation.

    Drucker & LeCun 1992. ℓ is the loss of one example, so R → 0 as the training loss does.
    """

    name: ClassVar[str] = "gradient-norm"
    formula = "mean ‖∂ℓ/∂x‖²"

    def scalars(self, x: Tensor, y: Tensor, start: int) -> Iterator[Tensor]:
        yield self.problem.loss_sum(self.problem.network(x), y)
