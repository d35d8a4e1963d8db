"""Rows under a header, with a cursor: only those on the screen are ever drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

Cell = tuple[str, str]  # text, and the component class that colours it ("" for none)


class Rows(ScrollView, can_focus=True):
    """A table of any length whose cost is that of the lines it shows.

    Subclasses say how many rows there are (`count`), what stands above them (`header`) and in
    each (`row`), and what choosing one does (`choose`).
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--header",
        "rows--cursor",
        "rows--strong",
        "rows--dim",
        "rows--good",
        "rows--bad",
        "rows--accent",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "to(0)", "First", show=False),
        Binding("end", "to(-1)", "Last", show=False),
    ]

    cursor: reactive[int] = reactive(0)

    def count(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def header(self, width: int) -> str:
        """The line above the rows."""
        raise NotImplementedError

    def row(self, index: int, width: int) -> Sequence[Cell]:
        """The cells of a row, padded as the header is."""
        raise NotImplementedError

    def choose(self, index: int, x: int, clicks: int) -> None:
        """What a click at column x of a row does, besides putting the cursor there.

        `clicks`: 2 for the second of a double click.
        """

    def show(self) -> None:
        """Draws what has changed; the size follows the number of rows."""
        self._fit(Size(0, self.count() + 1))
        if self.cursor >= self.count():
            self.cursor = max(self.count() - 1, 0)
        self.refresh()

    def _fit(self, size: Size) -> None:
        """Takes a size; the screen is arranged anew only where the scroll bar comes or goes."""
        shown = self.size.height
        if (size.height > shown) == (self.virtual_size.height > shown) and self.is_attached:
            self.set_reactive(Widget.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = size.height
        else:
            self.virtual_size = size

    # -- drawing -----------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        base = self.rich_style
        if y == 0:
            style = base + self.get_component_rich_style("rows--header", partial=True)
            return Strip([Segment(self.header(width)[:width].ljust(width), style)], width)
        index = round(self.scroll_offset.y) + y - 1
        if index >= self.count():
            return Strip.blank(width, base)
        if index == self.cursor and self.has_focus:
            base += self.get_component_rich_style("rows--cursor", partial=True)
        segments = [
            Segment(text, base + self._cell_style(name)) for text, name in self.row(index, width)
        ]
        return Strip(segments).adjust_cell_length(width, base)

    def _cell_style(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=True) if name else Style()

    # -- moving ------------------------------------------------------------------------------

    def watch_cursor(self) -> None:
        self.scroll_to_region(
            Region(0, self.cursor, 1, 2), animate=False, force=True, immediate=True
        )
        self.refresh()

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, self.count() - 1))

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def action_move(self, by: int) -> None:
        self.cursor += by

    def action_page(self, by: int) -> None:
        self.cursor += by * max(self.scrollable_content_region.height - 1, 1)

    def action_to(self, index: int) -> None:
        self.cursor = self.count() - 1 if index < 0 else index

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or offset.y < 1:
            return
        index = round(self.scroll_offset.y) + offset.y - 1
        if index < self.count():
            self.cursor = index
            self.choose(index, offset.x, event.chain)
