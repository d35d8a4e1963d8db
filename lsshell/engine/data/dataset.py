"""A data set: as read from its source, and as the problem sees it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

Task = Literal["classification", "regression"]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training and test examples as the problem sees them, on the CPU.

    `x_train`, `x_test` (N, …) are float32. `y_train`, `y_test` are int64 (N,) class indices, or
    float64 (N,) or (N, outputs) regression targets in their own units. `outputs` counts classes or
    target columns; `classes` are the names in the order of their indices, () for regression.
    `notes` are sentences for the user: the source, which examples, what was scaled or dropped.
    Validation examples, where some were asked for, are neither trained nor tested on: to choose by.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    task: Task
    outputs: int
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    digest: str
    x_validation: Tensor | None = None
    y_validation: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """Everything a source holds, before examples are chosen and inputs scaled.

    `x` (N, …) and `y` (N,) or (N, k) are the examples to train on, and to test on as well where
    `x_test` and `y_test` are None. Inputs of type uint8 are pixels, to be divided by 255;
    `standardised` (features,) is true for the columns to be z-scored. With `rest_is_test`, what a
    choice of training examples leaves over is the test set.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    task: Task
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    x_test: np.ndarray | None = None
    y_test: np.ndarray | None = None
    standardised: np.ndarray | None = None
    rest_is_test: bool = False


def digest_of(*tensors: Tensor) -> str:
    """SHA-256, in hexadecimal, of the tensors' types, shapes and bytes, in order."""
    sha = hashlib.sha256()
    for tensor in tensors:
        array = np.ascontiguousarray(tensor.numpy())
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(array)
    return sha.hexdigest()
