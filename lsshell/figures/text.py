"""Figures in terminals, by plotext."""

from __future__ import annotations

import itertools
import math
import re
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_lowercase

from lsshell.figures.figure import Figure, Series
from lsshell.figures.ticks import log_ticks

_DRAWING = threading.Lock()  # plotext has one figure for the whole process
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
# From early (or low) to late (or high), for shaded points.
_RAMP = ("blue+", "cyan+", "green+", "orange+", "red+")
_COLOURS = ("blue+", "orange+", "green+", "red+", "magenta+", "cyan+", "blue", "green")
_MARKS = {"start": "○", "now": "◆"}
_END = "□"
_POINT = "•"
_LINE = "braille"


def draw_text(figure: Figure, width: int, height: int, *, colour: bool, bare: bool = False) -> str:
    """The figure in `width` × `height` characters, with ANSI colours or without.

    Without colours, several lines are told apart by letters, which take turns, so that lines that
    coincide are all seen. The legend stands underneath, where it covers nothing. `bare`: axes and
    data alone, for whoever puts a title around it.
    """
    if figure.surface is not None:
        from lsshell.figures.heat import draw_surface

        return draw_surface(_finite(figure), width, height, colour=colour, bare=bare)
    if any(s.style == "bars" for s in figure.series):
        from lsshell.figures.bars_text import draw_bars

        return draw_bars(figure, width, height, colour=colour, bare=bare)
    with _DRAWING:
        return _draw(_finite(figure), width, height, colour=colour, bare=bare)


def _finite(figure: Figure) -> Figure:
    """Without what has no place on an axis."""

    def kept(series: Series) -> Series:
        places = zip(series.x, series.y, series.shade or series.x, strict=True)
        whole = [
            i
            for i, values in enumerate(places)
            if _all_finite(values)
            and (values[0] > 0.0 or not figure.x_log)
            and (values[1] > 0.0 or not figure.y_log)
        ]
        if len(whole) == len(series.x):
            return series
        shade = None if series.shade is None else tuple(series.shade[i] for i in whole)
        spread = None if series.spread is None else tuple(series.spread[i] for i in whole)
        x, y = (tuple(values[i] for i in whole) for values in (series.x, series.y))
        return replace(series, x=x, y=y, shade=shade, spread=spread)

    bands = tuple(b for b in figure.bands if math.isfinite(b[1]))
    return replace(figure, series=tuple(kept(s) for s in figure.series), bands=bands)


def _all_finite(values: tuple[float, ...]) -> bool:
    return all(math.isfinite(v) for v in values)


def _draw(figure: Figure, width: int, height: int, *, colour: bool, bare: bool) -> str:
    import plotext

    legend = [] if bare else _legend(figure, width, colour=colour)
    plotext.clear_figure()
    plotext.limit_size(False, False)  # of what it takes the terminal to be
    plotext.theme("clear")
    plotext.plotsize(width, height - len(legend))
    if not bare:
        plotext.title(figure.title)
        plotext.xlabel(figure.x_label)
        plotext.ylabel(figure.y_label)
    _scale_axes(figure, width, height - len(legend))
    right = max((x for s in figure.series for x in s.x), default=1.0)
    for name, value in figure.bands:
        if value > 0 or not figure.y_log:
            plotext.hline(value, "gray")
            plotext.text(f" {name} ", right, value, color="gray", alignment="right")
    shades = [v for s in figure.series for v in s.shade or ()]
    least, most = min(shades, default=0.0), max(shades, default=0.0)
    for k, series in enumerate(figure.series):
        if not series.x:
            continue
        if series.style == "mark":
            continue
        if series.shade is not None:
            plotext.plot(series.x, series.y, marker="braille", color="gray")
            levels = [_level(v, least, most) for v in series.shade]
            for step, shade in enumerate(_RAMP):
                chosen = [i for i, level in enumerate(levels) if level == step]
                plotext.scatter(
                    [series.x[i] for i in chosen], [series.y[i] for i in chosen],
                    marker="braille", color=shade,
                )  # fmt: skip
        else:
            marker = _marker(figure, k, colour=colour)
            draw = plotext.plot if marker == _LINE else plotext.scatter
            for way in (-1.0, 1.0) if series.spread is not None else ():
                edge = [y + way * s for y, s in zip(series.y, series.spread or (), strict=True)]
                plotext.plot(series.x, edge, marker="braille", color="gray")
            x, y = series.x, series.y
            if series.style == "line" and marker != _LINE:
                x, y = _in_turn(figure, k, width)
            draw(x, y, marker=marker, color=_COLOURS[k % len(_COLOURS)])
    for series in figure.series:  # over the points that they mark
        if series.style == "mark":
            plotext.scatter(series.x, series.y, marker=sign_of(series), color="default")
    text = "\n".join([plotext.build().rstrip("\n"), *legend])
    return text if colour else _ESCAPE.sub("", text)


