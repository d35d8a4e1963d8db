"""MNIST and Fashion-MNIST in their official IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsshell.engine.data.bundled import DIGITS
from lsshell.engine.data.dataset import Source
from lsshell.engine.errors import EngineError

_CLOTHES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip
_PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
_DIMENSIONS = {"images": 3, "labels": 1}


def read_mnist(root: Path) -> Source:
    """MNIST under `root`, `root/mnist` or torchvision's `root/MNIST/raw`."""
    return _read("mnist", root, ("mnist", "MNIST/raw", "MNIST"), DIGITS)


def read_fashion_mnist(root: Path) -> Source:
    """Fashion-MNIST under `root`, `root/fashion-mnist` or `root/FashionMNIST/raw`."""
    folders = ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST", "fashion")
    return _read("fashion-mnist", root, folders, _CLOTHES)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """An array of unsigned bytes with so many dimensions; raises EngineError on anything else."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as e:
        raise EngineError(f"{path} cannot be read: {e}") from e
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes((0, 0, 8, dimensions)):
        raise EngineError(f"{path} is not an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != math.prod(shape):
        wanted = "×".join(map(str, shape))
        raise EngineError(
            f"{path} is truncated or damaged: {wanted} bytes announced, {len(data) - header} there"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _read(name: str, root: Path, folders: Sequence[str], classes: tuple[str, ...]) -> Source:
    paths = [_find(name, root, folders, part) for part in _PARTS]
    x, y, x_test, y_test = (
        read_idx(path, _DIMENSIONS[part.partition("-")[2]])
        for path, part in zip(paths, _PARTS, strict=True)
    )
    for what, path, images, labels in (
        ("training", paths[1], x, y),
        ("test", paths[3], x_test, y_test),
    ):
        if len(images) != len(labels) or not len(images):
            raise EngineError(
                f"{path}: {len(labels)} labels, and {len(images)} {what} images beside it"
            )
        if labels.max() >= len(classes):
            raise EngineError(f"{path} holds a label outside 0…9: {labels.max()}")
    if x.shape[1:] != x_test.shape[1:] or not x.size:
        sizes = " and ".join("×".join(map(str, a.shape[1:])) for a in (x, x_test))
        raise EngineError(f"{paths[0]} and {paths[2].name} hold images of {sizes} pixels")
    return Source(
        name=name,
        x=x[:, None],
        y=y,
        task="classification",
        classes=classes,
        notes=(f"{name} from {root}",),
        x_test=x_test[:, None],
        y_test=y_test,
    )


def _find(name: str, root: Path, folders: Sequence[str], part: str) -> Path:
    rank = _DIMENSIONS[part.partition("-")[2]]
    names = [f"{part}{dot}idx{rank}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    for folder in (*folders, "."):
        for file in names:
            if (root / folder / file).is_file():
                return root / folder / file
    raise EngineError(
        f"{name} was not found under {root}: no {names[0]} (or .gz) there or in"
        f" {', '.join(folders)}"
    )
