"""A picture that emerges: the last one heard of, redrawn in place above the progress line."""

from __future__ import annotations

import shutil
import time
from typing import IO, TYPE_CHECKING

from lsshell.figures.figure import Figure, Surface

if TYPE_CHECKING:
    from lsshell.engine.events import Pictured

REFRESH = 0.3  # seconds between two drawings
_FEWEST_LINES = 4
_MOST_LINES = 24


def figure_of(event: Pictured) -> Figure:
    """The picture as cells of colour, each alone: nothing is blended."""
    height, width = len(event.values), len(event.values[0])
    surface = Surface(
        tuple(map(float, range(width))),
        tuple(map(float, range(height))),
        event.values[::-1],
        event.label,
        limits=event.limits,
        x_ticks=("",) * width,
        y_ticks=("",) * height,
    )
    return Figure(f"{event.task}: {event.label}", "", "", (), equal_axes=True, surface=surface)


class LivePicture:
    """Draws on a terminal, where it is one (`active`); `clear` comes before other output there."""

    def __init__(self, stream: IO[str], *, active: bool, colour: bool) -> None:
        self.stream, self.active, self.colour = stream, active, colour
        self._lines = 0
        self._shown = 0.0

    def hear(self, event: Pictured) -> None:
        """Draws it in the place of the last one; not more often than an eye can follow."""
        now = time.monotonic()
        if not self.active or now - self._shown < REFRESH:
            return
        self._shown = now
        size = shutil.get_terminal_size()
        rows = min(size.lines - 3, _MOST_LINES, len(event.values))
        columns = round(2 * rows * len(event.values[0]) / len(event.values))
        columns = min(columns, size.columns - 4)
        if rows < _FEWEST_LINES or columns < _FEWEST_LINES:
            return
        from lsshell.figures.text import draw_text

        drawn = draw_text(figure_of(event), columns + 2, rows + 2, colour=self.colour, bare=True)
        text = drawn.rstrip().split("\n")
        up = f"\x1b[{self._lines}A" if self._lines else ""
        self.stream.write(f"\r{up}\x1b[J")  # over the progress line, too
        self.stream.write("".join(f"{line}\n" for line in text))
        self.stream.flush()
        self._lines = len(text)

    def clear(self) -> None:
        """Takes the picture off the screen, once the line under it is empty."""
        if self._lines:
            self.stream.write(f"\r\x1b[{self._lines}A\x1b[J")
            self.stream.flush()
        self._lines = 0
