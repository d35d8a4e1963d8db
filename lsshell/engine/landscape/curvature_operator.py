"""Products with the Hessian or the Gauss-Newton matrix at one θ, many of them, fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal, get_args

import torch
from torch import Tensor

from lsshell.engine.device_memory import device_memory
from lsshell.engine.errors import EngineError, NotFiniteError
from lsshell.engine.landscape.examples import drawn
from lsshell.engine.problem import Problem

Matrix = Literal["hessian", "gauss-newton"]
# Bytes that differentiated graphs may hold between products; chunks beyond are built each time.
KEPT = 2 << 30
# Vectors whose products are taken at once, and the bytes that these may need on top of the graph.
MOST_AT_ONCE = 32
AT_ONCE = {"cpu": 4 << 20}  # beyond the caches several at once gain nothing (convolutions lose)
AT_ONCE_ELSEWHERE = 1 << 30
# Examples that a graph is measured on.
MEASURED = 16


class CurvatureOperator:
    """H = ∇²L(θ), or G = Jᵀ(∇²ℓ)J, (p, p), of the mean loss over the training set or a part of it.

    Products are exact (double backward). The graph of the gradient (of J) is kept between them,
    chunk by chunk while all fit into KEPT bytes: a product then costs half of what
    `Problem.hessian_vector` takes, which builds the graph each time. Several vectors go through it
    at once where the graph is small.

    `examples`: so many training examples, drawn without replacement by `seed`, the same at every
    θ; None or all there are: the full training set. L is then their mean. With several ranks each
    takes its share of them.

    The work is counted in `problem.work`: 2 a vector and 1 for the graphs, times the share of
    the training set. Make it and use it within one `places.visit`. `moved` is told the number of
    products so far. Raises EngineError for a number of examples below 1.
    """

    def __init__(
        self,
        problem: Problem,
        theta: Tensor,
        kind: Matrix = "hessian",
        *,
        examples: int | None = None,
        seed: int = 0,
        moved: Callable[[int], None] = lambda products: None,
    ) -> None:
        if kind not in get_args(Matrix):
            raise EngineError(f"{kind} is no matrix: {' or '.join(get_args(Matrix))}")
        if examples is not None and examples < 1:
            raise EngineError(f"{examples} examples: at least 1 is needed")
        self.problem, self.kind, self.moved = problem, kind, moved
        self.theta = theta.detach().clone()
        total = len(problem.x_train)
        self.examples = total if examples is None else min(examples, total)
        x, y = problem.x_train, problem.y_train
        if self.examples < total:
            chosen = drawn(total, examples, seed, "curvature examples").to(problem.device)
            x, y = x[chosen], y[chosen]
        part = problem.ranks.part(self.examples)
        self._chunks = list(problem.chunks(x[part], y[part]))
        self._graph = _HessianGraph if kind == "hessian" else _GaussNewtonGraph
        self._kept: list[_Graph] | None = None
        self._at_once = 1
        self._batched = True
        self.products = 0

    @property
    def p(self) -> int:
        """Length of the vectors."""
        return self.theta.numel()

    def times(self, v: Tensor) -> Tensor:
        """Hv: (p,) for v (p,), or (k, p) for the k rows of v.

        Raises NotFiniteError where the product is not finite, Cancelled where the user asked to
        stop.
        """
        rows = v.reshape(-1, self.p)
        out = torch.zeros_like(rows)
        if self._kept is None:
            self.problem.sum_over_examples(f"{self.kind} graph", self.theta, 0, self._keep)
            self._spend(1)
        for some, into in zip(rows.split(self._at_once), out.split(self._at_once), strict=True):
            self._add_products(some, into)
        if not math.isfinite(float(out.sum())):
            raise NotFiniteError(
                "the curvature is not finite here: the parameters or the data hold values too"
                " large or NaN"
            )
        return out.view(v.shape)

    def _add_products(self, rows: Tensor, out: Tensor) -> None:
        """Σ over examples of the products with these rows, added to `out` (zeros before)."""

        def compute() -> tuple[()]:
            kept = self._kept or []
            for k, (x, y) in enumerate(self._chunks):
                self._through(kept[k] if k < len(kept) else self._build(x, y), rows, out)
            return ()

        self.problem.sum_over_examples(f"{self.kind} product", self.theta, 0, compute, out)
        self._spend(2 * len(rows))
        self.products += len(rows)
        self.moved(self.products)

    def _through(self, graph: _Graph, rows: Tensor, out: Tensor) -> None:
        """Adds one chunk's products: all rows at once, or where `vmap` does not take them, singly.

        What a user's own code does with a batch can only be seen by doing it.
        """
        if len(rows) > 1 and self._batched:
            try:
                parts = graph.times(self._views(rows), batched=True)
            except RuntimeError:
                self._batched, self._at_once = False, 1
            else:
                self._add(out, parts)
                return
        for row, into in zip(rows, out, strict=True):
            parts = graph.times(self.problem.tensors(row).values(), batched=False)
            self.problem.add_flat(into, parts)

    def _views(self, rows: Tensor) -> list[Tensor]:
        """Each tensor's part of the rows (k, p): (k, *shape)."""
        slots = self.problem.slots
        return [rows[:, s.offset : s.offset + s.size].reshape(-1, *s.shape) for s in slots]

    def _add(self, out: Tensor, parts: Iterable[Tensor]) -> None:
        with torch.no_grad():
            for slot, part in zip(self.problem.slots, parts, strict=True):
                into = out[:, slot.offset : slot.offset + slot.size]
                into.view(-1, *slot.shape).add_(part)

    def _build(self, x: Tensor, y: Tensor) -> _Graph:
        return self._graph(self.problem, x, y, self.examples)

    def _keep(self) -> tuple[()]:
        """Builds the graphs that are kept: as many chunks' as the budget allows."""
        self._kept = []
        if not self._chunks:
            return ()
        x, y = self._chunks[0]
        example = self._bytes(x[:MEASURED], y[:MEASURED]) / min(MEASURED, len(x))
        chunk = example * len(x) + self.p * self.theta.element_size()
        spare = AT_ONCE.get(self.problem.device.type, AT_ONCE_ELSEWHERE)
        if self.problem.ranks.count == 1:  # several must take the same number, whatever their share
            self._at_once = max(1, min(MOST_AT_ONCE, int(spare / chunk)))
        count = min(len(self._chunks), int(KEPT / chunk))
        self._kept = [self._build(x, y) for x, y in self._chunks[:count]]
        return ()

    def _bytes(self, x: Tensor, y: Tensor) -> int:
        """What a graph on these examples holds, but for the parameters and the examples."""
        known = {t.untyped_storage().data_ptr() for t in (self.problem.theta, x, y)}
        held: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                held[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            graph = self._build(x, y)
        del graph
        return max(1, sum(held.values()))

    def _spend(self, gradients: float) -> None:
        """Counts work on a part of the examples as that share of a gradient."""
        self.problem.work += gradients * self.examples / len(self.problem.x_train)


class _HessianGraph:
    """The gradient of Σ loss/n over one chunk, as a function of θ."""

    def __init__(self, problem: Problem, x: Tensor, y: Tensor, n: int) -> None:
        self.parameters = problem.parameters
        part = problem.loss_sum(problem.network(x), y) / n
        self.gradient = problem.gradient_of(part, create_graph=True)

    def times(self, views: Iterable[Tensor], *, batched: bool) -> tuple[Tensor, ...]:
        return _pulled(self.gradient, self.parameters, views, batched=batched)


class _GaussNewtonGraph:
    """Outputs of one chunk, and Jᵀu as a (linear) function of u: its derivative along v is Jv."""

    def __init__(self, problem: Problem, x: Tensor, y: Tensor, n: int) -> None:
        self.problem, self.y, self.n = problem, y, n
        self.outputs = problem.network(x)
        self.u = torch.zeros_like(self.outputs, requires_grad=True)
        self.vjp = torch.autograd.grad(
            self.outputs, problem.parameters, self.u, create_graph=True, materialize_grads=True
        )

    def times(self, views: Iterable[Tensor], *, batched: bool) -> tuple[Tensor, ...]:
        (jv,) = _pulled(self.vjp, [self.u], views, batched=batched)
        outputs = self.outputs.detach()
        if batched:
            curvature = torch.vmap(lambda one: self.problem._output_curvature(outputs, one, self.y))
            along = curvature(jv) / self.n
        else:
            along = self.problem._output_curvature(outputs, jv, self.y) / self.n
        return _pulled([self.outputs], self.problem.parameters, [along], batched=batched)


_Graph = _HessianGraph | _GaussNewtonGraph


def check_memory(operator: CurvatureOperator, wanted: int) -> None:
    """Raises EngineError where so many bytes are not there."""
    known = device_memory(str(operator.theta.device))
    if known is not None and wanted > known[1] - known[0]:
        raise EngineError(
            f"{wanted / 2**30:.1f} GiB of vectors do not fit into the"
            f" {(known[1] - known[0]) / 2**30:.1f} GiB that are free: ask for less at a time"
        )


def _pulled(
    values: Iterable[Tensor], by: list[Tensor], along: Iterable[Tensor], *, batched: bool
) -> tuple[Tensor, ...]:
    """Σ along·∂values/∂by, the graph kept; zeros where nothing depends on `by`."""
    given = list(zip(values, along, strict=True))
    pairs = [(a, b) for a, b in given if a.requires_grad]
    if not pairs:
        lead = (len(given[0][1]),) if batched else ()
        return tuple(q.new_zeros(*lead, *q.shape) for q in by)
    return torch.autograd.grad(
        [a for a, _ in pairs],
        by,
        [b for _, b in pairs],
        retain_graph=True,
        is_grads_batched=batched,
        materialize_grads=True,
    )
