"""What the app's widgets are made of: weights, gauges, hints, rates, and who may draw when."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import plotext
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual import events
from textual.content import Content
from textual.widgets import Input

from lsshell.budget import LEAST, MOST, SHARE, Budget
from lsshell.engine.events import Progress
from lsshell.engine.vocabulary import REGULARIZERS
from lsshell.figures.figure import Figure, Series
from lsshell.figures.text import draw_text
from lsshell.hints import hint
from lsshell.pace import Pace, bar, clock
from lsshell.projector import Projector
from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.plots import Traversal
from lsshell.sessions.session import Session
from lsshell.widgets.plots import Plots
from lsshell.widgets.regularizers import Regularizers, beside
from lsshell.widgets.status import _fit, gauge
from lsshell.widgets.steps import Steps
from tests.lsshell.driving import Driven, driven, held_before, played
from tests.lsshell.patience import Patience
from tests.sessions.conversation import SETUP, results, talk


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
        self.now = 100.0
        self.spent = 7.0  # processor time of the thread
        fake = SimpleNamespace(monotonic=lambda: self.now, thread_time=lambda: self.spent)
        monkeypatch.setattr(f"{module}.time", fake)

    def passes(self, seconds: float, spent: float = 0.0) -> None:
        self.now += seconds
        self.spent += spent


# -- weights -----------------------------------------------------------------------------------

SCALE = [float(f"{m}e{e}") for e in range(-12, 12) for m in (1, 2, 5)]


def test_weights_go_up_and_down_by_one_two_five() -> None:
    up, weight = [], 0.1
    for _ in range(6):
        weight = beside(weight, 1)
        up.append(weight)
    assert up == [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
    assert beside(1.0, -1) == 0.5


@given(st.sampled_from(SCALE[1:-1]), st.sampled_from([-1.0, 1.0]))
def test_up_and_down_again_is_where_one_was(weight: float, sign: float) -> None:
    assert beside(beside(sign * weight, 1), -1) == sign * weight
    assert beside(beside(sign * weight, -1), 1) == sign * weight


@given(st.floats(1e-11, 1e11), st.sampled_from([-1.0, 1.0]), st.sampled_from([-1, 1]))
def test_the_next_weight_is_another_of_the_same_sign_and_not_far(
    size: float, sign: float, way: int
) -> None:
    found = beside(sign * size, way)
    assert found * sign > 0.0
    assert (abs(found) - size) * way > 0.0
    assert 1 / 2.6 < abs(found) / size < 2.6
    assert abs(found) in SCALE


# -- the status --------------------------------------------------------------------------------


def parts(*given: tuple[int, str]) -> list[tuple[int, Content]]:
    return [(weight, Content(text)) for weight, text in given]


def test_what_matters_least_is_left_out_first_and_the_order_stays() -> None:
    line = parts((4, "lsshell"), (9, "net"), (2, "folder"), (7, "iris"))
    assert _fit(line, 80).plain == "lsshell │ net │ folder │ iris"
    assert _fit(line, 28).plain == "lsshell │ net │ iris"
    assert _fit(line, 12).plain == "net │ iris"
    assert _fit(line, 3).plain == "net"


def test_what_is_empty_takes_no_room() -> None:
    assert _fit(parts((9, ""), (1, "a"), (2, "")), 80).plain == "a"


def test_one_part_that_is_too_long_is_cut_with_a_sign() -> None:
    assert _fit(parts((9, "a-long-checkpoint.pt")), 8).plain == "a-long-…"


@given(
    st.lists(st.tuples(st.integers(0, 10), st.text(st.characters(codec="ascii"))), min_size=1),
    st.integers(1, 60),
)
def test_a_line_of_the_status_is_never_wider_than_its_place(
    given: list[tuple[int, str]], width: int
) -> None:
    clean = [(weight, "".join(c for c in text if c.isprintable())) for weight, text in given]
    if any(text for _, text in clean):
        assert _fit(parts(*clean), width).cell_length <= width


@pytest.mark.parametrize(
    ("share", "drawn"),
    [
        (0.0, "▕          ▏0.00"),
        (0.25, "▕██▌       ▏0.25"),
        (0.5, "▕█████     ▏0.50"),
        (1.0, "▕██████████▏1.00"),
        (1.7, "▕██████████▏1.70"),
    ],
)
def test_the_gauge_shows_the_share_of_the_tolerance(share: float, drawn: str) -> None:
    assert gauge(share).plain == f"|L−L*|/tol {drawn}"


@given(st.floats(0.0, 3.0))
def test_the_gauge_is_as_wide_for_every_share(share: float) -> None:
    assert len(gauge(share).plain) == len(gauge(0.0).plain)


def test_the_gauge_warns_from_half_and_cries_beyond_the_tolerance() -> None:
    def colours(share: float) -> set[str]:
        return {str(span.style) for span in gauge(share).spans}

    assert colours(0.5) == {"$text-success"}
    assert colours(0.51) == {"$text-warning"} == colours(1.0)
    assert colours(1.01) == {"$text-error"}


# -- hints -------------------------------------------------------------------------------------


def test_an_empty_line_is_told_which_keys_help() -> None:
    assert hint("")[0] == ""
    assert "Tab completes" in hint("")[1]
    assert hint("   ") == hint("")


def test_the_beginning_of_a_command_is_told_what_it_may_become() -> None:
    begun = [c for c in VOCABULARY.commands if c.startswith("l")]
    assert len(begun) > 1
    assert hint("l")[0].split() == begun
    assert VOCABULARY.summary("walk") in hint("wal")[1]
    assert hint("xyz")[1] == "no such command"


@pytest.mark.parametrize("name", list(VOCABULARY.commands))
def test_every_command_has_a_hint_with_its_name(name: str) -> None:
    what, why = hint(f"{name} ")
    assert what.split()[0] == name
    assert why


@pytest.mark.parametrize("text", ["walk --method ", "walk --method=", "walk --steps 3 --method q"])
def test_the_option_whose_value_is_typed_is_explained(text: str) -> None:
    what, why = hint(text)
    assert what == "--method quasi-newton | newton | auto | gradient | paper"
    assert "L-BFGS" in why


def test_after_a_flag_the_command_is_explained_again() -> None:
    assert hint("walk --ascend ")[0].startswith("walk")


def test_options_begun_are_listed() -> None:
    assert hint("walk --me")[0].split() == ["--method", "--measure", "--memory"]


def test_variables_are_filled_in() -> None:
    session = Session(record=False, variables={"option": "--method"})
    assert hint("walk ${option} ", session)[0].startswith("--method")


@given(st.text(max_size=40))
def test_whatever_is_typed_a_hint_is_found(text: str) -> None:
    what, why = hint(text.replace("\0", ""))
    assert isinstance(what, str)
    assert isinstance(why, str)


# -- pace --------------------------------------------------------------------------------------


def test_a_rate_is_taken_from_where_the_task_began(monkeypatch) -> None:
    clock_, pace = Clock(monkeypatch, "lsshell.pace"), Pace()
    pace.hear(Progress("walk", 10, 110))
    assert pace.rate(Progress("walk", 10, 110)) == 0.0
    assert pace.words(Progress("walk", 10, 110)) == "10/110"
    clock_.passes(5.0)
    event = Progress("walk", 60, 110)
    pace.hear(event)
    assert pace.rate(event) == 10.0
    assert pace.words(event) == "60/110 10.0/s, 0:05 left"


def test_another_task_or_the_same_from_its_start_begins_anew(monkeypatch) -> None:
    clock_, pace = Clock(monkeypatch, "lsshell.pace"), Pace()
    pace.hear(Progress("walk", 1, 100))
    clock_.passes(1.0)
    for event in (Progress("train", 5, 10), Progress("train", 2, 10)):
        pace.hear(event)
        clock_.passes(2.0)
        after = Progress("train", event.done + 4, 10)
        assert pace.rate(after) == 2.0


def test_the_rest_of_a_walk_is_another_task_though_it_is_seen_first_at_a_higher_count(
    monkeypatch,
) -> None:
    clock_, pace = Clock(monkeypatch, "lsshell.pace"), Pace()
    pace.hear(Progress("walk", 1, 100))
    clock_.passes(1.0)
    pace.hear(Progress("walk", 33, 100))
    clock_.passes(60.0)  # it was paused
    for done in (1, 5):
        pace.hear(Progress("walk", 33, 100))
        pace.hear(Progress("walk", done, 67))
        assert pace.rate(Progress("walk", done, 67)) == 0.0
        clock_.passes(2.0)
        after = Progress("walk", done + 20, 67)
        pace.hear(after)
        assert pace.rate(after) == 10.0


def test_a_bar_is_as_long_as_it_is_told_and_full_at_the_end() -> None:
    assert bar(Progress("walk", 0, 8), 4) == "╌╌╌╌"
    assert bar(Progress("walk", 6, 8), 4) == "━━━╌"
    assert bar(Progress("walk", 8, 8), 4) == "━━━━"
    assert bar(Progress("walk", 3, 0), 4) == "╌╌╌╌"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599.0, "59:59"), (3661.0, "1:01:01")],
)
def test_time_is_shown_in_minutes_and_hours(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


# -- the budget --------------------------------------------------------------------------------


def test_the_first_drawing_is_allowed_at_once_and_the_next_not_so_soon(monkeypatch) -> None:
    clock_, budget = Clock(monkeypatch, "lsshell.budget"), Budget()
    assert budget.allows(walking=True)
    assert not budget.allows(walking=False)
    clock_.passes(LEAST / 2)
    assert not budget.allows(walking=False)
    clock_.passes(LEAST)
    assert budget.allows(walking=False)


def test_a_costly_drawing_puts_the_next_one_off_while_a_walk_goes_on(monkeypatch) -> None:
    clock_, budget = Clock(monkeypatch, "lsshell.budget"), Budget()
    assert budget.allows(walking=True)
    cost = 0.05
    clock_.passes(cost, cost)
    clock_.passes(0.9 * cost / SHARE - cost)
    assert not budget.allows(walking=True)
    clock_.passes(0.2 * cost / SHARE)
    assert budget.allows(walking=True)


def test_whatever_is_spent_the_screen_does_not_stand_still(monkeypatch) -> None:
    clock_, budget = Clock(monkeypatch, "lsshell.budget"), Budget()
    assert budget.allows(walking=True)
    clock_.passes(0.9 * MOST, 0.5 * MOST)
    assert not budget.allows(walking=True)
    clock_.passes(0.2 * MOST, 0.1 * MOST)
    assert budget.allows(walking=True)


def test_what_the_user_did_before_puts_nothing_off(monkeypatch) -> None:
    clock_, budget = Clock(monkeypatch, "lsshell.budget"), Budget()
    assert budget.allows(walking=False)
    clock_.passes(10.0, 5.0)  # a command is typed, with its hints: minutes, by the walk's share
    budget.forgive()
    clock_.passes(LEAST / 2)
    assert not budget.allows(walking=True)
    clock_.passes(LEAST)
    assert budget.allows(walking=True)


def test_without_a_walk_nothing_is_put_off(monkeypatch) -> None:
    clock_, budget = Clock(monkeypatch, "lsshell.budget"), Budget()
    assert budget.allows(walking=False)
    clock_.passes(2 * LEAST, 2 * LEAST)
    assert not budget.allows(walking=True)
    assert budget.allows(walking=False)


@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.floats(0.0, 0.2)), max_size=60))
def test_over_any_walk_drawing_keeps_to_its_share_or_its_rate(
    steps: list[tuple[float, float]],
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock_, budget = Clock(monkeypatch, "lsshell.budget"), Budget()
        last, spent = clock_.now, 0.0
        for rest, cost in steps:
            clock_.passes(rest)
            if budget.allows(walking=True):
                allowed = SHARE * (clock_.now - last)
                assert spent <= allowed + 1e-9 or clock_.now - last >= MOST
                last, spent = clock_.now, 0.0
                clock_.passes(cost, cost)
                spent += cost


# -- pictures of figures -----------------------------------------------------------------------


def figure(title: str, *heights: float) -> Figure:
    xs = tuple(float(k) for k in range(len(heights)))
    return Figure(title, f"x of {title}", f"y of {title}", (Series(title, xs, heights),))


def drawn(what: Figure) -> str:
    return draw_text(what, 60, 20, colour=False)


def test_figures_drawn_at_the_same_time_by_two_threads_are_each_their_own(monkeypatch) -> None:
    first, second = figure("first", 1.0, 2.0, 3.0), figure("second", 9.0, 4.0, 5.0, 7.0)
    alone = (drawn(first), drawn(second))
    begun, other_done = threading.Event(), threading.Event()
    title, found = plotext.title, {}

    def held_title(text: str) -> None:
        title(text)
        if text == "first":
            begun.set()
            other_done.wait(0.3)  # all the time that the other would need

    monkeypatch.setattr(plotext, "title", held_title)

    def draw_first() -> None:
        found["first"] = drawn(first)

    def draw_second() -> None:
        assert begun.wait(240)
        found["second"] = drawn(second)
        other_done.set()

    threads = [threading.Thread(target=t) for t in (draw_first, draw_second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found["first"], found["second"]) == alone


BAD = (math.inf, -math.inf, math.nan)


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("colour", [True, False])
def test_values_that_are_no_number_are_left_out_of_a_picture(bad, colour) -> None:
    shade = (1.0, 2.0, 3.0, 4.0)
    lines = Series("line", (0.0, 1.0, 2.0, 3.0), (3.0, bad, 5.0, 4.0))
    points = Series("points", (0.0, 1.0, bad, 3.0), (1.0, 2.0, 3.0, 4.0), "points", shade)
    mark = Series("now", (bad,), (1.0,), "mark")
    bands = (("start", 3.0), ("limit", bad))
    clean = (
        Series("line", (0.0, 2.0, 3.0), (3.0, 5.0, 4.0)),
        Series("points", (0.0, 1.0, 3.0), (1.0, 2.0, 4.0), "points", (1.0, 2.0, 4.0)),
        Series("now", (), (), "mark"),
    )
    for y_log in (False, True):
        what = Figure("t", "x", "y", (lines, points, mark), bands, y_log, "shade")
        without = replace(what, series=clean, bands=bands[:1])
        pictures = [draw_text(one, 60, 20, colour=colour) for one in (what, without)]
        assert pictures[0] == pictures[1]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_picture_of_nothing_that_is_a_number_is_empty_axes(bad) -> None:
    assert drawn(figure("t", bad, bad)) == drawn(
        Figure("t", "x of t", "y of t", (Series("t", (), ()),))
    )


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_point_whose_shade_is_no_number_is_left_out_of_a_picture(bad) -> None:
    xs = (0.0, 1.0, 2.0)
    what = Figure("t", "x", "y", (Series("s", xs, xs, "points", (1.0, bad, 3.0)),))
    clean = Figure("t", "x", "y", (Series("s", (0.0, 2.0), (0.0, 2.0), "points", (1.0, 3.0)),))
    assert drawn(what) == drawn(clean)


# -- pictures of the path ----------------------------------------------------------------------


def until(seen: Callable[[], object]) -> None:
    patience = Patience()
    while not seen():
        assert patience.lasts()
        time.sleep(0.002)


def wish(session: Session) -> tuple[Any, Traversal]:
    traversal = Traversal.of(session.engine.path)
    assert traversal is not None
    return session.engine, traversal


def assert_pictured(projector: Projector, session: Session) -> None:
    """The picture is that of the session's path, but for the direction of its axes."""
    picture, truth = projector.latest, session.engine.principal_coordinates(2)
    assert picture is not None
    assert [p.index for p in picture.points] == [p.index for p in truth.points]
    assert picture.coordinates.abs().numpy() == pytest.approx(
        truth.coordinates.abs().numpy(), rel=1e-3, abs=1e-5
    )
    assert picture.explained.tolist() == pytest.approx(truth.explained.tolist(), rel=1e-3)


