"""The user's own tables: .csv files with a header."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from lsshell.engine.data.dataset import Source, Task
from lsshell.engine.data.targets import doubt, task_of
from lsshell.engine.errors import EngineError
from lsshell.engine.suggestions import did_you_mean

_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
# A text column with more values than this is a name, not a category.
_MOST_CATEGORIES = 64


def read_table(path: Path, target: str | None, task: Task | None) -> Source:
    """A .csv with a header; `target` names the column to predict, all others are inputs.

    Columns of numbers are inputs to be standardised, columns of text one-hot in the order of
    their sorted values. Rows with a missing cell (empty, NA, NaN, ?) are dropped, and counted in
    the notes.
    """
    header, rows = _rows(path)
    if target is None:
        raise EngineError(f"{path} needs --target COLUMN: {', '.join(header)}")
    if target not in header:
        raise EngineError(
            f"{path} has no column {target!r}{did_you_mean(target, header)}; it has"
            f" {', '.join(header)}"
        )
    if len(header) < 2:
        raise EngineError(f"{path} has no column besides {target}")
    complete = [row for row in rows if not any(c.lower() in _MISSING for c in row)]
    notes = []
    if len(complete) < len(rows):
        notes.append(f"{len(rows) - len(complete)} rows with missing cells dropped")
    if not complete:
        raise EngineError(f"{path} has no row without a missing cell")
    columns = dict(zip(header, zip(*complete, strict=True), strict=True))
    inputs, numeric = [], []
    for name, cells in columns.items():
        if name != target:
            block, is_numeric = _input(path, name, cells)
            inputs.append(block)
            numeric += [is_numeric] * block.shape[1]
    where = f"{path}: {target}"
    y = _target(path, target, columns[target])
    found = task_of(y, task, where)
    classes: tuple[str, ...] = ()
    if found == "classification":
        names, indices = np.unique(y, return_inverse=True)
        notes += doubt(y, len(names), where)
        classes = tuple(str(int(n)) if y.dtype.kind == "f" else str(n) for n in names)
        if len(classes) < 2:
            raise EngineError(f"{where} has a single value: nothing to classify")
        y = indices
    else:
        y = y.astype(np.float64)
    return Source(
        name=path.name,
        x=np.hstack(inputs),
        y=y,
        task=found,
        classes=classes,
        notes=tuple(notes),
        standardised=np.array(numeric),
    )


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of stripped cells, all of one width; line numbers in the errors."""
    header: list[str] = []
    rows: list[list[str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                cells = [c.strip() for c in cells]
                if not any(cells):
                    continue
                if header and len(cells) != len(header):
                    raise EngineError(
                        f"{path}:{reader.line_num}: {len(cells)} cells where the header has"
                        f" {len(header)}"
                    )
                if header:
                    rows.append(cells)
                else:
                    header = cells
    except UnicodeDecodeError as e:
        raise EngineError(f"{path} is not a text file in UTF-8") from e
    except csv.Error as e:
        raise EngineError(f"{path}:{reader.line_num}: {e}") from e
    except OSError as e:
        raise EngineError(f"{path} cannot be read: {e.strerror}") from e
    if not header:
        raise EngineError(f"{path} is empty")
    if all(_number(c) is not None for c in header):
        raise EngineError(f"{path} has no header: its first row must name the columns")
    twice = sorted({c for c in header if header.count(c) > 1})
    if "" in header:
        raise EngineError(f"{path}: column {header.index('') + 1} has no name")
    if twice:
        raise EngineError(f"{path}: column names must differ: {', '.join(twice)}")
    if not rows:
        raise EngineError(f"{path} has a header and no rows")
    return header, rows


def _number(cell: str) -> float | None:
    if "_" in cell:  # Python reads 1_2 as 12
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _numbers(path: Path, name: str, cells: tuple[str, ...]) -> np.ndarray | None:
    values = [_number(c) for c in cells]
    if any(v is None for v in values):
        return None
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise EngineError(f"{path}: column {name} holds infinite values")
    return array


def _input(path: Path, name: str, cells: tuple[str, ...]) -> tuple[np.ndarray, bool]:
    """A block (N, width) of inputs, and whether it is numeric."""
    values = _numbers(path, name, cells)
    if values is not None:
        if np.abs(values).max() > np.finfo(np.float32).max:
            raise EngineError(f"{path}: column {name} holds values too large for float32")
        return values[:, None], True
    categories, indices = np.unique(cells, return_inverse=True)
    if len(categories) > _MOST_CATEGORIES:
        raise EngineError(
            f"{path}: column {name} holds {len(categories)} different texts: leave it out, or make"
            " it a number"
        )
    return np.eye(len(categories))[indices], False


def _target(path: Path, name: str, cells: tuple[str, ...]) -> np.ndarray:
    values = _numbers(path, name, cells)
    if values is None:
        return np.array(cells)
    whole = all(not set(c) & set(".eE") for c in cells)
    return values.astype(np.int64) if whole else values
