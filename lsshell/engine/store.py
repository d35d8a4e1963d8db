"""Where the parameters of recorded points are kept: in memory up to a budget, then on disk."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lsshell.engine.checkpoints import read_checkpoint, write_checkpoint
from lsshell.engine.errors import EngineError

MEMORY_BUDGET = 256 << 20


class PointStore:
    """Tensors of recorded points by number. With a folder, every point is a safetensors file there.

    Without one, points past `budget` bytes go to a temporary folder. Files appear under their
    name only when they are whole. Two rolling files hold the latest step that is not kept, so
    that a killed walk loses at most the step under way.
    """

    def __init__(self, folder: Path | None = None, budget: int = MEMORY_BUDGET) -> None:
        self.folder = folder
        self.budget = budget
        self._memory: OrderedDict[int, dict[str, Tensor]] = OrderedDict()
        self._held = 0
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def keep(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Keeps the tensors of point `index`; raises EngineError where they cannot be written."""
        copies = {name: t.detach().cpu().clone() for name, t in tensors.items()}
        if self.folder is not None:
            write_checkpoint(self.path(index), copies, {"lsshell": "point", "point": str(index)})
        self._hold(index, copies)

    def roll(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Puts the latest step on disk in the place of the one before the last; no-op in memory."""
        if self.folder is None:
            return
        target = self.folder / f"latest-{index % 2}.safetensors"
        metadata = {"lsshell": "latest step", "point": str(index)}
        write_checkpoint(target, tensors, metadata, durable=False)

    def latest(self, index: int) -> Path | None:
        """The rolling file that may hold point `index`."""
        if self.folder is None:
            return None
        return self.folder / f"latest-{index % 2}.safetensors"

    def found(self, index: int) -> dict[str, Tensor] | None:
        """The tensors of point `index` from its own file or a rolling one that still holds it."""
        for path in (self.path(index), self.latest(index)):
            try:
                if path is not None and read_checkpoint(path).metadata.get("point") == str(index):
                    return load_file(path)
            except (OSError, SafetensorError, EngineError):
                continue
        return None

    def drop_rolling(self) -> None:
        """Removes the rolling files: the last point is kept under its own name."""
        for parity in (0, 1):
            path = self.latest(parity)
            if path is not None:
                path.unlink(missing_ok=True)

    def get(self, index: int) -> dict[str, Tensor]:
        """The tensors of point `index`, on the CPU. Raises EngineError on an unreadable file."""
        held = self._memory.get(index)  # one look: another thread may be putting it on disk
        if held is not None:
            return held
        path = self.path(index)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as e:
            raise EngineError(f"the parameters of point {index} cannot be read: {path}: {e}") from e

    def path(self, index: int) -> Path:
        """The file of point `index`."""
        folder = self.folder or Path(self._spill_folder())
        return folder / f"{index:06d}.safetensors"

    def _hold(self, index: int, tensors: dict[str, Tensor]) -> None:
        self._memory[index] = tensors
        self._held += _size(tensors)
        while self._held > self.budget and len(self._memory) > 1:
            old, dropped = next(iter(self._memory.items()))
            if self.folder is None:  # on disk before it leaves memory
                write_checkpoint(self.path(old), dropped, {"point": str(old)})
            del self._memory[old]
            self._held -= _size(dropped)

    def _spill_folder(self) -> str:
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix=f"lsshell-{os.getpid()}-")
        return self._temporary.name


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())
