"""Linear and convolution layers, what goes in and what comes out: of these, gradients by example
are products of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from lsshell.engine.problem import Problem


def run_through(
    problem: Problem, modules: Sequence[nn.Module], x: Tensor
) -> tuple[Tensor, list[tuple[nn.Module, Tensor, Tensor]]]:
    """Outputs for inputs x, and inputs and output of each layer that was called once, with a row
    an example, in the problem's precision. The network is at the θ placed last.
    """
    seen: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {m: [] for m in modules}

    def take(
        module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any
    ) -> Tensor:
        given = inputs[0] if inputs else named.get("input")
        seen[module].append((given.detach(), output))
        return output.clone()  # what follows may work in place

    hooks = [m.register_forward_hook(take, with_kwargs=True) for m in modules]
    try:
        outputs = problem.network(x)
    finally:
        for hook in hooks:
            hook.remove()
    k = len(x)
    taken = [
        (module, *calls[0])
        for module, calls in seen.items()
        if len(calls) == 1
        and calls[0][1].requires_grad
        and len(calls[0][0]) == len(calls[0][1]) == k
        and calls[0][0].dtype == calls[0][1].dtype == problem.dtype
        and calls[0][1].ndim >= (4 if type(module) is nn.Conv2d else 2)
    ]
    return outputs, taken


def patches(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    """What each output position sees: (k, in·height·width, positions)."""
    padding = module.padding if isinstance(module.padding, tuple) else (0, 0)
    return nn.functional.unfold(inputs, module.kernel_size, module.dilation, padding, module.stride)


def covered_layers(problem: Problem) -> list[nn.Module]:
    """Linear and plain convolution layers with trainable weights of their own."""
    uses: dict[int, int] = {}
    modules = list(problem.network.modules())
    for m in modules:
        for q in m.parameters(recurse=False):
            uses[id(q)] = uses.get(id(q), 0) + 1
    return [
        m
        for m in modules
        if (type(m) is nn.Linear or (type(m) is nn.Conv2d and _plain(m)))
        and "weight" in m._parameters  # not made of others, as when pruned
        and all(q.requires_grad and uses[id(q)] == 1 for q in m.parameters(recurse=False))
    ]


def _plain(module: nn.Conv2d) -> bool:
    return module.groups == 1 and module.padding_mode == "zeros" and module.padding != "same"


def positions(module: nn.Module, delta: Tensor) -> int:
    """How often the layer is applied to one example."""
    return (delta[0, 0] if type(module) is nn.Conv2d else delta[0, ..., 0]).numel()
