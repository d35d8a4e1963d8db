"""The tangent kernel K = J Jᵀ on a sample of examples, and the PL* constant of the loss.

Liu, Zhu & Belkin 2020, "Loss landscapes and optimization in over-parameterized non-linear systems
and neural networks".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.examples import drawn
from lsshell.engine.landscape.places import Place, visit
from lsshell.engine.layers import covered_layers, patches, run_through
from lsshell.engine.problem import Problem, Slot
from lsshell.engine.vectors import float64, norm

EXAMPLES = 128
MOST_ROWS = 2000
# Eigenvalues under this share of the greatest are zero: what rounding of J leaves is less.
ZERO = 1e-10
# Bytes that the part of J which is in memory at a time may take.
BUDGET = 1 << 28
AGREEMENT = 1e-3


@dataclass(frozen=True)
class SquareLoss:
    """For L = ‖F − y‖²/n (n rows: examples × outputs) on the sample alone, where ∇L = 2Jᵀ(F − y)/n:

        2 λ_min(K)/n  ≤  ρ = ‖∇L‖²/(2L) = 2 rᵀKr/(n rᵀr)  ≤  2 λ_max(K)/n,  r = F − y

    exact, and with λ_min over a set of θ the loss is PL* there with μ = 2 λ_min/n.
    """

    lower: float
    rho: float | None
    upper: float


@dataclass(frozen=True, eq=False)
class TangentKernel:
    """K = J Jᵀ (n, n) of n = examples × outputs rows at a place, float64 on the CPU.

    eigenvalues (n,), ascending; least: λ_min, 0 where it is under 1e-10·λ_max, as `zeros` of them
    are; condition: λ_max/λ_min, infinite where λ_min is 0; mean: trace/n; effective_rank:
    (tr K)²/‖K‖_F²; loss, gradient_norm: L and ‖∇L‖ over all training examples;
    rho = ‖∇L‖²/(2(L − minimum)), None where L = minimum; change: ‖K − K₀‖_F/‖K₀‖_F from another
    place; square: for mean squared error; gradients: spent.
    """

    place: Place
    matrix: Tensor
    eigenvalues: Tensor
    examples: int
    outputs: int
    loss: float
    gradient_norm: float
    rho: float | None
    minimum: float = 0.0
    change: float | None = None
    square: SquareLoss | None = None
    gradients: int = 0

    @property
    def greatest(self) -> float:
        return float(self.eigenvalues[-1])

    @property
    def least(self) -> float:
        return 0.0 if self.zeros else float(self.eigenvalues[0])

    @property
    def zeros(self) -> int:
        return int((self.eigenvalues <= ZERO * self.eigenvalues[-1]).sum())

    @property
    def condition(self) -> float:
        return self.greatest / self.least if self.least > 0.0 else math.inf

    @property
    def mean(self) -> float:
        return float(self.matrix.trace()) / len(self.matrix)

    @property
    def effective_rank(self) -> float:
        size = float(torch.linalg.matrix_norm(self.matrix))
        return (float(self.matrix.trace()) / size) ** 2 if size else 0.0


def tangent_kernel(
    problem: Problem,
    place: Place,
    *,
    examples: int | None = None,
    seed: int = 0,
    minimum: float = 0.0,
    origin: TangentKernel | None = None,
) -> TangentKernel:
    """K, its spectrum and ρ at a place; `origin`: K₀ of the same sample, for the relative change.

    `examples` of the training set, drawn from `seed` (128, or as many as give 2000 rows);
    `minimum`: the loss's infimum, below L. The Jacobian of the outputs (logits) is taken in the
    problem's precision, K accumulated in float64, layer by layer: p × n is never in memory at once.
    Raises EngineError for more than 2000 rows, and for a minimum that is not below L.
    """
    with visit(problem, place) as spent:
        loss, gradient = problem.loss_and_gradient(place.theta)
        gradient_norm = norm(gradient)
        rho = pl_constant(loss, gradient_norm, minimum)
        chosen = sample(problem, examples, seed)
        matrix = kernel_matrix(problem, place.theta, problem.x_train[chosen])
        if not bool(matrix.isfinite().all()):
            raise EngineError("the gradients of the outputs are not finite here: no kernel")
        values = torch.linalg.eigvalsh(matrix)
        problem.ranks.share(matrix, values)
        square = None
        if not problem.classification:
            square = _square_loss(problem, place.theta, chosen, matrix, values)
    return TangentKernel(
        place=place,
        matrix=matrix,
        eigenvalues=values,
        examples=len(chosen),
        outputs=len(matrix) // len(chosen),
        loss=loss,
        gradient_norm=gradient_norm,
        rho=rho,
        minimum=minimum,
        change=None if origin is None else relative_change(matrix, origin.matrix),
        square=square,
        gradients=spent.gradients,
    )


def kernels_along(
    problem: Problem,
    places: Iterable[Place],
    *,
    examples: int | None = None,
    seed: int = 0,
    minimum: float = 0.0,
    origin: TangentKernel | None = None,
    count: int = 0,
    listen: Listener = silent,
) -> Iterator[TangentKernel]:
    """`tangent_kernel` at each of the places, on the same sample, one after another: a path of
    matrices would fill memory. The change is from `origin`, or from the first of them. `count`:
    how many places there are, for progress.
    """
    for k, place in enumerate(places):
        found = tangent_kernel(
            problem, place, examples=examples, seed=seed, minimum=minimum, origin=origin
        )
        if origin is None:
            origin, found = found, replace(found, change=0.0)
        listen(Progress("kernel", k + 1, count, f"{place.name}: λ_min {found.least:.3g}"))
        yield found


def relative_change(matrix: Tensor, origin: Tensor) -> float:
    """‖K − K₀‖_F/‖K₀‖_F; infinite where K₀ is zero and K is not."""
    moved, size = (float(torch.linalg.matrix_norm(m)) for m in (matrix - origin, origin))
    return moved / size if size else (math.inf if moved else 0.0)


def sample(problem: Problem, examples: int | None, seed: int) -> Tensor:
    """Indices of the training examples that K is of, ascending."""
    n = len(problem.x_train)
    with torch.no_grad():
        outputs = problem.network(problem.x_train[:1]).numel()
    most = max(1, MOST_ROWS // outputs)
    if examples is None:
        examples = min(EXAMPLES, most, n)
    if not 1 <= examples <= n:
        raise EngineError(f"the kernel takes 1 to {n} examples here, not {examples}")
    if examples * outputs > MOST_ROWS:
        raise EngineError(
            f"{examples} examples of {outputs} outputs are {examples * outputs} rows; the kernel"
            f" takes {MOST_ROWS}: at most {most} examples"
        )
    return drawn(n, examples, seed, "tangent kernel").to(problem.device)


def pl_constant(loss: float, gradient_norm: float, minimum: float = 0.0) -> float | None:
    """ρ = ‖∇L‖²/(2(L − minimum)); None where L = minimum. Raises EngineError where L is below."""
    if not math.isfinite(minimum) or minimum > loss:
        raise EngineError(f"the least loss must be at most L = {loss:.6g} here, not {minimum:g}")
    return gradient_norm**2 / (2.0 * (loss - minimum)) if loss > minimum else None


def _square_loss(
    problem: Problem, theta: Tensor, chosen: Tensor, matrix: Tensor, values: Tensor
) -> SquareLoss:
    outputs = problem.outputs(theta, problem.x_train[chosen])
    r = outputs.cpu().double().reshape(-1) - problem.y_train[chosen].cpu().double().reshape(-1)
    n, squared = len(r), float(r @ r)
    rho = 2.0 * float(r @ matrix @ r) / (n * squared) if squared > 0.0 else None
    least = float(values[0]) if float(values[0]) > ZERO * float(values[-1]) else 0.0
    return SquareLoss(2.0 * least / n, rho, 2.0 * float(values[-1]) / n)


# -- the matrix ------------------------------------------------------------------------------


def kernel_matrix(problem: Problem, theta: Tensor, x: Tensor) -> Tensor:
    """J Jᵀ (n, n), float64 on the CPU, of the outputs for inputs x at θ (p,); rows example by
    example, the outputs of each together.

    Of linear and convolution layers by products of inputs and output gradients (one backward pass
    an output), of other parameters by per-example Jacobians (vmap of jacrev, or one by one where
    the network does not take that). Two rows are held against plain gradients.
    """
    problem.unless_cancelled()
    problem.place(theta)
    covered = covered_layers(problem)
    ways: list[Callable[[], Tensor]] = [
        lambda: _matrix(problem, x, covered, _vmapped),
        lambda: _matrix(problem, x, [], _vmapped),
    ]
    for way in ways:
        try:
            matrix = way()
        except (Cancelled, MemoryError):
            raise
        except Exception as e:  # the network may be the user's own
            if "out of memory" in str(e):
                raise
            continue
        if _as_by_plain_gradients(problem, x, matrix):
            return matrix
    return _matrix(problem, x, [], _one_by_one)


Jacobian = Callable[[Problem, Sequence[Slot], Tensor], Tensor]


def _matrix(
    problem: Problem, x: Tensor, modules: Sequence[nn.Module], jacobian: Jacobian
) -> Tensor:
    """K, of these layers by their inputs and output gradients, of the rest by `jacobian`."""
    outputs, taken = run_through(problem, modules, x)
    k = outputs[0].numel()
    n = len(x) * k
    kernel = float64(outputs.new_zeros(n, n))
    done: set[str] = set()
    left = list(taken)
    while left:
        group = [left.pop(0)]
        held = _bytes(group[0][2], k)
        while left and held + _bytes(left[0][2], k) <= BUDGET:
            held += _bytes(left[0][2], k)
            group.append(left.pop(0))
        deltas = _output_gradients(problem, outputs, [output for _, _, output in group])
        for (module, inputs, _), delta in zip(group, deltas, strict=True):
            slots = problem.slots_of(module)
            done.update(slot.name for slot in slots.values())
            _add_layer(kernel, module, inputs, delta, bias="bias" in slots)
    rest = [slot for slot in problem.slots if slot.name not in done]
    if rest:
        _add_slots(kernel, problem, x, rest, jacobian, k)
    problem.work += max(1, round(n / len(problem.x_train)))
    return kernel.cpu()


def _output_gradients(problem: Problem, outputs: Tensor, of: Sequence[Tensor]) -> list[Tensor]:
    """∂(each output of an example)/∂(a layer's output): (examples, outputs, …) for each layer."""
    flat = outputs.reshape(len(outputs), -1)
    found: list[list[Tensor]] = [[] for _ in of]
    for c in range(flat.shape[1]):
        problem.unless_cancelled()
        parts = torch.autograd.grad(
            flat[:, c].sum(), list(of), retain_graph=True, materialize_grads=True
        )
        for rows, part in zip(found, parts, strict=True):
            rows.append(part)
    return [torch.stack(rows, 1) for rows in found]


def _add_layer(
    kernel: Tensor, module: nn.Module, inputs: Tensor, delta: Tensor, *, bias: bool
) -> None:
    """A layer's part of K; delta (examples, outputs, its own outputs)."""
    m, k = delta.shape[:2]
    inputs = inputs.detach()
    if type(module) is nn.Linear and inputs.ndim == 2:
        columns, rows = float64(inputs), float64(delta.flatten(0, 1))
        inner = columns @ columns.T + (1.0 if bias else 0.0)
        inner = inner.repeat_interleave(k, 0).repeat_interleave(k, 1)
        kernel += inner.mul_(rows @ rows.T)
        return
    if type(module) is nn.Conv2d:
        inputs, delta = patches(module, inputs), delta.flatten(3)
    else:
        inputs, delta = inputs.flatten(1, -2).mT, delta.flatten(2, -2).mT
    if bias:
        _add_rows(kernel, delta.sum(3).flatten(0, 1))
    units = max(1, BUDGET // (m * k * inputs.shape[1] * inputs.element_size()))
    for part in delta.split(units, 2):  # of the layer's own outputs
        rows = torch.bmm(part.flatten(1, 2), inputs.mT)
        _add_rows(kernel, rows.reshape(m * k, -1))


def _add_slots(
    kernel: Tensor, problem: Problem, x: Tensor, slots: Sequence[Slot], jacobian: Jacobian, k: int
) -> None:
    """The part of K of whole tensors by per-example Jacobians, as many columns at once as fit."""
    n = len(kernel)
    width = max(1, BUDGET // (2 * n * problem.theta.element_size()))
    size = sum(slot.size for slot in slots)
    # Of what lies before `jacobian` has cut out the columns, too.
    step = max(1, min(len(x), BUDGET // (2 * k * size * problem.theta.element_size())))
    for first in range(0, size, width):
        rows = []
        for part in x.split(step):
            problem.unless_cancelled()
            rows.append(jacobian(problem, slots, part)[:, first : first + width])
        _add_rows(kernel, torch.cat(rows))


def _vmapped(problem: Problem, slots: Sequence[Slot], x: Tensor) -> Tensor:
    """J (examples × outputs, Σ sizes) by the slots' parameters."""
    tensors = problem.tensors(problem.theta.detach())
    chosen = {slot.name: tensors.pop(slot.name) for slot in slots}

    def outputs(chosen: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(problem.network, {**tensors, **chosen}, (one[None],)).reshape(-1)

    found = vmap(jacrev(outputs), in_dims=(None, 0))(chosen, x)
    return torch.cat([found[s.name].flatten(0, 1).reshape(-1, s.size) for s in slots], 1).detach()


def _one_by_one(problem: Problem, slots: Sequence[Slot], x: Tensor) -> Tensor:
    """J as `_vmapped` gives it, a backward pass for each row."""
    at = {slot.name: q for slot, q in zip(problem.slots, problem.parameters, strict=True)}
    chosen = [at[slot.name] for slot in slots]
    rows = []
    for i in range(len(x)):
        problem.unless_cancelled()
        flat = problem.network(x[i : i + 1]).reshape(-1)
        for c in range(len(flat)):
            parts = torch.autograd.grad(flat[c], chosen, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(rows)


def _as_by_plain_gradients(problem: Problem, x: Tensor, matrix: Tensor) -> bool:
    """Whether K of the first and last output of the first example is what plain gradients give."""
    flat = problem.network(x[:1]).reshape(-1)
    rows = []
    for c in (0, len(flat) - 1):
        parts = problem.gradient_of(flat[c], retain_graph=True)
        rows.append(float64(torch.cat([part.reshape(-1) for part in parts])).cpu())
    plain = torch.stack(rows)
    wanted, at = plain @ plain.T, [0, len(flat) - 1]
    scale = float(wanted.abs().max())
    return float((matrix[at][:, at] - wanted).abs().max()) <= AGREEMENT * scale


def _add_rows(kernel: Tensor, rows: Tensor) -> None:
    """K += rows·rowsᵀ in float64, some columns at a time."""
    for part in rows.split(4096, 1):
        wide = float64(part)
        kernel.addmm_(wide, wide.T)


def _bytes(output: Tensor, outputs: int) -> int:
    """What the gradients of so many outputs by a layer's output take."""
    return outputs * output.numel() * output.element_size()
