"""The REPL in a terminal: the installed command behind a pseudo-terminal, its screen read back."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lsshell import printing
from lsshell.engine.events import Progress
from lsshell.interrupts import Interrupts
from lsshell.printing import ProgressLine
from lsshell.sessions.tables import number
from tests.lsshell.terminal import (
    CTRL_C,
    ENTER,
    SGR,
    TAB,
    Terminal,
    lsshell,
    points,
    the_session,
)

CTRL_R = "\x12"
PASTE = "\x1b[200~{}\x1b[201~"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts lsshell in the test's folder and waits for the prompt; ends it afterwards."""
    begun: list[Terminal] = []

    def begin(*words: str, **how: object) -> Terminal:
        terminal = Terminal(tmp_path, *(words or ("repl",)), **how)
        begun.append(terminal)
        terminal.wait_for_prompt()
        return terminal

    yield begin
    for terminal in begun:
        terminal.process.close(force=True)


# -- at the prompt ---------------------------------------------------------------------------------


def test_ctrl_c_at_the_prompt_gives_a_new_line_and_ctrl_d_leaves(start, tmp_path):
    terminal = start()
    terminal.process.send(CTRL_C)
    terminal.wait(lambda: terminal.text().count("lss>") == 2, "second prompt")
    terminal.type("walk --st")
    terminal.process.send(CTRL_C)
    terminal.wait_for_prompt()
    assert terminal.leave() == 0
    assert not (tmp_path / "sessions").exists()  # nothing was said: no session


def test_ctrl_r_finds_a_command_of_an_earlier_run(start):
    first = start()
    first.say("help walk")
    first.say("help plot")
    assert first.leave() == 0
    second = start()
    second.process.send(CTRL_R)
    second.wait(lambda: "reverse-i-search" in second.typed(), "search")
    second.process.send("p wa")
    second.wait(lambda: second.typed().endswith("help walk"), "earlier command")
    second.process.send(ENTER)
    second.wait(lambda: second.typed() == "lss> help walk", "command found")
    second.process.send(ENTER)
    second.wait_for_prompt()
    assert "--until-angle" in second.text()


def test_tab_completes_commands_options_and_paths(start, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "first.lss").touch()
    terminal = start()
    for begun, whole in (("mea", "measure"), ("walk --until-a", "walk --until-angle")):
        terminal.type(begun)
        terminal.process.send(TAB)
        terminal.wait(lambda whole=whole: terminal.typed() == f"lss> {whole}", whole)
        terminal.process.send(CTRL_C)
        terminal.wait_for_prompt()
    terminal.type("source scr")
    terminal.process.send(TAB)
    terminal.wait(lambda: terminal.typed() == "lss> source scripts/", "folder")
    terminal.process.send("f" + TAB)
    terminal.wait(lambda: terminal.typed() == "lss> source scripts/first.lss", "file")


def test_tab_shows_the_choices_under_the_line(start):
    terminal = start()
    terminal.type("walk --method ")
    terminal.process.send(TAB)
    for method in ("quasi-newton", "gradient", "paper"):
        terminal.wait_for(method)


def test_an_error_shows_a_caret_under_the_place(start):
    terminal = start()
    terminal.say("plot 'loss")
    lines = terminal.lines()
    k = next(k for k, line in enumerate(lines) if line.startswith("<repl>:1:6:"))
    assert "never closed" in lines[k]
    assert lines[k + 1].index("'") == lines[k + 2].index("^")


def test_pasted_lines_are_executed_one_by_one_up_to_the_first_that_fails(start):
    terminal = start()
    terminal.process.send(PASTE.format("help undo  # why not\nhelp goto\nnonsense\nhelp walk\n"))
    terminal.wait_for("help walk")
    terminal.process.send(ENTER)
    terminal.wait_for_prompt()
    assert "Go back so many steps" in terminal.text()
    assert "Go to a point" in terminal.text()
    assert "<repl>:3:1: nonsense: unknown command" in terminal.text()
    assert "Walk along the level set" not in terminal.text()


