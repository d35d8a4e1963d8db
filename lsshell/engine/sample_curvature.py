"""The loss's Gauss-Newton curvature on the examples that bend it most, in factored form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lsshell.engine.layers import covered_layers, patches, positions, run_through
from lsshell.engine.problem import FORWARD, Problem, Slot
from lsshell.engine.seeds import generator

EXAMPLES = 256
POWER_ITERATIONS = 20
# Principal directions of a layer's inputs that are kept where it has thrice as many.
RANK = 32
# Bytes that per-example gradients may take, and what they are made of; larger layers are left out.
BUDGET = 1 << 30


@dataclass(frozen=True)
class Factored:
    """A linear layer at one position: the gradient of row i is δᵢ aᵢᵀ, and δᵢ for the bias.

    a = inputs·basisᵀ: of many inputs their principal directions (in, rank), coordinates (k, rank).
    """

    weight: Slot
    bias: Slot | None
    inputs: Tensor
    basis: Tensor | None
    deltas: Tensor

    @classmethod
    def of(cls, weight: Slot, bias: Slot | None, inputs: Tensor, deltas: Tensor) -> Factored:
        if inputs.shape[1] <= 3 * RANK:
            return cls(weight, bias, inputs, None, deltas)
        probes = torch.randn(len(inputs), RANK, generator=generator(0, "range finder"))
        basis = inputs.T @ (inputs @ (inputs.T @ probes.to(inputs)))
        basis = torch.linalg.qr(basis.cpu())[0].to(inputs)
        return cls(weight, bias, inputs @ basis, basis, deltas)

    @property
    def size(self) -> int:
        return self.weight.size + (self.bias.size if self.bias is not None else 0)

    @property
    def bytes(self) -> int:
        """What counts of the budget: nothing of these."""
        return 0

    @property
    def held(self) -> tuple[Tensor, ...]:
        """What every rank must hold alike."""
        return (self.inputs, self.deltas, *(() if self.basis is None else (self.basis,)))

    @property
    def cost(self) -> int:
        """Multiplications of a product with J."""
        outputs = self.deltas.shape[1]
        return outputs * (self.inputs.numel() + (0 if self.basis is None else self.basis.numel()))

    def kernel(self) -> Tensor:
        inner = self.inputs @ self.inputs.T
        if self.bias is not None:
            inner += 1.0
        return inner.mul_(self.deltas @ self.deltas.T)

    def times(self, rows: Tensor) -> Tensor:
        weight = _view(rows, self.weight)
        if self.basis is not None:
            weight = weight @ self.basis
        moved = (self.inputs @ weight.flatten(0, 1).T).unflatten(1, (len(rows), -1))
        if self.bias is not None:
            moved += _view(rows, self.bias)
        return moved.mul_(self.deltas[:, None]).sum(2).T  # a batch of small products is slower

    def subtract_transposed(self, c: Tensor, rows: Tensor) -> None:
        weighted = self.deltas * c[:, :, None]
        part = weighted.mT @ self.inputs
        if self.basis is not None:
            part = part @ self.basis.T
        _view(rows, self.weight).sub_(part)
        if self.bias is not None:
            _view(rows, self.bias).sub_(weighted.sum(1))


@dataclass(frozen=True)
class Explicit:
    """A layer applied at many positions: per-example gradients (k, size), summed over those."""

    slot: Slot
    rows: Tensor

    @property
    def size(self) -> int:
        return self.slot.size

    @property
    def bytes(self) -> int:
        return self.rows.numel() * self.rows.element_size()

    @property
    def held(self) -> tuple[Tensor, ...]:
        return (self.rows,)

    @property
    def cost(self) -> int:
        return self.rows.numel()

    def kernel(self) -> Tensor:
        return self.rows @ self.rows.T

    def times(self, rows: Tensor) -> Tensor:
        return _view(rows, self.slot).flatten(1) @ self.rows.T

    def subtract_transposed(self, c: Tensor, rows: Tensor) -> None:
        part = c @ self.rows
        _view(rows, self.slot).sub_(part.view(len(rows), *self.slot.shape))


class SampleCurvature:
    """∇²L ≈ JᵀJ, J (k, p) with rows √(λᵢ/N)·eᵢᵀ ∂f(xᵢ)/∂θ for the k examples of greatest curvature.

    λᵢ, eᵢ: the leading eigenpair of the loss's Hessian in the outputs f(xᵢ). Near zero loss a few
    hundred examples, each between two classes, carry most of the Gauss-Newton matrix. Kept as the
    inputs a and output gradients δ of each nn.Linear, and as per-example gradients of each
    nn.Conv2d; other parameters have no part in it. Coordinates of the k rows are those of the
    eigenvectors of K = JJᵀ, so that (ρI + κJᵀJ)⁻¹ is diagonal in them (Woodbury):

        (ρI + κJᵀJ)⁻¹ v = (v − Jᵀ(ρ/κ + K)⁻¹Jv)/ρ
    """

    def __init__(self, problem: Problem, examples: int = EXAMPLES) -> None:
        self.problem = problem
        self.count = min(examples, len(problem.x_train), problem.chunk)
        self.eigenvalues = torch.zeros(0, dtype=torch.float64)
        self._modules = covered_layers(problem)
        self._vectors = torch.zeros(0, 0, dtype=torch.float64)
        self._layers: list[Factored | Explicit] = []
        self._product = 0.0  # what one with J or Jᵀ costs, in gradients

    def refresh(self, theta: Tensor) -> bool:
        """Takes J at θ (p,): a forward pass over all examples, a backward pass over k of them.

        False where it has no part in half of θ: then it is not worth its time.
        """
        problem, n = self.problem, len(self.problem.x_train)
        if 2 * sum(q.numel() for m in self._modules for q in m.parameters()) < problem.p:
            return False
        chosen = self._most_curved(theta)
        problem.place(theta)
        outputs, taken = run_through(problem, self._modules, problem.x_train[chosen])
        # The outputs that `_most_curved` looks at, and these.
        problem.work += (FORWARD if problem.classification else 0.0) + self.count / n
        if not taken:
            return False
        deltas = torch.autograd.grad(
            outputs, [o for _, _, o in taken], self._roots(outputs.detach()), materialize_grads=True
        )
        layers: list[Factored | Explicit] = []
        left, work = BUDGET, 0
        for (module, inputs, _), delta in zip(taken, deltas, strict=True):
            layer = self._layer(module, inputs, delta, left)
            layers += layer
            left -= sum(part.bytes for part in layer)
            work += sum(part.size for part in layer) * positions(module, delta)
        if 2 * sum(layer.size for layer in layers) < problem.p:
            return False
        kernel = torch.stack([layer.kernel() for layer in layers]).sum(0)
        values, vectors = torch.linalg.eigh(kernel.cpu().double())
        # What rounding leaves below the least that float32 tells from nothing is nothing.
        least = len(values) * torch.finfo(kernel.dtype).eps * float(values[-1])
        self._layers, self._vectors = layers, vectors
        self.eigenvalues = values.clamp_(min=least)
        problem.ranks.share(self._vectors, self.eigenvalues, *(t for la in layers for t in la.held))
        self._product = sum(layer.cost for layer in layers) / (3 * n * work)
        return True

    def times(self, rows: Tensor) -> Tensor:
        """Jv for each row v of (number, p): (number, k), float64 on the CPU."""
        moved = self._layers[0].times(rows)
        for layer in self._layers[1:]:
            moved = moved + layer.times(rows)
        self.problem.work += len(rows) * self._product
        return moved.cpu().double() @ self._vectors

    def subtract_transposed(self, c: Tensor, rows: Tensor) -> None:
        """v ← v − Jᵀc for each row v of (number, p), in place; c (number, k) float64 on the CPU."""
        c = (c @ self._vectors.T).to(rows.device, rows.dtype)
        for layer in self._layers:
            layer.subtract_transposed(c, rows)
        self.problem.work += len(rows) * self._product

    def _most_curved(self, theta: Tensor) -> Tensor:
        """Indices (k,) of the examples of greatest trace of ∇²ℓ; evenly spread where all alike."""
        problem = self.problem
        if not problem.classification:
            n = len(problem.x_train)
            return torch.arange(self.count, device=problem.device) * n // self.count
        q = problem.outputs(theta, problem.x_train).to(problem.accumulate).softmax(1)
        chosen = (q * (1.0 - q)).sum(1).topk(self.count).indices.sort().values
        problem.ranks.share(chosen)
        return chosen

    def _roots(self, outputs: Tensor) -> Tensor:
        """√(λᵢ/N)·eᵢ (k, outputs). Of several outputs of a regression, alike all, a random sign
        each; the examples left out are stood for by those taken.
        """
        n = len(self.problem.x_train)
        if not self.problem.classification:
            signs = torch.ones_like(outputs)
            width = outputs[0].numel()
            if width > 1:
                drawn = torch.randn(outputs.shape, generator=generator(0, "signs"))
                signs = drawn.sign().to(outputs)
            return signs.mul_((2.0 / (width**2 * self.count)) ** 0.5)
        q = outputs.to(self.problem.accumulate).softmax(1)
        # ∇²ℓ = diag(q) − qqᵀ, from the column of its greatest diagonal element.
        v = nn.functional.one_hot((q * (1.0 - q)).argmax(1), q.shape[1]).to(q)
        for _ in range(POWER_ITERATIONS):
            v = q * (v - (q * v).sum(1, keepdim=True))
            length = torch.linalg.vector_norm(v, dim=1, keepdim=True)
            v = v / length.clamp(min=torch.finfo(q.dtype).tiny)
        values = (q * v.square()).sum(1) - (q * v).sum(1).square()
        lead = v * values.clamp(min=0.0).div(n).sqrt()[:, None]
        return lead.to(outputs.dtype)

    def _layer(
        self, module: nn.Module, inputs: Tensor, delta: Tensor, budget: int
    ) -> list[Factored | Explicit]:
        """The layer's part of J; none where that is over the budget."""
        slots = self.problem.slots_of(module)
        weight, bias = slots["weight"], slots.get("bias")
        if type(module) is nn.Linear and inputs.ndim == 2:
            return [Factored.of(weight, bias, inputs, delta)]
        seen = weight.size // weight.shape[0] * positions(module, delta)
        unit = self.count * inputs.element_size()
        if weight.size * unit > budget or seen * unit > BUDGET:
            return []
        if type(module) is nn.Conv2d:
            inputs, delta = patches(module, inputs), delta.flatten(2)
        else:
            inputs, delta = inputs.flatten(1, -2).mT, delta.flatten(1, -2).mT
        rows: list[Factored | Explicit]
        rows = [Explicit(weight, torch.bmm(delta, inputs.mT).flatten(1))]
        if bias is not None:
            rows.append(Explicit(bias, delta.sum(2)))
        return rows


def _view(rows: Tensor, slot: Slot) -> Tensor:
    """A parameter's part of each row of (number, p)."""
    return rows[:, slot.offset : slot.offset + slot.size].view(len(rows), *slot.shape)
