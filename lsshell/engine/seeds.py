"""Every random number comes from a generator made here."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose ("data", "init", "shuffle", …) under the session's seed.

    Purposes are independent of each other and of the order in which they are asked for, so a
    session that is resumed, or a script with a line added, draws the same numbers.
    """
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
