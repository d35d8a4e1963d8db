"""The loss along a line or over a plane: slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lsshell.figures.figure import Figure, Series, Surface, far_apart
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_files, with_files
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.slice import Slice
    from lsshell.engine.problem import Split

Quantity = Literal["loss", "accuracy"]
_SPLITS: dict[str, tuple[Split, ...]] = {
    "train": ("train",),
    "test": ("test",),
    "both": ("train", "test"),
}
_NAMES = {"train": "training", "test": "test"}
NEAR = 1e-6  # in coefficients: two marks that are one


@VOCABULARY.command("landscape", "slice")
def slice_(
    a: str = "here",
    /,
    *,
    toward: str | None = None,
    third: Annotated[str | None, Parameter(name="--and")] = None,
    directions: Literal["random", "principal", "hessian"] | None = None,
    dimensions: int | None = None,
    points: int | None = None,
    span: Annotated[str | None, Parameter(name="--range", allow_leading_hyphen=True)] = None,
    seed: int | None = None,
    batch_norm: Literal["frozen", "recomputed"] = "frozen",
    on: Literal["train", "test", "both"] | None = None,
    quantity: Quantity = "loss",
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Look at the loss around a point: curves along a line, or a map of a plane.

    The plane shows the level set L = L* as a contour and the walk as it lies in the plane, or
    nearest to it. The state is untouched.

    Parameters
    ----------
    a
        The middle: here, a point as in `goto`, init, or a checkpoint file.
    toward
        Look along the line to this point: a 0 is A, 1 is there.
    third
        With --toward: the plane through these three points.
    directions
        random (the default: Gaussian, every filter of the norm of the weights' own), principal (the
        walk's first principal axes) or hessian (eigenvectors of the largest eigenvalues).
    dimensions
        1 or 2 (2; with --toward alone, 1).
    points
        Grid points (51 on a line, 31 along each side of a plane).
    span
        How far to look, R for −R … R, or FROM:TO; two of them, with a comma, for the two axes.
        Random: 1 is the weights' own norm (1); principal, hessian: in length; --toward: -0.5:1.5.
    seed
        Of the random directions (the session's).
    batch_norm
        Statistics as they are at A, or recomputed at every grid point.
    on
        Examples: train, test or both (both on a line, train on a plane).
    quantity
        What is drawn: loss or accuracy.
    out
        Write FILE.png, .svg, .pdf or .txt rather than draw here; the session keeps a copy.
    save
        Write all values to FILE.csv or .json.
    """
    from lsshell.engine.landscape.batch_norm import taken_anew
    from lsshell.engine.landscape.slice import take_slice

    check_files(session, out, save)
    engine = session.engine
    if third is not None and toward is None:
        raise CommandError("--and takes a third point besides that of --toward")
    if toward is not None and directions is not None:
        raise CommandError("--toward gives the direction; leave out --directions")
    if quantity == "accuracy" and not engine.ready().classification:
        raise CommandError("--quantity accuracy: regression has none")
    flat = (dimensions or (1 if toward is not None and third is None else 2)) == 2
    splits = _SPLITS[on or ("train" if flat else "both")]
    if out is not None and out.suffix == ".txt" and flat and len(splits) > 1:
        raise CommandError(f"--out {out}: two maps go into .png, .svg or .pdf")
    found = take_slice(
        engine,
        named_place(session, a),
        directions=directions or "random",
        toward=[named_place(session, where) for where in (toward, third) if where is not None],
        dimensions=dimensions,
        points=points,
        spans=None if span is None else parse_spans(span),
        seed=seed,
        batch_norm=batch_norm,
        splits=splits,
    )
    figures = slice_figures(found, quantity)
    text = _text(found)
    if taken_anew(engine.ready(), batch_norm):
        text += "\nbatch norm by statistics taken anew at each point: L* is of another loss"
    reply = Reply(slice_values(found), text, figure=figures[0])
    return with_files(session, reply, out, save, lambda: _rows(found), figures)


def parse_spans(text: str) -> list[tuple[float, float]]:
    """R, FROM:TO, or two of either with a comma."""
    found = []
    try:
        for part in text.split(","):
            low, colon, high = part.partition(":")
            found.append((float(low), float(high)) if colon else (-float(low), float(low)))
    except ValueError as e:
        raise CommandError(
            f"--range {text}: expected a number (0.5), FROM:TO (-0.5:1.5), or two with a comma"
        ) from e
    return found


