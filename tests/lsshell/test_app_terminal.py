"""The app in a terminal: the installed command behind a pseudo-terminal, its screen read back."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lsshell.patience import Patience
from tests.lsshell.terminal import (
    CTRL_C,
    ENTER,
    SGR,
    Terminal,
    lsshell,
    points,
    the_session,
)

CTRL_Q, ESCAPE, UP = "\x11", "\x1b", "\x1b[A"
# Measured at each step, so that few are to be replayed.
ENDLESS = "walk --steps 100000 --method paper --measure 1"
SETUP = "data iris\nmodel iris-ff\ntrain --epochs 20\nlevel\nreg l2 on\nwalk --steps 20\n"
# What the app switches on in a terminal, by the number of its private mode; 7 and 25 are off.
MODES = {"1049": "l", "1000": "l", "1003": "l", "1006": "l", "2004": "l", "1004": "l"}
MODES |= {"7": "h", "25": "h"}


class Screen(Terminal):
    """A running app."""

    def shown(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def text(self) -> str:
        return self.shown()

    def rows(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.shown(), re.M)

    def wait_for_match(self, pattern: str) -> None:
        self.wait(lambda: self.rows(pattern), f"match of {pattern}")

    def wait_for_footer(self, word: str) -> None:
        """The footer names the keys of the pane that has the focus."""
        self.wait(lambda: word in self.screen.display[-1], f"footer with {word}")

    def press(self, key: str, footer: str = "") -> None:
        self.process.send(key)
        if footer:
            self.wait_for_footer(footer)

    def start_empty(self) -> None:
        """Leaves the first screen."""
        self.wait_for("Demo")
        self.process.send(ESCAPE)
        self.wait(lambda: "Demo" not in self.shown(), "main screen alone")
        self.wait_for_footer("Switch")

    def say(self, *commands: str) -> None:
        """Types commands on the command line, then leaves it."""
        self.press(":", footer="Complete")
        for command in commands:
            self.process.send(command)
            self.wait_for_match(f"^ {re.escape(command)}")
            self.process.send(ENTER)
            self.wait(lambda c=command: not self.rows(f"^ {re.escape(c)}"), "empty command line")
        self.process.send(ESCAPE)
        self.wait(lambda: "Complete" not in self.screen.display[-1], "footer of a pane")

    def walk_on(self) -> None:
        """Starts a walk that would take minutes, and sees it going."""
        self.say(ENDLESS)
        self.wait_for_match(r"^ walk .*(…|\d+/100000)")

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self.process.setwinsize(rows, columns)

    def after(self) -> str:
        """What was written once the app had given the screen back."""
        _, given_back, rest = self.raw.rpartition("\x1b[?1049l")
        assert given_back, "the alternate screen was never left"
        return re.sub(r"\x1b\[[\d;?<>]*[a-zA-Z]", "", rest)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Screen]]:
    """Starts lsshell in the test's folder; ends it afterwards."""
    begun: list[Screen] = []

    def begin(*words: str, **how: object) -> Screen:
        screen = Screen(tmp_path, *words, **how)
        begun.append(screen)
        return screen

    yield begin
    for screen in begun:
        screen.process.close(force=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session that has walked 20 steps."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "setup.lss").write_text(SETUP)
    done = lsshell(folder, "run", "setup.lss", "--session", "session")
    assert done.returncode == 0, done.stderr
    return folder / "session"


@pytest.fixture
def resumed(prepared, start, tmp_path) -> Callable[..., Screen]:
    """Opens the app on a copy of the prepared session."""

    def begin(name: str = "mine", **how: object) -> Screen:
        shutil.copytree(prepared, tmp_path / name)
        return start("resume", name, **how)

    return begin


def assert_given_back(screen: Screen) -> None:
    """The terminal is as it was before the app: every mode is what it was."""
    for mode, as_before in MODES.items():
        (*_, last) = re.findall(rf"\x1b\[\?{mode}([hl])", screen.raw)
        assert last == as_before, f"mode {mode} is left {last}"


def assert_on_the_level_set(walked: list[dict]) -> None:
    assert walked
    assert all(abs(p["loss"] - p["level"]) <= p["tolerance"] for p in walked)


def steps(session: Path) -> list[dict]:
    return [p for p in points(session) if p["kind"] == "step"]


def in_its_session(leader: int) -> list[int]:
    """The processes that a process started in a terminal has left there, itself among them."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                state = (process / "stat").read_text().rpartition(")")[2].split()[0]
                if os.getsid(int(process.name)) == leader and state != "Z":
                    found.append(int(process.name))
            except OSError:  # it has ended meanwhile
                continue
    return found


# -- a whole journey -------------------------------------------------------------------------------


def test_from_the_first_screen_to_a_session_that_replays(start, tmp_path):
    screen = start(columns=120, rows=40)
    for offered in ("Demo", "New", "Open"):
        screen.wait_for(offered)
    screen.start_empty()

    # What is typed before torch is there waits, and is executed in turn.
    screen.say("data iris", "model iris-ff", "train --epochs 20", "level")
    screen.wait_for("main:0 ")

    screen.press("6", footer="Switch")
    screen.press(" ")
    screen.wait_for("● l2 ")
    screen.wait_for("› reg l2 on")  # what was switched is in the log as its command
    screen.say("walk --steps 30")
    screen.wait_for("main:30 ")
    screen.wait_for_match(r"^ ready")
    screen.press("r")
    screen.wait_for("main:60 ")
    screen.wait_for_match(r"^ ready")

    screen.press("7", footer="Go to")
    for _ in range(10):
        screen.press(UP)
    screen.press(ENTER)
    screen.wait_for("main:50 ")
    screen.wait_for("› goto main:50")
    screen.press("r")
    screen.wait_for("main-2:80 ")
    screen.wait_for("▶ main-2 51–80")  # the tree of branches

    # Esc stops a walk at a valid point; the app stays. Ctrl-C, too: the walk left at a quit, below.
    before = len(steps(the_session(tmp_path)))
    screen.walk_on()
    screen.wait(lambda: len(steps(the_session(tmp_path))) > before, "further steps")
    screen.press(ESCAPE)
    screen.wait_for_match(r"^ (paused|ready)")
    assert screen.process.isalive()

    screen.press("q")
    assert screen.ended() == 0
    assert_given_back(screen)
    session = the_session(tmp_path)
    assert f"session in {session}" in screen.after()
    assert f"lsshell resume {session}" in screen.after()
    assert_on_the_level_set(steps(session))
    replayed = lsshell(tmp_path, "replay", "--check", "--quiet", str(session))
    assert (replayed.returncode, replayed.stderr.split(":")[0]) == (0, "identical"), replayed.stderr


def test_keys_that_arrive_all_at_once_are_taken_in_turn(start):
    screen = start(columns=120, rows=40)
    screen.start_empty()
    screen.press(":seed 1\rseed 2\r")  # as over a slow line
    screen.wait_for("› seed 1")
    screen.wait_for("› seed 2")


# -- terminals -------------------------------------------------------------------------------------


def fits(screen: Screen) -> bool:
    """The panes fill the width, each has its four corners, and the last row is the footer."""
    text, last = screen.shown(), screen.screen.display[-1]
    corners = {text.count(corner) for corner in "╭╮╰╯"}
    right = {line[-1] for line in screen.screen.display}
    return len(corners) == 1 and corners != {0} and "╮" in right and "q Quit" in last


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40), (200, 60)])
def test_the_app_fills_the_screen_that_it_starts_on(start, columns, rows):
    screen = start(columns=columns, rows=rows)
    screen.start_empty()
    screen.wait(lambda: fits(screen), "layout that fits")
    for shown in ("lsshell", "1 test loss", "6 regularisers", "a command, as in"):
        screen.wait_for(shown)


def test_the_app_follows_the_size_of_the_screen(resumed):
    screen = resumed(columns=80, rows=24)
    screen.wait_for("main:20 ")
    screen.wait_for_footer("Quit")
    for columns, rows in ((120, 40), (200, 60), (80, 24)):
        screen.resize(columns, rows)
        screen.wait(lambda: fits(screen), f"layout that fits {columns}×{rows}")
        screen.wait_for("main:20 ")
        screen.wait_for_match("[⠁-⣿]")  # the plot
    for columns, rows in ((50, 15), (59, 30), (100, 19)):
        screen.resize(columns, rows)
        screen.wait(lambda: "60×20" in screen.shown(), "the least size")
        screen.wait(lambda c=columns, r=rows: f"{c}×{r}" in screen.shown(), "the size that is")
        screen.wait(lambda: "L* " not in screen.shown(), "nothing else")
    screen.resize(60, 20)
    screen.wait(lambda: fits(screen), "layout that fits 60×20")
    screen.wait_for("L* ")
    screen.wait(lambda: "needs" not in screen.shown(), "the app alone")


def test_a_dumb_terminal_gets_the_repl_and_is_told_so(start):
    terminal = start(TERM="dumb")
    terminal.wait_for_prompt()
    (why, *_) = terminal.lines()
    assert "TERM=dumb" in why
    assert "cannot show the app" in why
    assert terminal.leave() == 0
    assert "\x1b" not in terminal.raw


# -- leaving and being ended -----------------------------------------------------------------------


def test_quit_during_a_walk_asks_and_what_is_left_of_the_walk_is_offered_next_time(
    resumed, start, tmp_path
):
    session = tmp_path / "mine"
    screen = resumed(columns=100, rows=30)
    screen.wait_for("main:20 ")
    screen.walk_on()
    screen.press("q")
    screen.wait_for("is under way")
    screen.press(ESCAPE)  # stay
    screen.wait(lambda: "is under way" not in screen.shown(), "dialog that has gone")
    there = len(steps(session))
    screen.wait(lambda: len(steps(session)) > there + 10, "walk that goes on")
    screen.press("q")
    screen.wait_for("is under way")
    screen.press("y")
    assert screen.ended() == 0
    assert_given_back(screen)
    assert "lsshell resume mine" in screen.after()
    walked = steps(session)
    assert_on_the_level_set(walked)

    again = start("resume", "mine", columns=100, rows=30)
    again.wait_for(f"main:{walked[-1]['step']} ")
    left = 100000 - (walked[-1]["step"] - 20)
    again.wait_for_match(rf"^ paused +r goes on: walk .*--steps {left}\b")
    again.press("r")
    again.wait_for_match(rf"^ walk .*\d+/{left}")
    again.wait(lambda: len(steps(session)) > len(walked), "further steps")
    again.press(CTRL_C)
    again.wait_for_match(r"^ (paused|ready)")
    again.press("q")
    assert again.ended() == 0
    assert steps(session)[: len(walked)] == walked


def lose_terminal(screen: Screen) -> None:
    """Closes the terminal's end of the line, as a window that is closed or ssh that breaks."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, screen.process.child_fd)
    os.close(nothing)


# Raises in the middle of a walk; found on PYTHONPATH, so that the package is as it was installed.
CRASH = """
from lsshell.widgets.status import Status

draw = Status.render


def render(self):
    if self._view.here is not None and self._view.here.step >= 30:
        raise RuntimeError("a defect of the interface")
    return draw(self)


Status.render = render
"""
ENDINGS: dict[str, Callable[[Screen], None]] = {
    "SIGHUP": lambda screen: screen.process.kill(signal.SIGHUP),
    "SIGTERM": lambda screen: screen.process.kill(signal.SIGTERM),
    "SIGKILL": lambda screen: screen.process.kill(signal.SIGKILL),
    "lost": lose_terminal,
    "crash": lambda screen: None,  # comes by itself
}
VARIABLES = {"SIGHUP": {"NO_COLOR": "1"}, "SIGTERM": {"TERM": "xterm"}}


@dataclass(frozen=True)
class Ended:
    """An app that was ended during a walk: what was recorded just before, and what is there."""

    screen: Screen
    exit_code: int | None  # None where a signal ended it
    recorded: list[dict]
    kept: list[dict]
    left_behind: list[int]


@pytest.fixture(scope="module")
def ended(prepared: Path) -> Iterator[dict[str, Ended]]:
    """Apps on copies of the prepared session, one for each way in which they can end."""
    folder = prepared.parent
    (folder / "patches").mkdir()
    (folder / "patches" / "sitecustomize.py").write_text(CRASH)
    variables = {**VARIABLES, "crash": {"PYTHONPATH": str(folder / "patches")}}
    screens: dict[str, Screen] = {}
    try:
        for name in ENDINGS:  # all at once: what takes long is the import of torch
            shutil.copytree(prepared, folder / name)
            set_ = variables.get(name, {})
            screens[name] = Screen(folder, "resume", name, columns=100, rows=30, **set_)
        yield {name: end(screen, name, folder / name) for name, screen in screens.items()}
    finally:
        for screen in screens.values():
            screen.process.close(force=True)


def end(screen: Screen, name: str, session: Path) -> Ended:
    """Walks, and ends the app in the middle of it."""
    screen.wait_for("main:20 ")
    screen.wait_for_match("[⠁-⣿]")  # a plot
    screen.press(":", footer="Complete")
    screen.press(ENDLESS + ENTER)
    screen.wait(lambda: points(session)[-1]["step"] > 25, "steps")
    recorded = points(session)
    ENDINGS[name](screen)
    if name != "lost":
        screen.wait(lambda: screen.process.flag_eof, f"end after {name}")
    patience = Patience()
    while screen.process.isalive():
        assert patience.lasts(), f"still there after {name}"
        time.sleep(0.05)
    while (left := in_its_session(screen.process.pid)) and patience.lasts():
        time.sleep(0.05)  # what ends with the app ends after it
    return Ended(screen, screen.process.exitstatus, recorded, points(session), left)


@pytest.mark.parametrize("name", ENDINGS)
def test_no_step_is_lost_however_the_app_is_ended(ended, name):
    found = ended[name]
    assert found.recorded[-1]["step"] > 25
    assert found.kept[: len(found.recorded)] == found.recorded
    assert_on_the_level_set([p for p in found.kept if p["kind"] == "step"])
    assert found.left_behind == []


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "crash"])
def test_an_app_that_is_ended_gives_the_screen_back_and_says_where_the_session_is(ended, name):
    found = ended[name]
    assert_given_back(found.screen)
    assert f"session in {name}" in found.screen.after()
    assert f"lsshell resume {name}" in found.screen.after()


