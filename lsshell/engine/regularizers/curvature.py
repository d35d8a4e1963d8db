"""`hessian-trace`: the trace of ∇²L, estimated with fixed probes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers.regularizer import Regularizer, derivatives
from lsshell.engine.seeds import generator
from lsshell.engine.vectors import dot

MOST_PROBES = 1000


class HessianTrace(Regularizer):
    """R = (1/m) Σⱼ vⱼᵀ ∇²L(θ) vⱼ, vⱼ (p,) of random signs: Hutchinson's estimate of tr ∇²L.

    The m = `probes` (4) vectors are drawn once from the seed and kept, so R is one deterministic
    function; its gradient is exact, by a third derivative (Hutchinson 1990). The full training
    set is used. Its value counts as 2 gradients a probe, with its gradient 5.
    """

    name: ClassVar[str] = "hessian-trace"
    formula = "mean vᵀ∇²L v ≈ tr ∇²L"
    cheap: ClassVar[bool] = False

    def __init__(self, problem: Problem, theta: Tensor, seed: int, *, probes: int = 4) -> None:
        super().__init__(problem, theta, seed)
        if not 1 <= probes <= MOST_PROBES:
            raise EngineError(f"--probes must be at least 1 and at most {MOST_PROBES}")
        source = generator(seed, "probes")
        drawn = torch.randint(0, 2, (probes, theta.numel()), generator=source, dtype=torch.int8)
        self.probes = (2 * drawn - 1).to(theta.device)
        self.options = {"probes": probes}

    def value(self, theta: Tensor) -> float:
        with derivatives(self.name):
            products = [
                dot(v, self.problem.hessian_vector(theta, v))
                for v in (probe.to(theta.dtype) for probe in self.probes)
            ]
        return sum(products) / len(products)

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        problem, m = self.problem, len(self.probes)
        out.zero_()
        n = len(problem.x_train)

        def compute() -> tuple[float]:
            total = 0.0
            for x, y in problem.chunks(problem.x_part, problem.y_part):
                loss = problem.loss_sum(problem.network(x), y) / n
                slopes = problem.gradient_of(loss, create_graph=True)
                for probe in self.probes:
                    if problem.cancelled():
                        raise Cancelled
                    v = probe.to(theta.dtype)
                    products = problem.gradient_of(problem.inner(slopes, v), create_graph=True)
                    curvature = problem.inner(products, v) / m
                    total += float(curvature.detach())
                    problem.add_flat(out, problem.gradient_of(curvature, retain_graph=True))
            return (total,)

        with derivatives(self.name):
            return problem.sum_over_examples(self.name, theta, 5 * m, compute, out)[0]
