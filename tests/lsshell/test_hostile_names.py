"""Names and files that were made to be taken for something else: lines, markup, escape codes."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.segment import ControlType, Segment
from rich.style import Style
from textual.color import Color
from textual.widgets import Input, OptionList, Static
from textual.widgets._toast import Toast

from lsshell.app import LsshellApp
from lsshell.engine.path import Path as WalkedPath
from lsshell.engine.path import Point
from lsshell.printable import Printable
from lsshell.screens.setup import Setup
from lsshell.screens.welcome import Welcome
from lsshell.sessions.journal import Journal, read_record
from lsshell.sessions.language import Line
from lsshell.sessions.replay import replay
from lsshell.sessions.resume import resume
from lsshell.sessions.saved import lines_to_open
from lsshell.sessions.session import Session, header
from lsshell.widgets.branches import Branches
from lsshell.widgets.log import Log
from lsshell.worker import Said
from tests.lsshell.driving import Driven, driven, played
from tests.sessions.conversation import SETUP, say, talk

ESC = "\x1b"
BREAKS = ("\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
OTHERS = ("\x00", "\x07", "\x08", ESC, "\x7f", "\x9b", "\x9d")
TITLE = f"{ESC}]0;pwned\x07"  # an escape code that names the terminal's window
CODES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, a history and sessions of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LSSHELL_SESSIONS", str(tmp_path / "sessions"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def named(character: str) -> str:
    return f"U+{ord(character):04X}"


# -- command lines -----------------------------------------------------------------------------


@pytest.mark.parametrize("character", [*BREAKS, *OTHERS], ids=named)
def test_a_line_with_a_control_character_is_refused_and_never_written(tmp_path, character):
    session = Session(tmp_path / "s", variables={"x": f"1{character}quit"})
    say(session, "seed 1")
    script = (tmp_path / "s" / "session.lss").read_bytes()
    typed = ("set a=b{}quit", "{}seed 2", "seed 2{}", "set 'a={}#'", 'set "a={}"', "seed 2 # {}")
    filled = ("seed ${x}", "set a=${x}", 'set "a=${x}"', "load ${x}.pt")
    for line in (*(t.format(character) for t in typed), *filled):
        outcome = session.execute(Line("x", 1, line))
        assert named(character) in outcome.failure.message
        if line not in filled:
            assert outcome.failure.column == line.index(character) + 1
    assert (tmp_path / "s" / "session.lss").read_bytes() == script
    assert session.history == ["seed 1"]
    assert session.variables.keys() == {"x"}
    session.close()


def test_letters_of_any_language_and_tabs_are_no_control_characters(tmp_path):
    session = talk(tmp_path / "s", "set\ta=größe-π-数据-🙂\u200b")
    session.close()
    (entry,) = read_record(tmp_path / "s").entries
    assert entry.line.text == "set\ta=größe-π-数据-🙂\u200b"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_whatever_is_set_the_script_stays_of_the_lines_that_were_said(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any") / "s"
    session = Session(folder, variables={"x": text})
    outcomes = [session.execute(Line("x", 1, t)) for t in ("seed 1", 'set "a=${x}"', "seed 2")]
    session.close()
    said = ["seed 1", *(["set"] if outcomes[1].ok else []), "seed 2"]
    assert [e.line.text.split()[0] for e in read_record(folder).entries] == [
        t.split()[0] for t in said
    ]
    assert outcomes[1].ok == (CODES.search(text.replace("\t", "")) is None)
    again = Session(folder.parent / "again")
    assert replay(folder, again, check=True).difference is None
    assert again.variables.get("a") == (text if outcomes[1].ok else None)
    again.close()


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", [*BREAKS, *OTHERS[1:]], ids=named)
def test_a_path_with_a_control_character_is_not_opened(tmp_path, character):
    folder = tmp_path / f"a{character}quit"
    folder.mkdir()
    (folder / "session.lss").touch()
    for path in (folder, *(folder / name for name in ("x.lss", "x.pt", "x.csv", "session.lss"))):
        with pytest.raises(ValueError, match="control characters"):
            lines_to_open(path, has_data=False)


@played
async def test_a_file_with_a_line_break_in_its_name_is_refused_in_words(home):
    file = home / "a\nquit\n.pt"
    file.touch()
    async with driven(home / "s") as app:
        app.app._open(file)
        await app.idle()
        assert app.history == []
        assert any("line breaks" in n for n in app.notices)
        assert app.app.is_running


@pytest.mark.parametrize("character", [*BREAKS, ESC], ids=named)
def test_a_working_directory_whose_name_breaks_a_line_is_one_line_of_the_header(
    tmp_path, monkeypatch, character
):
    folder = tmp_path / f"a{character}seed 7{character}#= seed=7"
    folder.mkdir()
    monkeypatch.chdir(folder)
    talk(tmp_path / "s", "seed 1").close()
    text = (tmp_path / "s" / "session.lss").read_bytes().decode()
    own = [t for t in re.split(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", text) if t]
    assert [t for t in own if not t.startswith("#")] == ["seed 1"]
    assert sum(t.startswith("#: folder ") for t in own) == 1
    assert len([t for t in own if t.startswith("#:")]) == len(header())
    assert [e.line.text for e in read_record(tmp_path / "s").entries] == ["seed 1"]
    monkeypatch.chdir(tmp_path)
    again = Session(tmp_path / "again")
    assert replay(tmp_path / "s", again, check=True).difference is None
    again.close()


def test_a_folder_to_look_in_whose_name_breaks_a_line_is_one_line_of_the_header(tmp_path):
    journal = Journal(tmp_path / "s", {"folder": "here"})
    journal.search_too(tmp_path / "a\nquit")
    journal.begin("seed 1")
    journal.close()
    record = read_record(tmp_path / "s")
    assert [e.line.text for e in record.entries] == ["seed 1"]
    assert record.header["search"] == f"{tmp_path}/a quit"


# -- escape codes ------------------------------------------------------------------------------


def filtered(*segments: Segment) -> list[Segment]:
    return Printable().apply(list(segments), Color(0, 0, 0))


def test_control_characters_are_taken_out_of_what_is_drawn_and_all_else_stays():
    style = Style(bold=True)
    before = [Segment("plain ", style), Segment(f"a{TITLE}b\r\n\x9b2Jc\u2028"), Segment("größe 🙂")]
    after = filtered(*before)
    assert [s.text for s in after] == ["plain ", "a]0;pwnedb2Jc", "größe 🙂"]
    assert [s.style for s in after] == [style, None, None]


def test_the_codes_of_the_screen_itself_are_left_alone():
    home_ = Segment(f"{ESC}[H", None, [(ControlType.HOME,)])
    assert filtered(home_, Segment(f"{ESC}x"))[0] is home_
    clean = [home_, Segment("clean")]
    assert Printable().apply(clean, Color(0, 0, 0)) == clean


@given(st.lists(st.text()))
def test_no_control_character_is_left_in_what_is_drawn(texts):
    after = "".join(s.text for s in filtered(*map(Segment, texts)))
    assert CODES.search(after.replace("\t", "")) is None
    assert after == re.sub(CODES, lambda m: m[0] if m[0] == "\t" else "", "".join(texts))


def drawn(app: Driven) -> str:
    """All that goes to the terminal, but for the codes of the screen itself."""
    strips = app.app.screen._compositor.render_strips()
    return "\n".join("".join(s.text for s in strip if not s.control) for strip in strips)


def assert_speaks_no_code(app: Driven) -> str:
    text = drawn(app)
    assert CODES.search(text.replace("\n", "")) is None
    return text


@played
async def test_a_session_that_ended_in_an_escape_code_is_listed_without_it(tmp_path):
    folder = tmp_path / "sessions" / f"evil{ESC}[2J"
    folder.mkdir(parents=True)
    (folder / "session.lss").write_text(f"seed 1\nset a={TITLE}\x9b31mred\n")
    async with driven(None, welcome=True) as app:
        assert isinstance(app.app.screen, Welcome)
        await app.settle()
        text = assert_speaks_no_code(app)
        assert "evil[2J" in text
        assert "set a=]0;pwned31mred" in text
        await app.press("end", "enter")  # and cannot be resumed by its name
        await app.idle()
        assert app.history == []
        assert_speaks_no_code(app)


@pytest.fixture
def notices_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notices are drawn in the corner of the screen, as in a terminal."""
    shown = functools.partialmethod(LsshellApp.run_test, notifications=True)
    monkeypatch.setattr(LsshellApp, "run_test", shown)


