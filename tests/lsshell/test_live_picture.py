"""A picture that emerges above the progress line."""

import io
import math

import pyte
import pytest

from lsshell import live_picture, printing
from lsshell.engine.events import Pictured, Progress
from lsshell.live_picture import LivePicture, figure_of
from lsshell.printing import Printer
from lsshell.sessions.language import Line
from lsshell.sessions.reply import Outcome, Reply
from lsshell.worker import Worker


class Terminal(io.StringIO):
    """A screen of 40 × 20 that output goes to."""

    def __init__(self):
        super().__init__()
        self.screen = pyte.Screen(40, 20)
        self.stream = pyte.Stream(self.screen)

    def isatty(self):
        return True

    def write(self, text):
        self.stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    def lines(self):
        return [line.rstrip() for line in self.screen.display if line.strip()]


def picture(light):
    """6 × 6 cells, the first row of `light`, the others dark, one unknown."""
    rows = [(light,) * 6, *[(0.0,) * 6] * 4, (0.0,) * 5 + (math.nan,)]
    return Pictured("pattern", tuple(rows), "accuracy", (0.0, 1.0))


@pytest.fixture
def printer(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(live_picture, "REFRESH", 0.0)
    monkeypatch.setattr(printing, "REFRESH", 0.0)
    monkeypatch.setenv("NO_COLOR", "1")
    return Printer(), terminal


def test_it_is_redrawn_in_place_with_the_first_row_on_top(printer):
    shown, terminal = printer
    for light in (0.3, 1.0):
        shown.hear(picture(light))
        shown.hear(Progress("pattern", 5, 10, "note"))
    lines = terminal.lines()
    assert len(lines) == 2  # the light row and the progress; dark cells are blank
    assert lines[0].strip() == "@" * 12
    assert lines[1].startswith("pattern")


def test_the_answer_takes_its_place(printer):
    shown, terminal = printer
    shown.hear(picture(1.0))
    shown.hear(Progress("pattern", 5, 10, "note"))
    shown.say(Outcome(Line("test", 1, "pattern"), "pattern", 0.1, reply=Reply({}, "done")))
    assert terminal.lines() == ["› pattern", "done"]


def test_nothing_is_drawn_where_no_terminal_is():
    stream = io.StringIO()
    LivePicture(stream, active=False, colour=False).hear(picture(1.0))
    assert stream.getvalue() == ""


def test_the_worker_of_the_app_has_the_latest_at_hand():
    worker = Worker(lambda: None)
    worker._hear(picture(0.5))
    worker._hear(picture(1.0))
    assert worker.picture.values[0] == (1.0,) * 6
    assert worker.changes == 0  # nothing is new on the path
    worker._outcome(Outcome(Line("test", 1, "pattern"), "pattern", 0.1, reply=Reply({}, "done")))
    assert worker.said and worker.picture is None  # drawn after the result it would stay


def test_the_figure_has_a_cell_for_every_value_and_the_lowest_row_first():
    surface = figure_of(picture(1.0)).surface
    assert surface.z[-1] == (1.0,) * 6
    assert surface.limits == (0.0, 1.0)