WALKED = SETUP + "walk --steps 5 --record 1"


def test_another_session_is_not_shown_in_the_picture_of_the_one_before() -> None:
    one, other = talk(None, WALKED, record=False), Session(record=False)
    results(other, WALKED.replace("seed 3", "seed 4"))
    projector = Projector()
    projector.want(*wish(one), walking=False)
    until(lambda: projector.latest)
    assert_pictured(projector, one)
    held = threading.Event()
    other.engine.ready = lambda ready=other.engine.ready: held.wait() and ready()
    projector.want(*wish(other), walking=False)
    assert projector.latest is None
    held.set()
    until(lambda: projector.pictures == 2)
    assert_pictured(projector, other)


def test_another_network_is_not_shown_in_the_picture_of_the_one_before() -> None:
    session = talk(None, WALKED, record=False)
    projector = Projector()
    projector.want(*wish(session), walking=False)
    until(lambda: projector.latest)
    results(session, "model mlp 4-5-3\nlevel\nreg l2 on\nwalk --steps 5 --record 1")
    projector.want(*wish(session), walking=False)
    until(lambda: projector.pictures == 2)
    assert_pictured(projector, session)


def test_a_picture_that_was_begun_of_another_session_is_never_shown(monkeypatch) -> None:
    let_go, begun = threading.Event(), threading.Event()

    class Slow:
        """Gives back the store that it was asked to project, when it is let go."""

        def update(self, store: object, *rest: object) -> object:
            begun.set()
            let_go.wait()
            return store

    monkeypatch.setattr("lsshell.projector._new_projection", Slow)
    path = SimpleNamespace
    engines = [
        SimpleNamespace(path=path(store=name), ready=lambda: SimpleNamespace(tensor_names=[]))
        for name in ("old", "new")
    ]
    traversal = SimpleNamespace(lines={}, here=None)
    projector = Projector()
    projector.want(engines[0], traversal, walking=False)
    assert begun.wait(240)
    projector.want(engines[1], traversal, walking=False)
    let_go.set()
    until(lambda: projector.pictures)
    assert projector.latest == "new"
    assert projector.pictures == 1


