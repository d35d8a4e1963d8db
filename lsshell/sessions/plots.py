"""Which figure shows what of a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from lsshell.figures.figure import Figure, Series
from lsshell.sessions.errors import CommandError

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine
    from lsshell.engine.path import Point

Plot = Literal["test-loss", "test-accuracy", "regularizers", "loss", "angle", "path"]
Axis = Literal["steps", "gradients", "length", "l2"]

_AXES: dict[str, tuple[str, Callable[[Point], float | None]]] = {
    "steps": ("step", lambda p: p.step),
    "gradients": ("gradients", lambda p: p.gradients),
    "length": ("path length ‖Δθ‖", lambda p: p.length),
    "l2": ("‖θ‖²", lambda p: p.regularizers.get("l2")),
}


def make_figure(engine: Engine, what: Plot, x: Axis, colour: str) -> Figure:
    """The figure of this traversal; raises CommandError where there is nothing to draw yet."""
    points = engine.path.traversal()
    if not any(p.kind == "step" for p in points):
        raise CommandError("nothing has been walked yet: `walk` first")
    if what == "path":
        return _path_figure(engine, colour)
    if what == "regularizers":
        return _regularizers_figure(engine, x)
    start = points[0]
    value: Callable[[Point], float | None]
    bands: tuple[tuple[str, float], ...] = ()
    if what == "test-loss":
        title, label, value = "test loss along the level set", "test loss", lambda p: p.test_loss
        bands = (("start", start.test_loss or 0.0),)
    elif what == "test-accuracy":
        accuracy = start.test_accuracy is not None
        title = label = "test accuracy (%)" if accuracy else "test RMSE"
        value = _accuracy if accuracy else (lambda p: p.test_rmse)
        bands = (("start", value(start) or 0.0),)
    elif what == "loss":
        title, label = "training loss within its tolerance", "(L − L*) / tolerance"
        value, bands = _residual, (("+tolerance", 1.0), ("−tolerance", -1.0))
    else:
        title, label = "angle between ∇L and ∇R", "degrees"
        value, bands = (lambda p: p.angle_deg), (("constrained minimum", 180.0),)
    series = _by_branch(engine, x, value)
    return Figure(title, _AXES[x][0], label, series, bands)


def _accuracy(point: Point) -> float | None:
    return None if point.test_accuracy is None else 100 * point.test_accuracy


def _residual(point: Point) -> float | None:
    if point.level is None or not point.tolerance:
        return None
    return (point.loss - point.level) / point.tolerance


def _branch_lines(engine: Engine) -> dict[str, list[Point]]:
    """The points of each branch of this traversal, led by the point that it leaves from."""
    lines: dict[str, list[Point]] = {}
    for point in engine.path.traversal():
        if point.branch not in lines:
            lines[point.branch] = []
            parent = engine.path.points.get(point.parent) if point.parent is not None else None
            if point.kind == "step" and parent is not None:
                lines[point.branch].append(parent)
        lines[point.branch].append(point)
    return {name: line for name, line in lines.items() if len(line) > 1}


def _by_branch(
    engine: Engine, x: Axis, value: Callable[[Point], float | None]
) -> tuple[Series, ...]:
    return tuple(_series(name, line, x, value) for name, line in _branch_lines(engine).items())


def _series(
    name: str, line: list[Point], x: Axis, value: Callable[[Point], float | None]
) -> Series:
    pairs = [(_AXES[x][1](p), value(p)) for p in line]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return Series(name, tuple(a for a, _ in known), tuple(b for _, b in known))


def _regularizers_figure(engine: Engine, x: Axis) -> Figure:
    line = engine.path.lineage()
    start = engine.start_point().regularizers
    # Relative values mean nothing where the start is zero or below it (random, spectral).
    names = [n for n in start if start[n] > 0.0 and n not in ("random", "distance")]
    if not names:
        raise CommandError("no regulariser is above 0 at the start, to be drawn relative to it")

    def relative(name: str) -> Callable[[Point], float | None]:
        first = start[name]
        return lambda p: p.regularizers[name] / first if name in p.regularizers else None

    series = [_series(name, line, x, relative(name)) for name in names]
    return Figure(
        "regularisers relative to the start",
        _AXES[x][0],
        "R / R(start)",
        tuple(s for s in series if len(s.x) > 1),
        (("start", 1.0),),
    )


def _path_figure(engine: Engine, colour: str) -> Figure:
    projection = engine.principal_coordinates(2)
    xs = projection.coordinates[:, 0].tolist()
    second = projection.coordinates.shape[1] > 1
    ys = projection.coordinates[:, 1].tolist() if second else [0.0] * len(xs)
    shares = [*projection.explained.tolist(), 0.0]
    where = {p.index: (a, b) for p, a, b in zip(projection.points, xs, ys, strict=True)}
    shade: Callable[[Point], float | None] = (
        (lambda p: p.test_loss) if colour == "test-loss" else (lambda p: float(p.step))
    )
    series = []
    for name, line in _branch_lines(engine).items():
        shown = [(p, shade(p)) for p in line if p.index in where]
        known = [(p, s) for p, s in shown if s is not None]
        series.append(
            Series(
                name,
                tuple(where[p.index][0] for p, _ in known),
                tuple(where[p.index][1] for p, _ in known),
                "points",
                tuple(s for _, s in known),
            )
        )
    first, here = engine.path.start(), engine.path.here
    for name, point in (("start", first), ("now", here)):
        if point is not None and point.index in where:
            a, b = where[point.index]
            series.append(Series(name, (a,), (b,), "mark"))
    return Figure(
        "the path in principal components",
        f"PC 1 ({100 * shares[0]:.1f} % of variance)",
        f"PC 2 ({100 * shares[1]:.1f} %)",
        tuple(series),
        shade_label="test loss" if colour == "test-loss" else "step",
        equal_axes=True,
    )
