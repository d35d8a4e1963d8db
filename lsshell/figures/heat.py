"""Surfaces in terminals: two pixels a character, by half blocks; without colours, by density."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from lsshell.figures.colours import Colour, scale_of
from lsshell.figures.figure import Figure, Series, Surface
from lsshell.figures.text import sign_of, wrapped

_DENSITY = " .:-=+*%@"
_CONTOUR, _POINT = "#", "•"
_RESET = "\x1b[0m"
_WHITE: Colour = (255, 255, 255)
Pixels = list[list[float]]
# A character, its colour and the colour behind it.
Cell = tuple[str, Colour | None, Colour | None]


def draw_surface(figure: Figure, width: int, height: int, *, colour: bool, bare: bool) -> str:
    """A figure whose `surface` lies beneath its series, in `width` × `height` characters."""
    assert figure.surface is not None
    return _Canvas(figure, figure.surface, width, height, colour=colour, bare=bare).text()


class _Canvas:
    """The surface on its pixels, what lies over it, and the frame around it."""

    def __init__(
        self, figure: Figure, surface: Surface, width: int, height: int, *, colour: bool, bare: bool
    ) -> None:
        self.figure, self.surface, self.colour, self.bare = figure, surface, colour, bare
        self.width = width
        self.scale = scale_of(surface)
        self.x = _axis(surface.x, figure.x_log)
        self.y = _axis(surface.y, figure.y_log)
        self.y_names = self._names(surface.y, surface.y_ticks)
        self.x_names = self._names(surface.x, surface.x_ticks)
        self.left = max(map(len, self.y_names), default=0) + 1
        self.foot = [] if bare else self._foot()
        self.columns = max(4, width - self.left - 1)
        self.rows = max(2, height - 2 - len(self.foot) - (not bare))
        if figure.equal_axes:  # a character is twice as high as wide
            wide = self._extent(self.x) / self._extent(self.y)
            self.columns = min(self.columns, max(4, round(2 * self.rows * wide)))
            self.rows = min(self.rows, max(2, round(self.columns / (2 * wide))))
        if surface.labels or surface.x_ticks:  # cells of one size
            self.columns -= self.columns % len(self.x) if self.columns >= len(self.x) else 0
            self.rows -= self.rows % len(self.y) if self.rows >= len(self.y) else 0
        self.over: dict[tuple[int, int], str] = {}

    def text(self) -> str:
        pixels = self._pixels()
        on_contour = self._contours(pixels)
        for series in self.figure.series:
            self._lay(series)
        if self.surface.labels:
            self._label()
        lines = [] if self.bare else [self.figure.title.center(self.width).rstrip()]
        names = self._row_names()
        for row in range(self.rows):
            body = self._line(row, pixels, on_contour)
            lines.append(f"{names.get(row, ''):>{self.left - 1}} {body}")
        lines.append(self._x_line())
        return "\n".join([*lines, *self.foot])

    @staticmethod
    def _extent(axis: Sequence[float]) -> float:
        """How long an axis is, with the halves of its outermost cells."""
        return abs(axis[-1] - axis[0]) * len(axis) / max(len(axis) - 1, 1) or 1.0

    # -- what is drawn -----------------------------------------------------------------------

    def _pixels(self) -> Pixels:
        """z at the middle of every pixel: 2·rows of `columns`, the first one on top."""
        return [
            [self._value(across, up) for across in self._middles(self.columns)]
            for up in reversed(self._middles(2 * self.rows))
        ]

    @staticmethod
    def _middles(count: int) -> list[float]:
        return [(k + 0.5) / count for k in range(count)]

    def _value(self, across: float, up: float) -> float:
        """z at a place in [0, 1]²: between grid points bilinear, of categories the cell's own."""
        z, (m, n) = self.surface.z, (len(self.x), len(self.y))
        if self.surface.x_ticks or m == 1 or n == 1:
            return z[min(int(up * n), n - 1)][min(int(across * m), m - 1)]
        i, a = _between(self.x, across)
        j, b = _between(self.y, up)
        corners = (z[j][i], z[j][i + 1], z[j + 1][i], z[j + 1][i + 1])
        if self.surface.log:
            corners = tuple(math.log(c) if c > 0 else math.nan for c in corners)
        low = corners[0] + (corners[1] - corners[0]) * a
        high = corners[2] + (corners[3] - corners[2]) * a
        value = low + (high - low) * b
        return math.exp(value) if self.surface.log else value

    def _contours(self, pixels: Pixels) -> set[tuple[int, int]]:
        """The pixels, and halves of characters, where z crosses a contour's value."""
        found = set()
        for _, level in self.surface.contours:
            for r, row in enumerate(pixels):
                for c, value in enumerate(row):
                    inside = value <= level
                    beside = row[c + 1] if c + 1 < len(row) else value
                    below = pixels[r + 1][c] if r + 1 < len(pixels) else value
                    if (beside <= level) != inside or (below <= level) != inside:
                        found.add((r, c))
        return found

    def _lay(self, series: Series) -> None:
        """Puts points, and the lines between them, over the surface."""
        sign = _POINT if series.style != "mark" else sign_of(series)
        places = [self._place(x, y) for x, y in zip(series.x, series.y, strict=True)]
        for k, at in enumerate(places):
            if series.style == "line" and k:
                for step in _line(places[k - 1], at):
                    self._put(step, sign)
            self._put(at, sign)

    def _place(self, x: float, y: float) -> tuple[int, int] | None:
        """The character (row, column) of a point in the axes' units; None beyond the frame."""
        across = _share(self.x, _axis((x,), self.figure.x_log)[0])
        up = _share(self.y, _axis((y,), self.figure.y_log)[0])
        if not (0.0 <= across <= 1.0 and 0.0 <= up <= 1.0):
            return None
        row = self.rows - 1 - min(int(up * self.rows), self.rows - 1)
        return row, min(int(across * self.columns), self.columns - 1)

    def _put(self, at: tuple[int, int] | None, sign: str) -> None:
        if at is not None:
            self.over[at] = sign

    def _label(self) -> None:
        """The cells' own words, in their middles; none, where there is no room for the longest."""
        m, n = len(self.x), len(self.y)
        room = self.columns // m
        if max(len(word) for words in self.surface.labels for word in words) > room:
            return  # half a word or half a number says something else
        for j, labels in enumerate(self.surface.labels):
            row = self.rows - 1 - int((j + 0.5) / n * self.rows)
            for i, word in enumerate(labels):
                first = i * self.columns // m + (room - len(word)) // 2
                for k, letter in enumerate(word):
                    self._put((row, first + k), letter)

    def _line(self, row: int, pixels: Pixels, on_contour: set[tuple[int, int]]) -> str:
        top, bottom = pixels[2 * row], pixels[2 * row + 1]
        if not self.colour:
            return "".join(
                self.over.get((row, c))
                or self._density(row, c, 0.5 * (top[c] + bottom[c]), on_contour)
                for c in range(self.columns)
            )
        cells = [self._cell(row, c, top[c], bottom[c], on_contour) for c in range(self.columns)]
        return _run_together(cells)

    def _density(self, row: int, c: int, value: float, on_contour: set[tuple[int, int]]) -> str:
        if (2 * row, c) in on_contour or (2 * row + 1, c) in on_contour:
            return _CONTOUR
        place = self.scale.place(value)
        return " " if place is None else _DENSITY[min(int(place * len(_DENSITY)), 8)]

    def _cell(
        self, row: int, c: int, top: float, bottom: float, on_contour: set[tuple[int, int]]
    ) -> Cell:
        sign = self.over.get((row, c))
        if sign is not None:
            behind = self._colour(0.5 * (top + bottom)) or (0, 0, 0)
            return sign, (0, 0, 0) if sum(behind) > 380 else _WHITE, behind
        upper, lower = (
            _WHITE if (2 * row + k, c) in on_contour else self._colour(value)
            for k, value in enumerate((top, bottom))
        )
        if upper is None:
            return ("▄", lower, None) if lower is not None else (" ", None, None)
        return "▀", upper, lower

    def _colour(self, value: float) -> Colour | None:
        place = self.scale.place(value)
        return None if place is None else self.scale.colour(place)

    # -- the frame ---------------------------------------------------------------------------

    @staticmethod
    def _names(values: Sequence[float], ticks: Sequence[str]) -> tuple[str, ...]:
        if ticks:
            return tuple(ticks)
        return tuple(f"{values[k]:.3g}" for k in sorted({0, len(values) // 2, len(values) - 1}))

    def _row_names(self) -> dict[int, str]:
        """The y axis: which row of characters carries which name."""
        count = len(self.y_names)
        if self.surface.y_ticks:
            every = -(-count // self.rows)
            at = {k: (k + 0.5) / count for k in range(0, count, every)}
        else:
            at = {k: _share(self.y, self.y[j]) for k, j in enumerate(_ends(len(self.y)))}
        return {self.rows - 1 - min(int(up * self.rows), self.rows - 1): self.y_names[k]
                for k, up in at.items()}  # fmt: skip

    def _x_line(self) -> str:
        """The x axis: names under their columns, those left out that have no room."""
        count, line = len(self.x_names), [" "] * (self.columns + self.left)
        if self.surface.x_ticks:
            middles = [(k + 0.5) / count for k in range(count)]
        else:
            middles = [_share(self.x, self.x[i]) for i in _ends(len(self.x))]
        end = -1
        for name, across in zip(self.x_names, middles, strict=True):
            first = self.left + round(across * self.columns - len(name) / 2)
            first = max(self.left, min(first, len(line) - len(name)))
            if first > end:
                line[first : first + len(name)] = name
                end = first + len(name)
        return "".join(line).rstrip()

    def _foot(self) -> list[str]:
        """The axes' names, then what colours, lines and marks stand for."""
        figure, surface = self.figure, self.surface
        axes = [("x", figure.x_label), ("y", figure.y_label)]
        names = "   ".join(f"{axis}: {label}" for axis, label in axes if label)
        words = self._meanings()
        sign = "━" if self.colour else _CONTOUR
        words += [f"{sign} {name} {value:.4g}" for name, value in surface.contours]
        words += [
            f"{_POINT if s.style != 'mark' else sign_of(s)} {s.name}"
            for s in figure.series
            if s.name
        ]
        return [*([f"  {names}"] if names else []), *wrapped(words, self.width)]

    def _meanings(self) -> list[str]:
        """What colours stand for: a name each, or a range."""
        surface = self.surface
        if surface.z_ticks:
            signs = [self._sign(float(k)) for k in range(len(surface.z_ticks))]
            return [f"{s} {name}" for s, name in zip(signs, surface.z_ticks, strict=True)]
        ends = f"{self.scale.low:.4g} … {self.scale.high:.4g}"
        return [f"{self._ramp()} {surface.label} {ends}{' (log)' if surface.log else ''}"]

    def _sign(self, value: float) -> str:
        if not self.colour:
            return f"[{self._density(-1, -1, value, set())}]"
        return f"{_ink(38, self._colour(value) or _WHITE)}█{_RESET}"

    def _ramp(self) -> str:
        if not self.colour:
            return _DENSITY.strip()
        places = [k / 9 for k in range(10)]
        return "".join(f"{_ink(38, self.scale.colour(p))}█" for p in places) + _RESET


def _axis(values: Sequence[float], log: bool) -> tuple[float, ...]:
    if not log:
        return tuple(values)
    return tuple(math.log10(v) if v > 0 else math.nan for v in values)


def _ends(count: int) -> list[int]:
    return sorted({0, count // 2, count - 1})


def _share(axis: Sequence[float], value: float) -> float:
    """Where along an axis a value lies: 0 at its first, 1 at its last."""
    span = axis[-1] - axis[0]
    return (value - axis[0]) / span if span else 0.5


def _between(axis: Sequence[float], share: float) -> tuple[int, float]:
    """The grid point before a place in [0, 1] and how far it is to the next."""
    value = axis[0] + share * (axis[-1] - axis[0])
    if axis[-1] >= axis[0]:
        k = bisect_right(axis, value) - 1
    else:
        k = bisect_right([-a for a in axis], -value) - 1
    k = min(max(k, 0), len(axis) - 2)
    gap = axis[k + 1] - axis[k]
    return k, (value - axis[k]) / gap if gap else 0.0


def _line(a: tuple[int, int] | None, b: tuple[int, int] | None) -> list[tuple[int, int]]:
    """The characters from a to b, without the ends; nothing where one is beyond the frame."""
    if a is None or b is None:
        return []
    steps = max(abs(b[0] - a[0]), abs(b[1] - a[1]))
    return [
        (round(a[0] + (b[0] - a[0]) * k / steps), round(a[1] + (b[1] - a[1]) * k / steps))
        for k in range(1, steps)
    ]


def _run_together(cells: Sequence[Cell]) -> str:
    """The characters, with escapes only where a colour changes."""
    words, ink, behind = [], None, None
    for sign, fore, back in cells:
        if (ink is not None and fore is None) or (behind is not None and back is None):
            words.append(_RESET)
            ink = behind = None
        if fore is not None and fore != ink:
            words.append(_ink(38, fore))
        if back is not None and back != behind:
            words.append(_ink(48, back))
        ink, behind = fore, back
        words.append(sign)
    return "".join([*words, _RESET])


def _ink(kind: int, colour: Colour) -> str:
    return f"\x1b[{kind};2;{colour[0]};{colour[1]};{colour[2]}m"