def test_a_wish_to_end_is_no_failure_and_a_crash_is_one(ended):
    assert [ended[name].exit_code for name in ("SIGHUP", "SIGTERM", "lost")] == [0, 0, 0]
    assert ended["crash"].exit_code == 1
    assert "a defect of the interface" in ended["crash"].screen.after()


def test_sessions_whose_app_was_ended_are_free_and_go_on_from_their_last_step(ended, prepared):
    folder, (first, *others) = prepared.parent, ended
    walk = "walk --steps 1 --method paper"
    lines = [walk, *(line for name in others for line in (f"resume {name}", walk))]
    on = lsshell(folder, "resume", first, said="\n".join([*lines, ""]))
    assert on.returncode == 0, on.stderr
    for name, found in ended.items():
        last = found.kept[-1]["step"]
        assert f"at step {last} of main" in on.stdout + on.stderr, name
        assert points(folder / name)[-1]["step"] == last + 1, name


# -- colours ---------------------------------------------------------------------------------------


def colours(screen: Screen) -> set[int]:
    """The codes of colours; the smaller ones are attributes, bold and the like."""
    found = {code for codes in SGR.findall(screen.raw) for code in re.split("[;:]", codes) if code}
    return {int(code) for code in found if int(code) >= 30}


def test_there_is_no_colour_where_none_is_wanted(ended):
    assert colours(ended["SIGHUP"].screen) <= {39, 49}  # the terminal's own


def test_a_terminal_of_16_colours_is_sent_no_others(ended):
    found = colours(ended["SIGTERM"].screen)
    assert not found & {38, 48}  # these begin a colour of 256 or of all
    assert found & {*range(30, 38), *range(90, 98)}
