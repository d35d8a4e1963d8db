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
    if any(p.test_rmse is not None for p in points):
        return "test RMSE", lambda p: p.test_rmse
    return "test accuracy %", (
        lambda p: None if p.test_accuracy is None else 100.0 * p.test_accuracy
    )


def _l2(point: Point) -> float | None:
    return point.regularizers.get("l2")


def _squared(point: Point) -> float | None:
    return None if point.level is None else (point.loss - point.level) ** 2


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
                *(
                    spread([value(point) for point in ends])
                    for value in (lambda p: p.test_loss, rate, _l2)
                    for ends in ([w.start for w in walks], [w.end for w in walks])
                ),
                spread([w.end.angle_deg for w in walks]),
                spread([w.end.implied_weight_decay for w in walks]),
            ]
        )
    headers = ["walk", "runs", "method", "steps", "gradients", "training loss",
               "worst |L−L*|/tol", "test loss, start", "test loss, end", f"{label}, start",
               f"{label}, end", "‖θ‖², start", "‖θ‖², end", "angle at the end °",
               "1/ν at the end"]  # fmt: skip
    return Table(f"{stem}-ends", "Walks from start to end", headers, rows)


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
                spread([_difference(w, lambda p: p.test_loss) for w in walks]),
                spread([_difference(w, rate) for w in walks]),
                spread([_percent(w.start.test_loss, w.end.test_loss) for w in walks]),
                *(
                    spread([_percent(w.start.regularizers.get(n), w.end.regularizers.get(n))
                            for w in walks])
                    for n in names
                ),
            ]
        )  # fmt: skip
    headers = ["walk", "runs", "Δ test loss", f"Δ {label}", "Δ test loss, %",
               *(f"Δ {n}, %" for n in names)]  # fmt: skip
    caption = "What each walk changed at equal training loss, start to end"
    return Table(f"{stem}-changes", caption, headers, rows)


def _difference(walked: Walked, value: Value) -> float | None:
    first, last = value(walked.start), value(walked.end)
    return None if first is None or last is None else last - first


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
                for walked in walks_of(runs, name):
                    pairs = [(p.regularizers[n], p.test_loss) for p in walked.tested
                             if n in p.regularizers and p.test_loss is not None]  # fmt: skip
                    found.append(correlation([a for a, _ in pairs], [b for _, b in pairs]))
                cells.append(spread(found))
            rows.append([name, kind, *cells])
    caption = "Correlation of each regulariser with test loss along the walk"
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
    over = f"{name}, mean over {len(walks)} run{'s' * (len(walks) != 1)}, band ± one deviation"
    measures: list[tuple[str, Value]] = [
        ("angle °", lambda p: p.angle_deg),
        ("‖θ‖²", _l2),
        ("test loss", lambda p: p.test_loss),
        (label, rate),
    ]
    beside: list[tuple[str, Value]] = [
        ("training loss", lambda p: p.loss),
        ("(L − L*)²", _squared),
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
            [_against_l2(walks, what, value) for what, value in (*measures[2:], measures[0])],
        ),
        Picture(
            f"{stem}-{name}-first",
            f"{over}: the angle over the first {FIRST_STEPS} steps",
            [_against_steps(walks, "angle °", lambda p: p.angle_deg, FIRST_STEPS)],
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
    first = walks[0].start.step
    curves = [_curve(w, lambda p: float(p.step - first), value) for w in walks]
    if most is not None:
        curves = [([x for x in xs if x < most], ys[: sum(x < most for x in xs)])
                  for xs, ys in curves]  # fmt: skip
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
    """Bars of the change in test loss, a bar a walk: which regulariser helps."""
    names = names_of(runs)
    if len(names) < 3:
        return None
    changes = []
    for name in names:
        found = [_difference(w, lambda p: p.test_loss) for w in walks_of(runs, name)]
        changes.append((name, Spread.of([d for d in found if d is not None])))
    changes.sort(key=lambda c: c[1].mean)
    series = Series(
        "Δ test loss",
        tuple(float(k) for k in range(len(changes))),
        tuple(c.mean for _, c in changes),
        "bars",
        spread=tuple(c.std for _, c in changes),
    )
    panel = Figure("", "", "change of test loss at equal training loss", (series,),
                   categories=tuple(name for name, _ in changes))  # fmt: skip
    caption = "Change of test loss along each walk, from the same start at the same training loss"
    return Picture(f"{stem}-effects", caption, [panel])