@pytest.mark.usefixtures("notices_shown")
@played
async def test_an_escape_code_that_is_said_is_shown_without_it(home):
    async with driven(home / "s") as app:
        app.app.say(f"load {TITLE}.pt")
        app.app.query_one(Log).say(Said(notice=f"notice{ESC}[41m"))
        app.app.notify(f"corner{ESC}[41m", markup=False)
        app.app.query_one(Log).border_title = f"frame{ESC}[41m".replace("[", "\\[")
        await app.idle()
        await app.until(lambda: "corner" in drawn(app), "a notice in the corner")
        text = assert_speaks_no_code(app)
        for shown in ("› load ]0;pwned.pt", "notice[41m", "corner[41m", "frame[41m"):
            assert shown in text
        assert app.session.journal is None  # nothing was written


@played
async def test_an_escape_code_in_a_file_is_offered_without_it(home):
    for name in ("a", "b"):
        (home / f"net{TITLE}{name}.pt").touch()
    async with driven(home / "s") as app:
        await app.press("colon")
        await app.type("load ")
        await app.press("tab", "tab")
        assert app.typed.query_one("#offered", OptionList).display
        assert "net]0;pwneda.pt" in assert_speaks_no_code(app)


# -- markup ------------------------------------------------------------------------------------


@played
async def test_markup_in_a_field_of_the_setup_form_is_shown_as_it_is(home):
    async with driven(home / "s", welcome=True) as app:
        await app.press("n")
        form = app.app.screen
        assert isinstance(form, Setup)
        for network in ("mlp [/", "[bold]mlp[/bold]", "[@click=app.exit]mlp[/]", "[/x]"):
            form.query_one("#network", Input).value = network
            await app.settle()
            preview = form.query_one("#preview", Static)
            assert f"model {network}" in preview.visual.plain.splitlines()
            assert f"model {network}" in drawn(app)


