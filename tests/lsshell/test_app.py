"""The app as someone meets it who has only keys and a mouse: journeys, and what they leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Select, Static
from textual_fspicker import FileOpen, FileSave
from textual_fspicker.parts import DirectoryNavigation

import lsshell
from lsshell.engine.vocabulary import REGULARIZERS
from lsshell.screens.quit import Quit
from lsshell.screens.reading import Reading
from lsshell.screens.setup import Setup
from lsshell.screens.welcome import Welcome
from lsshell.sessions.journal import read_record
from lsshell.sessions.replay import replay
from lsshell.sessions.session import Session
from lsshell.widgets.activity import Activity
from lsshell.widgets.branches import Branches
from lsshell.widgets.plots import Plots
from lsshell.widgets.regularizers import Regularizers
from lsshell.widgets.replayed import Replayed
from lsshell.widgets.status import Status
from lsshell.widgets.steps import Steps
from lsshell.worker import Worker
from tests.lsshell.driving import Driven, driven, played
from tests.sessions.conversation import talk


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network on iris, trained and saved by lsshell."""
    file = tmp_path_factory.mktemp("trained") / "net.safetensors"
    talk(
        None,
        f"seed 3\ndata iris\nmodel mlp 4-8-3\ntrain --epochs 30 --rate 0.01\nsave {file}",
        record=False,
    )
    return file


