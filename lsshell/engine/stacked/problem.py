"""One batched loss and gradient for many parameter vectors: θ of K walkers stacked as (K, p)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, vmap

from lsshell.engine.errors import Cancelled
from lsshell.engine.problem import Problem

Numbers = NDArray[np.float64]

# Examples × walkers that are in memory at a time, in chunks of the problem's size.
CHUNKS = 8


class StackedProblem:
    """L(θ_k) and ∇L(θ_k) for the rows θ_k of a stack (K, p), by `torch.func.vmap` over the network.

    The data is shared; each row is the L of `Problem` to rounding: over the full training set,
    formed in float64 from outputs of the problem's type. `walkers` is the K that chunks are made
    for: what is in memory grows with it only up to CHUNKS of the problem's own.
    """

    def __init__(self, problem: Problem, walkers: int) -> None:
        self.problem = problem
        self.x, self.y = problem.x_train, problem.y_train
        self.chunk = max(1, min(problem.chunk, CHUNKS * problem.chunk // walkers))
        self._losses = vmap(self._loss, in_dims=(0, None, None))

    def _loss(self, tensors: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(self.problem.network, tensors, (x,))
        return self.problem.loss_sum(outputs, y)

    def losses_and_gradients(self, thetas: Tensor) -> tuple[Tensor, Tensor]:
        """L (k,) in float64 and ∇L (k, p) for θ (k, p), any k; L may come out as NaN or infinite.

        Counts k gradients. Raises Cancelled where the user asked to stop.
        """
        problem, k = self.problem, len(thetas)
        if problem.cancelled():
            raise Cancelled
        problem.work += k
        n = len(self.x)
        leaves = {
            s.name: thetas[:, s.offset : s.offset + s.size]
            .reshape(k, *s.shape)
            .detach()
            .requires_grad_()
            for s in problem.slots
        }
        total = torch.zeros(k, device=thetas.device, dtype=problem.accumulate)
        gradients = torch.zeros_like(thetas)
        for x, y in zip(self.x.split(self.chunk), self.y.split(self.chunk), strict=True):
            losses = self._losses(leaves, x, y)
            parts: tuple[Tensor, ...] = torch.autograd.grad(
                losses.sum() / n, list(leaves.values()), materialize_grads=True
            )
            for slot, part in zip(problem.slots, parts, strict=True):
                gradients[:, slot.offset : slot.offset + slot.size] += part.reshape(k, -1)
            total += losses.detach()
        return total / n, gradients


def why_not_stacked(problem: Problem, theta: Tensor) -> str | None:
    """Why `vmap` does not take this network, in words; None where it does, and gives the same loss.

    Tried on two examples and two walkers: what an exported program or a user's own code does with
    a stack can only be seen by doing it.
    """
    if has_tied_weights(problem):
        return "weights are used in two places"
    spent, trial = problem.work, StackedProblem(problem, 2)
    trial.x, trial.y = trial.x[:2], trial.y[:2]
    try:
        found, _ = trial.losses_and_gradients(theta.repeat(2, 1))
    except Cancelled:
        raise
    except Exception as e:  # the network may be the user's own
        return (str(e).splitlines() or [type(e).__name__])[0].strip()[:120]
    finally:
        problem.work = spent
    with torch.no_grad():
        problem.place(theta)
        alone = problem.loss_sum(problem.network(trial.x), trial.y) / len(trial.x)
    if not torch.allclose(found, alone.to(found.dtype).expand(2), rtol=1e-3, atol=1e-6):
        return "stacked it gives another loss than alone"
    return None


def has_tied_weights(problem: Problem) -> bool:
    """Whether a parameter of the network has several names.

    `functional_call` then leaves a module that has two names with what it was called with.
    """
    network = problem.network
    names = [n for n, _ in network.named_parameters(remove_duplicate=False)]
    return len(names) > len(list(network.named_parameters()))


def numbers(*columns: Tensor) -> list[Numbers]:
    """Vectors (k,) as float64 on the host, in one transfer."""
    wide = torch.float32 if columns[0].device.type == "mps" else torch.float64
    return list(torch.stack([c.detach().to(wide) for c in columns]).cpu().double().numpy())
