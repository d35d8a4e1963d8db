"""Permutation alignment: the hidden units of B in the order, and with the signs, nearest to A's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem, Slot
from lsshell.engine.seeds import generator
from lsshell.engine.vectors import norm

Numbers = NDArray[np.float64]
Order = NDArray[np.intp]

SWEEPS = 100
# Activations with φ(−z) = −φ(z): a unit may change its sign, with that of all its weights.
_ODD = (nn.Tanh, nn.Identity)
_ELEMENTWISE = (*_ODD, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.ELU, nn.Softplus)
_PASSING = (nn.Flatten, nn.AvgPool2d, nn.Dropout, nn.Dropout2d)


@dataclass(frozen=True, eq=False)
class Alignment:
    """θ (p,): B with its hidden units in other places, the same function to rounding.

    moved, flipped: how many of the `units` changed place and sign; signs: whether signs could
    change at all, in any layer; distances ‖θ_A − θ_B‖ before and after; sweeps made.
    """

    theta: Tensor
    units: int
    moved: int
    flipped: int
    signs: bool
    before: float
    after: float
    sweeps: int


@dataclass(frozen=True)
class _Layer:
    """A dense or convolutional layer: its weight (units, inputs, share) and bias in θ.

    share: numbers for each pair of a unit here and a unit before: the filter's size, or, after
    flattening, the pixels of a channel. odd: whether the activation after it is.
    """

    weight: Slot
    bias: Slot | None
    units: int
    inputs: int
    share: int
    odd: bool


def align(problem: Problem, a: Tensor, b: Tensor, *, seed: int = 0) -> Alignment:
    """B (p,) with its hidden units permuted so that it is near A (p,), by matching weights.

    Maximises ⟨θ_A, π(θ_B)⟩, so minimises ‖θ_A − π(θ_B)‖, over a permutation for each hidden layer,
    one layer after the other in random order: each is a linear assignment problem (Ainsworth et
    al. 2022, algorithm 1). Where the activation is odd (tanh, identity) each unit's sign is chosen
    as well: the sign of its own similarity, whose magnitude the assignment then maximises. A local
    optimum, the better of two: from B as it is, and from its layers matched front to back by the
    weights into them. The order of layers comes from `seed`.

    For sequential networks of dense and convolutional layers with elementwise activations and
    average pooling, as `mlp`, `cnn` and the published networks are. Raises EngineError for others,
    Cancelled where the user asked to stop.
    """
    layers = _layers(problem)
    first, second = _weights(layers, a), _weights(layers, b)
    tries = []
    for forward in (False, True):
        match = _Match(layers, first, second)
        source, sweeps, better = generator(seed, "alignment"), 0, len(layers) > 1
        if forward:
            for at in range(len(layers) - 1):
                match.improve(at, ahead=False)
        while better and sweeps < SWEEPS:
            better, sweeps = False, sweeps + 1
            for at in torch.randperm(len(layers) - 1, generator=source).tolist():
                problem.unless_cancelled()
                better |= match.improve(at)
        theta = _rearranged(layers, b, match.orders, match.signs)
        tries.append((norm(a - theta), theta, match, sweeps))
    after, theta, match, sweeps = min(tries, key=lambda found: found[0])
    return Alignment(
        theta,
        sum(layer.units for layer in layers[:-1]),
        sum(int((order != np.arange(len(order))).sum()) for order in match.orders),
        sum(int((sign < 0).sum()) for sign in match.signs),
        any(layer.odd for layer in layers[:-1]),
        norm(a - b),
        after,
        sweeps,
    )


def _layers(problem: Problem) -> list[_Layer]:
    """The layers with weights, in order; raises EngineError for what cannot be aligned."""
    if not isinstance(problem.network, nn.Sequential):
        raise EngineError(
            "alignment is for sequential networks (mlp, cnn and the published ones), not for a"
            f" {type(problem.network).__name__}"
        )
    found: list[tuple[nn.Linear | nn.Conv2d, bool]] = []
    for module in problem.network:
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1):
            found.append((module, True))
        elif isinstance(module, _ELEMENTWISE):
            if found:
                found[-1] = (found[-1][0], found[-1][1] and isinstance(module, _ODD))
        elif not isinstance(module, _PASSING):
            raise EngineError(
                f"alignment does not know {type(module).__name__} layers: it is for dense and"
                " convolutional layers with elementwise activations and average pooling"
            )
    if not found:
        raise EngineError("alignment needs a dense or convolutional layer, and there is none")
    if len({id(module) for module, _ in found}) < len(found):
        raise EngineError("alignment is not for networks that use a layer twice")
    layers: list[_Layer] = []
    for module, odd in found:
        slots = problem.slots_of(module)
        if len(slots) < 1 + (module.bias is not None):
            raise EngineError("alignment is not for networks with layers that are not trained")
        units, weight = module.weight.shape[0], slots["weight"]
        inputs = layers[-1].units if layers else module.weight.shape[1]
        if module.weight.shape[1] % inputs:
            raise EngineError("alignment cannot tell which units are which between two layers")
        share = weight.size // (units * inputs)
        layers.append(_Layer(weight, slots.get("bias"), units, inputs, share, odd))
    return layers


def _weights(layers: Sequence[_Layer], theta: Tensor) -> list[tuple[Numbers, Numbers]]:
    """Each layer's weights (units, inputs, share) and biases (units,), in float64."""
    flat = theta.detach().cpu().double().numpy()
    found = []
    for layer in layers:
        weight = flat[layer.weight.offset :][: layer.weight.size]
        bias = np.zeros(layer.units)
        if layer.bias is not None:
            bias = flat[layer.bias.offset :][: layer.bias.size]
        found.append((weight.reshape(layer.units, layer.inputs, layer.share), bias))
    return found


