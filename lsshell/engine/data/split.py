"""Which examples train, which choose and which test, at random under a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from lsshell.engine.data.dataset import Source
from lsshell.engine.errors import EngineError
from lsshell.engine.seeds import generator

DEFAULT_TEST_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the training, validation and test examples in `Source.x`, and what to say.

    `test` is None where the source has a test set of its own.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray | None
    note: str


def split(
    source: Source, train: int | None, test: float | None, seed: int, validation: int = 0
) -> Split:
    """`train` examples (None: all there are), `validation` ones, and the share `test` of a source
    without a test set.

    One random order serves all: training examples are its first, then those to validate on, test
    examples its last. So the same seed trains on the same examples with and without validation,
    where `train` says how many. A source that has a test set keeps its own order where all its
    examples are taken.
    """
    n = len(source.x)
    available = n if source.x_test is not None else _available(source, n, train, test)
    if validation >= available:
        raise EngineError(
            f"--validation {validation}: {source.name} has {available} examples that do not test,"
            " and some must train"
        )
    available -= validation
    if train is not None and train > available:
        raise EngineError(
            f"--train {train}: {source.name} has {available} training examples"
            + (f" ({n} in all)" if available < n else "")
        )
    if source.x_test is not None and train is None and not validation:
        order, how = np.arange(n), ""
    else:
        order, how = _random_order(n, seed), f", chosen at random under seed {seed}"
    rows = order[: available if train is None else train]
    chooses = order[len(rows) : len(rows) + validation]
    held_out = None
    if source.x_test is None:
        rest = train is not None and source.rest_is_test and test is None
        held_out = order[(len(rows) if rest else available) + validation :]
    tests = len(source.x_test if held_out is None else held_out)
    words = [f"{len(rows)} training", *([f"{validation} validation"] if validation else [])]
    return Split(rows, chooses, held_out, f"{', '.join(words)} and {tests} test examples{how}")


def _available(source: Source, n: int, train: int | None, test: float | None) -> int:
    """How many examples may train: all but those held out, of which there is at least one."""
    if n < 2:
        raise EngineError(f"{source.name} holds {n} example{'s' * (n != 1)}; two are the least")
    if train is not None and test is None and source.rest_is_test:
        return n - 1
    return n - min(max(round(n * (DEFAULT_TEST_SHARE if test is None else test)), 1), n - 1)


def _random_order(n: int, seed: int) -> np.ndarray:
    # Sorting random keys: torch.randperm's algorithm is not promised to stay what it is.
    keys = torch.rand(n, generator=generator(seed, "data"), dtype=torch.float64)
    return torch.argsort(keys, stable=True).numpy()
