"""CIFAR-10 in its official archives, binary or pickled; no code in a pickle is run."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lsshell.engine.data.dataset import Source
from lsshell.engine.errors import EngineError

_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_PIXELS = 3 * 32 * 32
_TRAIN = tuple(f"data_batch_{k}" for k in range(1, 6))
_TEST = "test_batch"
_FOLDERS = {"cifar-10-batches-bin": ".bin", "cifar-10-batches-py": ""}
_ARCHIVES = {
    "cifar-10-binary.tar.gz": ("cifar-10-batches-bin", ".bin"),
    "cifar-10-python.tar.gz": ("cifar-10-batches-py", ""),
}


def read_cifar10(root: Path) -> Source:
    """CIFAR-10 from the folders or .tar.gz archives of cs.toronto.edu, anywhere in `root`."""
    read, suffix, where = _find(root)
    decode = _from_binary if suffix else _from_pickle
    parts = {
        name: decode(read(name + suffix), f"{where}/{name}{suffix}") for name in (*_TRAIN, _TEST)
    }
    x = np.concatenate([parts[name][0] for name in _TRAIN])
    y = np.concatenate([parts[name][1] for name in _TRAIN])
    x_test, y_test = parts[_TEST]
    return Source(
        name="cifar10",
        x=x,
        y=y,
        task="classification",
        classes=_CLASSES,
        notes=(f"cifar10 from {where}",),
        x_test=x_test,
        y_test=y_test,
    )


def _find(root: Path) -> tuple[Callable[[str], bytes], str, Path]:
    """How to read a file of the data set, what its name ends in, and where it lies."""
    for base in (root, root / "cifar10", root / "CIFAR10", root / "cifar-10"):
        folders = [(base / folder, suffix) for folder, suffix in _FOLDERS.items()]
        for folder, suffix in (*folders, (base, ".bin"), (base, "")):
            if (folder / f"{_TEST}{suffix}").is_file():
                return (lambda name, folder=folder: _file(folder / name)), suffix, folder
        for archive, (folder, suffix) in _ARCHIVES.items():
            path = base / archive
            if path.is_file():
                return _unpacked(path, folder, suffix).__getitem__, suffix, path
    raise EngineError(
        f"cifar10 was not found under {root}: no {', no '.join((*_FOLDERS, *_ARCHIVES))} there"
    )


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise EngineError(f"{path} cannot be read: {e.strerror}") from e


def _unpacked(archive: Path, folder: str, suffix: str) -> dict[str, bytes]:
    """The batches of a .tar.gz, in one pass up to its end, where gzip keeps the checksum."""
    wanted = {f"{folder}/{name}{suffix}": name + suffix for name in (*_TRAIN, _TEST)}
    found = {}
    try:
        with gzip.open(archive) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    if member.name in wanted and member.isreg():
                        found[wanted[member.name]] = tar.extractfile(member).read()
            while stream.read(1 << 20):
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as e:
        raise EngineError(f"{archive} is damaged: {e}") from e
    for path, name in wanted.items():
        if name not in found:
            raise EngineError(f"{archive} holds no file {path}")
    return found


def _from_binary(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label byte and 3072 pixel bytes, channel by channel."""
    if not data or len(data) % (1 + _PIXELS):
        raise EngineError(f"{where} is truncated or damaged: not whole records of 3073 bytes")
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return _checked(records[:, 1:], records[:, 0], where)


def _from_pickle(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        found = _Reader(io.BytesIO(data), encoding="bytes").load()
        pixels, labels = found[b"data"].array().reshape(-1, _PIXELS), np.array(found[b"labels"])
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError("its labels are not a list of integers")
    except Exception as e:  # a damaged pickle can raise anything
        raise EngineError(f"{where} is not a batch of CIFAR-10 or is damaged: {e}") from e
    return _checked(pixels, labels, where)


def _checked(pixels: np.ndarray, labels: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    if len(pixels) != len(labels) or not len(labels):
        raise EngineError(f"{where} holds {len(pixels)} images and {len(labels)} labels")
    wrong = labels[(labels < 0) | (labels >= len(_CLASSES))]
    if len(wrong):
        raise EngineError(f"{where} holds a label outside 0…9: {wrong[0]}")
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)


class _Array:
    """Stands in for numpy.ndarray: keeps what a pickled array is made of, and runs nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        _, shape, dtype, fortran, raw = self.state
        if not isinstance(dtype, _Type) or dtype.name not in ("u1", b"u1") or fortran:
            raise ValueError("its pixels are not bytes in C order")
        return np.frombuffer(raw, np.uint8).reshape(shape)


class _Type:
    """Stands in for numpy.dtype."""

    def __init__(self, name: str | bytes = "", *arguments: Any) -> None:
        self.name = name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        pass


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """Stands in for _codecs.encode, with which Python 3 writes bytes in protocol 2."""
    return text.encode("latin1")


class _Reader(pickle.Unpickler):
    """Knows the four names that the official files use, each as a stand-in; refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"),
            "ndarray": ("numpy",),
            "dtype": ("numpy",),
            "encode": ("_codecs",),
        }
        if module not in known.get(name, ()):
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, and code in data files is not run"
            )
        return {"_reconstruct": _Array, "ndarray": _Array, "dtype": _Type, "encode": _encoded}[name]
