"""Figures of a phase table: a heat map a measure, and the map of phases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from lsshell.figures.figure import Figure, Surface

if TYPE_CHECKING:
    from lsshell.engine.landscape.phases import Cell, PhaseTable, Thresholds

Panel = Literal[
    "phases",
    "test-accuracy",
    "train-loss",
    "cka",
    "eigenvalue",
    "trace",
    "connectivity",
    "distance",
]
PANELS: tuple[Panel, ...] = get_args(Panel)
Limits = Literal["data", "published"]
_AXES = {
    "width": "width",
    "examples": "training examples",
    "noise": "share of random labels",
    "batch_size": "batch size",
    "lr": "learning rate",
    "weight_decay": "weight decay",
}


@dataclass(frozen=True)
class _Map:
    title: str
    label: str
    value: Callable[[Cell], float]
    published: tuple[float, float]
    diverging: bool = False


def _logarithm(name: str) -> Callable[[Cell], float]:
    def value(cell: Cell) -> float:
        found = float(getattr(cell, name))
        return math.log(found) if found > 0 else math.nan

    return value


# Limits of the colours in the published figures (Load_temperature_plots.ipynb).
_MAPS: Mapping[Panel, _Map] = {
    "test-accuracy": _Map("test accuracy", "%", lambda c: c.test_accuracy_pct, (56, 91)),
    "train-loss": _Map("training loss", "loss", lambda c: c.train_loss, (0, 3)),
    "cka": _Map("similarity of networks", "CKA", lambda c: c.cka_softmax, (0.3, 0.8)),
    "eigenvalue": _Map(
        "top eigenvalue of the Hessian", "ln λ", _logarithm("hessian_top_eigenvalue"), (0, 6)
    ),
    "trace": _Map("trace of the Hessian", "ln trace", _logarithm("hessian_trace"), (3, 8)),
    "connectivity": _Map(
        "mode connectivity", "mc, %", lambda c: c.mode_connectivity_pct, (-30, 30), diverging=True
    ),
    "distance": _Map("distance between networks", "L2", lambda c: c.l2_distance, (0, 100)),
}


def phase_figure(
    table: PhaseTable, panel: Panel, thresholds: Thresholds, limits: Limits = "data"
) -> Figure:
    """A panel over load (x) and temperature (y, hot on top)."""
    if panel == "phases":
        return _phases(table, thresholds)
    drawn = _MAPS[panel]
    surface = _surface(
        table,
        table.rows(drawn.value),
        drawn.label,
        limits=drawn.published if limits == "published" else None,
        diverging=drawn.diverging,
    )
    return _figure(table, drawn.title, surface)


def _phases(table: PhaseTable, thresholds: Thresholds) -> Figure:
    from lsshell.engine.landscape.phases import PHASES, region_of

    def number(cell: Cell) -> float:
        region = region_of(cell, thresholds)
        return math.nan if region is None else float(PHASES.index(region.phase))

    z = table.rows(number)
    labels = tuple(tuple("" if math.isnan(v) else PHASES[int(v)] for v in row) for row in z)
    surface = _surface(table, z, "phase", limits=None)
    return _figure(table, "phases", replace(surface, z_ticks=PHASES, labels=labels))


def _surface(
    table: PhaseTable,
    z: tuple[tuple[float, ...], ...],
    label: str,
    *,
    limits: tuple[float, float] | None,
    diverging: bool = False,
) -> Surface:
    x, y = table.loads, table.temperatures
    return Surface(
        x=tuple(map(float, range(len(x)))),
        y=tuple(map(float, range(len(y)))),
        z=z,
        label=label,
        limits=limits,
        diverging=diverging,
        x_ticks=tuple(f"{v:g}" for v in x),
        y_ticks=tuple(f"{v:g}" for v in y),
    )


def _figure(table: PhaseTable, title: str, surface: Surface) -> Figure:
    y_label = f"{_AXES[table.temperature]} (hot on top)"
    return Figure(title, _AXES[table.load], y_label, (), surface=surface)
