"""Figures in terminals, by plotext."""

from __future__ import annotations

import re
from string import ascii_lowercase

from lsshell.figures.figure import Figure, Series

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
# From early (or low) to late (or high), for shaded points.
_RAMP = ("blue+", "cyan+", "green+", "orange+", "red+")
_COLOURS = ("blue+", "orange+", "green+", "red+", "magenta+", "cyan+", "blue", "green")


def draw_text(figure: Figure, width: int, height: int, *, colour: bool) -> str:
    """The figure in `width` × `height` characters, with ANSI colours or without.

    Without colours, several lines are told apart by letters. The legend stands underneath, where
    it covers nothing.
    """
    import plotext

    legend = _legend(figure, width, colour=colour)
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(width, height - len(legend))
    plotext.title(figure.title)
    plotext.xlabel(figure.x_label)
    plotext.ylabel(figure.y_label)
    if figure.y_log:
        plotext.yscale("log")
    right = max((x for s in figure.series for x in s.x), default=1.0)
    for name, value in figure.bands:
        plotext.hline(value, "gray")
        plotext.text(f" {name} ", right, value, color="gray", alignment="right")
    shades = [v for s in figure.series for v in s.shade or ()]
    for k, series in enumerate(figure.series):
        if not series.x:
            continue
        if series.style == "mark":
            plotext.scatter(series.x, series.y, marker=_mark(series), color="default")
        elif series.shade is not None:
            for step, shade in enumerate(_RAMP):
                chosen = [i for i, v in enumerate(series.shade) if _level(v, shades) == step]
                plotext.scatter(
                    [series.x[i] for i in chosen], [series.y[i] for i in chosen],
                    marker="braille", color=shade,
                )  # fmt: skip
        else:
            marker = "braille" if colour or len(figure.series) == 1 else ascii_lowercase[k % 26]
            draw = plotext.plot if marker == "braille" else plotext.scatter
            draw(series.x, series.y, marker=marker, color=_COLOURS[k % len(_COLOURS)])
    text = "\n".join([plotext.build().rstrip("\n"), *legend])
    return text if colour else _ESCAPE.sub("", text)


def _legend(figure: Figure, width: int, *, colour: bool) -> list[str]:
    """Lines that name the series; none where there is nothing to tell apart."""
    import plotext

    words = []
    named = sum(s.style != "mark" and s.shade is None for s in figure.series)
    for k, series in enumerate(figure.series):
        if series.style == "mark":
            words.append(f"{_mark(series)} {series.name}")
        elif series.shade is None and named > 1:
            sign = "━" if colour else ascii_lowercase[k % 26]
            words.append(f"{plotext.colorize(sign, _COLOURS[k % len(_COLOURS)])} {series.name}")
    shades = [v for s in figure.series for v in s.shade or ()]
    if shades and colour:
        ramp = "".join(plotext.colorize("●", shade) for shade in _RAMP)
        words.append(f"{ramp} {figure.shade_label} {min(shades):.4g} … {max(shades):.4g}")
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}   {word}" if lines else ""
        if lines and len(_ESCAPE.sub("", longer)) <= width:
            lines[-1] = longer
        else:
            lines.append(f"  {word}")
    return lines


def _mark(series: Series) -> str:
    return series.name[:1].upper()


def _level(value: float, shades: list[float]) -> int:
    low, high = min(shades), max(shades)
    if high == low:
        return 0
    return min(len(_RAMP) - 1, int(len(_RAMP) * (value - low) / (high - low)))
