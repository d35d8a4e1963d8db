"""One result: its figure, and under it its table, in a pane that scrolls."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import ScrollableContainer
from textual.content import Content
from textual.widgets import Static

from lsshell.widgets.figure_view import FigureView

if TYPE_CHECKING:
    from lsshell.figures.figure import Figure

LEAST_FIGURE = 9  # lines
_AROUND = 5  # lines about the rows of a table of colours: its axis and what they stand for
SHARE = 0.62  # of the pane, that the figure of a long table keeps: all of it, where it is alone
_COLUMNS = re.compile(r"\S {2,}\S")  # a line of a table
_INDENT = re.compile(r"\s*(?:\S{1,24}\s{2,})?")


class ResultPane(ScrollableContainer, can_focus=True):
    """A figure takes what the text leaves it; of a long text, the figure leaves the beginning."""

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.text = ""
        self.figure: Figure | None = None
        self._share = SHARE

    def compose(self) -> ComposeResult:
        yield FigureView(id="figure")
        yield Static("", id="text")

    def show(self, title: str, figure: Figure | None, text: str) -> None:
        """Shows a result, or a text alone."""
        if title != self.border_title or text != self.text:
            self.scroll_home(animate=False)
        self.border_title = Content(title)  # as it is: no markup
        self.border_subtitle = Content(figure.title if figure is not None else "")
        self.figure, self.text = figure, text
        self._fit()
        self.query_one(FigureView).show(figure)

    def on_resize(self) -> None:
        self._fit()

    def fill(self, alone: bool) -> None:
        """Gives the figure the whole pane, its table to be scrolled to; or no longer."""
        self._share = 1.0 if alone else SHARE
        self._fit()

    def _fit(self) -> None:
        """Gives the figure its height, and breaks the text for the width that there is."""
        width, height = self.scrollable_content_region.size
        lines = broken(self.text, max(width - 2, 20))
        words = self.query_one("#text", Static)
        words.update(Content("\n".join(lines)))
        words.display = bool(self.text)
        view = self.query_one(FigureView)
        view.display = self.figure is not None
        rest = height - len(lines) if self.text else height
        least = min(LEAST_FIGURE, height)
        if self.figure is not None and self.figure.surface is not None:
            names = sum(map(bool, self.figure.surface.y_ticks))
            least = max(least, names + _AROUND if names else 0)  # a row each: none is left out
        view.styles.height = max(rest, int(self._share * height), least)


def broken(text: str, width: int) -> list[str]:
    """The lines of a text: sentences broken at blanks, rows of a table as they are."""
    lines: list[str] = []
    for line in text.rstrip("\n").split("\n"):
        if len(line) <= width or _COLUMNS.search(line):
            lines.append(line)
        else:
            found = _INDENT.match(line)
            indent = " " * (found.end() if found is not None else 0)
            lines += textwrap.wrap(
                line, width, subsequent_indent=indent, break_on_hyphens=False,
                break_long_words=False,
            )  # fmt: skip
    return lines
