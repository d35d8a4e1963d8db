"""The user's own arrays: .npz files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from lsshell.engine.data.dataset import Source, Task
from lsshell.engine.data.targets import task_of
from lsshell.engine.errors import EngineError

_SPLIT = ("x_train", "y_train", "x_test", "y_test")
_WHOLE = ("x", "y")


def read_archive(path: Path, task: Task | None) -> Source:
    """`x_train, y_train, x_test, y_test`, or `x, y` to be split.

    Inputs (N, …) of bytes are pixels, and (N, H, W) of bytes grey images (N, 1, H, W); floats stay
    as they are. Targets (N,) of integers are class indices from 0, text class names, real numbers
    (N,) or (N, k) regression targets; one-hot rows (N, k) of integers are classes too.
    """
    arrays = _arrays(path)
    names = _SPLIT if all(n in arrays for n in _SPLIT) else _WHOLE
    if not all(n in arrays for n in names):
        raise EngineError(
            f"{path} must hold {', '.join(_SPLIT)}, or x, y; it holds {', '.join(arrays) or 'none'}"
        )
    parts = [_pair(path, arrays, *names[i : i + 2]) for i in range(0, len(names), 2)]
    if len(parts) == 2 and parts[0][0].shape[1:] != parts[1][0].shape[1:]:
        raise EngineError(f"{path}: x_train is {_by(parts[0][0])}, x_test is {_by(parts[1][0])}")
    if len(parts) == 2 and parts[0][1].shape[1:] != parts[1][1].shape[1:]:
        raise EngineError(f"{path}: y_train is {_by(parts[0][1])}, y_test is {_by(parts[1][1])}")
    found = task_of(np.concatenate([y for _, y in parts]), task, f"{path}: {names[1]}")
    if found == "classification":
        targets, classes = _classes(path, [y for _, y in parts])
    else:
        targets, classes = [_finite(path, names[1], y.astype(np.float64)) for _, y in parts], ()
    return Source(
        name=path.name,
        x=parts[0][0],
        y=targets[0],
        task=found,
        classes=classes,
        notes=(),
        x_test=parts[1][0] if len(parts) == 2 else None,
        y_test=targets[1] if len(parts) == 2 else None,
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    wanted = (*_SPLIT, *_WHOLE)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise EngineError(f"{path} is not an .npz archive but a single array")
            return {name: archive[name] for name in archive.files if name in wanted}
    except ValueError as e:
        if "allow_pickle" in str(e) or "pickle" in str(e):
            raise EngineError(
                f"{path} holds pickled Python objects, which could run code: save plain arrays"
            ) from e
        raise EngineError(f"{path} is damaged or not an .npz archive: {e}") from e
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as e:
        raise EngineError(f"{path} is damaged or not an .npz archive: {e}") from e


def _pair(
    path: Path, arrays: dict[str, np.ndarray], x_name: str, y_name: str
) -> tuple[np.ndarray, np.ndarray]:
    x, y = arrays[x_name], arrays[y_name]
    if not x.ndim or len(x) == 0:
        raise EngineError(f"{path}: {x_name} is empty")
    if x.dtype.kind not in "fiub":
        raise EngineError(f"{path}: {x_name} holds {x.dtype}, numbers are needed")
    if not y.ndim or len(x) != len(y):
        count = len(y) if y.ndim else 1
        raise EngineError(f"{path}: {x_name} has {len(x)} examples, {y_name} has {count}")
    if y.dtype.kind not in "fiubUS" or y.ndim > 2:
        raise EngineError(f"{path}: {y_name} must be (N,) or (N, k) of numbers or text")
    if x.ndim == 1:
        x = x[:, None]
    if x.dtype == np.uint8:
        return (x[:, None] if x.ndim == 3 else x), _column(y)
    return _finite(path, x_name, x), _column(y)


def _column(y: np.ndarray) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    one_hot = y.ndim == 2 and y.dtype.kind in "iub" and (y.sum(1) == 1).all() and y.min() >= 0
    return y.argmax(1) if one_hot else y


def _finite(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all():
        raise EngineError(f"{path}: {name} holds NaN or infinite values")
    return array


def _classes(path: Path, targets: list[np.ndarray]) -> tuple[list[np.ndarray], tuple[str, ...]]:
    if targets[0].ndim != 1:
        raise EngineError(f"{path}: classes are (N,) integers or text, or one-hot rows")
    if targets[0].dtype.kind in "US":
        names = np.unique(np.concatenate(targets))
        return [np.searchsorted(names, y) for y in targets], tuple(str(n) for n in names)
    targets = [y.astype(np.int64) for y in targets]
    least, most = min(y.min() for y in targets), max(y.max() for y in targets)
    if least < 0 or most >= max(1000, sum(len(y) for y in targets)):
        raise EngineError(
            f"{path}: labels out of range: {least}…{most}; class indices start at 0"
            " (or --task regression)"
        )
    return targets, tuple(str(k) for k in range(most + 1))


def _by(array: np.ndarray) -> str:
    return "×".join(map(str, array.shape))
