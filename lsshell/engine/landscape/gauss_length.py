"""Gauss length: by how much the outputs' direction of motion turns along a line in θ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.stacked.problem import has_tied_weights

Curve = Callable[[Tensor], Tensor]


def turning(outputs: Curve, at: float, like: Tensor) -> Tensor:
    """Angle turned per unit of α (n,) by each row of z(α) (n, k), in radians.

    With n = z'/‖z'‖ that is ‖n' − (n·n')n‖ = ‖z'' − (n·z'')n‖/‖z'‖, from two nested forward-mode
    derivatives; 0 where z does not move. `like` gives type and device of α.
    """
    alpha = torch.tensor(at, dtype=like.dtype, device=like.device)
    one = torch.ones_like(alpha)

    def velocity(a: Tensor) -> Tensor:
        return jvp(outputs, (a,), (one,))[1]

    first, second = jvp(velocity, (alpha,), (one,))
    first, second = (t.reshape(len(t), -1).cpu().double() for t in (first, second))
    speed = first.norm(dim=1)
    moving = speed > 0.0
    unit = first / torch.where(moving, speed, 1.0)[:, None]
    across = second - (unit * second).sum(1, keepdim=True) * unit
    return torch.where(moving, across.norm(dim=1) / torch.where(moving, speed, 1.0), 0.0)


def gauss_length(alphas: Sequence[float], rates: Sequence[Tensor]) -> Tensor:
    """∫ rate dα (n,) by the trapezoidal rule, from the rates (n,) at each α."""
    return torch.trapezoid(
        torch.stack(list(rates)), torch.tensor(alphas, dtype=torch.float64), dim=0
    )


def output_turning(
    problem: Problem, origin: Tensor, direction: Tensor, at: float, x: Tensor
) -> Tensor:
    """`turning` of the network's outputs for inputs x (n, …) at θ = o + α·d, in chunks.

    Batch-norm statistics are held as they are. Raises whatever the network does where it cannot
    be differentiated forwards twice.
    """
    if has_tied_weights(problem):
        raise EngineError("weights are used in two places")
    names = problem.tensor_names
    start, step = problem.tensors(origin), problem.tensors(direction)
    found = []
    for part in x.split(problem.chunk):
        problem.unless_cancelled()

        def outputs(alpha: Tensor, part: Tensor = part) -> Tensor:
            leaves = {name: start[name] + alpha * step[name] for name in names}
            return functional_call(problem.network, leaves, (part,))

        found.append(turning(outputs, at, origin))
    return torch.cat(found)
