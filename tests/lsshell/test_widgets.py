"""What the app's widgets are made of: weights, gauges, hints, rates, and who may draw when."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.content import Content

from lsshell.budget import LEAST, SHARE, Budget
from lsshell.engine.events import Progress
from lsshell.hints import hint
from lsshell.pace import Pace, bar, clock
from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.session import Session
from lsshell.widgets.regularizers import beside
from lsshell.widgets.status import _fit, gauge


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
    assert what == "--method quasi-newton | gradient | paper"
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


def test_without_a_walk_nothing_is_put_off(monkeypatch) -> None:
    clock_, budget = Clock(monkeypatch, "lsshell.budget"), Budget()
    assert budget.allows(walking=False)
    clock_.passes(2 * LEAST, 2 * LEAST)
    assert not budget.allows(walking=True)
    assert budget.allows(walking=False)


@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.floats(0.0, 0.2)), max_size=60))
def test_over_any_walk_drawing_keeps_to_its_share(steps: list[tuple[float, float]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock_, budget = Clock(monkeypatch, "lsshell.budget"), Budget()
        began, spent = clock_.now, 0.0
        for rest, cost in steps:
            clock_.passes(rest)
            if budget.allows(walking=True):
                allowed = SHARE * (clock_.now - began)
                assert spent <= allowed + 1e-9
                clock_.passes(cost, cost)
                spent += cost
