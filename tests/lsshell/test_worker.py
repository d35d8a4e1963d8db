"""The worker without a screen: what becomes of a walk that is paused, and of lines that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lsshell.sessions.journal import read_record
from lsshell.sessions.replay import replay
from lsshell.sessions.session import Session
from lsshell.worker import Said, Worker
from tests.lsshell.driving import held_before, held_walk
from tests.lsshell.patience import Patience
from tests.sessions.conversation import SETUP, talk

ON = tuple(SETUP.splitlines())
WALK = "walk --steps 30"


class Hands:
    """A worker as a screen without pictures would have it."""

    def __init__(self, folder: Path) -> None:
        self.heard: list[Said] = []
        self.woken = threading.Event()
        self.worker = Worker(self.woken.set, folder)
        self.worker.start()

    def until(self, seen: Callable[[], object], what: str) -> None:
        """Waits until `seen()` holds, and does meanwhile what the screen's ticks do."""
        patience = Patience()
        while not seen():
            assert patience.lasts(), f"never came: {what}"
            self.worker.insist()
            self.woken.wait(0.005)
            self.woken.clear()

    def idle(self) -> None:
        """Waits until nothing is under way and nothing waits that could begin."""
        self.until(lambda: self.worker.ready and self.worker.idle, "idleness")
        while self.worker.said:
            self.heard.append(self.worker.said.popleft())

    def say(self, *lines: str) -> None:
        """Lines one by one, as they are typed, each done before the next one."""
        for line in lines:
            self.worker.submit(line)
            self.idle()

    def click(self, line: str) -> None:
        self.worker.submit(line, at_once=True)

    @property
    def script(self) -> list[str]:
        """Commands in session.lss, but for those that set everything up."""
        entries = read_record(self.session.journal.folder).entries
        return [e.line.text for e in entries][len(ON) :]

    @property
    def session(self) -> Session:
        session = self.worker.session
        assert session is not None
        return session

    @property
    def steps(self) -> list[int]:
        """How many steps each walk took."""
        entries = read_record(self.session.journal.folder).entries
        return [(e.results or {})["steps"] for e in entries if e.line.text.startswith("walk")]

    @property
    def notices(self) -> list[str]:
        return [s.notice for s in self.heard if s.notice]

    @property
    def failures(self) -> list[str]:
        outcomes = [s.outcome for s in self.heard if s.outcome is not None]
        return [o.failure.message for o in outcomes if o.failure is not None]

    @contextmanager
    def held(self, step: int, *, begin: str = "") -> Iterator[None]:
        """Holds a walk after this step of its while the block runs, or until it is cancelled.

        It begins with this line, or goes on by `run`.
        """
        with held_walk(self.session, step) as held:
            if begin:
                self.worker.submit(begin)
            else:
                self.worker.run()
            self.until(held, "a held walk")
            yield

    @contextmanager
    def before(self, line: str) -> Iterator[Callable[[], bool]]:
        """Holds the worker before it executes this line while the block runs.

        Gives what says whether it is held there.
        """
        with held_before(self.session, line) as held:
            yield held

    def pause_walk(self, line: str = WALK, after: int = 5) -> None:
        """Begins a walk and pauses it after some steps."""
        with self.held(after, begin=line):
            self.worker.pause()
        self.idle()


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    """A session in which a small network was trained, on its level, l2 on."""
    found = Hands(tmp_path / "s")
    found.worker.submit(*ON)
    found.idle()
    assert not found.failures
    yield found
    found.worker.close()


def replayed(hands: Hands, folder: Path) -> None:
    """Ends the session and expects every result of it again."""
    recorded = hands.session.folder
    hands.worker.close()
    session = Session(folder / "again")
    found = replay(recorded, session, check=True)
    session.close()
    assert found.failed is None
    assert found.difference is None, str(found.difference)


# -- what is left of a paused walk -------------------------------------------------------------


def test_a_command_that_fails_leaves_the_rest_of_a_paused_walk(hands, tmp_path):
    hands.pause_walk()
    assert hands.worker.rest == "walk --steps 25"
    hands.say("walk --stepz 5", "level nonsense", "goto 9999", "load nowhere.pt")
    assert len(hands.failures) == 4
    assert hands.worker.rest == "walk --steps 25"
    assert hands.worker.last_walk == WALK
    hands.worker.run()
    hands.idle()
    assert hands.script == [WALK, "walk --steps 25"]
    assert hands.steps == [5, 25]
    replayed(hands, tmp_path)


def test_a_failing_goto_clicked_in_mid_walk_pauses_it_and_leaves_the_rest(hands):
    with hands.held(5, begin=WALK):
        hands.click("goto 9999")
    hands.idle()
    assert len(hands.failures) == 1
    assert hands.script == [WALK]
    assert hands.worker.rest == "walk --steps 25"


def test_a_goto_that_succeeds_in_mid_walk_leaves_nothing_of_it(hands):
    with hands.held(5, begin=f"{WALK} --record 1"):
        hands.click("goto 2")
    hands.idle()
    assert hands.script == [f"{WALK} --record 1", "goto 2"]
    assert hands.worker.rest is None


