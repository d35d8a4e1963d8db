"""The user's own arrays: .npz files."""

from __future__ import annotations

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
    (N,) or (N, k) regression targets; one-hot rows (N, k) of integers are classes too. Raises
    EngineError for all else.
    """
    arrays = _arrays(path)
    names = tuple(arrays)
    parts = [_pair(path, arrays, *names[i : i + 2]) for i in range(0, len(names), 2)]
    if len(parts) == 2 and parts[0][0].shape[1:] != parts[1][0].shape[1:]:
        raise EngineError(f"{path}: x_train is {_by(parts[0][0])}, x_test is {_by(parts[1][0])}")
    if len({x.dtype == np.uint8 for x, _ in parts}) == 2:  # pixels are scaled, others are not
        raise EngineError(f"{path}: x_train is {parts[0][0].dtype}, x_test {parts[1][0].dtype}")
    if len(parts) == 2 and parts[0][1].shape[1:] != parts[1][1].shape[1:]:
        raise EngineError(f"{path}: y_train is {_by(parts[0][1])}, y_test is {_by(parts[1][1])}")
    if len({y.dtype.kind in "US" for _, y in parts}) == 2:
        raise EngineError(f"{path}: of y_train and y_test one is text and one numbers")
    found = task_of(np.concatenate([y for _, y in parts]), task, f"{path}: {names[1]}")
    if found == "classification":
        targets, classes = _classes(path, [y for _, y in parts])
        if len(classes) < 2:
            raise EngineError(f"{path}: {names[1]} has a single value: nothing to classify")
    else:
        targets, classes = [y.astype(np.float64) for _, y in parts], ()
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
    """The arrays of a split archive or of a whole one, in the order of their names above."""
    try:
        with path.open("rb") as file:
            # Without this mark numpy takes the file for an .npy or a pickle.
            if file.read(2) != b"PK":
                raise EngineError(f"{path} is damaged or not an .npz archive")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            names = _SPLIT if all(n in archive.files for n in _SPLIT) else _WHOLE
            if not all(n in archive.files for n in names):
                raise EngineError(
                    f"{path} must hold {', '.join(_SPLIT)}, or x, y;"
                    f" it holds {', '.join(archive.files) or 'none'}"
                )
            arrays = {name: archive[name] for name in names}
    except EngineError:
        raise
    except Exception as e:  # a damaged archive can raise anything
        if "allow_pickle" in str(e):
            raise EngineError(
                f"{path} holds pickled Python objects, which could run code: save plain arrays"
            ) from e
        raise EngineError(f"{path} is damaged or not an .npz archive: {e}") from e
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy hands on as bytes what it does not know
            raise EngineError(f"{path}: {name} is not an array of numpy")
    return arrays


def _pair(
    path: Path, arrays: dict[str, np.ndarray], x_name: str, y_name: str
) -> tuple[np.ndarray, np.ndarray]:
    x, y = arrays[x_name], arrays[y_name]
    if not x.ndim or not x.size:
        raise EngineError(f"{path}: {x_name} is empty")
    if x.dtype.kind not in "fiub":
        raise EngineError(f"{path}: {x_name} holds {x.dtype}, numbers are needed")
    if not y.ndim or len(x) != len(y):
        count = len(y) if y.ndim else 1
        raise EngineError(f"{path}: {x_name} has {len(x)} examples, {y_name} has {count}")
    if y.dtype.kind not in "fiubUS" or y.ndim > 2 or not y.size:
        raise EngineError(f"{path}: {y_name} must be (N,) or (N, k) of numbers or text")
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim == 3 and x.dtype == np.uint8:
        x = x[:, None]
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    for name, array in ((x_name, x), (y_name, y)):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise EngineError(f"{path}: {name} holds NaN or infinite values")
    return x, y


def _classes(path: Path, targets: list[np.ndarray]) -> tuple[list[np.ndarray], tuple[str, ...]]:
    if targets[0].dtype.kind in "US" and targets[0].ndim == 1:
        if targets[0].dtype.kind == "S":
            targets = [np.char.decode(y, "utf-8", "backslashreplace") for y in targets]
        names = np.unique(np.concatenate(targets))
        return [np.searchsorted(names, y) for y in targets], tuple(str(n) for n in names)
    if targets[0].ndim == 2:
        if not all(_one_hot(y) for y in targets):
            raise EngineError(
                f"{path}: classes are (N,) integers or text, or one-hot rows (or --task regression)"
            )
        return [y.argmax(1) for y in targets], tuple(map(str, range(targets[0].shape[1])))
    targets = [y.astype(np.int64) for y in targets]
    least, most = min(y.min() for y in targets), max(y.max() for y in targets)
    if least < 0 or most >= max(1000, sum(len(y) for y in targets)):
        raise EngineError(
            f"{path}: labels out of range: {least}…{most}; class indices start at 0"
            " (or --task regression)"
        )
    return targets, tuple(str(k) for k in range(most + 1))


def _one_hot(y: np.ndarray) -> bool:
    return y.dtype.kind in "fiub" and bool(((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all())


def _by(array: np.ndarray) -> str:
    return "×".join(map(str, array.shape))