# -- widgets on a screen -----------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, a history and sessions of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LSSHELL_SESSIONS", str(tmp_path / "sessions"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def burst(app: Driven, text: str) -> None:
    """Keys that arrive all at once: none of them waits for the effect of another."""
    names = {"\r": "enter", ":": "colon", "+": "plus", " ": "space"}
    for c in text:
        app.app.post_message(events.Key(names.get(c, c), c))


ON = tuple(SETUP.splitlines())


@played
async def test_plus_pressed_three_times_at_once_goes_up_three_times(own) -> None:
    async with driven(own / "s", *ON) as app:
        await app.choose_regularizer("l2")
        with app.holding(2) as held:
            app.app.say("walk --steps 4")
            await app.until(held, "a held walk")
            burst(app, "+++")
            await app.settle()
            await app.press("minus")
        await app.idle()
        weights = ["reg l2 2", "reg l2 5", "reg l2 10", "reg l2 5"]
        assert app.script[len(ON) :] == ["walk --steps 4", *weights, "walk --steps 2"]
        assert app.session.engine.sum.terms["l2"][1] == 5.0
        await app.press("plus")
        await app.idle()
        assert app.script[-1] == "reg l2 10"


@played
async def test_space_pressed_twice_at_once_is_off_and_on_again(own) -> None:
    async with driven(own / "s", *ON) as app:
        await app.choose_regularizer("l2")
        with app.holding(2) as held:
            app.app.say("walk --steps 4")
            await app.until(held, "a held walk")
            burst(app, "  ")
            await app.settle()
            assert "◐" in "".join(
                text
                for text, _ in app.app.query_one(Regularizers).row(REGULARIZERS.index("l2"), 80)
            )
        await app.idle()
        assert app.script[len(ON) :] == [
            "walk --steps 4", "reg l2 off", "reg l2 on", "walk --steps 2",
        ]  # fmt: skip