def test_a_single_step_shortens_a_paused_walk_by_one(hands, tmp_path):
    hands.pause_walk("walk --steps 30 --memory 7")
    for left in (24, 23):
        hands.worker.step()
        hands.idle()
        assert hands.worker.rest == f"walk --memory 7 --steps {left}"
    hands.worker.run()
    hands.idle()
    one = "walk --memory 7 --steps 1"
    assert hands.script[1:] == [one, one, "walk --memory 7 --steps 23"]
    assert hands.steps == [5, 1, 1, 23]
    assert hands.worker.last_walk == "walk --steps 30 --memory 7"
    replayed(hands, tmp_path)


def test_the_last_step_of_a_paused_walk_leaves_nothing_of_it(hands):
    hands.pause_walk("walk --steps 6")
    hands.worker.step()
    hands.idle()
    assert hands.steps == [5, 1]
    assert hands.worker.rest is None


def test_a_single_step_that_fails_shortens_nothing(hands):
    hands.pause_walk()
    hands.say("reg l2 off")
    hands.worker.step()
    hands.idle()
    assert len(hands.failures) == 1
    assert hands.worker.rest == "walk --steps 25"


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_the_rest_is_kept_by_who_stops_or_pauses_while_a_slipped_command_runs(hands, how):
    with hands.before("reg l1 on") as reached:
        with hands.held(5, begin=WALK):
            hands.click("reg l1 on")
        hands.until(reached, "the slipped command")
        assert hands.worker.waiting == ("walk --steps 25",)
        getattr(hands.worker, how)()
    hands.idle()
    assert hands.script == [WALK, "reg l1 on"]
    assert hands.worker.rest == "walk --steps 25"


def test_a_goto_that_fails_while_a_slipped_command_runs_keeps_the_rest(hands):
    with hands.before("reg l1 on") as reached:
        with hands.held(5, begin=WALK):
            hands.click("reg l1 on")
        hands.until(reached, "the slipped command")
        hands.click("goto 9999")
    hands.idle()
    assert hands.script == [WALK, "reg l1 on"]
    assert hands.worker.rest == "walk --steps 25"


def test_a_walk_that_is_paused_before_it_begins_is_all_left():
    worker = Worker(lambda: None)  # not started: the walk waits
    worker.submit(WALK)
    assert worker.walking
    worker.pause()
    assert worker.rest == WALK
    assert worker.waiting == ()
    worker.run()
    assert worker.rest is None
    assert worker.waiting == (WALK,)


@pytest.mark.parametrize("line", ["dtype float64", "level", "undo", "data iris"])
def test_what_is_another_place_or_problem_ends_a_paused_walk(hands, line):
    hands.pause_walk()
    hands.say(line)
    assert hands.script[1:] == [line]
    assert hands.worker.rest is None


@pytest.mark.parametrize("line", ["reg l1 on", "measure", "branch other", "seed 9", "status"])
def test_what_may_come_between_two_steps_leaves_a_paused_walk(hands, line):
    hands.pause_walk()
    hands.say(line)
    assert not hands.failures
    assert hands.worker.rest == "walk --steps 25"


def test_running_twice_does_not_take_the_rest_twice(hands):
    hands.pause_walk()
    with hands.held(2):
        hands.worker.run()
    hands.idle()
    assert hands.script == [WALK, "walk --steps 25", WALK]
    assert hands.steps[:2] == [5, 25]


# -- lines that wait ---------------------------------------------------------------------------


def paused_with_a_line_waiting(hands: Hands) -> None:
    with hands.held(5, begin=WALK):
        hands.worker.submit("seed 9")
        hands.worker.pause()
    hands.idle()
    assert hands.script == [WALK]
    assert hands.worker.waiting == ("seed 9",)


def test_what_waits_for_the_end_of_a_walk_waits_on_while_it_is_paused(hands, tmp_path):
    paused_with_a_line_waiting(hands)
    hands.say("reg l1 on")
    assert hands.worker.waiting == ("seed 9",)
    with hands.held(3):
        hands.worker.pause()
    hands.idle()
    assert hands.worker.waiting == ("seed 9",)
    hands.worker.run()
    hands.idle()
    expected = [WALK, "reg l1 on", "walk --steps 25", "walk --steps 22", "seed 9"]
    assert hands.script == expected
    assert hands.worker.waiting == ()
    replayed(hands, tmp_path)


def test_what_waits_for_a_walk_that_goes_no_further_is_dropped_and_said(hands):
    paused_with_a_line_waiting(hands)
    hands.say("goto start")
    assert hands.worker.waiting == ()
    assert hands.worker.rest is None
    assert [n for n in hands.notices if "seed 9" in n]
    hands.worker.run()
    hands.idle()
    assert hands.script == [WALK, "goto start", WALK]


def test_what_waits_while_a_command_fails_waits_on(hands):
    paused_with_a_line_waiting(hands)
    hands.say("goto 9999")
    assert hands.worker.waiting == ("seed 9",)
    assert not hands.notices