@played
async def test_markup_in_the_name_of_a_file_is_offered_as_it_is(home):
    (home / "[").mkdir()
    for name in ("y].pt", "z].pt"):
        (home / "[" / name).touch()
    async with driven(home / "s") as app:
        await app.press("colon")
        await app.type("load [/")
        await app.press("tab")
        offered = app.typed.query_one("#offered", OptionList)
        assert offered.display
        text = drawn(app)
        assert "[/y].pt" in text
        assert "[/z].pt" in text
        await app.press("enter")
        assert app.typed.input.value == "load [/y].pt "


def point(index: int, branch: str, parent: int | None) -> Point:
    return Point(
        index=index, parent=parent, branch=branch, kind="step" if index else "level", step=index,
        loss=0.25, level=0.25, tolerance=0.01, test_loss=0.5, test_accuracy=None, test_rmse=None,
        regularizers={}, angle_deg=None, implied_weight_decay=None, gradients=0, distance=0.0,
        length=0.0, kept=True,
    )  # fmt: skip


@played
async def test_markup_in_the_name_of_a_branch_is_shown_as_it_is_and_never_acts(home):
    """No command makes such a branch; a session from elsewhere may hold one."""
    names = ("[/x]", "[@click=app.exit]x[/]", "[red]x", "a[", "\\[b]")
    path = WalkedPath()
    for k, branch in enumerate(("main", *names)):
        path.restore(point(k, branch, k - 1 if k else None))
    async with driven(home / "s") as app:
        app.session.engine.path = path
        tree = app.app.query_one(Branches)
        await app.press("8", "f")
        await app.idle()
        shown = drawn(app)
        for k, name in enumerate(names, start=1):
            mark = "▶ " if name == names[-1] else ""
            assert str(tree.get_node_at_line(k).label).startswith(f"{mark}{name} {k}  test")
            assert f"{mark}{name} {k}  test" in shown
        row = 1 + names.index("[@click=app.exit]x[/]")
        for x in range(6, 30, 4):
            assert await app.pilot.click(Branches, offset=(x, 1 + row))
        await app.settle()
        assert app.app.is_running
        assert app.app.return_code is None
        path.restore(point(6, names[-1], 5))  # a label that changes
        await app.idle()
        assert f"▶ {names[-1]} 5–6  test" in drawn(app)


@pytest.mark.usefixtures("notices_shown")
@played
async def test_markup_in_an_error_is_shown_as_it_is(home):
    async with driven(home / "s") as app:
        app.app._open(home / "[b]what[@click=app.exit].txt")
        app.app._hear(Said(notice="torch [/b] is not there", error=True))
        app.app.say("level [/x]")
        await app.idle()
        await app.until(lambda: len(app.app.screen.query(Toast)) == 3, "notices")
        await app.until(lambda: "torch" in drawn(app), "notices on the screen")
        text = drawn(app)
        assert "[b]what[@click=app.exit].txt:" in text
        assert "torch [/b] is not there" in text
        assert "› level [/x]" in text
        assert len(app.notices) == 3
        assert any("[/x]" in n for n in app.notices)


@played
async def test_markup_in_a_line_or_an_answer_is_shown_as_it_is(home):
    async with driven(home / "s") as app:
        await app.enter("set a=[/x][@click=app.exit]y[/]")
        assert "› set a=[/x][@click=app.exit]y[/]" in drawn(app)
        await app.enter("walk --method [/x]")
        assert "[/x]" in app.hint
        assert "[/x]" in drawn(app)
        assert app.app.is_running


# -- names that are no text --------------------------------------------------------------------

LATIN = b"gr\xf6\xdfe"  # what an older system wrote


def test_a_line_that_cannot_be_written_is_refused_and_steps_are_still_found(tmp_path):
    session = talk(tmp_path / "s", SETUP)
    outcome = session.execute(Line("x", 1, f"load {os.fsdecode(LATIN)}.pt"))
    assert outcome.failure is not None
    assert len(say(session, "walk --steps 3")) == 1
    session.close()
    again, _ = resume(tmp_path / "s")
    assert again.engine.path.here.step == 3
    again.close()


def test_a_working_directory_that_is_no_text_is_one_line_of_the_header(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(LATIN)
    folder.mkdir()
    monkeypatch.chdir(folder)
    talk(tmp_path / "s", "seed 1").close()
    assert [e.line.text for e in read_record(tmp_path / "s").entries] == ["seed 1"]
