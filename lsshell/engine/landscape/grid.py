"""Loss and accuracy at many points of a line or plane θ = o + Σ a_k d_k, in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.batch_norm import BatchNorm, recompute_statistics, taken_anew
from lsshell.engine.problem import Problem, Split
from lsshell.engine.stacked.problem import why_not_stacked

# What one pass holds of the widest layer: the second cache of a processor, a share of a GPU.
CPU_BYTES, GPU_BYTES = 4 << 20, 1 << 30
BLOCK = 64  # points that a chunk's first layer serves
SMALL = 200_000  # examples × parameters: below it most of the time is not arithmetic
EVERY = 16  # evaluations between two reports


@dataclass(frozen=True)
class Values:
    """Mean loss (m,) in float64 at each point, not finite where it overflows, and accuracy (m,) in
    [0, 1] of classification.
    """

    loss: Tensor
    accuracy: Tensor | None


def evaluate(
    problem: Problem,
    origin: Tensor,
    directions: Tensor,
    coefficients: Tensor,
    *,
    splits: Sequence[Split] = ("train", "test"),
    batch_norm: BatchNorm = "frozen",
    listen: Listener = silent,
    task: str = "evaluate",
    stacked: bool | None = None,
) -> dict[Split, Values]:
    """L and accuracy at θ = o + Σ_k a_k d_k for each row a of the coefficients (m, k).

    origin: (p,); directions: (k, p). Equal to `Problem.metrics` at each θ, to rounding. Call it
    inside `places.visit`. Three things make it faster than that:

    * a first layer that is linear in its weights (dense or a convolution, in an `nn.Sequential`)
      gives x·W(o) + Σ a_k x·W(d_k), so it is applied k + 1 times for BLOCK points;
    * examples go through in chunks that stay in the processor's cache, images with their channels
      last;
    * on a GPU, and for a small network and data set anywhere, several points go through at once,
      by `vmap`, where the network allows it (`stacked` says so instead).

    With `batch_norm` "recomputed" the running statistics are taken anew at each point, which is
    then a pass of its own. Counts no gradients. Raises EngineError for coefficients too large for
    the problem's dtype, Cancelled where the user asked to stop.
    """
    most = torch.finfo(problem.dtype).max
    if not bool((coefficients.abs() <= most).all()):
        raise EngineError(f"a coefficient that is above {most:.3g} or no number: a smaller --range")
    recomputed = taken_anew(problem, batch_norm)
    if stacked is None:
        small = len(problem.x_part) * problem.p <= SMALL
        several = small or problem.device.type != "cpu"
        stacked = several and why_not_stacked(problem, origin) is None
    family = _Family(problem, origin, directions, stacked and not recomputed, not recomputed)
    found: dict[Split, tuple[list[Tensor], list[Tensor]]] = {split: ([], []) for split in splits}
    size = 1 if recomputed else BLOCK
    passes = {split: len(family.parts(split)) for split in splits}
    report = _Report(listen, task, len(coefficients) * sum(passes.values()))
    for block in coefficients.split(size):
        if recomputed:
            recompute_statistics(problem, family.at(block[0]))
        for split in splits:
            # float64 but for mps, which has none.
            sums = torch.zeros(2, len(block), dtype=problem.accumulate, device=problem.device)
            compute = family.adding(split, block, sums, report)
            problem.sum_over_examples(f"{task} ({split})", origin, 0, compute, sums)
            for part, total in zip(found[split], sums.cpu().double(), strict=True):
                part.append(total)
    return {split: _values(problem, split, *found[split]) for split in splits}


def grid(*axes: Sequence[float]) -> Tensor:
    """Coefficients (m, k) of all points of a grid, the last axis running fastest: the value at
    (a_i, b_j) stands at [i, j] of `values.view(len(a), len(b))`.
    """
    return torch.cartesian_prod(*(torch.tensor(axis, dtype=torch.float64) for axis in axes)).view(
        -1, len(axes)
    )


def _values(problem: Problem, split: Split, sums: list[Tensor], right: list[Tensor]) -> Values:
    n = len(problem.examples(split)[1])
    losses = torch.cat(sums) / n if sums else torch.zeros(0, dtype=torch.float64)
    if not problem.classification:
        return Values(losses, None)
    rates = torch.cat(right) / n if right else torch.zeros(0, dtype=torch.float64)
    # An output that is not a number has no greatest: nothing is recognised there.
    return Values(losses, torch.where(losses.isnan(), math.nan, rates))


class _Report:
    """Tells every so many evaluations; one evaluation is a chunk of examples at a point."""

    def __init__(self, listen: Listener, task: str, total: int) -> None:
        self.listen, self.task, self.total, self.done = listen, task, total, 0

    def evaluated(self, count: int) -> None:
        before, self.done = self.done, self.done + count
        if before // EVERY < self.done // EVERY or self.done == self.total:
            self.listen(Progress(self.task, self.done, self.total))


class _Family:
    """The networks at o + Σ a_k d_k, applied to this rank's examples."""

    def __init__(
        self, problem: Problem, origin: Tensor, directions: Tensor, stacked: bool, split_head: bool
    ) -> None:
        self.problem, self.origin = problem, origin.clone()  # θ itself is where points are put
        self.directions, self.stacked = directions.to(origin), stacked
        self.head = _Head.of(problem) if split_head else None
        self.body = problem.network if self.head is None else self.head.body
        self.spans = [(0, problem.p)] if self.head is None else self.head.elsewhere
        width = _widest(problem)
        most = (CPU_BYTES if problem.device.type == "cpu" else GPU_BYTES) // width
        self.chunk = max(1, min(problem.chunk, max(32, most)))
        self.together = max(1, min(BLOCK, most // self.chunk)) if stacked else 1
        self._outputs = vmap(self._stacked_outputs, in_dims=(0, None if self.head is None else 0))

    def at(self, row: Tensor) -> Tensor:
        """θ (p,) of coefficients (k,)."""
        theta = self.origin.clone()
        for weight, direction in zip(row.tolist(), self.directions, strict=True):
            theta.add_(direction, alpha=weight)
        return theta

    def parts(self, split: Split) -> list[tuple[Tensor, Tensor]]:
        """This rank's examples in chunks."""
        x, y = self.problem.examples(split)
        part = self.problem.ranks.part(len(x))
        if not len(x[part]):
            return []
        return list(zip(x[part].split(self.chunk), y[part].split(self.chunk), strict=True))

    def adding(
        self, split: Split, block: Tensor, sums: Tensor, report: _Report
    ) -> Callable[[], tuple[()]]:
        """What adds Σ loss and how many are right to `sums` (2, m) of a block (m, k) of points."""

        def compute() -> tuple[()]:
            with torch.no_grad():
                for x, y in self.parts(split):
                    layers = None if self.head is None else self._first_layers(x)
                    for k, count, outputs in self._points(block, x, layers):
                        self._add(sums[:, k : k + count], outputs, y)
                        report.evaluated(count)
            return ()

        return compute

    def _points(
        self, block: Tensor, x: Tensor, layers: list[Tensor] | None
    ) -> Iterator[tuple[int, int, Tensor]]:
        """First point, how many, and their outputs (count, n, …) on a chunk."""
        for k in range(0, len(block), self.together):
            if self.problem.cancelled():
                raise Cancelled
            rows = block[k : k + self.together]
            if self.stacked:
                yield k, len(rows), self._together(rows, x, layers)
            else:
                yield k, 1, self._alone(rows[0].tolist(), x, layers)[None]

    def _alone(self, row: list[float], x: Tensor, layers: list[Tensor] | None) -> Tensor:
        theta = self.problem.theta
        for low, high in self.spans:
            theta[low:high] = self.origin[low:high]
            for weight, direction in zip(row, self.directions, strict=True):
                theta[low:high].add_(direction[low:high], alpha=weight)
        if layers is None:
            return self.body(x)
        return self.body(_combined(layers, row))

    def _together(self, rows: Tensor, x: Tensor, layers: list[Tensor] | None) -> Tensor:
        weights = rows.to(self.origin)
        thetas = self.origin + weights @ self.directions
        slots = self.problem.slots
        names = [s.name for s in slots] if self.head is None else self.head.names
        leaves = {
            name: thetas[:, s.offset : s.offset + s.size].reshape(-1, *s.shape)
            for name, s in zip(names, slots, strict=True)
            if name
        }
        if layers is None:
            return self._outputs(leaves, x)
        return self._outputs(leaves, torch.stack([_combined(layers, r) for r in rows.tolist()]))

    def _stacked_outputs(self, leaves: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.body, leaves, (x,))

    def _first_layers(self, x: Tensor) -> list[Tensor]:
        assert self.head is not None
        layers = [self.head(theta, x) for theta in (self.origin, *self.directions)]
        if x.device.type == "cpu" and layers[0].ndim == 4:  # pooling takes a half to a fifth then
            return [layer.contiguous(memory_format=torch.channels_last) for layer in layers]
        return layers

    def _add(self, sums: Tensor, outputs: Tensor, y: Tensor) -> None:
        """Adds Σ loss and how many are right for outputs (count, n, k) to `sums` (2, count)."""
        if self.problem.classification:
            # As `Problem.loss_sum`; half the time of log_softmax, which keeps all classes.
            wide = outputs.to(self.problem.accumulate)
            own = wide.gather(2, y.expand(len(outputs), -1)[:, :, None])[:, :, 0]
            sums[0] += (wide.logsumexp(2) - own).sum(1)
            sums[1] += (outputs.argmax(2) == y).sum(1)
        else:
            for k, one in enumerate(outputs):
                sums[0, k] += self.problem.loss_sum(one, y)


def _combined(layers: Sequence[Tensor], row: Sequence[float]) -> Tensor:
    """Z_0 + Σ a_k Z_k."""
    found = torch.add(layers[0], layers[1], alpha=row[0])
    for weight, layer in zip(row[1:], layers[2:], strict=True):
        found.add_(layer, alpha=weight)
    return found


@dataclass(frozen=True)
class _Head:
    """The first layer with parameters of a sequential network, linear in them, with what is before
    it; `body` is the rest. names: of each slot in the body, "" for those of the head; elsewhere:
    the spans of θ that are the body's.
    """

    problem: Problem
    before: nn.Sequential
    layer: nn.Module
    own: Mapping[str, tuple[int, int, tuple[int, ...]]]
    body: nn.Sequential
    names: tuple[str, ...]
    elsewhere: list[tuple[int, int]]

    @classmethod
    def of(cls, problem: Problem) -> _Head | None:
        """None where the network is not of that kind."""
        network = problem.network
        if type(network) is not nn.Sequential or _hooked(network):
            return None
        children = list(network)
        first = next((k for k, c in enumerate(children) if any(True for _ in c.parameters())), None)
        if first is None or type(children[first]) not in (nn.Linear, nn.Conv1d, nn.Conv2d):
            return None
        layer = children[first]
        own = problem.slots_of(layer)
        after = {id(q) for child in children[first + 1 :] for q in child.parameters()}
        shared = any(id(q) in after for q in layer.parameters())
        if shared or _hooked(layer) or len(own) < len(list(layer.parameters())):
            return None  # weights that are used again, or do not move with θ
        body = nn.Sequential(*children[first + 1 :])
        inside = {id(q): name for name, q in body.named_parameters()}
        names = tuple(inside.get(id(q), "") for q in problem.parameters)
        spans = [
            (s.offset, s.offset + s.size) for s, n in zip(problem.slots, names, strict=True) if n
        ]
        places = {name: (s.offset, s.offset + s.size, s.shape) for name, s in own.items()}
        before = nn.Sequential(*children[:first])
        return cls(problem, before, layer, places, body, names, _joined(spans))

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """The layer's outputs with its parameters from θ (p,): linear in them, biases too."""
        tensors = {n: theta[low:high].view(shape) for n, (low, high, shape) in self.own.items()}
        return functional_call(self.layer, tensors, (self.before(x),))


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring spans as one."""
    found: list[tuple[int, int]] = []
    for low, high in spans:
        if found and found[-1][1] == low:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found


def _widest(problem: Problem) -> int:
    """Bytes of the widest thing that a layer gives for one example."""
    sizes = [problem.x_train[0].numel()]

    def note(module: nn.Module, given: object, output: object) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    hooks = [module.register_forward_hook(note) for module in problem.network.modules()]
    try:
        with torch.no_grad():
            problem.network(problem.x_train[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes) * problem.theta.element_size()
