"""A part of the examples for a measure: drawn once from the seed, so the same at every place."""

from __future__ import annotations

import torch
from torch import Tensor

from lsshell.engine.seeds import generator


def drawn(total: int, count: int | None, seed: int, purpose: str) -> Tensor:
    """Indices (count,), ascending, of so many of `total` examples without replacement; of all
    where `count` is None or no less. Each purpose draws for itself.
    """
    if count is None or count >= total:
        return torch.arange(total)
    order = torch.randperm(total, generator=generator(seed, purpose))
    return order[:count].sort().values
