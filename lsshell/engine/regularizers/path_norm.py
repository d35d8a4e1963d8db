"""`path-norm`: the sum over input–output paths of products of squared weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers.regularizer import Regularizer

# Functions that pass a path on: activations count as the identity, as in the linear network.
_ACTIVATION_NAMES = """
tanh relu relu_ gelu silu sigmoid elu elu_ softplus leaky_relu leaky_relu_ hardtanh relu6 mish selu
celu softsign tanhshrink hardswish hardsigmoid prelu rrelu threshold logsigmoid dropout dropout1d
dropout2d dropout3d alpha_dropout
"""
_ACTIVATIONS = frozenset(_ACTIVATION_NAMES.split())
# Functions linear in the activations with the weights as coefficients, …
_WEIGHING = frozenset(("linear", "conv1d", "conv2d", "conv3d"))
# … and functions that only move or add activations.
_MOVING_NAMES = """
flatten reshape view squeeze unsqueeze permute transpose contiguous cat add __add__ __iadd__
__radd__ add_ pad stack __get__ size dim numel
"""
_MOVING = frozenset(_MOVING_NAMES.split())
_POOLING = {"avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3}


class PathNorm(Regularizer):
    """R = 1ᵀ f̃(1): f̃ the network with its weights squared, activations as the identity.

    That is Σ over paths from an input (or a bias) to an output of Π w² (Neyshabur, Tomioka &
    Srebro 2015, φ₂²). For ReLU networks rescaling a unit leaves it unchanged; for others it is a
    bound's proxy. Raises EngineError for networks of other than dense and convolutional layers,
    average pooling, batch norm and sums.
    """

    name: ClassVar[str] = "path-norm"
    formula = "Σ paths Π w²"

    def __init__(self, problem: Problem, theta: Tensor, seed: int) -> None:
        super().__init__(problem, theta, seed)
        self.ones = torch.ones(
            (1, *problem.x_train.shape[1:]), device=theta.device, dtype=problem.accumulate
        )
        with torch.no_grad():
            self._paths(theta)

    def value_and_gradient(self, theta: Tensor, out: Tensor) -> float:
        with torch.enable_grad():
            leaf = theta.detach().clone().requires_grad_()
            total = self._paths(leaf)
            (gradient,) = torch.autograd.grad(total, leaf)
        out.copy_(gradient)
        return float(total.detach())

    def value(self, theta: Tensor) -> float:
        with torch.no_grad():
            return float(self._paths(theta))

    def _paths(self, theta: Tensor) -> Tensor:
        wide = self.problem.accumulate
        squares = self.problem.tensors(theta.to(wide).square())
        for name, q in self.problem.network.named_parameters():
            if name not in squares:  # frozen: no part of θ, but on the paths
                squares[name] = q.detach().to(wide).square()
        with _SquaredLinearNetwork() as mode:
            total = functional_call(self.problem.network, squares, (self.ones,))
        if not mode.weighed:
            raise EngineError("path-norm is not defined for this network: its layers are hidden")
        return total.sum()


class _SquaredLinearNetwork(TorchFunctionMode):
    """Runs a network's forward pass with squared coefficients and no activations."""

    def __init__(self) -> None:
        super().__init__()
        self.weighed = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if name in _ACTIVATIONS:
            return args[0] if args else kwargs["input"]
        if name in _WEIGHING:
            self.weighed += 1
            return func(*args, **kwargs)
        if name in _MOVING:
            return func(*args, **kwargs)
        if name in _POOLING:
            return _average_pool(func, _POOLING[name], args, kwargs)
        if name == "batch_norm":
            return _batch_norm(*args, **kwargs)
        raise EngineError(f"path-norm is not defined for a network that uses {name}")


def _average_pool(
    func: Callable[..., Any], rank: int, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """Each input counts with the square of 1/cells."""
    kernel = args[1] if len(args) > 1 else kwargs["kernel_size"]
    cells = kernel**rank if isinstance(kernel, int) else math.prod(kernel)
    return func(*args, **kwargs) / cells


def _batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Frozen statistics: x/σ², with weight and bias squared already, and −μ/σ·γ a bias too."""
    shape = (1, -1, *[1] * (x.ndim - 2))
    variance = variance.to(x.dtype) + eps
    scale = 1.0 / variance
    shift = mean.to(x.dtype).square() / variance
    if weight is not None:
        scale, shift = scale * weight, shift * weight
    if bias is not None:
        shift = shift + bias
    return x * scale.view(shape) + shift.view(shape)
