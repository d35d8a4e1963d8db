"""The points of a traversal as a table in a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.sessions.errors import CommandError
from lsshell.sessions.points import point_values
from lsshell.sessions.results import flatten
from lsshell.sessions.whole_file import write_whole

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine
    from lsshell.engine.path import Point


def export_points(engine: Engine, file: Path) -> int:
    """Writes the points of this traversal; returns how many.

    .csv: a row a point; .json: {"points": […]}; .npz and .safetensors: a column a number (NaN
    where not measured), `theta` (T, p) of the kept points with `theta_step`. Raises CommandError
    where the format is unknown or the file cannot be written.
    """
    writers: dict[str, Callable[[Engine, list[Point]], bytes]] = {
        ".csv": _csv,
        ".json": _json,
        ".npz": _npz,
        ".safetensors": _safetensors,
    }
    if file.suffix not in writers:
        raise CommandError(f"{file}: an export ends in {', '.join(writers)}")
    points = engine.path.traversal()
    if not points:
        raise CommandError("nothing has been walked yet")
    data = writers[file.suffix](engine, points)
    try:
        write_whole(file, data)
    except OSError as e:
        raise CommandError(f"{file} cannot be written: {e.strerror}") from e
    return len(points)


def _rows(points: list[Point]) -> list[dict[str, Any]]:
    """Flat rows with one set of columns, in the promised order."""
    rows = [{"branch": p.branch, **flatten(point_values(p)), **_steps_of(p)} for p in points]
    columns: dict[str, None] = {}
    for row in sorted(rows, key=len, reverse=True):
        columns.update(dict.fromkeys(row))
    return [{c: row.get(c) for c in columns} for row in rows]


def _steps_of(point: Point) -> dict[str, Any]:
    """What a point says of the step that led to it, and the paper's measure of the residual."""
    return {
        "squared_residual": point.squared_residual,
        "rate": point.rate,
        "corrections": point.corrections,
    }


def _csv(engine: Engine, points: list[Point]) -> bytes:
    rows = _rows(points)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _json(engine: Engine, points: list[Point]) -> bytes:
    values = [{"branch": p.branch, **point_values(p)} for p in points]
    return (json.dumps({"points": values}, indent=1) + "\n").encode()


def _columns(engine: Engine, points: list[Point]) -> dict[str, Any]:
    import torch

    rows = _rows(points)
    columns: dict[str, Any] = {}
    for name in rows[0]:
        if name != "branch":
            values = [float("nan") if row[name] is None else float(row[name]) for row in rows]
            columns[name] = torch.tensor(values, dtype=torch.float64)
    kept = [p for p in points if p.kept]
    flat = engine.ready().flat
    columns["theta"] = torch.stack([flat(engine.path.store.get(p.index)) for p in kept])
    columns["theta_step"] = torch.tensor([p.step for p in kept])
    return columns


def _npz(engine: Engine, points: list[Point]) -> bytes:
    import numpy as np

    out = io.BytesIO()
    branches = np.array([p.branch for p in points])
    arrays = {name: column.numpy() for name, column in _columns(engine, points).items()}
    np.savez(out, branch=branches, **arrays)
    return out.getvalue()


def _safetensors(engine: Engine, points: list[Point]) -> bytes:
    from safetensors.torch import save

    return save(_columns(engine, points), {"format": "lsshell path 1"})
