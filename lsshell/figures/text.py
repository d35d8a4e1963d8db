"""Figures in terminals, by plotext."""

from __future__ import annotations

import re

from lsshell.figures.figure import Figure

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
# From early (or low) to late (or high), for shaded points.
_RAMP = ("blue+", "cyan+", "green+", "orange+", "red+")
_COLOURS = ("blue+", "orange+", "green+", "red+", "magenta+", "cyan+")


def draw_text(figure: Figure, width: int, height: int, *, colour: bool) -> str:
    """The figure in `width` × `height` characters, with ANSI colours or without."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(width, height)
    plotext.title(figure.title)
    plotext.xlabel(figure.x_label)
    plotext.ylabel(figure.y_label)
    if figure.y_log:
        plotext.yscale("log")
    for name, value in figure.bands:
        plotext.hline(value, "gray")
        del name
    shades = [v for s in figure.series for v in s.shade or ()]
    for k, series in enumerate(figure.series):
        if not series.x:
            continue
        if series.style == "mark":
            marker = "S" if series.name == "start" else "N"
            plotext.scatter(series.x, series.y, marker=marker, color="default", label=series.name)
        elif series.shade is not None:
            for step, shade in enumerate(_RAMP):
                chosen = [i for i, v in enumerate(series.shade) if _level(v, shades) == step]
                plotext.scatter(
                    [series.x[i] for i in chosen], [series.y[i] for i in chosen],
                    marker="braille", color=shade,
                )  # fmt: skip
        else:
            marker = {"marker": "braille", "color": _COLOURS[k % len(_COLOURS)]}
            label = series.name if len(figure.series) > 1 else None
            plotext.plot(series.x, series.y, label=label, **marker)
    text = plotext.build()
    return text if colour else _ESCAPE.sub("", text)


def _level(value: float, shades: list[float]) -> int:
    low, high = min(shades), max(shades)
    if high == low:
        return 0
    return min(len(_RAMP) - 1, int(len(_RAMP) * (value - low) / (high - low)))
