"""Inner products and lengths of flat vectors (p,), and of the rows of a stack of them (k, p)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def dot(a: Tensor, b: Tensor) -> float:
    """a·b."""
    return float(torch.dot(a, b))


def norm(a: Tensor) -> float:
    """‖a‖, accumulated in float64 where the device has it."""
    wide = a if a.device.type == "mps" else a.double()  # a tenth of vector_norm(dtype=…)'s time
    return math.sqrt(dot(wide, wide))


def dots(a: Tensor, b: Tensor) -> Tensor:
    """a·b of each row: (k,) from (k, p)."""
    return torch.linalg.vecdot(a, b)


def squares(a: Tensor) -> Tensor:
    """‖a‖² of each row: (k,) from (k, p), accumulated in float64 where the device has it."""
    wide = a if a.device.type == "mps" else a.double()
    return torch.linalg.vecdot(wide, wide)
