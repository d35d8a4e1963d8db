"""Which examples train and which test, at random under a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lsshell.engine.data.dataset import Source
from lsshell.engine.errors import EngineError

DEFAULT_TEST_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the training and test examples in `Source.x`, and what to say of them.

    `test` is None where the source has a test set of its own.
    """

    train: np.ndarray
    test: np.ndarray | None
    notes: tuple[str, ...]


def split(source: Source, train: int | None, test: float | None, seed: int) -> Split:
    """`train` examples (None: all there are) and the share `test` of a source without a test set.

    One random order serves both: training examples are its first, test examples its last. A source
    that has a test set keeps its own order where all its examples are taken.
    """
    n = len(source.x)
    if source.x_test is not None:
        available, rows_test = n, None
        ordered = train is None
    else:
        if n < 2:
            raise EngineError(f"{source.name} holds {n} example; training and testing need two")
        available = _available(source, n, train, test)
        ordered = False
    if train is not None and train > available:
        of = "training examples" if available == n else f"training examples ({n} in all)"
        raise EngineError(f"--train {train}: {source.name} has {available} {of}")
    order = np.arange(n) if ordered else _random_order(n, seed)
    rows_train = order[: available if train is None else train]
    if source.x_test is None:
        rows_test = order[available:]
    n_test = len(source.x_test) if rows_test is None else len(rows_test)
    notes = [f"{len(rows_train)} training and {n_test} test examples"]
    if rows_test is not None:
        notes[0] += f", split at random under seed {seed}"
    if len(rows_train) < available:
        pass
    return Split(rows_train, rows_test, tuple(notes))
