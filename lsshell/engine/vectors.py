"""Inner products and lengths of flat vectors (p,), and of the rows of a stack of them (k, p)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

CACHED = 1 << 17


def wide(a: Tensor) -> Tensor:
    """a in float64, where its device has that."""
    return a if a.device.type == "mps" else a.double()


def float64(a: Tensor) -> Tensor:
    """a in float64, on the CPU where its device has none."""
    return a.cpu().double() if a.device.type == "mps" else a.double()


def dot(a: Tensor, b: Tensor) -> float:
    """a·b."""
    return float(torch.dot(a, b))


def norm(a: Tensor) -> float:
    """‖a‖, accumulated in float64 where the device has it."""
    # A tenth of the time of vector_norm(dtype=…).
    return math.sqrt(sum(dot(b, b) for b in (wide(a[part]) for part in spans(a))))


def spans(a: Tensor) -> Iterator[slice]:
    """Parts of the last axis that stay in a processor's cache; all of it on another device."""
    p = a.shape[-1]
    width = CACHED if a.device.type == "cpu" else max(p, 1)
    return (slice(start, start + width) for start in range(0, p, width))


def dots(a: Tensor, b: Tensor) -> Tensor:
    """a·b of each row: (k,) from (k, p)."""
    return torch.linalg.vecdot(a, b)


def squares(a: Tensor) -> Tensor:
    """‖a‖² of each row: (k,) from (k, p), accumulated in float64 where the device has it."""
    a = wide(a)
    return torch.linalg.vecdot(a, a)
