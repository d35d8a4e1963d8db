"""Bars in terminals: a row each, from a line at 0 to the left or right, with their values."""

from __future__ import annotations

import math

from lsshell.figures.figure import Figure

_LEAST = 12  # columns for the bars themselves, however narrow the terminal
_COLOUR, _RESET = "\x1b[94m", "\x1b[0m"


def draw_bars(figure: Figure, width: int, height: int, *, colour: bool, bare: bool = False) -> str:
    """The first series of bars, a row a category; those beyond `height` rows are only counted."""
    bars = next(s for s in figure.series if s.style == "bars")
    named = [(n, y) for n, y in zip(figure.categories, bars.y, strict=True) if math.isfinite(y)]
    room = max(height - 2 * (not bare), 1)
    shown = named if len(named) <= room else named[: max(room - 1, 0)]
    labels = max((len(n) for n, _ in shown), default=0)
    numbers = max((len(_value(y)) for _, y in shown), default=0)
    columns = max(width - labels - numbers - 5, _LEAST)
    low, high = min([0.0, *(y for _, y in shown)]), max([0.0, *(y for _, y in shown)])
    scale = (columns - 1) / ((high - low) or 1.0)
    zero = round(-low * scale)
    lines = [] if bare else [figure.title.center(width).rstrip()]
    for name, y in shown:
        size = round(abs(y) * scale)
        left, right = (size, 0) if y < 0 else (0, size)
        bar = " " * (zero - left) + "█" * left + "│" + "█" * right
        bar = bar[:columns].ljust(columns)
        if colour:
            bar = f"{_COLOUR}{bar}{_RESET}"
        lines.append(f" {name:>{labels}} {bar} {_value(y):>{numbers}}")
    if len(shown) < len(named):
        lines.append(f" … and {len(named) - len(shown)} more")
    if not bare:
        lines.append(figure.y_label.center(width).rstrip())
    return "\n".join(lines)


def _value(y: float) -> str:
    return f"{y:.3g}"
