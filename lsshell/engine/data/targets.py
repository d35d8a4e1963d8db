"""What a user's targets mean: classes or real numbers."""

from __future__ import annotations

import numpy as np

from lsshell.engine.data.dataset import Task
from lsshell.engine.errors import EngineError

# More distinct integers than this, and than half the examples, look like measurements.
_MANY = 100


def task_of(y: np.ndarray, asked: Task | None, where: str) -> Task:
    """Integers and text mean classification, real numbers regression; `asked` says otherwise.

    Raises EngineError where the targets cannot be what is asked.
    """
    textual = y.dtype.kind in "US"
    whole = textual or y.dtype.kind in "iub"
    if asked is None:
        return "classification" if whole else "regression"
    if asked == "regression" and textual:
        raise EngineError(f"{where} holds text: --task regression needs numbers")
    if asked == "classification" and not whole and not (y == np.round(y)).all():
        raise EngineError(f"{where} holds real numbers: --task classification needs whole ones")
    return asked


def doubt(y: np.ndarray, classes: int, where: str) -> tuple[str, ...]:
    """A note where integers read as classes look like numbers."""
    if y.dtype.kind in "US" or classes <= max(_MANY, len(y) // 2):
        return ()
    return (f"{where} holds {classes} distinct integers, read as classes; or --task regression",)
