"""The landscape screen: measures, what they gave in this session, and the one at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message

from lsshell.pace import clock
from lsshell.widgets.result_pane import ResultPane
from lsshell.widgets.rows import Cell, Rows

if TYPE_CHECKING:
    from textual.timer import Timer

    from lsshell.engine.events import Pictured
    from lsshell.sessions.reply import Outcome, Reply

MOST = 100  # results kept: of the oldest, the session's record has the numbers
WITH_TIME = 34  # columns from which on results have their times
RESTS = 0.15  # seconds that a cursor rests before the pane follows it: its own move comes first
_NOTHING = """\
Nothing is loaded yet. o opens a checkpoint, a script or a session; or say what to measure on:

    data digits
    model mlp 64-64-10
    train --epochs 100
"""


@dataclass(frozen=True)
class Result:
    """What a measure gave. It is kept as it is: to show it again, nothing is measured.

    at: the point of the path that was `here`; when: seconds since the epoch.
    """

    line: str
    at: str
    when: float
    seconds: float
    reply: Reply

    @property
    def title(self) -> str:
        parts = [self.line, f"here is {self.at}" if self.at else "", _time(self.when)]
        parts += [clock(self.seconds), "interrupted" if self.reply.interrupted else ""]
        return " · ".join(filter(None, parts))


class Measures(Rows):
    """The commands that measure the landscape; Enter or a click writes one on the command line."""

    BORDER_TITLE = "measures"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "Choose")]

    class Moved(Message):
        """The cursor came to another measure."""

    class Chosen(Message):
        """A measure is to be written on the command line."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.names: list[tuple[str, str]] = []  # with their summaries

    @property
    def name_at_cursor(self) -> str:
        return self.names[self.cursor][0] if self.names else ""

    def count(self) -> int:
        return len(self.names)

    def header(self, width: int) -> str:
        return " Enter writes one below" if self.names else ""

    def row(self, index: int, width: int) -> Sequence[Cell]:
        name, summary = self.names[index]
        room = max(width - self._name_width - 3, 1)
        shown = summary if len(summary) <= room else f"{summary[: room - 1].rstrip()}…"
        return [(f" {name:<{self._name_width}}  ", "rows--accent"), (shown, "")]

    @property
    def _name_width(self) -> int:
        return max((len(name) for name, _ in self.names), default=0)

    def choose(self, index: int, x: int, clicks: int) -> None:
        self.action_choose()

    def action_choose(self) -> None:
        if self.names:
            self.post_message(self.Chosen(self.name_at_cursor))

    def watch_cursor(self) -> None:
        super().watch_cursor()
        self.post_message(self.Moved())


class Results(Rows):
    """What measures gave in this session, the newest last; the one under the cursor is shown."""

    BORDER_TITLE = "results"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "write_again", "Again")]

    class Moved(Message):
        """The cursor came to a result, or the list got the focus."""

    class Again(Message):
        """The line of a result is to be written on the command line, to be changed."""

        def __init__(self, line: str) -> None:
            super().__init__()
            self.line = line

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.results: list[Result] = []

    @property
    def at_cursor(self) -> Result | None:
        return self.results[self.cursor] if self.results else None

    def count(self) -> int:
        return len(self.results)

    def header(self, width: int) -> str:
        if not self.results:
            return ""
        time_ = "  time" if width >= WITH_TIME else ""
        return f"   {'measure':<{self._line_width(width)}} {'here':<{self._at_width}}{time_}"

    def row(self, index: int, width: int) -> Sequence[Cell]:
        result, room = self.results[index], self._line_width(width)
        line = result.line if len(result.line) <= room else f"{result.line[: room - 1]}…"
        return [
            (" ▦ " if result.reply.figure is not None else "   ", "rows--accent"),
            (f"{line:<{room}} ", ""),
            (f"{result.at:<{self._at_width}}", "rows--dim"),
            (f"  {_time(result.when)}" if width >= WITH_TIME else "", "rows--dim"),
        ]

    def _line_width(self, width: int) -> int:
        """What is left for the line, beside where and when."""
        return max(width - 5 - self._at_width - (7 if width >= WITH_TIME else 0), 6)

    @property
    def _at_width(self) -> int:
        return min(max([4, *(len(r.at) for r in self.results)]), 12)

    def choose(self, index: int, x: int, clicks: int) -> None:
        if clicks == 2:
            self.action_write_again()

    def action_write_again(self) -> None:
        if self.at_cursor is not None:
            self.post_message(self.Again(self.at_cursor.line))

    def watch_cursor(self) -> None:
        super().watch_cursor()
        self.post_message(self.Moved())

    def on_focus(self) -> None:
        super().on_focus()
        self.post_message(self.Moved())


