"""What the app looks like: pictures of one moment made by hand, the same on every machine.

`pytest --snapshot-update` draws them anew, in tests/lsshell/__snapshots__; look at them first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest
import torch
from textual.pilot import Pilot
from textual.widgets import Footer

from lsshell.app import LsshellApp
from lsshell.engine.path import Path as WalkedPath
from lsshell.engine.path import Point
from lsshell.engine.projection import Projection
from lsshell.engine.regularizers import REGULARIZERS
from lsshell.figures.figure import Figure, Series, Surface
from lsshell.sessions.language import Line
from lsshell.sessions.plots import Traversal
from lsshell.sessions.reply import Outcome, Reply
from lsshell.sessions.saved import SavedSession
from lsshell.sessions.session import Session
from lsshell.sessions.view import RegularizerView, View, values_at_the_ends
from lsshell.widgets.command_line import CommandLine
from lsshell.widgets.figure_view import FigureView
from lsshell.widgets.landscape import Landscape
from lsshell.widgets.log import Log
from lsshell.worker import Said

LEVEL, TOLERANCE = 0.25, 0.0025
SIZES = [(80, 24), (120, 40), (200, 60)]
THEMES = ["textual-dark", "textual-light"]
SAID = (
    ("data mnist-5k --train 1000", "mnist-5k: 1000 training and 1000 test examples of 1×28×28"),
    ("load mnist-ff.safetensors", "training loss 0.25, test loss 0.75, test accuracy 87.50 %"),
    ("level", "L* = 0.25, tolerance 0.0025; test loss 0.75"),
    ("reg l2 on", "l2 is on: 480, weight 1  (Σ θ²)"),
    ("walk --steps 40", "40 steps taken: 40 steps, 520 gradients"),
)


class Still(LsshellApp):
    """The app at one moment: nothing works behind it."""

    async def _begin(self) -> None:
        self.worker.start = lambda: None
        await super()._begin()


def test_every_picture_is_of_its_own_moment() -> None:
    """The curves below are what they are by arithmetic that no machine rounds otherwise."""
    path = walked()
    assert path.here is path.points[46]
    assert max(abs(p.loss - LEVEL) for p in path.points.values()) <= TOLERANCE
    traversal = Traversal.of(path)
    assert traversal is not None
    assert [len(line) for line in traversal.lines.values()] == [41, 12]
    assert len(traversal.ahead) == 5


def point(index: int, step: int, branch: str, parent: int | None, gain: float) -> Point:
    """Step `step` of a walk whose test loss falls to `gain` of what can be gained."""
    measured = step % 2 == 0
    done = step / (step + 10.0)
    values = {"l2": 480.0 * (1.0 - 0.5 * done)}
    if measured:
        values |= {
            "l2-weights": 400.0 * (1.0 - 0.5 * done),
            "l1": 1600.0 * (1.0 - 0.375 * done),
            "group": 320.0 * (1.0 - 0.25 * done),
            "path-norm": 64.0 * (1.0 - 0.625 * done),
            "distance": 0.5 * step,
        }
    return Point(
        index=index,
        parent=parent,
        branch=branch,
        kind="step" if step else "level",
        step=step,
        loss=LEVEL + TOLERANCE * (step * 7 % 9 - 4) / 8.0,
        level=LEVEL,
        tolerance=TOLERANCE,
        test_loss=0.75 - gain * done if measured else None,
        test_accuracy=0.875 + gain * done / 8.0 if measured else None,
        test_rmse=None,
        regularizers=values,
        angle_deg=95.0 + 80.0 * done,
        implied_weight_decay=None,
        gradients=13 * step,
        distance=0.5 * step,
        length=0.625 * step,
        kept=True,
    )


def walked() -> WalkedPath:
    """40 steps, then from step 10 another branch of 11, and six steps on it back again."""
    path = WalkedPath()
    path.restore(point(0, 0, "main", None, 0.25))
    for step in range(1, 41):
        path.restore(point(step, step, "main", step - 1, 0.25))
    for step in range(11, 22):
        path.restore(point(30 + step, step, "main-2", 10 if step == 11 else 29 + step, 0.375))
    path.here = path.points[46]
    return path


def projected(path: WalkedPath) -> Projection:
    """Both branches as parabolas."""
    points = tuple(path.points.values())
    xy = [
        (p.step / 8.0, (1.0 if p.branch == "main" else -1.0) * p.step * (40 - p.step) / 512.0)
        for p in points
    ]
    return Projection(points, torch.tensor(xy), torch.tensor([0.875, 0.0625]))


def view(path: WalkedPath, traversal: Traversal) -> View:
    first, last = values_at_the_ends(traversal)
    weights = {"l2": 1.0, "path-norm": 0.02}
    return View(
        checkpoint="mnist-ff.safetensors",
        network="mnist-ff",
        parameters=89610,
        data="mnist-5k --train 1000",
        device="cuda:0",
        dtype="float32",
        memory=(3 << 29, 16 << 30),
        session="sessions/2026-01-02-session",
        level=LEVEL,
        tolerance=TOLERANCE,
        gradients=1234,
        here=path.here,
        tested=traversal.tested,
        regularizers=tuple(
            RegularizerView(name, kind.formula, weights.get(name), last.get(name), first.get(name))
            for name, kind in REGULARIZERS.items()
        ),
    )


@pytest.fixture(autouse=True)
def plain_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a terminal, a user or an earlier session would bring along."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LSSHELL_SESSIONS", str(tmp_path / "sessions"))
    monkeypatch.chdir(tmp_path)


async def begun(pilot: Pilot[int]) -> None:
    """Waits until all panes are there: the footer is the last."""
    app = pilot.app
    assert isinstance(app, Still)
    while not app._main.query(Footer):
        await pilot.pause()
    app.on_woken()
    await pilot.pause()


def shown(theme: str) -> Callable[[Pilot[int]], Awaitable[None]]:
    """Puts the moment on the screen."""

    async def show(pilot: Pilot[int]) -> None:
        app = pilot.app
        assert isinstance(app, Still)
        await begun(pilot)
        app.theme = theme
        app.worker.ready = True
        app.on_woken()
        app.query_one(CommandLine).use(Session(record=False))
        for number, (text, answer) in enumerate(SAID, start=1):
            line = Line("<app>", number, text)
            outcome = Outcome(line, text.split()[0], 0.0, reply=Reply(text=answer))
            app.query_one(Log).say(Said(outcome))
        await pilot.pause()
        path = walked()
        traversal = Traversal.of(path)
        assert traversal is not None
        app.show(view(path, traversal), path, traversal, projected(path))
        await pilot.pause()

    return show


def pressed(*keys: str, theme: str = THEMES[0]) -> Callable[[Pilot[int]], Awaitable[None]]:
    """The moment, and some keys after it."""
    before = shown(theme)

    async def press(pilot: Pilot[int]) -> None:
        await before(pilot)
        await pilot.press(*keys)
        await pilot.pause()

    return press


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_the_main_screen_after_a_walk(snap_compare, size, theme) -> None:
    app = Still(welcome=False)
    assert snap_compare(app, terminal_size=size, run_before=shown(theme))


def surveyed() -> Reply:
    """What a measure of a plane may give: a saddle, a walk over it, and a table."""
    axis = tuple(k / 8.0 for k in range(-8, 9))
    z = tuple(tuple(x * x - y * y + 1.0 for x in axis) for y in axis)
    walk = Series("walk", axis, tuple(x * x / 2.0 for x in axis))
    surface = Surface(axis, axis, z, "loss", contours=(("L*", 1.25),))
    figure = Figure("loss around here", "along u", "along v", (walk,), surface=surface)
    rows = "\n".join(f"{k:>3}  {k / 8.0:.4f}" for k in range(4))
    return Reply(text=f"  k    loss\n{rows}", figure=figure)


def test_the_landscape_screen(snap_compare, monkeypatch) -> None:
    monkeypatch.setattr("lsshell.widgets.landscape._time", lambda when: "10:30")
    monkeypatch.setattr("lsshell.hints.page", lambda name: "")
    before = shown(THEMES[0])

    async def landscape(pilot: Pilot[int]) -> None:
        await before(pilot)
        app = pilot.app
        assert isinstance(app, Still)
        await pilot.press("L")
        landscape = app.query_one(Landscape)
        landscape.use([("kernel", "Take the spectrum of the tangent kernel."),
                       ("slice", "Draw the loss along a line or over a plane.")])  # fmt: skip
        line = Line("<app>", 9, "slice here --points 17")
        landscape.add(Outcome(line, "slice", 12.0, reply=surveyed()), "main:40", shown=True)
        view = landscape.query_one(FigureView)
        await pilot.pause()
        while view.drawn != (landscape.pane.figure, *view.content_size):
            await pilot.pause()
        await pilot.press("tab")

    assert snap_compare(Still(welcome=False), terminal_size=(120, 40), run_before=landscape)


def test_the_welcome_screen(snap_compare, monkeypatch) -> None:
    at = datetime(2026, 1, 2, 10, 30).timestamp()
    saved = [
        SavedSession(Path("sessions/2026-01-02-session"), at, "walk --steps 400"),
        SavedSession(Path("sessions/2026-01-01-iris"), at - 3600.0, "goto best"),
    ]
    monkeypatch.setattr("lsshell.sessions.saved.saved_sessions", lambda root, most: saved)
    monkeypatch.setattr("lsshell.screens.welcome.__version__", "1.2.3")
    assert snap_compare(Still(), terminal_size=(120, 40), run_before=begun)


def test_the_help(snap_compare) -> None:
    app = Still(welcome=False)
    assert snap_compare(app, terminal_size=(120, 40), run_before=pressed("question_mark"))


def test_the_setup_form(snap_compare) -> None:
    async def form(pilot: Pilot[int]) -> None:
        await begun(pilot)
        await pilot.press("n")
        await pilot.pause()

    assert snap_compare(Still(), terminal_size=(120, 40), run_before=form)
