"""The landscape screen: measures chosen, run, cancelled, and their results shown again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Static

from lsshell.completion import complete
from lsshell.engine.events import Pictured, Progress
from lsshell.figures.figure import Figure, Series, Surface
from lsshell.hints import begun, page, with_defaults
from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.vocabulary import FromSession
from lsshell.widgets.activity import Activity
from lsshell.widgets.figure_view import FigureView
from lsshell.widgets.landscape import Landscape
from lsshell.widgets.log import Log
from lsshell.widgets.plots import Plots
from lsshell.widgets.regularizers import Regularizers
from lsshell.widgets.result_pane import broken
from tests.lsshell.driving import Driven, driven, played
from tests.sessions.conversation import talk


class Gate:
    """Holds the measure below in its middle, once it is closed."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()


GATE = Gate()


def survey(
    where: str = "here", /, *, points: int = 5, radius: float = 0.5, seed: int | None = None,
    session: FromSession,
) -> Reply:  # fmt: skip
    """Survey the loss around a point.

    A sentence that goes on
    in another line.

    Parameters
    ----------
    where
        A point as in `goto`.
    points
        How many along each axis.
    radius
        How far.
    seed
        For the directions.
    """
    place = named_place(session, where)
    problem = session.engine.problem
    GATE.reached.clear()
    for done in range(1, points + 1):
        session.engine.listen(Progress("survey", done, points, "rows"))
        session.engine.listen(Pictured("survey", ((0.0, 1.0), (1.0, math.nan)), "loss", (0.0, 1.0)))
        while done == 2 and not GATE.open.is_set():
            GATE.reached.set()
            problem.loss(place.theta)  # raises Cancelled where it is asked to
            time.sleep(0.002)
    axis = tuple(radius * (2 * k / (points - 1) - 1) for k in range(points))
    z = tuple(tuple(x * x + y * y for x in axis) for y in axis)
    ends = Series("walk", axis, axis)
    figure = Figure(f"around {place.name}", "along u", "along v", (ends,),
                    surface=Surface(axis, axis, z, "loss"))  # fmt: skip
    rows = [f"{y:8.4f}  {min(row):.4f}" for y, row in zip(axis, z, strict=True)]
    return Reply({"points": points}, "\n".join(["       v    loss", *rows]), figure=figure)


def span(a: str, b: str = "here", /, *, bends: int = 1, session: FromSession) -> Reply:
    """Go from one place to another."""
    raise NotImplementedError


