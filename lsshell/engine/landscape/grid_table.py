"""Values over a grid, read from the table that `slice --save` writes."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lsshell.engine.errors import EngineError

AXES = ("a", "b")
MOST_ROWS = 4_000_000


@dataclass(frozen=True, eq=False)
class GridTable:
    """A column over the grid of the others: [i, j] of `values` is at axes[0][i], axes[1][j]."""

    column: str
    axes: tuple[tuple[float, ...], ...]
    values: np.ndarray


def read_grid(file: Path, column: str) -> GridTable:
    """Column `column` of FILE.csv, a row a grid point, in any order; the coefficients are in the
    columns a and, of a plane, b.

    Raises EngineError where the file cannot be read, has no such columns, holds what is no number,
    or is not a whole grid: every a with every b, once.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return _grid(file, csv.DictReader(stream), column)
    except FileNotFoundError as e:
        raise EngineError(f"there is no file {file}") from e
    except OSError as e:
        raise EngineError(f"{file} cannot be read: {e.strerror}") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise EngineError(f"{file.name} is not a table as `slice --save FILE.csv` writes it") from e


def _grid(file: Path, rows: csv.DictReader[str], column: str) -> GridTable:
    names = tuple(rows.fieldnames or ())
    axes = tuple(name for name in AXES if name in names)
    if axes[:1] != ("a",):
        raise EngineError(
            f"{file.name} has no column a (and b) of coefficients: `slice --save FILE.csv` writes"
            " them"
        )
    if column not in names:
        others = ", ".join(n for n in names if n not in axes) or "none besides the coefficients"
        raise EngineError(f"{file.name} has no column {column}; there are {others}")
    found: dict[tuple[float, ...], float] = {}
    for number, row in enumerate(rows, start=2):
        try:
            at = tuple(float(row[axis]) for axis in axes)
            value = float(row[column])
        except (TypeError, ValueError) as e:
            raise EngineError(f"{file.name}:{number}: not a number in each column") from e
        if not np.isfinite(at).all():
            raise EngineError(f"{file.name}:{number}: a coefficient that is not finite")
        if at in found:
            raise EngineError(f"{file.name}:{number}: the grid point {at} is there twice")
        if len(found) == MOST_ROWS:
            raise EngineError(f"{file.name} has more than {MOST_ROWS} rows")
        found[at] = value
    if not found:
        raise EngineError(f"{file.name} has no rows")
    places = [sorted({at[k] for at in found}) for k in range(len(axes))]
    shape = tuple(map(len, places))
    if len(found) != np.prod(shape):
        raise EngineError(
            f"{file.name} is not a whole grid: {len(found)} rows for"
            f" {' × '.join(map(str, shape))} points"
        )
    values = np.empty(shape)
    index = [{a: k for k, a in enumerate(axis)} for axis in places]
    for at, value in found.items():
        values[tuple(of[a] for of, a in zip(index, at, strict=True))] = value
    return GridTable(column, tuple(tuple(axis) for axis in places), values)