def slice_values(found: Slice) -> dict[str, Any]:
    """The JSON result: what the grid says in a few numbers."""
    farthest = found.projected.farthest
    outside = max(found.projected.residuals.tolist(), default=None)
    return {
        "where": found.origin.name,
        "directions": found.kind,
        "axes": [
            {"name": name, "from": axis[0], "to": axis[-1], "points": len(axis), "norm": length}
            for name, axis, length in zip(found.names, found.axes, found.lengths, strict=True)
        ],
        "cosine": found.cosine,
        **{split: _split_values(found, split) for split in found.values},
        "level": found.level,
        "under_level": found.under_level,
        "walk": {
            "points": len(found.walk),
            "variance_within": found.projected.explained,
            "out_of_plane": outside,
            "out_of_plane_relative": outside / farthest if outside and farthest else outside,
        },
    }


def _split_values(found: Slice, split: Split) -> dict[str, Any]:
    centre = found.centre[split]
    least, at = found.extreme(split)
    most, there = found.extreme(split, greatest=True)
    rate, rates = centre.accuracy, found.values[split].accuracy
    accuracy = None
    if rate is not None and rates is not None:
        accuracy = {
            "centre": float(rate[0]),
            "minimum": float(rates.min()),
            "maximum": float(rates.max()),
        }
    return {
        "centre": float(centre.loss[0]),
        "accuracy": accuracy,
        "minimum": least,
        "minimum_at": list(at),
        "maximum": most,
        "maximum_at": list(there),
        "not_finite": int((~found.values[split].loss.isfinite()).sum()),
    }


def _text(found: Slice) -> str:
    rows = []
    for split in found.values:
        v = _split_values(found, split)
        rows.append(
            [
                f"{_NAMES[split]} loss",
                number(v["centre"], 6),
                f"{number(v['minimum'], 6)} at {_place(v['minimum_at'])}",
                f"{number(v['maximum'], 5)} at {_place(v['maximum_at'])}",
            ]
        )
        if v["accuracy"] is not None:
            shares = [f"{100 * v['accuracy'][k]:.2f} %" for k in ("centre", "minimum", "maximum")]
            rows.append([f"{_NAMES[split]} accuracy", *shares])
    lines = [table(["", f"at {found.origin.name}", "least", "greatest"], rows)]
    size = " × ".join(str(len(axis)) for axis in found.axes)
    about = f"{size} points; axes: {', '.join(found.names)}"
    if found.cosine is not None:
        about += f"; cosine of the axes {number(found.cosine, 3)}"
    lines.append(about)
    if found.under_level is not None:
        share = 100 * found.under_level
        lines.append(
            f"training loss at most L* = {number(found.level)}: {share:.1f} % of the points"
        )
    if len(found.walk) > 1:
        where = "line" if len(found.axes) == 1 else "plane"
        outside, far = max(found.projected.residuals.tolist()), found.projected.farthest
        within = found.projected.explained
        share = "–" if within is None else f"{100 * within:.1f}"
        lines.append(
            f"the walk: {share} % of its variance lies in this {where}; it leaves the {where} by"
            f" {number(outside)} at most (it goes {number(far)} from the middle)"
        )
    return "\n".join(lines)


def _place(at: Sequence[float]) -> str:
    return "(" + ", ".join(f"{a:.3g}" for a in at) + ")"


def _rows(found: Slice) -> list[dict[str, float]]:
    """A row a grid point, with all that was evaluated there."""
    from lsshell.engine.landscape.grid import grid

    columns: dict[str, list[float]] = {}
    for k, name in enumerate(("a", "b")[: len(found.axes)]):
        columns[name] = grid(*found.axes)[:, k].tolist()
    for split, values in found.values.items():
        columns[f"{split}_loss"] = values.loss.flatten().tolist()
        if values.accuracy is not None:
            columns[f"{split}_accuracy"] = values.accuracy.flatten().tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def slice_figures(found: Slice, quantity: Quantity = "loss") -> list[Figure]:
    """One figure of curves, or a map for each of the splits."""
    if len(found.axes) == 1:
        return [_curves(found, quantity)]
    return [_map(found, split, quantity) for split in found.values]