@pytest.fixture(scope="module", autouse=True)
def measures() -> Iterator[None]:
    """`survey` and `span` are words of the vocabulary in these tests alone."""
    for function in (survey, span):
        VOCABULARY.command("landscape")(function)
    yield
    for name in ("survey", "span"):
        del VOCABULARY._app[name], VOCABULARY.commands[name]
        VOCABULARY._options.pop(name, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("trained") / "net.safetensors"
    said = f"seed 3\ndata iris\nmodel mlp 4-8-3\ntrain --epochs 5 --rate 0.01\nsave {file}"
    talk(None, said, record=False)
    return file


@pytest.fixture(autouse=True)
def home(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LSSHELL_SESSIONS", str(tmp_path / "sessions"))
    (tmp_path / "net.safetensors").write_bytes(trained.read_bytes())
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Closed: a survey stays under way."""
    GATE.open.clear()
    yield GATE
    GATE.open.set()


LOADED = ("seed 3", "data iris", "load net.safetensors")
ON = (*LOADED, "level", "reg l2 on")


def screen(app: Driven) -> Landscape:
    return app.app._main.query_one(Landscape)


def text(app: Driven) -> str:
    """What stands in the pane on the right, under the figure."""
    return str(screen(app).pane.query_one("#text", Static).content)


def drawing(app: Driven) -> str:
    """The figure as it stands on the screen."""
    return "\n".join(strip.text for strip in screen(app).query_one(FigureView)._strips)


async def drawn(app: Driven) -> None:
    """Waits until there is a figure, and its picture in the size that it has now."""
    view, pane = screen(app).query_one(FigureView), screen(app).pane
    await app.settle()
    await app.until(lambda: pane.figure is not None and view.content_size.area, "a figure")
    await app.until(lambda: view.drawn == (pane.figure, *view.content_size), "drawing")


async def choose(app: Driven, name: str = "survey") -> None:
    """Puts the cursor on a measure, and presses Enter."""
    names = [n for n, _ in screen(app).measures.names]
    await app.press("home", *["down"] * names.index(name), "enter")
    await app.until(lambda: app.typed.input.value.startswith(name), "the measure's line")


# -- there and back ----------------------------------------------------------------------------


@played
async def test_one_key_shows_the_measures_and_escape_gives_the_panes_back():
    async with driven(None) as app:
        await app.press("6", "L")
        assert screen(app).region.area
        assert not app.app.query_one(Plots).region.area
        listed = dict(screen(app).measures.names)
        assert listed["survey"] == "Survey the loss around a point."
        assert not {"walk", "plot", "measure"} & set(listed)
        await app.press("2", "g")  # of the panes, which are not in sight
        assert app.app.query_one(Plots).big.number == 1
        await app.press("escape")
        assert not screen(app).region.area
        assert app.app.query_one(Plots).region.area
        assert app.app.query_one(Regularizers).has_focus
        await app.press("colon", "L")  # a letter like any other
        assert app.typed.input.value == "L"
        assert not screen(app).region.area


@played
async def test_a_measure_chosen_is_a_line_to_change_with_its_help_beside_it():
    async with driven(None) as app:
        await app.press("L")
        assert "Nothing is loaded yet. o opens" in text(app)
        await choose(app)
        assert app.typed.input.value == "survey here"
        assert app.typed.input.has_focus
        await app.until(lambda: "How many along each axis." in text(app), "its help")
        assert app.hint.startswith("survey [WHERE]")
        await app.until(lambda: app.typed.input._suggestion, "its defaults")
        await app.press("right")
        assert app.typed.input.value == "survey here --points 5 --radius 0.5"
        await app.press("enter")
        await app.until(lambda: "data" in app.hint, "what is missing")
        assert app.typed.input.value.startswith("survey")  # to be sent again
        assert screen(app).results.count() == 0


@played
async def test_lists_and_result_have_their_place_at_every_size(tmp_path):
    async with driven(tmp_path / "s", *LOADED, "survey", size=(200, 60)) as app:
        await app.press("L")
        widths = []
        for size in ((200, 60), (80, 24), (60, 20)):
            await app.pilot.resize_terminal(*size)
            await drawn(app)
            widths.append(max(map(len, drawing(app).splitlines())))
            parts = (screen(app).measures, screen(app).results, screen(app).query_one(FigureView))
            assert all(part.region.height >= 4 and part.region.width >= 20 for part in parts)
            body = app.app._main.query_one("#body").region
            assert all(body.contains_region(part.region) for part in parts)
            assert app.app._main.query_one(Log).display == (size[1] >= 38)
        assert widths == sorted(widths, reverse=True)
        assert len(set(widths)) == 3
        await app.press("f")  # the figure alone
        await drawn(app)
        assert not screen(app).measures.region.area
        assert screen(app).pane.region.width == 60
        assert screen(app).query_one(FigureView).region.height == screen(app).pane.size.height
        await app.press("escape")
        assert screen(app).measures.region.area


# -- choosing and running ----------------------------------------------------------------------


def test_a_line_is_begun_with_what_has_its_place_and_may_grow_by_what_has_a_default():
    assert begun("survey") == "survey here"
    assert with_defaults("survey") == "survey here --points 5 --radius 0.5"
    assert begun("bridge") == "bridge "  # which two, nobody can know
    assert with_defaults("bridge") == ""
    assert begun("model") == "model "
    assert with_defaults("model") == ""
    assert begun("span") == "span "
    assert with_defaults("span") == "span start here --bends 1"


def test_a_page_says_what_a_measure_does_and_what_its_options_are():
    said = page("survey").splitlines()
    assert said[0] == "survey [WHERE]"
    assert "A sentence that goes on in another line." in said
    assert said[said.index("  --points = 5") + 1].strip() == "How many along each axis."
    assert "  --seed" in said


def test_places_are_offered_where_a_measure_takes_one():
    offered = [word for word, _ in complete("survey ")]
    assert offered[:4] == ["here", "start", "end", "best"]
    assert "net.safetensors" in offered
    assert [word for word, _ in complete("survey be")] == ["best"]


@played
async def test_a_result_is_drawn_and_goes_the_way_of_every_command(tmp_path):
    async with driven(tmp_path / "s", *ON, "walk --steps 2", size=(120, 40)) as app:
        before = app.session.engine.theta_hash(), app.session.engine.problem.gradients
        await app.press("L")
        await choose(app)
        await app.type(" --points 3")
        await app.press("enter")
        await app.idle()
        await drawn(app)
        assert app.script[-1] == "survey here --points 3" == app.logged[-1]
        assert "figure: L or F2" in app.log
        assert "along u" in drawing(app)
        assert "0.5000" in text(app)
        title, below = screen(app).pane.border_title, screen(app).pane.border_subtitle
        assert str(title).startswith("survey here --points 3 · here is main:2 · ")
        assert str(below) == "around here"
        assert app.typed.input.has_focus
        assert before == (app.session.engine.theta_hash(), app.session.engine.problem.gradients)


@played
async def test_earlier_results_are_shown_again_without_being_run_again(tmp_path, gate):
    gate.open.set()
    async with driven(tmp_path / "s", *ON, "survey --points 3") as app:
        await app.enter("survey start --points 4")  # on the main screen
        assert any("landscape screen: L or F2" in n for n in app.notices)
        assert app.typed.input.has_focus  # where an L would be a letter
        await app.press("f2")
        results = screen(app).results
        assert results.has_focus
        await app.until(lambda: text(app).count("\n") == 4, "the later result")
        await drawn(app)
        later, ran = drawing(app), app.history
        await app.press("up")
        await app.until(lambda: text(app).count("\n") == 3, "the earlier result")
        await drawn(app)
        assert drawing(app) != later
        assert app.history == ran
        gate.open.clear()
        app.app.say("survey --points 6")  # what comes now does not take the place of this one
        await app.until(lambda: "under way" in str(screen(app).pane.border_title), "a picture")
        gate.open.set()
        await app.idle()
        assert results.count() == 3
        assert text(app).count("\n") == 3
        await app.press("enter")
        assert app.typed.input.value == "survey --points 3"


@played
async def test_no_colours_where_there_are_to_be_none_and_no_end_where_nothing_can_be_drawn(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("NO_COLOR", "1")
    async with driven(tmp_path / "s", *LOADED, "survey", size=(80, 24)) as app:
        await app.press("L")
        await drawn(app)
        strips = screen(app).query_one(FigureView)._strips
        assert "0.5" in drawing(app)
        assert not any(segment.style and segment.style.color for s in strips for segment in s)

        def broken_drawing(*given: object, **how: object) -> str:
            raise ValueError("no such colour")

        monkeypatch.setattr("lsshell.figures.text.draw_text", broken_drawing)
        await app.pilot.resize_terminal(90, 24)
        await drawn(app)
        assert "no such colour" in drawing(app)
        assert app.app.is_running


# -- while something is under way --------------------------------------------------------------


@played
async def test_escape_stops_the_measure_under_way_and_then_goes_back(tmp_path, gate):
    async with driven(tmp_path / "s", *LOADED, "level") as app:
        before = app.session.engine.theta_hash(), app.session.engine.problem.gradients
        await app.press("L")
        await choose(app)
        await app.press("enter")
        await app.until(gate.reached.is_set, "the middle of a survey")
        await app.until(lambda: "2/5" in app.app.query_one(Activity).render().plain, "progress")
        pane = screen(app).pane
        await app.until(lambda: "under way" in str(pane.border_title), "the picture under way")
        await drawn(app)
        assert str(pane.border_subtitle) == "survey: loss"
        assert "loss 0 … 1" in drawing(app)
        await app.type("reg")
        assert app.typed.input.value == "reg"
        assert not gate.open.is_set()  # the survey is under way all the time
        await app.press("escape", "escape", "escape")  # the line, the command line, the survey
        await app.idle()
        assert "interrupted; nothing was changed" in app.log
        assert str(pane.border_title) == "survey"  # its help again
        assert screen(app).results.count() == 0
        assert before == (app.session.engine.theta_hash(), app.session.engine.problem.gradients)
        assert screen(app).region.area
        app.app._main.set_focus(screen(app).measures)
        await app.press("escape")
        assert not screen(app).region.area


@played
async def test_during_a_walk_a_measure_waits_and_escape_leaves_the_walk_alone(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(3) as held:
            await app.enter("walk --steps 6", wait=False)
            await app.until(held, "a held walk")
            await app.press("f2")
            await app.enter("survey --points 3", wait=False)
            waiting = app.app.query_one(Activity)
            await app.until(lambda: "1 waiting: survey" in waiting.render().plain, "what waits")
            await app.press("escape", "escape")
            assert not screen(app).region.area
        await app.idle()
        assert app.script[-2:] == ["walk --steps 6", "survey --points 3"]
        assert [r.at for r in screen(app).results.results] == ["main:6"]


# -- sessions ----------------------------------------------------------------------------------


@played
async def test_a_replayed_session_has_its_results_and_a_new_one_has_none(tmp_path):
    async with driven(tmp_path / "s", *LOADED, "survey --points 3") as app:
        await app.enter(f"replay {tmp_path / 's'}")
        assert [r.line for r in screen(app).results.results] == ["survey --points 3"] * 2
        await app.enter("new")
        assert screen(app).results.count() == 0


# -- words -------------------------------------------------------------------------------------


def test_sentences_are_broken_and_rows_of_a_table_are_not():
    row = "a measure of something        0.1234    0.5678"
    lines = broken(f"one two three four five\n{row}\n      six seven eight nine ten", 16)
    assert lines[:2] == ["one two three", "four five"]
    assert lines[2] == row
    assert lines[3:] == ["      six seven", "      eight nine", "      ten"]