def test_long_messages_are_broken_between_words(start):
    terminal = start(columns=80, rows=24)
    terminal.say("reg nonsense on")
    shown = [line for line in terminal.lines() if "gradient-norm" in line or "Choose" in line]
    assert len(shown) == 2  # a message of several lines, no name torn in two
    terminal.wait_for_bottom("no data loaded .* loads some$")


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_there_are_colours_unless_no_color_is_set(start, variables, coloured):
    terminal = start(**variables)
    terminal.type("plot loss --out ")
    terminal.process.send(CTRL_C)
    terminal.wait_for_prompt()
    terminal.say("nonsense # of no meaning")
    assert terminal.leave() == 0
    codes = [int(c) for found in SGR.findall(terminal.raw) for c in re.split("[;:]", found or "0")]
    assert any(30 <= c <= 49 or 90 <= c <= 107 for c in codes) == coloured


def test_a_dumb_terminal_gets_plain_text(start):
    terminal = start(TERM="dumb")
    terminal.say("nonsense")
    terminal.say("help seed")
    assert terminal.leave() == 0
    assert "<repl>:1:1: nonsense: unknown command" in terminal.text()
    assert "Fix the seed" in terminal.text()
    assert "\x1b" not in terminal.raw


# -- walking ---------------------------------------------------------------------------------------


def test_the_bottom_line_tells_of_the_point_walked_to_and_plots_fit_the_screen(start, tmp_path):
    terminal = start(columns=80, rows=24)
    for command in ("data iris", "model mlp 4-8-3", "train --epochs 30 --rate 0.01", "level"):
        terminal.say(command)
    terminal.wait_for_bottom(r"^ main:0 · L \S+ · \|L−L\*\|/tol 0\.00 · test \S+$")
    terminal.say("reg l2 on")
    terminal.say("walk --steps 5")
    here = points(the_session(tmp_path))[-1]
    assert here["step"] == 5
    share = abs(here["loss"] - here["level"]) / here["tolerance"]
    expected = " · ".join(
        [
            "main:5",
            f"L {number(here['loss'])}",
            f"|L−L*|/tol {share:.2f}",
            f"l2 {number(here['regularizers']['l2'])}",
            f"test {number(here['test_loss'])}",
            f"∠ {here['angle_deg']:.1f}°",
        ]
    )
    terminal.wait_for_bottom(f"^ {re.escape(expected)}$")
    before = len(terminal.raw)
    terminal.say("plot test-loss")
    drawn = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.raw[before:]).replace("\r", "\n")
    frame = [line for line in drawn.split("\n") if line.rstrip().endswith(("┐", "│", "┤", "┘"))]
    assert len(frame) >= 8
    assert max(map(len, frame)) <= 80


# How the progress of a task ends: what reads a terminal may be given half a line.
NOTES = {"train": r"loss \S+", "walk": r"R \S+, angle \S+°"}


@dataclass(frozen=True)
class Conversation:
    """A session in which Ctrl-C stopped training and a walk, and SIGTERM a last walk."""

    folder: Path
    session: Path
    screen: str
    progress: list[str]
    exit_code: int


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Conversation]:
    folder = tmp_path_factory.mktemp("interrupted")
    terminal = Terminal(folder, "repl", columns=80, rows=30)
    progress = []

    def begin(command: str) -> None:
        """Starts a long command and waits until its progress is on the screen, to its end."""
        terminal.type(command)
        terminal.process.send(ENTER)
        whole = rf"/s, [\d:]+ left  {NOTES[command.split()[0]]}$"
        terminal.wait(lambda: re.search(whole, terminal.typed()), "progress")
        progress.append(terminal.typed())

    try:
        terminal.wait_for_prompt()
        terminal.say("data digits --train 200")
        terminal.say("model mlp 64-10-10")
        begin("train --epochs 100000")
        terminal.process.send(CTRL_C)
        terminal.wait_for_prompt()
        terminal.say("train --epochs 500 --rate 0.01 --until-loss 0.02")
        terminal.say("level")
        terminal.say("reg l2 on")
        begin("walk --steps 100000 --method gradient")
        terminal.process.send(CTRL_C)
        terminal.wait_for_prompt()
        terminal.say("walk --steps 3 --method gradient")
        begin("walk --steps 100000 --method paper")
        terminal.process.kill(signal.SIGTERM)
        code = terminal.ended()
    finally:
        terminal.process.close(force=True)
    yield Conversation(folder, the_session(folder), terminal.text(), progress, code)


def test_progress_shows_how_far_how_fast_and_how_long_yet(interrupted):
    train, walk, _ = interrupted.progress
    pace = r"\S+ \d+/100000 \d+\.\d/s, [\d:]+ left"
    assert re.search(rf"^train {pace}  {NOTES['train']}$", train)
    assert re.search(rf"^walk {pace}  {NOTES['walk']}$", walk)