def _grid(found: Slice, split: Split, quantity: Quantity) -> Any:
    values = found.values[split]
    return values.loss if quantity == "loss" or values.accuracy is None else 100 * values.accuracy


def _curves(found: Slice, quantity: Quantity) -> Figure:
    (axis,) = found.axes
    lines = tuple(
        Series(_NAMES[split], axis, tuple(_grid(found, split, quantity).tolist()))
        for split in found.values
    )
    loss = quantity == "loss"
    bands = (("L*", found.level),) if loss and found.level is not None else ()
    first, places = next(iter(found.values)), [(found.origin.name, 0.0)]
    places += [(name, 1.0) for name in found.toward]
    marks = tuple(
        Series(name, (at,), (_between(lines[0], at),), "mark")
        for name, at in places
        if _inside(found, (at,))
    )
    (low, _), (high, _) = found.extreme(first), found.extreme(first, greatest=True)
    return Figure(
        f"{quantity} through {found.origin.name}",
        found.names[0],
        "loss" if loss else "accuracy (%)",
        (*lines, *marks),
        bands,
        y_log=loss and far_apart(low, high),
    )


def _between(line: Series, at: float) -> float:
    """The height at which a line is drawn."""
    k = max(1, next((i for i, a in enumerate(line.x) if a >= at), len(line.x) - 1))
    share = (at - line.x[k - 1]) / (line.x[k] - line.x[k - 1])
    return line.y[k - 1] + share * (line.y[k] - line.y[k - 1])


def _map(found: Slice, split: Split, quantity: Quantity) -> Figure:
    z = _grid(found, split, quantity).T  # a row for each of the second axis
    loss = quantity == "loss"
    level = found.level if loss and split == "train" else None
    least, _ = found.extreme(split)
    surface = Surface(
        found.axes[0],
        found.axes[1],
        tuple(tuple(row) for row in z.tolist()),
        f"{_NAMES[split]} {'loss' if loss else 'accuracy (%)'}",
        log=loss and least > 0.0,
        contours=() if level is None else (("L*", level),),
    )
    return Figure(
        f"{_NAMES[split]} {quantity} around {found.origin.name}",
        found.names[0],
        found.names[1],
        (*_walk(found), *_marks(found)),
        surface=surface,
    )


def _walk(found: Slice) -> list[Series]:
    """A line a branch, of what lies within the picture."""
    lines: dict[str, list[tuple[float, ...]]] = {}
    where = {p.index: c for p, c in zip(found.walk, _coordinates(found), strict=True)}
    for point in found.walk:
        if point.branch not in lines:
            parent = where.get(-1 if point.parent is None else point.parent)
            lines[point.branch] = [parent] if parent and not point.begins else []
        lines[point.branch].append(where[point.index])
    series = []
    for name, line in lines.items():
        seen = [place for place in line if _inside(found, place)]
        if len(seen) > 1:
            series.append(Series(f"walk {name}", *_columns(seen)))
    return series


def _marks(found: Slice) -> list[Series]:
    """Where the walk starts and stands, the middle, and the points gone towards; once each."""
    marks = []
    for point, place in zip(found.walk, _coordinates(found), strict=True):
        if point is found.walk[0]:
            marks.append(("start", place))
        if point is found.here:
            marks.append(("now", place))
    marks.append((found.origin.name, (0.0, 0.0)))
    if found.kind == "points":
        marks += zip(found.toward, [(1.0, 0.0), (0.0, 1.0)], strict=True)
    kept: list[tuple[str, tuple[float, ...]]] = []
    for name, place in marks:
        if _inside(found, place) and all(math.dist(place, other) > NEAR for _, other in kept):
            kept.append((name, place))
    return [Series(name, *_columns([place]), "mark") for name, place in kept]


def _coordinates(found: Slice) -> list[tuple[float, ...]]:
    return [tuple(row) for row in found.projected.coordinates.tolist()]


def _inside(found: Slice, place: tuple[float, ...]) -> bool:
    return all(axis[0] <= a <= axis[-1] for a, axis in zip(place, found.axes, strict=True))


def _columns(places: Sequence[tuple[float, ...]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Their x and their y."""
    return tuple(p[0] for p in places), tuple(p[1] for p in places)