def test_stopping_drops_what_waits_behind_a_paused_walk(hands):
    paused_with_a_line_waiting(hands)
    hands.worker.stop()
    hands.idle()
    assert hands.worker.waiting == ()
    assert hands.worker.rest == "walk --steps 25"


# -- lines that slip in ------------------------------------------------------------------------


def test_lines_of_one_submission_keep_their_order_during_a_walk(hands):
    with hands.held(5, begin=WALK):
        hands.worker.submit("seed 9", "reg l1 on", at_once=True)
        hands.worker.submit("measure", "seed 10", "reg l1 off", at_once=True)
    hands.idle()
    rest = ["walk --steps 25", "seed 9", "reg l1 on", "seed 10", "reg l1 off"]
    assert hands.script == [WALK, "measure", *rest]


def test_off_and_on_again_between_two_steps_does_not_hold_the_walk(hands):
    with hands.held(5, begin=WALK):
        hands.click("reg l2 off")
        hands.click("reg l2 on")
    hands.idle()
    assert hands.script == [WALK, "reg l2 off", "reg l2 on", "walk --steps 25"]
    assert hands.steps == [5, 25]
    assert hands.worker.rest is None
    assert not any("regulariser" in n for n in hands.notices)


def test_what_a_walk_notices_is_told_while_it_goes_on(hands):
    hands.worker.submit("walk --steps 40 --measure 1")
    hands.idle()
    told = [n for n in hands.notices if n.startswith("least test loss")]
    (walk,) = [o.reply.values for s in hands.heard if (o := s.outcome) and o.command == "walk"]
    assert len(told) == len(walk["events"]) > 0
    assert told[-1].endswith(f"at {walk['best']['at']}")


def test_the_last_one_switched_off_between_two_steps_holds_the_walk(hands):
    with hands.held(5, begin=WALK):
        hands.click("reg l2 off")
    hands.idle()
    assert hands.script == [WALK, "reg l2 off"]
    assert hands.worker.rest == "walk --steps 25"
    assert any("no regulariser is on" in n for n in hands.notices)


# -- the walk that is repeated -----------------------------------------------------------------


def test_after_a_sourced_walk_run_repeats_the_walk_of_the_script(hands, tmp_path):
    file = tmp_path / "walk.lss"
    file.write_text("reg l1 0.1\nwalk --steps 3 --method gradient\nmeasure\n")
    hands.say(f"source {file}")
    hands.worker.run()
    hands.idle()
    hands.worker.step()
    hands.idle()
    line = "walk --steps 3 --method gradient"
    assert hands.script == ["reg l1 0.1", line, "measure", line, "walk --method gradient --steps 1"]


def test_a_walk_that_failed_is_not_repeated(hands):
    hands.say("walk --steps 3", "walk --stepz 5", "walk --until l2=x")
    hands.worker.run()
    hands.idle()
    assert hands.script == ["walk --steps 3"] * 2


# -- after resume ------------------------------------------------------------------------------


def opened(folder: Path) -> Hands:
    """Another worker that goes on with the session in this folder."""
    hands = Hands(folder.parent / "none")
    hands.worker.submit(f"resume {folder}")
    hands.idle()
    assert not hands.failures
    return hands


@pytest.mark.parametrize(
    "between", [(), ("reg l1 0.1", "measure"), ("status", "reg l2 3", "path")], ids=len
)
def test_the_rest_of_a_walk_is_found_behind_what_came_between_its_steps(hands, tmp_path, between):
    hands.pause_walk()
    hands.say(*between)
    hands.worker.close()
    again = opened(tmp_path / "s")
    assert again.worker.rest == "walk --steps 25"
    assert again.worker.last_walk == WALK
    again.worker.run()
    again.idle()
    assert again.steps == [5, 25]
    replayed(again, tmp_path)


@pytest.mark.parametrize("line", ["dtype float64", "goto start", "level"])
def test_no_rest_is_found_behind_what_ended_the_walk(hands, tmp_path, line):
    hands.pause_walk()
    hands.say(line, "reg l2 on", "measure")
    hands.worker.close()
    again = opened(tmp_path / "s")
    assert again.worker.rest is None
    again.worker.close()


def test_a_step_after_resume_is_in_the_manner_of_the_last_walk(tmp_path):
    talk(tmp_path / "s", f"{SETUP}walk --steps 4 --method gradient\ngoto start").close()
    again = opened(tmp_path / "s")
    assert again.worker.rest is None
    again.worker.step()
    again.idle()
    again.worker.run()
    again.idle()
    assert again.script[2:] == [
        "walk --method gradient --steps 1",
        "walk --steps 4 --method gradient",
    ]
    again.worker.close()


def test_a_session_without_walks_is_not_given_those_of_the_one_before(hands, tmp_path):
    talk(tmp_path / "other", SETUP).close()
    hands.pause_walk("walk --steps 30 --method gradient")
    hands.say(f"resume {tmp_path / 'other'}")
    assert hands.worker.rest is None
    hands.worker.step()
    hands.idle()
    assert hands.script == ["walk --steps 1"]
