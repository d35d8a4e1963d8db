"""The trace of a curvature matrix from products with random vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.curvature_operator import CurvatureOperator, check_memory
from lsshell.engine.seeds import generator
from lsshell.engine.vectors import dot, wide

TraceMethod = Literal["hutchinson", "hutch++"]

DEFAULT_PROBES = 100
# Probes between two looks at the error, and products that are taken in one call.
ROUND = 10


@dataclass(frozen=True)
class Estimate:
    """A mean over random probes: its value, its standard error, probes, and products spent."""

    value: float
    error: float
    probes: int
    products: int


def hessian_trace(
    operator: CurvatureOperator,
    probes: int = DEFAULT_PROBES,
    method: TraceMethod = "hutchinson",
    seed: int = 0,
    *,
    until: float | None = None,
) -> Estimate:
    """tr H, with its standard error.

    hutchinson: the mean of zᵀHz over Rademacher vectors z (Hutchinson 1989), of variance
    2 Σ_{i≠j} H_ij²: none where H is diagonal. `until`: ends once the standard error is within that
    share of |tr H|, looked at every 10 probes, and after `probes` at the latest.

    hutch++ (Meyer, Musco, Musco & Woodruff 2021): a third of the products make an orthonormal Q
    that spans most of H, a third take tr QᵀHQ exactly, and a third are Hutchinson's for what
    lies outside; the error is that of the last. Much better where few eigenvalues make the trace.
    Holds probes vectors (p,), a third of them for long. Takes no `until`.

    Raises EngineError for fewer than 2 probes (6 for hutch++), which have no error, and where
    the memory does not do.
    """
    check_probes(probes, method, until)
    spent, draw = operator.products, generator(seed, "trace probes")
    if method == "hutchinson":
        forms: list[float] = []
        while len(forms) < probes:
            z = rademacher(operator, min(ROUND, probes - len(forms)), draw)
            forms += _forms(operator, z)
            value, error = _mean(forms)
            if until is not None and error <= until * abs(value):
                break
        return Estimate(value, error, len(forms), operator.products - spent)
    sketch = probes // 3
    rank = min(sketch, operator.p)
    check_memory(operator, 3 * rank * operator.p * operator.theta.element_size())
    rows = torch.cat(
        [
            operator.times(rademacher(operator, min(ROUND, rank - k), draw))
            for k in range(0, rank, ROUND)
        ]
    )
    q = _orthonormal(rows)
    operator.problem.ranks.share(q)
    inside = math.fsum(x for k in range(0, rank, ROUND) for x in _forms(operator, q[k : k + ROUND]))
    if rank == operator.p:
        return Estimate(inside, 0.0, probes, operator.products - spent)
    left = probes - 2 * sketch
    forms = []
    while len(forms) < left:
        z = rademacher(operator, min(ROUND, left - len(forms)), draw)
        z -= (z @ q.T) @ q
        forms += _forms(operator, z)
    outside, error = _mean(forms)
    return Estimate(inside + outside, error, probes, operator.products - spent)


def check_probes(probes: int, method: TraceMethod, until: float | None) -> None:
    """Raises EngineError for what `hessian_trace` does not take."""
    if method not in get_args(TraceMethod):
        raise EngineError(f"{method} is no method: {' or '.join(get_args(TraceMethod))}")
    least = 2 if method == "hutchinson" else 6
    if probes < least:
        raise EngineError(f"probes {probes}: {method} takes at least {least}, for their spread")
    if until is not None and (method != "hutchinson" or not until > 0.0):
        raise EngineError("a relative error to stop at is above 0, and for hutchinson")


def rademacher(operator: CurvatureOperator, count: int, draw: torch.Generator) -> Tensor:
    """Rows (count, p) of independent signs, each its own draw."""
    like = operator.theta
    size = -(-operator.p // 8)  # a bit a sign: drawing takes an eighth of the time
    rows = [torch.randint(256, (size,), generator=draw, dtype=torch.uint8) for _ in range(count)]
    bits = np.unpackbits(torch.stack(rows).numpy(), axis=1, count=operator.p)
    return torch.from_numpy(bits).to(like.device, like.dtype).mul_(2.0).sub_(1.0)


def _forms(operator: CurvatureOperator, rows: Tensor) -> list[float]:
    """zᵀHz of each row."""
    products = operator.times(rows)
    pairs = zip(rows, products, strict=True)
    return [dot(wide(z), wide(hz)) for z, hz in pairs]


def _mean(forms: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    n = len(forms)
    mean = math.fsum(forms) / n
    variance = math.fsum((f - mean) ** 2 for f in forms) / (n - 1)
    return mean, math.sqrt(variance / n)


def _orthonormal(rows: Tensor) -> Tensor:
    """Orthonormal rows (k, p) whose span holds that of the given."""
    host = rows.cpu() if rows.device.type == "mps" else rows
    return torch.linalg.qr(host.T)[0].T.contiguous().to(rows.device)
