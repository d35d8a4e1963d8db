"""What a figure shows, whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FAR_APART = 20.0  # times


@dataclass(frozen=True)
class Series:
    """Points (x, y) in order. `shade`: a value for each point, shown by colour; `spread`: half the
    height of a band about each.

    style: a line through the points, the points alone, a single mark with its name beside it, or
    bars, one for each of the figure's categories.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: Literal["line", "points", "mark", "bars"] = "line"
    shade: tuple[float, ...] | None = None
    spread: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Surface:
    """Values z over a grid, a row for each of `y`, shown by colour; NaN is left blank.

    `label` says what z is. `log`: colours by log₁₀ z (z ≤ 0 is left blank). `contours`: names and
    the values of z along which a line is drawn. `limits`: what the ends of the colours stand for
    (the least and greatest z). `diverging`: colours that part at 0. `x_ticks`, `y_ticks`: the
    names of columns and rows, where they are categories; x and y are then 0, 1, …. `z_ticks`: the
    names of z = 0, 1, …, where these are categories. `labels`: a word in each cell.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    z: tuple[tuple[float, ...], ...]
    label: str
    log: bool = False
    contours: tuple[tuple[str, float], ...] = ()
    limits: tuple[float, float] | None = None
    diverging: bool = False
    x_ticks: tuple[str, ...] = ()
    y_ticks: tuple[str, ...] = ()
    z_ticks: tuple[str, ...] = ()
    labels: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Figure:
    """Series on one pair of axes; `bands` are horizontal lines with names (a start, a tolerance).

    `shade_label` names what the colour of shaded points means. `categories` are the names of bars.
    A `surface` lies beneath the series.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    bands: tuple[tuple[str, float], ...] = ()
    y_log: bool = False
    shade_label: str = ""
    equal_axes: bool = False
    categories: tuple[str, ...] = ()
    surface: Surface | None = None
    x_log: bool = False


def far_apart(least: float, greatest: float) -> bool:
    """Whether values from the one to the other are better drawn on a logarithmic axis."""
    return 0.0 < FAR_APART * least < greatest
