"""Ordinary training to near-zero loss, and weighted-sum (weight-decay) training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lsshell.engine.errors import Cancelled, DivergedError, EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.seeds import generator

# Keras's Adam, as in the published experiments (Tahir & Katz 2020, released code).
ADAM_EPS = 1e-7


@dataclass(frozen=True)
class TrainingResult:
    """θ (p,) after training, its full-batch data loss, and why training ended."""

    theta: Tensor
    loss: float
    epochs: int
    reason: str


@dataclass(frozen=True)
class Descent:
    """Stochastic gradient descent in Adam's place, as in Yang et al. 2021 (released code).

    v ← momentum·v + ∇, θ ← θ − rate·v; the rate falls to a tenth after the share `drop_at` of the
    epochs. The last batch of an epoch is left out where it is not whole (and not the only one). The
    end of the epoch with the least mean mini-batch loss is what training gives.
    """

    momentum: float = 0.9
    drop_at: float = 0.75


def train(
    problem: Problem,
    theta: Tensor,
    *,
    epochs: int = 100,
    rate: float = 1e-3,
    batch: int = 32,
    penalty: float = 0.0,
    biases: bool = False,
    until_loss: float | None = None,
    seed: int = 0,
    descent: Descent | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    on_update: Callable[[], None] | None = None,
) -> TrainingResult:
    """Adam on mini-batches of loss + penalty·Σ w² (no factor ½), over the kernels alone, as
    published, or over the biases too; `descent` puts SGD in its place.

    Settings are the published ones by default (Adam 1e-3, batches of 32, 100 epochs); batches are
    drawn anew each epoch from `seed`. Dropout and batch-norm train as usual, then freeze again.
    Ends early where the mean mini-batch loss of an epoch falls under `until_loss` and the
    full-batch loss confirms it. Cancelled between batches: the end of the last whole epoch is
    returned, so that training for as many epochs gives it again. Several ranks all do the same
    mini-batches; the first one's numbers count.

    `on_update` is called after each update, with the network in training mode and at the new θ,
    `problem.theta`: whoever evaluates there leaves both, and the random numbers, as they were.
    """
    n = len(problem.x_train)
    if descent is not None and n > batch:
        n = n // batch * batch  # what the whole batches hold
    shuffle = generator(seed, "shuffle")
    flat = torch.nn.Parameter(problem.theta)
    problem.place(theta)
    optimizer: torch.optim.Optimizer
    if descent is None:
        optimizer = torch.optim.Adam([flat], lr=rate, eps=ADAM_EPS)
    else:
        optimizer = torch.optim.SGD([flat], lr=rate, momentum=descent.momentum)
    penalised = _penalised(problem, biases) if penalty else None
    reason, epoch, total = "epochs", 0, torch.zeros((), device=problem.device)
    before = _state(problem)
    whole = (0, before)
    least, best = math.inf, before
    problem.network.train()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(shuffle.initial_seed() % 2**63)
            for epoch in range(1, epochs + 1):
                total.zero_()  # summed on the device: no waiting for it within an epoch
                seen = 0
                if descent is not None and epoch == round(descent.drop_at * epochs) + 1:
                    optimizer.param_groups[0]["lr"] = 0.1 * rate
                for x, y in batches(problem, n, batch, shuffle):
                    total += _update(problem, optimizer, flat, x, y, penalty, penalised)
                    seen += len(x)
                    if on_update is not None:
                        on_update()
                mean = float(total) / seen
                mean = problem.ranks.from_first(lambda mean=mean: mean)
                whole = (epoch, _state(problem))
                on_epoch(epoch, mean)
                if not mean < float("inf"):
                    raise DivergedError(
                        f"training diverged at epoch {epoch} (loss {mean}): lower --rate"
                    )
                if mean < least:
                    least, best = mean, whole[1]
                if until_loss is not None and mean <= until_loss and _reached(problem, until_loss):
                    reason = f"loss {until_loss:g} reached"
                    break
    except (Cancelled, KeyboardInterrupt):
        reason, (epoch, state) = "interrupted", whole
        problem.theta.copy_(problem.restore(state))
    except BaseException:
        problem.theta.copy_(problem.restore(before))
        raise
    finally:
        problem.network.eval()
    if descent is not None and reason != "interrupted":
        problem.theta.copy_(problem.restore(best))
    problem.share_state()
    trained = problem.theta.clone()
    with problem.uncancelled():
        return TrainingResult(trained, problem.loss(trained), epoch, reason)


def _state(problem: Problem) -> dict[str, Tensor]:
    """Parameters and batch-norm statistics, copied."""
    return {name: t.clone() for name, t in problem.state(problem.theta).items()}


def batches(
    problem: Problem, n: int, batch: int, shuffle: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The first n training examples of a random order, drawn from `shuffle`, in batches.

    Batch norm can normalise no single example: with it, one that is left over is left out of this
    epoch. Raises EngineError where all would be.
    """
    sizes = _batch_sizes(problem, n, batch)
    order = torch.randperm(len(problem.x_train), generator=shuffle).to(problem.device)
    for part in order[: sum(sizes)].split(sizes):
        yield problem.x_train[part], problem.y_train[part]


def count_batches(problem: Problem, n: int, batch: int) -> int:
    """How many mini-batches an epoch has; raises what `batches` does."""
    return len(_batch_sizes(problem, n, batch))


def _batch_sizes(problem: Problem, n: int, batch: int) -> list[int]:
    least = 2 if problem.batch_norms else 1
    sizes = [min(batch, n - k) for k in range(0, n, batch)]
    sizes = [size for size in sizes if size >= least]
    if not sizes:
        raise EngineError(f"batch norm needs at least two examples in a batch, not {min(batch, n)}")
    return sizes


def _update(
    problem: Problem,
    optimizer: torch.optim.Optimizer,
    flat: torch.nn.Parameter,
    x: Tensor,
    y: Tensor,
    penalty: float,
    penalised: Tensor | None,
) -> Tensor:
    """One step; returns the batch's summed data loss."""
    gradient = problem.begin_gradient()
    loss = problem.loss_sum(problem.network(x), y)
    (loss / len(x)).backward()
    if penalised is not None:
        gradient.addcmul_(penalised, flat.detach(), value=2.0 * penalty)
    flat.grad = gradient
    optimizer.step()
    return loss.detach()


def _penalised(problem: Problem, biases: bool) -> Tensor:
    """1 where the penalty falls on a parameter, 0 elsewhere (p,)."""
    if biases:
        return torch.ones_like(problem.theta)
    mask = torch.zeros_like(problem.theta)
    views = problem.tensors(mask)
    for slot in problem.slots:
        if slot.is_weight:
            views[slot.name].fill_(1.0)
    return mask


def _reached(problem: Problem, loss: float) -> bool:
    problem.share_state()
    problem.network.eval()
    reached = problem.loss(problem.theta) <= loss
    problem.network.train()
    return reached
