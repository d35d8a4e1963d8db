"""The points of a walk over many processes: kept by the first rank, read by all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lsshell.engine.ranks import Ranks
from lsshell.engine.store import PointStore


class SharedPointStore(PointStore):
    """A PointStore of which the first rank has the files and the memory.

    `get` and `found` are called by all ranks at the same time.
    """

    def __init__(self, ranks: Ranks, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.ranks = ranks

    def keep(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        if self.ranks.first:
            super().keep(index, tensors)

    def get(self, index: int) -> dict[str, Tensor]:
        return self.ranks.from_first(lambda: PointStore.get(self, index))

    def found(self, index: int) -> dict[str, Tensor] | None:
        return self.ranks.from_first(lambda: PointStore.found(self, index))