@played
async def test_plus_pressed_while_the_one_before_takes_effect_goes_on_from_it(own) -> None:
    async with driven(own / "s", *ON) as app:
        await app.choose_regularizer("l2")
        with held_before(app.session, "reg l2 5") as held:
            burst(app, "++")
            await app.until(held, "the second change")
            await app.until(lambda: "reg l2 2" in app.log, "the first one in the log")
            await app.settle()
            await app.press("plus")
        await app.idle()
        assert app.script[len(ON) :] == ["reg l2 2", "reg l2 5", "reg l2 10"]


@played
async def test_what_was_asked_for_and_is_dropped_by_a_stop_is_forgotten(own) -> None:
    async with driven(own / "s", *ON) as app:
        await app.choose_regularizer("l2")
        with app.holding(2) as held:
            app.app.say("walk --steps 9")
            await app.until(held, "a held walk")
            await app.press("space", "escape")
            await app.idle()
        assert app.script[len(ON) :] == ["walk --steps 9"]
        row = app.app.query_one(Regularizers).row(REGULARIZERS.index("l2"), 80)
        assert row[0][0] == " ● "
        await app.press("space")
        await app.idle()
        assert app.script[-1] == "reg l2 off"


@played
async def test_a_regulariser_that_cannot_be_switched_on_is_not_shown_as_asked_for(own) -> None:
    async with driven(own / "s") as app:  # nothing to regularise yet
        await app.choose_regularizer("l2", "space", "plus")
        await app.idle()
        row = app.app.query_one(Regularizers).row(REGULARIZERS.index("l2"), 80)
        assert row[0][0] == " ○ "


