"""The app in a terminal: the installed command behind a pseudo-terminal, its screen read back."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lsshell.terminal import (
    CTRL_C,
    ENTER,
    PATIENCE,
    SGR,
    Terminal,
    lsshell,
    points,
    the_session,
)

CTRL_Q, ESCAPE, UP = "\x11", "\x1b", "\x1b[A"
ENDLESS = "walk --steps 100000 --method paper"
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
        self.wait_for_match(r"^ walk \S+ \d+/100000 .* left")

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
    screen.press(ESCAPE, footer="Switch")

    # What is typed before torch is there waits, and is executed in turn.
    screen.say("data iris", "model iris-ff", "train --epochs 20", "level")
    assert "1 waiting: data iris" in screen.raw or "3 waiting: data iris" in screen.raw
    screen.wait_for("main:0 ")

    screen.press("6", footer="Switch")
    screen.press(" ")
    screen.wait_for("● l2 ")
    screen.wait_for("› reg l2 on")  # what was switched is in the log as its command
    screen.say("walk --steps 30")
    screen.wait_for("main:30 ")
    screen.press("r")
    screen.wait_for("main:60 ")

    screen.press("7", footer="Go to")
    for _ in range(10):
        screen.press(UP)
    screen.press(ENTER)
    screen.wait_for("main:50 ")
    screen.wait_for("› goto main:50")
    screen.press("r")
    screen.wait_for_match(r"│ (?!main:)\S+:80 │")
    branch = screen.rows(r"│ (?!main:)(\S+):80 │")[0]
    screen.wait_for(f"{branch} 80")  # the tree of branches

    # Esc and Ctrl-C stop a walk at a valid point; the app stays.
    for key in (ESCAPE, CTRL_C):
        before = len(steps(the_session(tmp_path)))
        screen.walk_on()
        screen.press(key)
        screen.wait_for_match(r"^ (paused|ready)")
        session = the_session(tmp_path)
        assert len(steps(session)) > before
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
    screen = start()
    screen.wait_for("Demo")
    screen.press(ESCAPE, footer="Switch")
    screen.press(":seed 1\rseed 2\r")  # as over a slow line
    screen.wait_for("› seed 2")
    assert "› seed 1" in screen.shown()


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
    screen.wait_for("Demo")
    screen.press(ESCAPE, footer="Switch")
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
        assert "main:20" not in screen.shown()
    screen.resize(60, 20)
    screen.wait(lambda: fits(screen), "layout that fits 60×20")
    screen.wait_for("main:20 ")
    assert "needs" not in screen.shown()


def test_a_dumb_terminal_gets_the_repl_and_is_told_so(start):
    terminal = start(TERM="dumb")
    terminal.wait_for_prompt()
    (why, *_) = terminal.lines()
    assert "TERM=dumb" in why
    assert "cannot show the app" in why
    assert terminal.leave() == 0
    assert "\x1b" not in terminal.raw


def test_colours_are_those_that_the_terminal_has_or_none_where_none_are_wanted(resumed):
    plain = resumed("plain", columns=120, rows=40, NO_COLOR="1")
    few = resumed("few", columns=120, rows=40, TERM="xterm")
    codes: dict[Screen, set[str]] = {}
    for screen in (plain, few):
        screen.wait_for("main:20 ")
        screen.wait_for_match("[⠁-⣿]")
        screen.press(":", footer="Complete")
        screen.press("nonsense" + ENTER)
        screen.wait_for("unknown command nonsense")
        screen.press(CTRL_Q)
        assert screen.ended() == 0
        codes[screen] = {found for found in SGR.findall(screen.raw) if found}

    def singles(screen: Screen) -> set[int]:
        return {int(code) for found in codes[screen] for code in re.split("[;:]", found) if code}

    # 39 and 49 give the terminal's own colours; up to 29 there are attributes, bold and the like.
    assert {c for c in singles(plain) if c >= 30} <= {39, 49}
    assert not {c for c in singles(few) if c in (38, 48)}
    assert {c for c in singles(few) if 30 <= c <= 37 or 90 <= c <= 97}


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
    again.wait_for_match(r"^ paused +r goes on: walk ")
    (left,) = again.rows(r"goes on: walk .*--steps (\d+)")
    assert int(left) == 100000 - (walked[-1]["step"] - 20)
    again.press("r")
    again.wait_for_match(rf"^ walk \S+ \d+/{left} ")
    again.wait(lambda: len(steps(session)) > len(walked), "further steps")
    again.press(CTRL_C)
    again.wait_for_match(r"^ (paused|ready)")
    again.press("q")
    assert again.ended() == 0
    assert points(session)[: len(walked)] == points(session)[: len(walked)]


def lose_terminal(screen: Screen) -> None:
    """Closes the terminal's end of the line, as a window that is closed or ssh that breaks."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, screen.process.child_fd)
    os.close(nothing)


