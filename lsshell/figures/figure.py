"""What a figure shows, whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
class Figure:
    """Series on one pair of axes; `bands` are horizontal lines with names (a start, a tolerance).

    `shade_label` names what the colour of shaded points means. `categories` are the names of bars.
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