@played
async def test_the_table_of_steps_shows_r_of_the_present_options_alone(own) -> None:
    walk = "walk --steps 3 --record 1 --measure 1"
    async with driven(own / "s", *ON, walk, "reg l1 on", "reg elastic on --ratio 1.0", walk) as app:
        await app.press("1", "f", "2")
        await app.idle()
        steps = app.app.query_one(Steps)
        column = [steps.row(k, 60)[1][0][13:21].strip() for k in range(steps.count())]
        assert column[:4] == [""] * 4
        assert len(column) == 7
        values = [p.regularizers for p in app.path.lineage()[4:]]
        expected = [v["l2"] + v["l1"] + v["elastic"] for v in values]
        assert [float(text) for text in column[4:]] == pytest.approx(expected, rel=0.01)
        plot = app.app.query_one(Plots).big
        assert plot._figure is not None
        spans = {s.name: (s.x[0], s.x[-1]) for s in plot._figure.series if s.style == "line"}
        assert spans["elastic"] == (4, 6)
        assert spans["l1"] == spans["l2"] == (0, 6)


@played
async def test_lines_that_are_typed_in_one_go_are_executed_in_turn(own) -> None:
    async with driven(own / "s") as app:
        burst(app, ":seed 1\rseed 2\r:set a=b\rseed 3\rseed")
        await app.settle()
        await app.idle()
        assert app.script == ["seed 1", "seed 2", "set a=b", "seed 3"] == app.logged
        assert app.typed.input.value == "seed"
        assert app.typed.history.lines == app.script


@played
async def test_letters_right_behind_the_colon_are_typed_and_no_keys(own) -> None:
    async with driven(own / "s", *ON) as app:
        for pane in ("6", "8", "1"):
            await app.press(pane)
            burst(app, ":rsq+ f:/")
            await app.settle()
            line = app.app.focused
            assert isinstance(line, Input)
            assert line.value == "rsq+ f:/"
            await app.press("escape", "escape")
        await app.idle()
        assert app.script == list(ON)
        assert app.app.is_running


@played
async def test_a_line_that_fails_among_others_does_not_disturb_those_behind_it(own) -> None:
    async with driven(own / "s") as app:
        burst(app, ":seed x\rseed 2\rseed 3\r")
        await app.settle()
        await app.idle()
        assert app.script == ["seed 2", "seed 3"]
        assert app.logged == ["seed x", "seed 2", "seed 3"]