ENDINGS: dict[str, Callable[[Screen], None]] = {
    "SIGHUP": lambda screen: screen.process.kill(signal.SIGHUP),
    "SIGTERM": lambda screen: screen.process.kill(signal.SIGTERM),
    "SIGKILL": lambda screen: screen.process.kill(signal.SIGKILL),
    "lost": lose_terminal,
}


def test_no_step_is_lost_however_the_app_is_ended(resumed, tmp_path):
    screens = {name: resumed(name, columns=100, rows=30) for name in ENDINGS}  # at once: quicker
    for name, end in ENDINGS.items():
        screen, session = screens[name], tmp_path / name
        screen.wait_for("main:20 ")
        screen.walk_on()
        recorded = points(session)
        assert recorded[-1]["step"] > 20, name
        end(screen)
        wait_for_end(screen, name)
        if name in ("SIGHUP", "SIGTERM"):
            assert screen.process.exitstatus == 0, name
            assert_given_back(screen)
            assert f"lsshell resume {name}" in screen.after()
        assert in_its_session(screen.process.pid) == [], name
        kept = points(session)
        assert kept[: len(recorded)] == recorded, name
        assert_on_the_level_set(steps(session))
        # Nothing holds the session any more, and it goes on from the last step.
        on = lsshell(tmp_path, "resume", name, said="walk --steps 1 --method paper\n")
        assert on.returncode == 0, f"{name}: {on.stderr}"
        assert f"at step {kept[-1]['step']} of main" in on.stderr, name
        assert points(session)[-1]["step"] == kept[-1]["step"] + 1, name


def wait_for_end(screen: Screen, name: str) -> None:
    if name != "lost":
        screen.wait(lambda: screen.process.flag_eof, f"end after {name}")
    deadline = time.monotonic() + PATIENCE
    while screen.process.isalive():
        assert time.monotonic() < deadline, f"still there after {name}"
        time.sleep(0.05)


CRASH = """
from lsshell.widgets.status import Status

draw = Status.render


def render(self):
    if self._view.here is not None and self._view.here.step >= 30:
        raise RuntimeError("a defect of the interface")
    return draw(self)


Status.render = render
"""


def test_a_crash_of_the_interface_loses_no_step_and_says_where_the_session_is(resumed, tmp_path):
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "sitecustomize.py").write_text(CRASH)
    screen = resumed(columns=100, rows=30, PYTHONPATH=str(tmp_path / "patches"))
    screen.wait_for("main:20 ")
    screen.press(":", footer="Complete")
    screen.press(ENDLESS + ENTER)
    assert screen.ended() not in (0, None)
    assert_given_back(screen)
    assert "a defect of the interface" in screen.after()
    assert "session in mine" in screen.after()
    assert "lsshell resume mine" in screen.after()
    walked = steps(tmp_path / "mine")
    assert walked[-1]["step"] >= 30
    assert_on_the_level_set(walked)
    on = lsshell(tmp_path, "resume", "mine", said="walk --steps 1 --method paper\n")
    assert on.returncode == 0, on.stderr
    assert f"at step {walked[-1]['step']} of main" in on.stderr
