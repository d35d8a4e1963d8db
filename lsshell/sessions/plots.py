"""Which figure shows what of a path."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lsshell.figures.figure import Figure, Series
from lsshell.sessions.errors import CommandError

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine
    from lsshell.engine.path import Path, Point
    from lsshell.engine.projection import Projection

Curve = Literal["test-loss", "test-accuracy", "regularizers", "loss", "angle"]
Plot = Literal["test-loss", "test-accuracy", "regularizers", "loss", "angle", "path"]
Axis = Literal["steps", "gradients", "length", "l2", "level", "weight-decay"]
Shade = Literal["step", "test-loss"]

_AXES: dict[str, tuple[str, Callable[[Point], float | None]]] = {
    "steps": ("step", lambda p: p.step),
    "gradients": ("gradients", lambda p: p.gradients),
    "length": ("path length ‖Δθ‖", lambda p: p.length),
    "l2": ("‖θ‖²", lambda p: p.regularizers.get("l2")),
    "level": ("log₁₀ L*", lambda p: _log10(p.level)),
    "weight-decay": (
        "log₁₀ λ, the implied weight decay 1/ν",
        lambda p: _log10(p.implied_weight_decay),
    ),
}
NEAR_A_MINIMUM = 178.0  # degrees between ∇L and ∇R
# Relative values of these mean nothing: they are zero at the start, or of any sign.
NOT_RELATIVE = ("random", "distance")


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value is not None and value > 0.0 else None


def _equivalent_decay(point: Point) -> float | None:
    """1/ν where it means something: near a constrained minimum."""
    near = point.angle_deg is not None and point.angle_deg >= NEAR_A_MINIMUM
    return point.implied_weight_decay if near else None


@dataclass(frozen=True)
class Traversal:
    """The points that share a start, as they stand at one moment.

    lines: the points of each branch, led by the one that it leaves from; lineage: from the start
    to `here`; ahead: later ones on here's branch, walked before going back.
    """

    start: Point
    here: Point
    lines: Mapping[str, Sequence[Point]]
    lineage: Sequence[Point]
    ahead: Sequence[Point]

    @classmethod
    def of(cls, path: Path) -> Traversal | None:
        """The traversal that the path is on; None before there is a point."""
        here = path.here
        if here is None:
            return None
        lineage = path.lineage(here)
        members = path.traversal()
        lines: dict[str, list[Point]] = {}
        for point in members:
            if point.branch not in lines:
                lines[point.branch] = []
                parent = path.points.get(point.parent) if point.parent is not None else None
                if not point.begins and parent is not None:
                    lines[point.branch].append(parent)
            lines[point.branch].append(point)
        later = [p for p in lines.get(here.branch, ()) if p.index > here.index]
        return cls(lineage[0], here, lines, lineage, later)

    @property
    def walked(self) -> bool:
        """Whether there is a step yet."""
        return any(len(line) > 1 for line in self.lines.values())

    @property
    def best(self) -> Point | None:
        """Where `goto best` goes."""
        from lsshell.engine.path import best_of

        return best_of(p for line in self.lines.values() for p in line)

    @property
    def tested(self) -> Point | None:
        """The latest point up to here whose test loss was measured."""
        return next((p for p in reversed(self.lineage) if p.test_loss is not None), None)


def outline(pairs: Sequence[tuple[float, float]], most: int) -> Sequence[tuple[float, float]]:
    """At most about `most` of the pairs, with the ends, and the least and greatest of each stretch:
    drawn so coarsely that it makes no difference, they look the same.
    """
    every = 2 * len(pairs) // most
    if every < 4:
        return pairs
    chosen = [pairs[0]]
    heights = [y for _, y in pairs]
    for i in range(0, len(pairs), every):
        stretch = range(i, min(i + every, len(pairs)))
        ends = {min(stretch, key=heights.__getitem__), max(stretch, key=heights.__getitem__)}
        chosen += [pairs[k] for k in sorted(ends)]
    return [*chosen, pairs[-1]]


def make_figure(engine: Engine, what: Plot, x: Axis, shade: Shade, *, log: bool = False) -> Figure:
    """The figure of this traversal; raises CommandError where there is nothing to draw yet."""
    traversal = Traversal.of(engine.path)
    if traversal is None or not traversal.walked:
        raise CommandError("nothing has been walked yet: `walk` first")
    if what == "path":
        if log:
            raise CommandError("--log: principal components have no logarithm")
        return path_figure(traversal, engine.principal_coordinates(2), shade)
    start = engine.start_point().regularizers if what == "regularizers" else {}
    since = other_options_until(engine, traversal)
    return curve_figure(traversal, what, x, log=log, start=start, since=since)


def other_options_until(engine: Engine, traversal: Traversal) -> Mapping[str, int]:
    """The point up to which recorded values of a regulariser are of other options than now;
    those whose values are all alike are left out.
    """
    switched = dict(engine.switched)
    return {n: s.at for n, s in switched.items() if s.mixed and s.at >= traversal.start.index}


def curve_figure(
    traversal: Traversal,
    what: Curve,
    x: Axis,
    *,
    log: bool,
    start: Mapping[str, float],
    since: Mapping[str, int],
    most: int | None = None,
) -> Figure:
    """A measure along the path, of about `most` points a line.

    `start`: the regularisers there, which theirs are relative to; `since`: the points after which
    theirs are comparable with that.
    """
    if what == "regularizers":
        return _regularizers_figure(traversal, x, log, start, since, most)
    first = traversal.start
    value: Callable[[Point], float | None]
    bands: tuple[tuple[str, float], ...] = ()
    if what == "test-loss":
        title, label, value = "test loss along the level set", "test loss", lambda p: p.test_loss
        bands = (("start", first.test_loss or 0.0),)
    elif what == "test-accuracy":
        accuracy = first.test_accuracy is not None
        title = label = "test accuracy (%)" if accuracy else "test RMSE"
        value = _accuracy if accuracy else (lambda p: p.test_rmse)
        bands = (("start", value(first) or 0.0),)
    elif what == "loss":
        title, label = "training loss within its tolerance", "(L − L*) / tolerance"
        value, bands = (lambda p: p.residual), (("+tolerance", 1.0), ("−tolerance", -1.0))
        if log:
            label, value, bands = "|L − L*| / tolerance", _distance, (("tolerance", 1.0),)
    else:
        title, label = "angle between ∇L and ∇R", "degrees"
        value, bands = (lambda p: p.angle_deg), (("constrained minimum", 180.0),)
        if log:
            label, value, bands = "180° − angle (degrees)", _to_the_minimum, ()
    series = tuple(
        _series(name, line, x, value, log, most)
        for name, line in traversal.lines.items()
        if len(line) > 1
    )
    return Figure(title, _AXES[x][0], label, (*series, *_now(traversal, x, value)), bands, log)


def _now(
    traversal: Traversal, x: Axis, value: Callable[[Point], float | None]
) -> tuple[Series, ...]:
    """Where one stands, unless that is where everything ends."""
    here = traversal.here
    if len(traversal.lines) == 1 and not traversal.ahead:
        return ()
    across, up = _AXES[x][1](here), value(here)
    if across is None or up is None:
        return ()
    return (Series("now", (across,), (up,), "mark"),)


def _accuracy(point: Point) -> float | None:
    return None if point.test_accuracy is None else 100 * point.test_accuracy


def _distance(point: Point) -> float | None:
    return None if point.residual is None else abs(point.residual)


def _to_the_minimum(point: Point) -> float | None:
    return None if point.angle_deg is None else 180.0 - point.angle_deg


def _series(
    name: str,
    line: Sequence[Point],
    x: Axis,
    value: Callable[[Point], float | None],
    log: bool,
    most: int | None,
) -> Series:
    pairs = [(_AXES[x][1](p), value(p)) for p in line]
    known: Sequence[tuple[float, float]] = [
        (a, b) for a, b in pairs if a is not None and b is not None and (b > 0 or not log)
    ]
    if most is not None:
        known = outline(known, most)
    return Series(name, tuple(a for a, _ in known), tuple(b for _, b in known))


def _regularizers_figure(
    traversal: Traversal,
    x: Axis,
    log: bool,
    start: Mapping[str, float],
    since: Mapping[str, int],
    most: int | None,
) -> Figure:
    names = [n for n in start if start[n] > 0.0 and n not in NOT_RELATIVE]
    if not names:
        raise CommandError("no regulariser is above 0 at the start, to be drawn relative to it")

    def relative(name: str) -> Callable[[Point], float | None]:
        first, after = start[name], since.get(name, -1)
        return lambda p: (
            p.regularizers[name] / first if name in p.regularizers and p.index > after else None
        )

    series = [_series(name, traversal.lineage, x, relative(name), log, most) for name in names]
    return Figure(
        "regularisers relative to the start",
        _AXES[x][0],
        "R / R(start)",
        tuple(s for s in series if len(s.x) > 1),
        (("start", 1.0),),
        log,
    )


def path_figure(traversal: Traversal, projection: Projection, shade: Shade) -> Figure:
    """The kept points in the plane of their first two principal components."""
    xs = projection.coordinates[:, 0].tolist()
    second = projection.coordinates.shape[1] > 1
    ys = projection.coordinates[:, 1].tolist() if second else [0.0] * len(xs)
    shares = [*projection.explained.tolist(), 0.0]
    where = {p.index: (a, b) for p, a, b in zip(projection.points, xs, ys, strict=True)}
    series, ends = [], []
    tested: dict[int, float] = {}  # the latest test loss measured on the way to each point
    for name, line in traversal.lines.items():
        latest = tested.get(line[0].index)
        known = []
        for p in line:
            latest = p.test_loss if p.test_loss is not None else latest
            if latest is not None:
                tested[p.index] = latest
            value = latest if shade == "test-loss" else float(p.step)
            if p.index in where and value is not None:
                known.append((p, value))
        if not known:
            continue
        series.append(
            Series(
                name,
                tuple(where[p.index][0] for p, _ in known),
                tuple(where[p.index][1] for p, _ in known),
                "points",
                tuple(s for _, s in known),
            )
        )
        if line[-1] is not traversal.here:
            ends.append((name, known[-1][0]))
    named = [("start", traversal.start), *(ends if len(traversal.lines) > 1 else ())]
    now = next((p for p in reversed(traversal.lineage) if p.index in where), traversal.here)
    for name, point in (*named, ("now", now)):
        if point.index in where:
            a, b = where[point.index]
            series.append(Series(name, (a,), (b,), "mark"))
    return Figure(
        "the path in principal components",
        f"PC 1 ({100 * shares[0]:.1f} % of variance)",
        f"PC 2 ({100 * shares[1]:.1f} %)",
        tuple(series),
        shade_label="test loss" if shade == "test-loss" else "step",
        equal_axes=True,
    )
