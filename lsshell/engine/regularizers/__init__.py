"""Regularisers R(θ): each a value and an exact gradient, switched on with a weight."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers.curvature import HessianTrace
from lsshell.engine.regularizers.inputs import GradientNorm, Jacobian
from lsshell.engine.regularizers.norms import L1, L2, Distance, Elastic, L2Weights, Random
from lsshell.engine.regularizers.path_norm import PathNorm
from lsshell.engine.regularizers.regularizer import Regularizer
from lsshell.engine.regularizers.sparsity import Compress, Group
from lsshell.engine.regularizers.spectral import Spectral
from lsshell.engine.regularizers.weighted_sum import WeightedSum
from lsshell.engine.suggestions import did_you_mean

_KINDS: tuple[type[Regularizer], ...] = (
    L2,
    L2Weights,
    L1,
    Elastic,
    Group,
    Compress,
    Spectral,
    PathNorm,
    Jacobian,
    GradientNorm,
    HessianTrace,
    Distance,
    Random,
)
REGULARIZERS: dict[str, type[Regularizer]] = {kind.name: kind for kind in _KINDS}


def make_regularizer(
    name: str, problem: Problem, theta: Tensor, *, seed: int = 0, **options: Any
) -> Regularizer:
    """The regulariser `name` on this problem, switched on at θ (p,), with its own options.

    Raises EngineError for an unknown name or option, a value out of range, and a network for
    which it is not defined.
    """
    if name not in REGULARIZERS:
        raise EngineError(
            f"no regulariser {name}{did_you_mean(name, REGULARIZERS)}; there are"
            f" {', '.join(REGULARIZERS)}"
        )
    kind = REGULARIZERS[name]
    parameters = inspect.signature(kind).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            takes = f"takes --{', --'.join(known)}" if known else "takes no options"
            raise EngineError(f"{name} has no option --{option}: it {takes}")
    return kind(problem, theta, seed, **options)


__all__ = ["REGULARIZERS", "Regularizer", "WeightedSum", "make_regularizer"]