class Landscape(Horizontal):
    """Lists on the left, and on the right the help of a measure, or what one gave."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.landscape_back", "Back", key_display="esc"),
    ]

    class Write(Message):
        """A line is to be written on the command line; `offer` is what it may grow into."""

        def __init__(self, line: str, offer: str = "") -> None:
            super().__init__()
            self.line = line
            self.offer = offer

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.unseen = False  # a result came while the screen was not shown
        self._loaded = True
        self._watched = True  # a picture under way goes to the pane
        self._live = False  # so it has
        self._follows: Timer | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="measured"):
            yield Measures(id="measures")
            yield Results(id="results")
        yield ResultPane(id="result")

    @property
    def measures(self) -> Measures:
        return self.query_one(Measures)

    @property
    def results(self) -> Results:
        return self.query_one(Results)

    @property
    def pane(self) -> ResultPane:
        return self.query_one(ResultPane)

    def use(self, measures: list[tuple[str, str]]) -> None:
        """Takes names and summaries of the measures that there are."""
        self.measures.names = measures
        self.measures.show()
        self._show_help()

    def look(self, *, loaded: bool) -> None:
        """Notes whether there is something to measure at."""
        if loaded != self._loaded:
            self._loaded = loaded
            if not self.results.has_focus:
                self._show_help()

    def enter(self, *, live: bool) -> None:
        """The screen is shown: with a picture under way, what came meanwhile, or as it was."""
        (self.results if self.unseen and not live else self.measures).focus()
        self.unseen = False
        self._watched = True

    def fill(self, alone: bool) -> None:
        """Shows what is at hand alone, or with the lists."""
        self.pane.fill(alone)
        (self.pane if alone else self.results if self.results.count() else self.measures).focus()

    # -- results -----------------------------------------------------------------------------

    def add(self, outcome: Outcome, at: str, *, shown: bool) -> None:
        """Keeps what a measure gave, and shows it, unless an earlier result is being looked at."""
        reply = outcome.reply
        assert reply is not None
        results = self.results
        at_end = results.cursor >= results.count() - 1
        result = Result(outcome.line.text.strip(), at, time.time(), outcome.seconds, reply)
        results.results = [*results.results[1 - MOST :], result]
        results.show()
        was_live, self._live = self._live, False
        follows = at_end or not results.has_focus
        if follows:
            results.cursor = results.count() - 1
        if follows or was_live:  # the earlier one again, in the place of the picture under way
            self._show_result()
        self.unseen = not shown

    def forget(self) -> None:
        """Another session begins: its points are others."""
        self.results.results = []
        self.results.show()
        self.unseen = False
        self._show_help()

    # -- a picture under way -----------------------------------------------------------------

    def watch(self) -> None:
        """A measure has begun: its picture, if it makes one, is followed."""
        self._watched = True

    def show_live(self, line: str, picture: Pictured) -> None:
        """Shows a picture as it is by now, unless a cursor has moved to something else."""
        if self._watched or self.pane.has_focus:
            from lsshell.live_picture import figure_of

            self._live = True
            self.pane.show(f"{line}  under way", figure_of(picture), "")

    def end_live(self) -> None:
        """The picture comes to nothing: the measure has failed, or was stopped."""
        if self._live:
            self._live = False
            (self._show_result if self.results.count() else self._show_help)()

    # -- what the cursors come to ------------------------------------------------------------

    def on_measures_moved(self) -> None:
        if self.measures.has_focus:
            self._follow(self.measures, self._show_help)

    def on_results_moved(self) -> None:
        if self.results.has_focus:
            self._follow(self.results, self._show_result)

    def _follow(self, rows: Rows, show: Callable[[], None]) -> None:
        """Shows what the cursor has come to, once it rests there."""

        def rest() -> None:
            if rows.has_focus:
                show()

        self._watched = self._live = False
        if self._follows is not None:
            self._follows.stop()
        self._follows = self.set_timer(RESTS, rest)

    def _show_help(self) -> None:
        from lsshell.hints import page

        name = self.measures.name_at_cursor
        text = page(name) if name else ""
        self.pane.show(name, None, text if self._loaded else f"{_NOTHING}\n{text}")

    def _show_result(self) -> None:
        result = self.results.at_cursor
        if result is None:
            self.pane.show("", None, "Nothing has been measured yet: Enter on a measure begins.")
        else:
            self.pane.show(result.title, result.reply.figure, result.reply.text)

    def on_measures_chosen(self, event: Measures.Chosen) -> None:
        from lsshell.hints import begun, with_defaults

        event.stop()
        self.post_message(self.Write(begun(event.name), with_defaults(event.name)))
        self.call_after_refresh(self._show_help)

    def on_results_again(self, event: Results.Again) -> None:
        event.stop()
        self.post_message(self.Write(event.line))


def _time(when: float) -> str:
    return time.strftime("%H:%M", time.localtime(when))