def _scale_axes(figure: Figure, width: int, height: int) -> None:
    """Logarithmic axes have their names at powers of ten, not at what they are divided evenly."""
    import plotext

    for log, letter, most in ((figure.x_log, "x", width // 16), (figure.y_log, "y", height // 3)):
        if not log:
            continue
        values = [v for s in figure.series for v in getattr(s, letter) if v > 0.0]
        if letter == "y":
            values += [value for _, value in figure.bands if value > 0.0]
        scale, ticks = getattr(plotext, f"{letter}scale"), getattr(plotext, f"{letter}ticks")
        scale("log")
        if values:
            places = log_ticks(min(values), max(values), max(most, 2))
            ticks(places, [f"{place:.3g}" for place in places])


def _marker(figure: Figure, k: int, *, colour: bool) -> str:
    """What draws a series: a letter only where nothing else tells it from others of its style."""
    style = figure.series[k].style
    alike = sum(s.style == style and s.shade is None for s in figure.series)
    if alike > 1 and not colour:
        return ascii_lowercase[k % 26]
    return _LINE if style == "line" else _POINT


def _in_turn(figure: Figure, k: int, width: int) -> tuple[Sequence[float], Sequence[float]]:
    """Places of a line in those columns that are its own, every so many; its points, where x does
    not grow along it.
    """
    series = figure.series[k]
    lines = [i for i, s in enumerate(figure.series) if s.style == "line" and s.shade is None]
    turn, of = lines.index(k), len(lines)
    xs, ys = _axis(series.x, figure.x_log), _axis(series.y, figure.y_log)
    if len(xs) < 2 or any(b <= a for a, b in itertools.pairwise(xs)):
        return series.x, series.y
    every = [x for s in figure.series for x in _axis(s.x, figure.x_log)]
    low, high = min(every), max(every)
    columns = max(width - 10, of)
    x, y = [], []
    for column in range(turn, columns, of):
        at = low + (high - low) * column / (columns - 1)
        j = min(max(bisect_right(xs, at) - 1, 0), len(xs) - 2)
        share = (at - xs[j]) / (xs[j + 1] - xs[j])
        if 0.0 <= share <= 1.0:
            x.append(at)
            y.append(ys[j] + share * (ys[j + 1] - ys[j]))
    if not x:  # shorter than a turn takes
        return series.x, series.y
    return _back(x, figure.x_log), _back(y, figure.y_log)


def _axis(values: Sequence[float], log: bool) -> list[float]:
    return [math.log10(v) for v in values] if log else list(values)


def _back(places: Sequence[float], log: bool) -> list[float]:
    return [10.0**v for v in places] if log else list(places)


def _legend_items(figure: Figure, *, colour: bool) -> list[str]:
    """What tells the series apart, with ANSI colours or without; none where one is alone."""
    import plotext

    words = []
    named = sum(s.style != "mark" and s.shade is None for s in figure.series)
    for k, series in enumerate(figure.series):
        if series.style == "mark":
            words.append(f"{sign_of(series)} {series.name}")
        elif series.shade is None and named > 1:
            sign = _marker(figure, k, colour=colour).replace(_LINE, "━")
            words.append(f"{plotext.colorize(sign, _COLOURS[k % len(_COLOURS)])} {series.name}")
    shades = [v for s in figure.series for v in s.shade or ()]
    if shades and colour:
        ramp = "".join(plotext.colorize("●", shade) for shade in _RAMP)
        words.append(f"{ramp} {figure.shade_label} {min(shades):.4g} … {max(shades):.4g}")
    return words


def _legend(figure: Figure, width: int, *, colour: bool) -> list[str]:
    """Lines that name the series."""
    return wrapped(_legend_items(figure, colour=colour), width)


def wrapped(words: Sequence[str], width: int) -> list[str]:
    """Words, some of them coloured, in indented lines of at most `width` visible characters."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}   {word}" if lines else ""
        if lines and len(_ESCAPE.sub("", longer)) <= width:
            lines[-1] = longer
        else:
            lines.append(f"  {word}")
    return lines


def sign_of(series: Series) -> str:
    """The character that marks a single point."""
    return _MARKS.get(series.name, _END)


def _level(value: float, least: float, most: float) -> int:
    if most == least:
        return 0
    return min(len(_RAMP) - 1, int(len(_RAMP) * (value - least) / (most - least)))