def test_ctrl_c_stops_training_and_walks_and_gives_the_prompt_back(interrupted):
    assert re.search(r"^\d+ epochs \(interrupted\): training loss", interrupted.screen, re.M)
    assert len(re.findall(r"^interrupted: \d+ steps", interrupted.screen, re.M)) == 2
    assert re.search(r"^3 steps taken", interrupted.screen, re.M)


def test_nothing_of_a_progress_line_stays_on_the_screen(interrupted):
    assert not re.search(r"[╌━]| left ", interrupted.screen)


def test_every_point_of_an_interrupted_walk_is_on_the_level_set(interrupted):
    walked = [p for p in points(interrupted.session) if p["kind"] == "step"]
    assert len(walked) > 3
    assert all(abs(p["loss"] - p["level"]) <= p["tolerance"] for p in walked)


def test_a_signal_to_end_stops_the_walk_and_leaves(interrupted):
    assert interrupted.exit_code == 0
    assert re.search(r"^session in\b", interrupted.screen, re.M)
    assert (interrupted.session / "session.lss").read_text().count('reason="interrupted"') == 3


def test_a_session_with_interruptions_replays_bit_for_bit(interrupted):
    found = lsshell(interrupted.folder, "replay", "--check", "--quiet", str(interrupted.session))
    assert (found.returncode, found.stderr.split(":")[0]) == (0, "identical"), found.stderr


# -- no terminal, and two at once ------------------------------------------------------------------


def test_without_a_terminal_lines_are_read_up_to_the_first_error(tmp_path):
    found = lsshell(tmp_path, "repl", said="seed 1\nnonsense\nseed 2\n")
    assert found.returncode == 1
    assert found.stderr.startswith("<stdin>:2:1: nonsense: unknown command nonsense")
    assert found.stderr.splitlines()[1:3] == ["  nonsense", "  ^"]
    assert "\x1b" not in found.stdout + found.stderr
    script = (the_session(tmp_path) / "session.lss").read_text().splitlines()
    assert "seed 1" in script
    assert "seed 2" not in script


def test_a_second_lsshell_on_the_same_session_is_refused(start, tmp_path):
    first = start("repl", "--session", "mine")
    first.say("seed 1")
    script = tmp_path / "mine" / "session.lss"
    before = script.read_bytes()
    resumed = lsshell(tmp_path, "resume", "mine", said="seed 2\n")
    assert resumed.returncode == 1
    assert "open in another process" in resumed.stderr
    begun = lsshell(tmp_path, "repl", "--session", "mine", said="seed 2\n")
    assert begun.returncode != 0
    assert "holds a session already" in begun.stderr
    assert script.read_bytes() == before
    assert first.leave() == 0
    assert lsshell(tmp_path, "resume", "mine", said="seed 2\n").returncode == 0


# -- the pieces ------------------------------------------------------------------------------------


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_rate_and_the_time_left_are_those_of_the_task(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(printing.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    line = ProgressLine(Tty())
    line.hear(Progress("train", 1, 1000, "loss 2"))
    now[0] += 2.0
    line.hear(Progress("train", 11, 1000, "loss 1"))  # 10 in 2 s; 989 more take 198 s
    shown = line.stream.getvalue().rpartition("\r\x1b[K")[2]
    assert shown.endswith("11/1000 5.0/s, 3:18 left  loss 1")


def test_progress_never_fills_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    line = ProgressLine(Tty())
    line.hear(Progress("walk", 999, 100000, "R 1234.5, angle 123.4° and more words than fit"))
    assert len(line.stream.getvalue().removeprefix("\r\x1b[K")) < 40


def test_progress_is_silent_where_no_terminal_is():
    line = ProgressLine(io.StringIO())
    line.hear(Progress("walk", 1, 2, "R 1"))
    line.clear()
    assert line.stream.getvalue() == ""


def test_the_first_ctrl_c_asks_to_stop_and_the_second_stops_at_once():
    before = signal.getsignal(signal.SIGINT)
    asked = []
    with Interrupts(lambda: asked.append(1)).watched() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert (interrupts.asked, interrupts.ended, asked) == (True, False, [1])
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_to_end_is_told_from_ctrl_c():
    with Interrupts(lambda: None).watched() as interrupts:
        signal.raise_signal(signal.SIGTERM)
    assert interrupts.asked
    assert interrupts.ended