@pytest.fixture(autouse=True)
def home(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds net.safetensors, a history and sessions of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LSSHELL_SESSIONS", str(tmp_path / "sessions"))
    work = tmp_path / "work"
    work.mkdir()
    (work / "net.safetensors").write_bytes(trained.read_bytes())
    monkeypatch.chdir(work)
    return work


LOADED = ("seed 3", "data iris", "load net.safetensors")
ON = (*LOADED, "level", "reg l2 on")


def residuals(app: Driven) -> list[float]:
    """(L − L*)/tolerance of every step on the path."""
    return [(p.loss - p.level) / p.tolerance for p in app.path.points.values() if p.kind == "step"]


def results(app: Driven) -> list[tuple[str, dict]]:
    """Commands and what they gave, as session.lss has them."""
    return [(e.line.text, e.results or {}) for e in read_record(app.session.folder).entries]


# -- loading -----------------------------------------------------------------------------------


async def open_last(app: Driven) -> None:
    """Opens the last file of the working directory, which a thread of the picker's lists."""
    await app.press("o")
    assert isinstance(app.app.screen, FileOpen)
    listed = app.app.screen.query_one(DirectoryNavigation)
    await app.until(lambda: listed.option_count > 1, "the files")
    await app.press("end", "enter", "enter")
    await app.idle()


@played
async def test_o_opens_a_picker_and_a_checkpoint_of_our_own_brings_its_data(tmp_path):
    async with driven(tmp_path / "s") as app:
        await open_last(app)
        file = Path.cwd() / "net.safetensors"
        assert app.script == ["seed 3", "data iris", f"load {file}"] == app.logged
        assert "net.safetensors" in app.app.query_one(Status).render().plain


@played
async def test_the_welcome_screen_opens_files_too():
    async with driven(None, welcome=True) as app:
        assert isinstance(app.app.screen, Welcome)
        await app.press("down", "down", "enter")
        assert isinstance(app.app.screen, FileOpen)
        await app.press("escape")
        assert app.app.screen is app.app._main
        assert app.history == []


@played
async def test_the_welcome_screen_starts_the_demo_with_all_its_lines(monkeypatch):
    async with driven(None, welcome=True) as app:
        said: list[str] = []
        monkeypatch.setattr(app.app.worker, "submit", lambda *lines, **how: said.extend(lines))
        await app.press("enter")
        text = (Path(lsshell.__file__).parent / "bundled" / "demo.lss").read_text()
        assert said == [t for t in text.splitlines() if t and not t.startswith("#")]
        assert said[-1] == "goto best"


@played
async def test_a_click_on_the_welcome_screen_does_what_enter_does():
    async with driven(None, welcome=True) as app:
        await app.pilot.click(OptionList, offset=(3, 1))
        assert isinstance(app.app.screen, Setup)


@played
async def test_escape_on_the_welcome_screen_starts_empty():
    async with driven(None, welcome=True) as app:
        await app.press("escape")
        assert "nothing is loaded yet" in app.app.query_one(Status).render().plain
        assert app.app.query_one(Regularizers).has_focus


@played
async def test_the_setup_form_executes_the_lines_that_it_shows(tmp_path):
    async with driven(tmp_path / "s", welcome=True) as app:
        await app.press("n")
        form = app.app.screen
        assert isinstance(form, Setup)
        form.query_one("#data", Select).value = "iris"
        await app.settle()
        form.query_one("#start", Input).value = ""
        form.query_one("#start").focus()
        await app.type("2")
        shown = str(form.query_one("#preview", Static).content).splitlines()
        assert shown == ["seed 0", "data iris", "model iris-ff", "train --epochs 2", "level"]
        await app.pilot.click("#go")
        await app.idle()
        assert app.script == shown == app.logged


@played
async def test_the_setup_form_can_be_left(tmp_path):
    async with driven(None, welcome=True) as app:
        await app.press("n", "escape")
        await app.idle()
        assert app.app.screen is app.app._main
        assert app.history == []


@played
async def test_a_file_that_is_nothing_we_know_is_refused_in_words(home):
    (home / "what.txt").write_text("?")
    async with driven(None) as app:
        app.app._open(home / "what.txt")
        await app.idle()
        assert any("what.txt: neither a checkpoint" in n for n in app.notices)
        assert app.history == []


# -- regularisers ------------------------------------------------------------------------------


@played
async def test_space_and_a_click_switch_regularisers(tmp_path):
    async with driven(tmp_path / "s", *LOADED, "level") as app:
        await app.choose_regularizer("l1", "space")
        await app.idle()
        await app.click_regularizer("group")
        await app.idle()
        await app.click_regularizer("l1")
        await app.idle()
        assert app.script[4:] == ["reg l1 on", "reg group on", "reg l1 off"]
        assert app.logged[4:] == app.script[4:]
        shown = {r.name for r in app.app.query_one(Regularizers).view.regularizers if r.on}
        assert shown == {"group"} == set(app.session.engine.sum.terms)


@played
async def test_plus_and_minus_change_a_weight_by_key_and_by_mouse(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        for key in ("plus", "plus", "minus"):
            await app.choose_regularizer("l2", key)
            await app.idle()
        header = app.app.query_one(Regularizers).header(80)
        start = header.index("weight") - 2  # the column is centred, with − and + at its ends
        less = next(x for x in range(start - 3, start + 3) if _sign(app, "l2", x) == "−")
        more = next(x for x in range(start + 3, start + 14) if _sign(app, "l2", x) == "+")
        await app.click_regularizer("l2", less)
        await app.idle()
        await app.click_regularizer("l2", more)
        await app.idle()
        weights = [t.split()[-1] for t in app.script[5:]]
        assert weights == ["2", "5", "2", "1", "2"]
        assert app.session.engine.sum.terms["l2"][1] == 2.0


def _sign(app: Driven, name: str, x: int) -> str:
    """What stands at column x of a regulariser's row."""
    pane = app.app.query_one(Regularizers)
    return "".join(text for text, _ in pane.row(REGULARIZERS.index(name), 80))[x]


# -- walking -----------------------------------------------------------------------------------


@played
async def test_r_runs_and_s_takes_one_step(tmp_path):
    async with driven(tmp_path / "s", *ON, "walk --steps 7") as app:
        await app.press("s")
        await app.idle()
        assert app.path.here.step == 8
        await app.press("r")
        await app.idle()
        assert app.path.here.step == 15
        assert app.script[5:] == ["walk --steps 7", "walk --steps 1", "walk --steps 7"]
        assert max(map(abs, residuals(app))) <= 1.0


@played
async def test_p_pauses_after_the_step_and_r_goes_on_with_the_rest(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(5) as held:
            await app.enter("walk --steps 30", wait=False)
            await app.until(held, "a held walk")
            await app.press("escape", "6", "p")
        await app.idle()
        assert app.path.here.step == 5
        assert "goes on: walk --steps 25" in app.app.query_one(Activity).render().plain
        await app.press("r")
        await app.idle()
        walks = [(text, given["steps"]) for text, given in results(app)[5:]]
        assert walks == [("walk --steps 30", 5), ("walk --steps 25", 25)]
        assert app.path.branches().keys() == {"main"}


@played
async def test_a_paused_walk_takes_the_steps_that_it_would_have_taken(tmp_path):
    async with driven(tmp_path / "a", *ON, "walk --steps 30") as app:
        straight = app.session.engine.theta_hash()
    async with driven(tmp_path / "b", *ON) as app:
        with app.holding(5) as held:
            await app.enter("walk --steps 30", wait=False)
            await app.until(held, "a held walk")
            await app.press("escape", "6", "p")
        await app.idle()
        await app.press("r")
        await app.idle()
        assert app.session.engine.theta_hash() == straight


@played
async def test_escape_stops_a_walk_at_a_valid_point_and_drops_what_waits(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(5) as held:
            await app.enter("walk --steps 30", wait=False)
            await app.until(held, "a held walk")
            await app.enter("seed 9", wait=False)
            activity = app.app.query_one(Activity)
            await app.until(lambda: "1 waiting: seed 9" in activity.render().plain, "what waits")
            await app.press("escape", "6", "escape")
            await app.idle()
        text, given = results(app)[-1]
        assert (text, given["reason"]) == ("walk --steps 30", "interrupted")
        assert given["steps"] == 5 == app.path.here.step
        assert max(map(abs, residuals(app))) <= 1.0
        assert "seed 9" not in app.history


@played
async def test_ctrl_c_stops_as_escape_does(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(2) as held:
            await app.enter("walk --steps 30", wait=False)
            await app.until(held, "a held walk")
            await app.press("ctrl+c")
            await app.idle()
        assert app.app.is_running
        assert results(app)[-1][1]["reason"] == "interrupted"


@pytest.mark.parametrize("by", ["space", "click"])
@played
async def test_a_regulariser_toggled_during_a_walk_takes_effect_at_its_next_step(tmp_path, by):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(5) as held:
            await app.enter("walk --steps 30", wait=False)
            await app.until(held, "a held walk")
            if by == "click":
                await app.click_regularizer("l1")
            else:
                await app.press("escape")
                await app.choose_regularizer("l1", "space")
        await app.idle()
        assert app.script[5:] == ["walk --steps 30", "reg l1 on", "walk --steps 25"]
        assert app.script == app.logged
        steps = [given["steps"] for _, given in (results(app)[5], results(app)[7])]
        assert steps == [5, 25]
        assert app.path.here.step == 30
        assert max(map(abs, residuals(app))) <= 1.0
        assert "l1" in app.path.here.regularizers


@played
async def test_the_last_regulariser_switched_off_during_a_walk_holds_the_rest_back(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(5) as held:
            await app.enter("walk --steps 30", wait=False)
            await app.until(held, "a held walk")
            await app.click_regularizer("l2")
        await app.idle()
        assert app.script[5:] == ["walk --steps 30", "reg l2 off"]
        assert "no regulariser is on" in app.log
        await app.click_regularizer("l1")
        await app.idle()
        await app.press("r")
        await app.idle()
        assert app.script[7:] == ["reg l1 on", "walk --steps 25"]


@played
async def test_typed_lines_wait_for_the_walk_and_clicks_do_not(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(5) as held:
            await app.enter("walk --steps 9", wait=False)
            await app.until(held, "a held walk")
            await app.enter("level", wait=False)
            await app.click_regularizer("l1")
        await app.idle()
        assert app.script[5:] == ["walk --steps 9", "reg l1 on", "walk --steps 4", "level"]


@played
async def test_a_goto_during_a_walk_ends_it(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(5) as held:
            await app.enter("walk --steps 30 --record 1", wait=False)
            await app.until(held, "a held walk")
            await app.press("escape", "6", "u")
        await app.idle()
        assert app.script[5:] == ["walk --steps 30 --record 1", "undo"]
        assert app.path.here.step == 4


@played
async def test_w_writes_the_last_walk_on_the_command_line(tmp_path):
    async with driven(tmp_path / "s", *ON, "walk --steps 3 --method gradient") as app:
        await app.press("w")
        assert app.typed.input.value == "walk --steps 3 --method gradient"
        assert app.typed.input.has_focus
        await app.press("backspace")
        await app.press("enter")
        await app.idle()
        await app.until(lambda: "gradien" in app.hint, "what was wrong")


# -- going back --------------------------------------------------------------------------------


@played
async def test_enter_in_the_steps_goes_to_a_point_and_what_is_walked_on_is_a_branch(tmp_path):
    async with driven(tmp_path / "s", *ON, "walk --steps 6 --record 1") as app:
        await app.press("7", "home", "down", "down", "enter")
        await app.idle()
        assert app.app.query_one(Steps).has_focus
        assert app.script[-1] == "goto main:2" == app.logged[-1]
        assert app.path.here.step == 2
        assert app.app.query_one(Steps).count() == 7  # those ahead stay in sight
        await app.press("s")
        await app.idle()
        assert (app.path.here.branch, app.path.here.step) == ("main-2", 3)
        assert len(app.path.branches()["main"]) > 6


@played
async def test_a_click_in_the_tree_of_branches_goes_to_the_end_of_one(tmp_path):
    before = (*ON, "walk --steps 6 --record 1", "goto 2", "walk --steps 2")
    async with driven(tmp_path / "s", *before) as app:
        tree = app.app.query_one(Branches)
        lines = [str(tree.get_node_at_line(k).label) for k in range(2)]
        assert lines[0].startswith("main 0–6")
        assert lines[1].startswith("▶ main-2 3–4")
        await app.pilot.click(Branches, offset=(8, 1))
        await app.idle()
        assert app.script[-1] == "goto main" == app.logged[-1]
        assert (app.path.here.branch, app.path.here.step) == ("main", 6)
        assert str(tree.get_node_at_line(0).label).startswith("▶ main 0–6")


@played
async def test_n_branches_b_goes_to_the_best_point_u_undoes_and_m_measures(tmp_path):
    async with driven(tmp_path / "s", *ON, "walk --steps 4 --record 1 --measure 1") as app:
        for key in ("u", "n", "s", "b", "m"):
            await app.press(key)
            await app.idle()
            if isinstance(app.app.screen, Reading):
                await app.press("escape")
        expected = ["undo", "branch", "walk --steps 1", "goto best", "measure"]
        assert [t.replace(" --record 1 --measure 1", "") for t in app.script[6:]] == expected
        assert app.script == app.logged
        assert set(app.path.branches()) == {"main", "main-2"}


# -- saving ------------------------------------------------------------------------------------


@played
async def test_a_session_made_by_clicks_and_keys_alone_replays_without_a_difference(tmp_path):
    async with driven(tmp_path / "s", welcome=True) as app:
        await open_last(app)
        await app.choose_regularizer("l2", "space")
        await app.idle()
        await app.press("s")
        await app.idle()
        with app.holding(5) as held:
            await app.press("r")
            await app.until(held, "a held walk")
            await app.click_regularizer("l1")
        await app.until(lambda: app.script[-1] == "walk --steps 395", "the rest of the walk")
        await app.press("escape")
        await app.idle()
        with app.holding(4) as held:
            await app.press("r")
            await app.until(held, "a held walk")
            await app.press("p")
        await app.idle()
        for key in ("plus", "s", "u", "n", "s", "m"):
            await app.press(key)
            await app.idle()
            if isinstance(app.app.screen, Reading):
                await app.press("escape")
        await app.press("7", "home", "down", "enter")
        await app.idle()
        await app.press("s")
        await app.idle()
        await app.pilot.click(Branches, offset=(8, 1))
        await app.idle()
        assert app.script == app.logged
        assert len(app.script) > 14
        assert max(map(abs, residuals(app))) <= 1.0
        commands = len(app.script)
    session = Session(record=False)
    again = replay(tmp_path / "s", session, check=True)
    assert again.difference is None, str(again.difference)
    assert again.failed is None
    assert again.commands == commands
    assert again.elsewhere == ()


@played
async def test_a_session_is_saved_as_another_and_replayed_and_resumed(tmp_path, home):
    async with driven(tmp_path / "s", *ON, "walk --steps 4") as app:
        await app.press("ctrl+s")
        assert isinstance(app.app.screen, FileSave)
        await app.pilot.click("#select")
        await app.idle()
        target = home / "my-session"
        assert app.logged[-1] == f"save-as {target}"
        assert (target / "session.lss").exists()
        there = app.session.engine.theta_hash()
        await app.enter("replay my-session")
        assert app.app._main.has_class("-replay")
        assert "all agree" in str(app.app.query_one(Replayed).border_title)
        await app.enter("resume my-session")
        assert app.session.engine.theta_hash() == there


@played
async def test_the_welcome_screen_resumes_a_session(tmp_path):
    async with driven(None, *ON, "walk --steps 4") as app:
        folder, there = app.session.folder, app.session.engine.theta_hash()
    async with driven(None, welcome=True) as app:
        await app.press("end", "enter")
        await app.idle()
        assert app.logged == [f"resume {folder}"]
        assert app.session.engine.theta_hash() == there
        assert app.app.query_one(Steps).count() == 5


# -- the command line --------------------------------------------------------------------------


@played
async def test_a_failing_line_comes_back_with_a_caret_under_the_faulty_word(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        before = (app.script, app.session.engine.theta_hash(), app.path.here)
        await app.enter("walk --stps 5")
        line = app.typed.input
        assert line.value == "walk --stps 5" == line.selected_text
        await app.until(lambda: "^" in app.hint, "a caret")
        assert app.hint.index("^") == line.value.index("--stps")
        assert "Did you mean --steps?" in app.hint
        assert "Did you mean --steps?" in app.log
        assert (app.script, app.session.engine.theta_hash(), app.path.here) == before
        await app.type("walk --steps 5")  # in its place
        await app.press("enter")
        await app.idle()
        assert app.script[-1] == "walk --steps 5"


@played
async def test_a_command_that_fails_in_the_engine_leaves_everything_as_it_was(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        before = (app.script, app.session.engine.theta_hash(), app.path.here)
        await app.enter("goto 99")
        await app.until(lambda: app.hint.startswith("     ^ "), "a caret under 99")
        assert "step 99" in app.hint
        assert (app.script, app.session.engine.theta_hash(), app.path.here) == before


@played
async def test_a_failing_line_does_not_overwrite_one_that_is_being_typed(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(2) as held:
            await app.enter("walk --steps 3", wait=False)
            await app.until(held, "a held walk")
            await app.enter("goto nowhere9", wait=False)
            await app.type("reg l")
        await app.idle()
        assert app.typed.input.value == "reg l"
        assert "nowhere9" in app.log


@played
async def test_tab_completes_what_is_certain_then_what_is_common_then_offers_a_list():
    async with driven(None) as app:
        line, offered = app.typed.input, app.typed.query_one("#offered", OptionList)
        await app.press("colon")
        await app.type("wal")
        await app.press("tab")
        assert line.value == "walk "
        await app.type("--m")
        await app.press("tab")
        assert line.value == "walk --me"
        await app.press("tab")
        names = [str(offered.get_option_at_index(k).prompt) for k in range(offered.option_count)]
        assert names == ["--method", "--measure", "--memory"]
        assert offered.display
        await app.press("tab", "enter")
        assert line.value == "walk --measure "
        assert not offered.display
        await app.press("escape")
        assert line.value == ""
        assert app.history == []


@played
async def test_up_and_down_look_through_the_history_and_keep_what_was_begun():
    async with driven(None) as app:
        await app.enter("seed 1")
        await app.enter("seed 2")
        line = app.typed.input
        await app.type("see")
        shown = []
        for key in ("up", "up", "up", "down", "down"):
            await app.press(key)
            shown.append(line.value)
        assert shown == ["seed 2", "seed 1", "seed 1", "seed 2", "see"]


@played
async def test_lines_of_earlier_sessions_are_in_the_history():
    async with driven(None) as app:
        await app.enter("seed 41")
    async with driven(None) as app:
        await app.press("colon", "up")
        assert app.typed.input.value == "seed 41"


@played
async def test_help_on_what_is_being_typed_stands_under_the_line():
    async with driven(None) as app:
        await app.press("colon")
        await app.until(lambda: "Tab completes" in app.hint, "what keys do here")
        await app.type("walk")
        await app.until(lambda: "--steps" in app.hint, "the options of walk")
        await app.type(" --method ")
        methods = "quasi-newton | newton | auto | gradient | paper"
        await app.until(lambda: methods in app.hint, "the methods")


@played
async def test_lines_typed_before_torch_is_there_wait_and_run_in_turn(monkeypatch, tmp_path):
    start = Worker.start
    monkeypatch.setattr(Worker, "start", lambda worker: None)
    async with driven(tmp_path / "s", wait=False) as app:
        for line in ("seed 3", "data iris", "load net.safetensors"):
            await app.enter(line, wait=False)
        activity = app.app.query_one(Activity)
        await app.until(lambda: "3 waiting: seed 3" in activity.render().plain, "waiting lines")
        assert "loading torch" in activity.render().plain
        start(app.app.worker)
        await app.idle()
        assert app.script == ["seed 3", "data iris", "load net.safetensors"] == app.logged


@played
async def test_what_is_typed_and_what_is_clicked_go_the_same_way(tmp_path):
    async with driven(tmp_path / "s", *LOADED, "level") as app:
        await app.enter("reg l1 on")
        await app.click_regularizer("l2")
        await app.idle()
        assert app.script[-2:] == ["reg l1 on", "reg l2 on"] == app.logged[-2:]


# -- the screen --------------------------------------------------------------------------------


@played
async def test_number_keys_choose_the_big_plot_and_the_pane():
    async with driven(None) as app:
        plots = app.app.query_one(Plots)
        for number in (5, 2, 3, 4, 1):
            await app.press(str(number))
            assert plots.big.number == number
            assert plots.big.has_focus
        for number, name in ((7, "steps"), (8, "branches"), (9, "log"), (6, "regularizers")):
            await app.press(str(number))
            assert app.app.focused.id == name
        await app.press("0")
        assert any("no replay yet" in n for n in app.notices)


@played
async def test_where_one_pane_is_shown_number_keys_exchange_it():
    async with driven(None, size=(80, 24)) as app:
        for number, name in ((7, "steps"), (8, "branches"), (9, "log"), (6, "regularizers")):
            await app.press(str(number))
            await app.settle()
            assert [p.id for p in app.app.query(".pane") if p.region.area] == [name]
            assert app.app.focused.id == name


@played
async def test_f_fills_the_screen_with_the_pane_at_hand_and_f_or_escape_goes_back():
    async with driven(None) as app:
        everything = filling(app)
        assert len(everything) > 4
        for pane, name in (("1", "plots"), ("6", "regularizers"), ("9", "log")):
            await app.press(pane)
            for back in ("f", "escape"):
                await app.press("f")
                assert filling(app) == [name]
                await app.press(back)
                assert filling(app) == everything


@played
async def test_what_fills_the_screen_gives_way_to_another_pane_or_plot():
    async with driven(None) as app:
        await app.press("1", "f", "4")
        assert filling(app) == ["plots"]
        seen = [p.what for p in app.app.query_one(Plots).panes if p.region.area]
        assert seen == ["angle"]
        await app.press("7")
        assert filling(app) == ["steps"]


def filling(app: Driven) -> list[str | None]:
    """What can be seen between the status and the command line."""
    return [w.id for w in app.app.query("#body > *") if w.region.area]


@played
async def test_keys_change_scale_axis_colour_measure_and_layout(tmp_path):
    async with driven(tmp_path / "s", *ON, "walk --steps 5") as app:
        plots = app.app.query_one(Plots)
        await app.press("1", "l", "x", "c", "a", "g")
        await app.idle()
        assert plots.big.logarithmic
        assert plots.axis == "gradients"
        assert plots.shade == "step"
        assert plots.big.what == "test-accuracy"
        assert plots.has_class("grid") and not plots.has_class("focus")
        await app.press("l", *"xxxxx", "c", "a", "g")
        await app.idle()
        assert not plots.big.logarithmic
        assert (plots.axis, plots.shade, plots.big.what) == ("steps", "test-loss", "test-loss")
        assert plots.has_class("focus") and not plots.has_class("grid")


@played
async def test_a_typed_plot_becomes_the_big_one(tmp_path):
    async with driven(tmp_path / "s", *ON, "walk --steps 5") as app:
        plots = app.app.query_one(Plots)
        await app.enter("plot angle --x gradients --log")
        assert plots.big.what == "angle"
        assert plots.big.logarithmic
        assert plots.axis == "gradients"
        assert str(plots.big.border_title).startswith("4 angle log")
        await app.enter("plot test-accuracy")
        assert (plots.big.number, plots.big.what) == (1, "test-accuracy")


@played
async def test_a_click_makes_a_plot_the_big_one():
    async with driven(None) as app:
        await app.pilot.click("#plot-path")
        assert app.app.query_one(Plots).big.what == "path"


@played
async def test_the_plots_show_where_the_walk_has_come_to(tmp_path, monkeypatch):
    monkeypatch.setattr("lsshell.projector.LEAST", 1e6)  # the end of a walk is not waited for
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(12) as at_the_end:
            with app.holding(2) as held:
                await app.enter("walk --steps 12 --measure 1 --record 1", wait=False)
                await app.until(held, "a held walk")
                await app.until(lambda: app.app.projector.latest, "a picture during the walk")
            await app.until(at_the_end, "the last step")
            await app.until(lambda: app.app._traversal.here.step == 12, "a look at it")
        await app.idle()
        here, start = app.path.here, app.path.start()
        change = 100 * (here.test_loss / start.test_loss - 1)
        assert f"{change:+.1f} %" in str(app.app.query_one("#plot-test-loss").border_title)
        assert f"{here.angle_deg:.1f}°" in str(app.app.query_one("#plot-angle").border_title)
        pca = app.app.query_one("#plot-path")
        await app.until(lambda: "of variance" in str(pca.border_title), "a projection")
        projector = app.app.projector
        await app.until(lambda: projector.latest.points[-1].step == 12, "a picture of the end")
        status = app.app.query_one(Status).render().plain
        assert "main:12" in status
        assert "|L−L*|/tol" in status


@played
async def test_question_mark_shows_keys_and_commands():
    async with driven(None) as app:
        await app.press("question_mark")
        assert isinstance(app.app.screen, Reading)
        text = str(app.app.screen._text)
        assert "one step" in text
        assert "walk  " in text
        await app.press("escape")
        assert app.app.screen is app.app._main


@played
async def test_t_changes_between_light_and_dark():
    async with driven(None) as app:
        first = app.app.current_theme.dark
        await app.press("t")
        assert app.app.current_theme.dark is not first
        await app.press("t")
        assert app.app.current_theme.dark is first


@played
async def test_a_screen_too_small_says_so_and_a_larger_one_shows_all():
    async with driven(None, size=(59, 19)) as app:
        words = app.app.query_one("#too-small", Static)
        assert words.region.area
        assert "60×20" in str(words.content)
        assert "59×19" in str(words.content)
        assert not app.app.query_one("#body").region.area
        await app.pilot.resize_terminal(60, 20)
        await app.settle()
        assert not words.region.area
        assert app.app.query_one("#body").region.area
        assert app.app.query_one("#command").region.area


@played
async def test_frames_name_the_other_panes_where_one_is_shown_at_a_time(tmp_path):
    async with driven(tmp_path / "s", *ON, size=(80, 24)) as app:
        log = app.app.query_one("#log")
        for size, names in (((80, 24), True), ((200, 50), False), ((120, 36), True)):
            await app.pilot.resize_terminal(*size)
            await app.settle()
            assert ("7 steps" in str(log.border_subtitle)) == names, size


# -- leaving -----------------------------------------------------------------------------------


@played
async def test_q_leaves_at_once_where_nothing_is_under_way(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        await app.press("escape", "6", "q")
        assert not isinstance(app.app.screen, Quit)
        await app.until(lambda: app.app._exit, "the end")
        assert app.app.return_code == 0
    assert app.session.journal is None  # closed: another process may go on with it
    assert [e.line.text for e in read_record(tmp_path / "s").entries] == list(ON)


@played
async def test_q_during_a_walk_asks_and_leaving_keeps_what_was_walked(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        with app.holding(5) as held:
            await app.enter("walk --steps 30", wait=False)
            await app.until(held, "a held walk")
            await app.press("escape", "6", "q")
            assert isinstance(app.app.screen, Quit)
            await app.press("n")
            assert app.app.screen is app.app._main
            assert app.app.worker.running is not None
            await app.press("q", "y")
            await app.until(lambda: app.app._exit, "the end")
    last = read_record(tmp_path / "s").entries[-1]
    assert last.line.text == "walk --steps 30"
    assert (last.results["steps"], last.results["reason"]) == (5, "interrupted")


@played
async def test_a_typed_quit_leaves(tmp_path):
    async with driven(tmp_path / "s", *ON) as app:
        await app.enter("quit", wait=False)
        await app.until(lambda: app.app._exit, "the end")
    assert app.session.journal is None
