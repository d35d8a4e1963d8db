"""What happened along the walks: tables of ends and correlations, figures against steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lsshell.engine.comparison import Spread
from lsshell.engine.path import Point
from lsshell.figures.figure import Figure, Series
from lsshell.sessions.plots import NOT_RELATIVE
from lsshell.sessions.report.layout import Picture, Table
from lsshell.sessions.report.runs import Run, Walked
from lsshell.sessions.report.statistics import (
    Band,
    band_at_steps,
    band_between,
    pearson,
    relative_change,
    spearman,
)

FIRST_STEPS = 50  # of the published picture of the first angles
Value = Callable[[Point], float | None]


def names_of(runs: Sequence[Run]) -> list[str]:
    """The names of the walks, in the order in which they come."""
    return list(dict.fromkeys(name for run in runs for name in run.walks))


def walks_of(runs: Sequence[Run], name: str) -> list[Walked]:
    return [run.walks[name] for run in runs if name in run.walks]


def spread(values: Sequence[float | None]) -> Spread | float | None:
    """Mean and sample standard deviation of what was measured; a single value as it is."""
    measured = [v for v in values if v is not None]
    return Spread.of(measured) if len(measured) > 1 else next(iter(measured), None)


def rate_of(runs: Sequence[Run]) -> tuple[str, Value]:
    """Test accuracy in %, or test RMSE."""
    points = [w.start for run in runs for w in run.walks.values()]
    trained = [t for run in runs for s in run.sweeps for t in s.trained]
    if any(p.test_rmse is not None for p in (*points, *trained)):
        return "test RMSE", lambda p: p.test_rmse
    return "test accuracy %", (
        lambda p: None if p.test_accuracy is None else 100.0 * p.test_accuracy
    )


def _of(name: str) -> Value:
    return lambda p: p.regularizers.get(name)


_l2 = _of("l2")


def _test_loss(point: Point) -> float | None:
    return point.test_loss


def _angle(point: Point) -> float | None:
    return point.angle_deg


# -- tables ------------------------------------------------------------------------------------


def ends_table(runs: Sequence[Run], stem: str) -> Table:
    """Start, end and best point of every walk, over runs; how well the level was kept."""
    label, rate = rate_of(runs)
    rows = []
    for name in names_of(runs):
        walks = walks_of(runs, name)
        kept = [abs(p.residual) for w in walks for p in w.points if p.residual is not None]
        rows.append(
            [
                name,
                len(walks),
                walks[0].method,
                spread([float(w.end.step) for w in walks]),
                spread([float(w.end.gradients) for w in walks]),
                spread([w.end.loss for w in walks]),
                max(kept, default=None),
                spread([_share(w.start.tolerance, w.start.level) for w in walks]),
                *(
                    spread([value(point) for point in ends])
                    for value in (_test_loss, rate, _l2)
                    for ends in ([w.start for w in walks], [w.end for w in walks])
                ),
                spread([w.start.angle_deg for w in walks]),
                spread([w.end.angle_deg for w in walks]),
                spread([w.end.implied_weight_decay for w in walks]),
            ]
        )
    headers = ["walk", "runs", "method", "steps", "gradients", "training loss",
               "worst |L−L*|/tol", "tol/L*", "test loss, start", "test loss, end",
               f"{label}, start", f"{label}, end", "‖θ‖², start", "‖θ‖², end",
               "angle °, start", "angle °, end",
               "1/ν at the end"]  # fmt: skip
    caption = "Walks from start to end, mean ± sample deviation over runs"
    return Table(f"{stem}-ends", caption, headers, rows)


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def changes_table(runs: Sequence[Run], stem: str) -> Table:
    """Relative change of test loss and every regulariser, start to end, at equal training loss."""
    names = _regularizers(runs)
    label, rate = rate_of(runs)
    rows = []
    for name in names_of(runs):
        walks = walks_of(runs, name)
        rows.append(
            [
                name,
                len(walks),
                spread([_difference(w, _test_loss) for w in walks]),
                spread([_difference(w, rate) for w in walks]),
                spread([_percent(w.start.test_loss, w.end.test_loss) for w in walks]),
                *(spread([_change_of(n)(w) for w in walks]) for n in names),
            ]
        )
    headers = ["walk", "runs", "Δ test loss", f"Δ {label}", "Δ test loss, %",
               *(f"Δ {n}, %" for n in names)]  # fmt: skip
    caption = (
        "What each walk changed at equal training loss, start to end, mean ± sample deviation over"
        " runs"
    )
    return Table(f"{stem}-changes", caption, headers, rows)


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _difference(walked: Walked, value: Value) -> float | None:
    return _less(value(walked.end), value(walked.start))


def _percent(first: float | None, last: float | None) -> float | None:
    change = None if first is None or last is None else relative_change(first, last)
    return None if change is None else 100.0 * change


def _regularizers(runs: Sequence[Run]) -> list[str]:
    """Those measured at every start and positive there, in their usual order."""
    starts = [w.start for run in runs for w in run.walks.values()]
    return [
        n
        for n in (starts[0].regularizers if starts else ())
        if n not in NOT_RELATIVE and all(s.regularizers.get(n, 0.0) > 0.0 for s in starts)
    ]


def correlations_table(runs: Sequence[Run], stem: str) -> Table:
    """Correlation of each regulariser with test loss along each walk: mean over runs."""
    names = [*_regularizers(runs), "distance"]
    rows = []
    for name in names_of(runs):
        for kind, correlation in (("Pearson", pearson), ("Spearman", spearman)):
            cells = []
            for n in names:
                found = []
                # Recorded `distance` may be from elsewhere than the start.
                value = (lambda p: p.distance) if n == "distance" else _of(n)
                for walked in walks_of(runs, name):
                    pairs = [(value(p), p.test_loss) for p in walked.tested
                             if value(p) is not None]  # fmt: skip
                    found.append(correlation([a for a, _ in pairs], [b for _, b in pairs]))
                cells.append(spread(found))
            rows.append([name, kind, *cells])
    caption = (
        "Correlation of each regulariser (and of ‖θ − θ_start‖) with test loss along the walk, mean"
        " ± sample deviation over runs"
    )
    return Table(f"{stem}-correlations", caption, ["walk", "", *names], rows)


def best_table(runs: Sequence[Run], stem: str) -> Table:
    """Where test loss is least along each walk, and where the validation examples would stop it."""
    label, rate = rate_of(runs)
    validated = any(
        p.validation_loss is not None for r in runs for w in r.walks.values() for p in w.points
    )
    rows = []
    for name in names_of(runs):
        walks = walks_of(runs, name)
        least = [min(w.tested, key=lambda p: (p.test_loss, p.index)) for w in walks]
        picks = [("test loss", least)]
        if validated:
            picks.append(("validation loss", [w.chosen for w in walks]))
        for by, points in picks:
            rows.append(
                [
                    name,
                    by,
                    spread([float(p.step) for p in points]),
                    spread([float(p.gradients) for p in points]),
                    spread([p.test_loss for p in points]),
                    spread([rate(p) for p in points]),
                    spread([_l2(p) for p in points]),
                    spread([p.angle_deg for p in points]),
                ]
            )
    headers = ["walk", "least", "at step", "gradients", "test loss", label, "‖θ‖²", "angle °"]
    return Table(f"{stem}-best", "Where each walk is best", headers, rows)


# -- figures -----------------------------------------------------------------------------------


def pictures(runs: Sequence[Run], name: str, stem: str) -> list[Picture]:
    """The published panels of one walk over runs, and those beyond."""
    walks = walks_of(runs, name)
    label, rate = rate_of(runs)
    over = f"{name}, {len(walks)} run{'s' * (len(walks) != 1)}"
    if len(walks) > 1:
        over += ", mean ± population deviation as far as half of them go"
    measures: list[tuple[str, Value]] = [
        ("angle °", _angle),
        ("‖θ‖²", _l2),
        ("test loss", _test_loss),
        (label, rate),
    ]
    beside: list[tuple[str, Value]] = [
        ("training loss", lambda p: p.loss),
        ("(L − L*)²", lambda p: p.squared_residual),
        ("predictor length", lambda p: p.rate),
    ]
    found = [
        Picture(
            f"{stem}-{name}",
            f"{over}, against steps",
            [_against_steps(walks, what, value) for what, value in measures],
        ),
        Picture(
            f"{stem}-{name}-kept",
            f"{over}: what the walk keeps, and how long its predictors are",
            [_against_steps(walks, what, value) for what, value in beside],
        ),
        Picture(
            f"{stem}-{name}-l2",
            f"{over}, against ‖θ‖²",
            [
                _against_l2(walks, what, value)
                for what, value in (*measures[2:], measures[0], beside[1])
            ],
        ),
        Picture(
            f"{stem}-{name}-first",
            f"{over}: the angle over the first {FIRST_STEPS} steps",
            [_against_steps(walks, "angle °", _angle, FIRST_STEPS)],
        ),
    ]
    return [p for p in found if any(s.x for panel in p.panels for s in panel.series)]


def _curve(walked: Walked, x: Value, y: Value) -> tuple[list[float], list[float]]:
    pairs = [(x(p), y(p)) for p in walked.points]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return [a for a, _ in known], [b for _, b in known]


def _against_steps(
    walks: Sequence[Walked], label: str, value: Value, most: int | None = None
) -> Figure:
    def step(point: Point) -> float | None:
        return float(point.step) if most is None or point.step < most else None

    curves = [_curve(w, step, value) for w in walks]
    return Figure("", "step", label, _band(band_at_steps(curves), label))


def _against_l2(walks: Sequence[Walked], label: str, value: Value) -> Figure:
    """Every run, and their mean where all of them have been."""
    curves = [_curve(w, _l2, value) for w in walks]
    each = [Series(f"run {k}", tuple(xs), tuple(ys)) for k, (xs, ys) in enumerate(curves, 1)]
    mean = _band(band_between(curves), "mean") if len(curves) > 1 else ()
    return Figure("", "‖θ‖²", label, (*mean, *each))


def _band(band: Band, name: str) -> tuple[Series, ...]:
    return (Series(name, tuple(band.x), tuple(band.mean), spread=tuple(band.std)),)


def effects_picture(runs: Sequence[Run], stem: str) -> Picture | None:
    """Which regulariser helps: for each walk, the changes of test loss, rate and regularisers."""
    names = names_of(runs)
    if len(names) < 3:
        return None
    label, rate = rate_of(runs)
    measures: list[tuple[str, Callable[[Walked], float | None]]] = [
        ("Δ test loss", lambda w: _difference(w, _test_loss)),
        (f"Δ {label}", lambda w: _difference(w, rate)),
        *((f"Δ {n}, %", _change_of(n)) for n in _regularizers(runs)),
    ]
    order = sorted(names, key=lambda n: _mean([measures[0][1](w) for w in walks_of(runs, n)]))
    panels = []
    for what, value in measures:
        found = [[v for w in walks_of(runs, n) if (v := value(w)) is not None] for n in order]
        spreads = [Spread.of(vs) if vs else Spread(0.0, 0.0) for vs in found]
        bars = Series(
            what,
            tuple(float(k) for k in range(len(order))),
            tuple(s.mean for s in spreads),
            "bars",
            spread=tuple(s.std for s in spreads),
        )
        panels.append(Figure("", "", what, (bars,), categories=tuple(order)))
    caption = (
        "Changes along each walk from the same start at the same training loss, mean ± sample"
        f" deviation over {len(runs)} run{'s' * (len(runs) != 1)}"
    )
    return Picture(f"{stem}-effects", caption, panels)


def _change_of(name: str) -> Callable[[Walked], float | None]:
    return lambda w: _percent(w.start.regularizers.get(name), w.end.regularizers.get(name))


def _mean(values: Sequence[float | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else float("inf")