class _Match:
    """The order and signs of each hidden layer's units of B, at first as they are."""

    def __init__(
        self,
        layers: Sequence[_Layer],
        first: Sequence[tuple[Numbers, Numbers]],
        second: Sequence[tuple[Numbers, Numbers]],
    ) -> None:
        self.layers, self.first, self.second = layers, first, second
        self.orders: list[Order] = [np.arange(layer.units) for layer in layers[:-1]]
        self.signs: list[Numbers] = [np.ones(layer.units) for layer in layers[:-1]]

    def improve(self, at: int, *, ahead: bool = True) -> bool:
        """Chooses those of one layer, given the others'; whether it helped.

        ahead: by the weights to the next layer as well as by those into this one.
        """
        from scipy.optimize import linear_sum_assignment

        gains = self._gains(at, ahead)
        rows = np.arange(len(gains))
        before = float((gains[rows, self.orders[at]] * self.signs[at]).sum())
        odd = self.layers[at].odd
        worth = np.abs(gains) if odd else gains
        order: Order = linear_sum_assignment(worth, maximize=True)[1]
        # Less than that is rounding, on which it would go round for ever.
        if not float(worth[rows, order].sum()) > before + 1e-9 * float(np.abs(gains).max()):
            return False
        self.orders[at] = order
        if odd:
            self.signs[at] = np.where(gains[rows, order] < 0.0, -1.0, 1.0)
        return True

    def _gains(self, at: int, ahead: bool) -> Numbers:
        """⟨weights of A's unit i, weights of B's unit j⟩, (units, units)."""
        weight, bias = self.second[at]
        if at:
            weight = weight[:, self.orders[at - 1]] * self.signs[at - 1][:, None]
        (mine, own), (following, _) = self.first[at], self.first[at + 1]
        gains: Numbers = np.tensordot(mine, weight, ([1, 2], [1, 2])) + np.outer(own, bias)
        if not ahead:
            return gains
        after = self.second[at + 1][0]
        if at + 1 < len(self.orders):
            after = after[self.orders[at + 1]] * self.signs[at + 1][:, None, None]
        return gains + np.tensordot(following, after, ([0, 2], [0, 2]))


def _rearranged(
    layers: Sequence[_Layer], theta: Tensor, orders: Sequence[Order], signs: Sequence[Numbers]
) -> Tensor:
    """θ (p,) with the units of every hidden layer in this order and with these signs: exact."""
    result = theta.clone()
    for at, layer in enumerate(layers):
        view = result[layer.weight.offset :][: layer.weight.size]
        weight = view.view(layer.units, layer.inputs, layer.share)
        if at < len(orders):
            order = torch.as_tensor(orders[at], device=theta.device)
            sign = torch.as_tensor(signs[at]).to(theta)
            weight.copy_(weight[order] * sign[:, None, None])
            if layer.bias is not None:
                bias = result[layer.bias.offset :][: layer.bias.size]
                bias.copy_(bias[order] * sign)
        if at:
            order = torch.as_tensor(orders[at - 1], device=theta.device)
            sign = torch.as_tensor(signs[at - 1]).to(theta)
            weight.copy_(weight[:, order] * sign[:, None])
    return result
