"""Where the parameters of recorded points are kept: in memory up to a budget, then on disk."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from lsshell.engine.checkpoints import read_checkpoint, write_checkpoint
from lsshell.engine.errors import EngineError

MEMORY_BUDGET = 256 << 20
WHOLE = slice(None)


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
        with self._reading(index) as path:
            return load_file(path)

    def row(self, index: int, names: Sequence[str], span: slice = WHOLE) -> Tensor:
        """θ[span] of point `index`: its tensors `names` one after the other, flattened.

        Of a point on disk only that part is read. Raises EngineError on an unreadable file.
        """
        held = self._memory.get(index)
        if held is not None:
            return _cut([(held[name].shape, held[name].__getitem__) for name in names], span)
        with self._reading(index) as path, safe_open(path, "pt") as file:
            slices = [file.get_slice(name) for name in names]
            return _cut([(s.get_shape(), s.__getitem__) for s in slices], span)

    @contextlib.contextmanager
    def _reading(self, index: int) -> Iterator[Path]:
        path = self.path(index)
        try:
            yield path
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


def _cut(tensors: Sequence[tuple[Sequence[int], Callable[[slice], Tensor]]], span: slice) -> Tensor:
    """A span of tensors put one after the other, each a shape and what reads a slice of it."""
    sizes = [math.prod(shape) for shape, _ in tensors]
    start, stop, _ = span.indices(sum(sizes))
    parts, offset = [], 0
    for (shape, read), size in zip(tensors, sizes, strict=True):
        first, last = max(start - offset, 0), min(stop - offset, size)
        if first < last:
            width = size // shape[0] if shape else 1
            rows = slice(first // width, -(-last // width)) if shape else ...
            skipped = first // width * width
            parts.append(read(rows).reshape(-1)[first - skipped : last - skipped])
        offset += size
    # By numpy: torch's own would enter OpenMP, see `projection.GrowingProjection`.
    return torch.from_numpy(np.concatenate([part.numpy() for part in parts]))


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())
