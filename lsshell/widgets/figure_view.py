"""A figure at the size of its place, drawn beside the screen's thread."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.strip import Strip
from textual.widget import Widget

from lsshell.widgets.ansi_strips import strips

if TYPE_CHECKING:
    from lsshell.figures.figure import Figure

LEAST = (12, 4)  # characters that a figure needs
ROOMY = (50, 12)  # where there is room for titles and a legend, too


class FigureView(Widget):
    """Shows the last figure drawn until the next one is: a key never waits for a picture."""

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.drawn: tuple[Figure | None, int, int] = (None, 0, 0)  # what is on the screen
        self._figure: Figure | None = None
        self._strips: list[Strip] = []
        self._drawing = False

    def show(self, figure: Figure | None) -> None:
        """Draws a figure as soon as may be; an older one that still waits is left out."""
        self._figure = figure
        self._want()

    def on_resize(self) -> None:
        self._want()

    def _want(self) -> None:
        if not self._drawing:
            self._drawing = True
            self.run_worker(self._draw(), group="figure")

    async def _draw(self) -> None:
        try:
            while (wanted := (self._figure, *self.content_size)) != self.drawn:
                figure, width, height = wanted
                if figure is None or width < LEAST[0] or height < LEAST[1]:
                    self._strips = []
                else:
                    colour = not self.app.no_color
                    self._strips = await asyncio.to_thread(
                        _strips, figure, width, height, colour=colour
                    )
                self.drawn = wanted
                self.refresh()
        finally:
            self._drawing = False

    def render_line(self, y: int) -> Strip:
        base, width = self.rich_style, self.content_size.width
        if y < len(self._strips):
            return self._strips[y].apply_style(base).adjust_cell_length(width, base)
        return Strip.blank(width, base)


def _strips(figure: Figure, width: int, height: int, *, colour: bool) -> list[Strip]:
    """The lines of a drawing. One that cannot be drawn says so: its numbers are still there."""
    from lsshell.figures.text import draw_text

    bare = width < ROOMY[0] or height < ROOMY[1]
    try:
        drawn = draw_text(replace(figure, title=""), width, height, colour=colour, bare=bare)
    except Exception as e:
        drawn = f"this figure cannot be drawn here ({e}); --out FILE.png writes it"
    return strips(drawn)
