"""The app: a session on the screen, driven by keys, mouse and commands alike."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import traceback
from collections import deque
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Input, Static

from lsshell.budget import Budget
from lsshell.printable import Printable
from lsshell.projector import Projector
from lsshell.sessions.errors import DEBUG_VARIABLE
from lsshell.sessions.plots import Traversal
from lsshell.sessions.view import View, look
from lsshell.state_folder import read_theme, write_theme
from lsshell.widgets.activity import Activity
from lsshell.widgets.branches import Branches
from lsshell.widgets.command_line import CommandLine
from lsshell.widgets.landscape import Landscape
from lsshell.widgets.log import Log
from lsshell.widgets.messages import Say, Woken
from lsshell.widgets.plots import PlotPane, Plots
from lsshell.widgets.regularizers import Regularizers
from lsshell.widgets.replayed import Replayed
from lsshell.widgets.status import Status
from lsshell.widgets.steps import Steps
from lsshell.worker import Said, Worker

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lsshell.engine.path import Path
    from lsshell.engine.projection import Projection
    from lsshell.sessions.reply import Outcome

TICK = 0.1
PATIENCE = 10.0  # seconds that a step may take to stop when the app is left
RATE_OVER = 2.0  # seconds that gradients per second are averaged over
PANES = {6: "regularizers", 7: "steps", 8: "branches", 9: "log", 0: "replayed"}
_TITLES = {"regularizers": "regularisers", "replayed": "replay"}
LEAST_SIZE = (60, 20)
ROOMY_SIZE = (120, 38)  # from which on there is room for every pane at once
# What is asked about before it is left, and measures of the landscape.
LONG = (
    "walk", "train", "compare", "source", "replay", "wander", "bridge", "regularization-path",
)  # fmt: skip
# What changes only what the landscape screen stands in the place of.
OF_THE_PANES = (
    "plot", "pane", "log_scale", "next_axis", "next_shade", "accuracy", "grid",
)  # fmt: skip
DARK, LIGHT, PLAIN = "textual-dark", "textual-light", "ansi-dark"


class Main(Screen[None]):
    """The screen under all others; nothing has the focus before there are panes."""

    AUTO_FOCUS = ""


class LsshellApp(App[int]):
    """Keys, clicks and typed lines become commands; events become pictures."""

    CSS_PATH = FilePath(__file__).with_name("lsshell.tcss")
    TITLE = "lsshell"
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [
        (0, "-too-narrow"), (LEAST_SIZE[0], "-narrow"), (ROOMY_SIZE[0], "-wide"),
        (156, "-broad"), (190, "-huge"),
    ]  # fmt: skip
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [
        (0, "-too-low"), (LEAST_SIZE[1], "-low"), (ROOMY_SIZE[1], "-high"), (46, "-tall"),
    ]  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "run", "Run"),
        Binding("p", "pause", "Pause"),
        Binding("s", "step", "Step"),
        Binding("w", "write_walk", "Walk…", show=False),
        Binding("u", "say('undo')", "Undo", show=False),
        Binding("b", "say('goto best')", "Best", show=False),
        Binding("n", "say('branch')", "New branch", show=False),
        Binding("m", "say('measure')", "Measure", show=False),
        Binding("escape", "stop", "Stop", show=False),
        Binding("ctrl+c", "stop", "Stop", show=False, priority=True),
        *(Binding(str(k), f"plot({k})", f"Plot {k}", show=False) for k in range(1, 6)),
        *(Binding(str(k), f"pane({k})", name, show=False) for k, name in PANES.items()),
        Binding("f", "fill", "Full"),
        Binding("l", "log_scale", "Log scale", show=False),
        Binding("x", "next_axis", "x axis", show=False),
        Binding("c", "next_shade", "Colour", show=False),
        Binding("a", "accuracy", "Accuracy", show=False),
        Binding("g", "grid", "Grid", show=False),
        Binding("L,f2", "landscape", "Landscape", key_display="L"),
        Binding("o", "open", "Open", show=False),
        Binding("t", "light", "Light/dark", show=False),
        # Before any pane, so that what is typed after it in one go reaches the command line.
        Binding("colon,slash", "type", "Command", key_display=":", priority=True),
        Binding("question_mark,f1", "keys", "Help", key_display="?"),
        Binding("ctrl+s", "save_as", "Save as", show=False),
        Binding("q,ctrl+q", "leave", "Quit", key_display="q"),
    ]

    def __init__(
        self,
        folder: FilePath | None = None,
        *,
        lines: tuple[str, ...] = (),
        assignments: tuple[str, ...] = (),
        welcome: bool = True,
    ) -> None:
        """`folder`: where the session goes; `lines`: what is executed first, without a welcome."""
        colourless = "NO_COLOR" in os.environ
        super().__init__(ansi_color=True if colourless else None)
        self._filters.append(Printable())
        self._plain = colourless or self.console.color_system == "standard"
        if not self._plain:
            self.set_reactive(App.theme, self._theme_to_begin())
        self.worker = Worker(lambda: self.post_message(Woken()), folder, assignments=assignments)
        self.projector = Projector()
        self._lines = lines
        self._welcome = welcome and not lines
        self._budget = Budget()
        self._seen: object = None  # what was on the screen at the last drawing
        self._dirty = True  # drawn at once, whatever it costs: the user did something
        self._view = View()
        self._traversal: Traversal | None = None
        self._rests = False  # the projection last asked for may wait until the walk has ended
        self._leaving: float | None = None
        self.crash = ""  # the traceback of what ended the app
        self.late = False  # what is under way did not stop in time
        self._walks: str | None = None  # the command under way
        self._waiting: tuple[str, ...] = ()
        self._spent: deque[tuple[float, int]] = deque()
        self._typed: deque[str] = deque(maxlen=100)
        self._used = False  # the command line knows the session
        self._left: Widget | None = None  # what had the focus before the landscape screen

    def compose(self) -> ComposeResult:
        yield Status(id="status")
        yield Container(id="body")
        yield Activity(id="activity")
        yield CommandLine(id="command")
        yield Static("", id="too-small")

    def get_default_screen(self) -> Screen[None]:
        return Main(id="_default")

    def on_mount(self) -> None:
        self._take_signals()
        if self._plain:  # the terminal's own sixteen colours, or none
            self.theme = PLAIN
        if self._welcome:
            self._show_welcome()
        self.call_after_refresh(self._begin)

    async def _begin(self) -> None:
        """After the first frame: the panes, then torch in the worker's thread."""
        await self._main.query_one("#body").mount(
            Plots(id="plots"),
            Regularizers(id="regularizers", classes="pane -shown"),
            Steps(id="steps", classes="pane"),
            Branches(id="branches", classes="pane"),
            Replayed(id="replayed", classes="pane"),
            Landscape(id="landscape"),
            Log(id="log", classes="pane"),
        )
        await self._main.mount(Footer(show_command_palette=False, compact=True))
        if self._main.focused is None:
            self._main.query_one(Regularizers).focus()
        self._name_panes()
        self.worker.start()
        if self._lines:
            self.worker.submit(*self._lines)
        self.set_interval(TICK, self._tick)

    def _take_signals(self) -> None:
        """A lost terminal, or a wish that we end, stops at a valid point."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError, AttributeError):
            loop.add_signal_handler(signal.SIGINT, self.action_stop)
            loop.add_signal_handler(signal.SIGTERM, self._leave, True)
            loop.add_signal_handler(signal.SIGHUP, self._leave, True)

    def _fatal_error(self) -> None:
        """A defect of ours ends the app: its traceback is for a file, not for the screen."""
        if DEBUG_VARIABLE in os.environ or self._exception is None:
            super()._fatal_error()
            return
        self.crash = "".join(traceback.format_exception(self._exception))
        self._close_messages_no_wait()

    # -- what is new -------------------------------------------------------------------------

    def on_woken(self) -> None:
        self._dirty = True
        self._tick()

    on_plots_wanted = on_woken

    def _tick(self) -> None:
        """Ten times a second, and when the worker has something to say."""
        if not (self.is_running and self.screen_stack):  # the app is being left
            return
        worker = self.worker
        worker.insist()
        if worker.session is not None and not self._used:
            self._used = True
            self._main.query_one(CommandLine).use(worker.session)
            self._main.query_one(Landscape).use(_measures())
        while worker.said:
            self._hear(worker.said.popleft())
        job = worker.running
        walks = job.word if job is not None else None
        waiting = worker.waiting
        if waiting != self._waiting:  # somebody has just said something
            self._waiting, self._dirty = waiting, True
        if walks != self._walks:
            self._walks = walks
            if walks is not None:
                self._main.query_one(Landscape).watch()
            self.refresh_bindings()
        seconds = int(time.monotonic() - job.began) if job is not None else 0
        pictures = (self.projector.pictures, id(worker.picture))
        seen = (worker.changes, worker.progress, pictures, seconds)
        if self._dirty or (seen != self._seen and self._budget.allows(walking=job is not None)):
            if self._dirty:
                self._budget.forgive()
            self._seen, self._dirty = seen, False
            self._main.query_one(Activity).show(worker)
            self._look(walking=job is not None)
            picture = worker.picture
            if job is not None and picture is not None and self._at_landscape:
                self._main.query_one(Landscape).show_live(job.text, picture)
        if self._leaving is not None:
            self.late = time.monotonic() - self._leaving > PATIENCE
            if worker.running is None or self.late:
                self.exit(0)

    @property
    def _main(self) -> Screen[None]:
        return self.screen_stack[0]

    def _look(self, *, walking: bool) -> None:
        """Reads the session as it stands, and draws it."""
        session = self.worker.session
        if session is None:
            return
        path = session.engine.path if session.has_engine else None
        traversal = Traversal.of(path) if path is not None else None
        view = look(session, traversal)
        main = self._main
        compared = [self.worker.compared.popleft() for _ in range(len(self.worker.compared))]
        if compared:
            main.add_class("-replay")
            main.query_one(Replayed).add(compared)
        new = traversal != self._traversal or (self._rests and not walking)
        if traversal is not None and traversal.walked and new:
            self.projector.want(session.engine, traversal, walking=walking)
            self._rests = walking
        self._traversal = traversal
        self.show(view, path, traversal, self.projector.latest, every=not walking)

    def show(
        self,
        view: View,
        path: Path | None,
        traversal: Traversal | None,
        projection: Projection | None,
        *,
        every: bool = True,
    ) -> None:
        """Puts one moment of a session on the screen; see `Plots.show` for `every`."""
        self._view = view
        main = self._main
        main.query_one(Status).show(view, self._rate(view), ready=self.worker.ready)
        main.query_one(Regularizers).view = view
        main.query_one(Steps).show_traversal(traversal, view)
        main.query_one(Branches).show_path(path, walking=not every)
        main.query_one(Plots).show(traversal, projection, view, every=every)
        main.query_one(Landscape).look(loaded=view.loaded)

    def _rate(self, view: View) -> float:
        """Gradients a second, lately."""
        now = time.monotonic()
        if self.worker.running is None or (self._spent and view.gradients < self._spent[-1][1]):
            self._spent.clear()
            return 0.0
        self._spent.append((now, view.gradients))
        while now - self._spent[0][0] > RATE_OVER and len(self._spent) > 2:
            self._spent.popleft()
        (first, before), (last, spent) = self._spent[0], self._spent[-1]
        return (spent - before) / (last - first) if last > first else 0.0

    def _hear(self, said: Said) -> None:
        """Puts an outcome where it belongs."""
        main = self._main
        main.query_one(Log).say(said)
        outcome = said.outcome
        if outcome is None:
            if said.error:
                self.notify(said.notice, severity="error", timeout=8, markup=False)
            return
        self._dirty = True
        if outcome.command == "reg" and not (outcome.ok and self._more_to_switch(outcome)):
            main.query_one(Regularizers).forget_asked()
        if outcome.failure is not None:
            main.query_one(Landscape).end_live()
            if outcome.line.text in self._typed:
                main.query_one(CommandLine).show_failure(outcome.failure)
            else:
                title, message = outcome.command, outcome.failure.message
                self.notify(message, title=title, severity="error", markup=False)
            return
        reply = outcome.reply
        if reply is None:
            return
        if reply.quits:
            self.action_leave()
        if outcome.command == "plot" and reply.figure is not None:
            values = reply.values
            main.query_one(Plots).choose(
                values["plot"], values["x"], values["colour"], log=values["log"]
            )
        elif _measures_landscape(outcome.command):
            self._show_measured(outcome, said.at)
        elif outcome.command in ("help", "measure", "path", "compare", "history", "status"):
            self._answer(outcome.line.text, reply.text)
        elif self._at_landscape and not main.query_one(Log).display and reply.text:
            self.notify(reply.text.partition("\n")[0], title=outcome.command, markup=False)
        if outcome.command in ("new", "resume"):
            main.query_one(Landscape).forget()

    def _show_measured(self, outcome: Outcome, at: str) -> None:
        """What a measure gave goes to the landscape screen; elsewhere, where it is to be seen."""
        landscape = self._main.query_one(Landscape)
        landscape.add(outcome, at, shown=self._at_landscape)
        typed = outcome.line.text in self._typed
        if typed and not self._at_landscape and outcome.reply and outcome.reply.figure is not None:
            words = "the figure is on the landscape screen: L or F2"
            self.notify(words, title=outcome.command, timeout=6)

    def _more_to_switch(self, outcome: Outcome) -> bool:
        """Whether another `reg` is under way or waits."""
        job = self.worker.running
        under_way = (job.text,) if job is not None and job.text != outcome.line.text else ()
        return any(line.startswith("reg ") for line in (*under_way, *self.worker.waiting))

    def _answer(self, title: str, text: str) -> None:
        """Shows an answer that the log has no room for."""
        from lsshell.screens.reading import Reading

        log = self._main.query_one(Log)
        if not log.display or text.count("\n") >= log.content_size.height:
            self.push_screen(Reading(title, text))

    # -- commands ----------------------------------------------------------------------------

    def on_say(self, event: Say) -> None:
        if event.typed:
            self._typed.extend(event.lines)
        self.say(*event.lines, at_once=not event.typed)

    def say(self, *lines: str, at_once: bool = True) -> None:
        """Executes lines as if they had been typed; see `Worker.submit`."""
        if any(line.startswith("replay") for line in lines):
            self._main.query_one(Replayed).clear()
        self.worker.submit(*lines, at_once=at_once)
        self._tick()

    def action_say(self, line: str) -> None:
        self.say(line)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What makes no sense now is neither done nor in the footer."""
        if action in ("run", "step", "write_walk"):
            return self.worker.idle
        if action == "pause":
            return self.worker.walking
        if action == "type":  # where one types already, it is a character like any other
            return self.screen is self._main and not isinstance(self.focused, Input)
        return action not in OF_THE_PANES or not self._at_landscape

    def action_run(self) -> None:
        self.worker.run()

    def action_step(self) -> None:
        self.worker.step()

    def action_pause(self) -> None:
        self.worker.pause()

    def action_stop(self) -> None:
        if self._main.has_class("-full") and self.screen is self._main and self.worker.idle:
            self.action_fill()
        elif not self.worker.idle:
            self.worker.stop()
            self._main.query_one(Regularizers).forget_asked()

    def on_landscape_write(self, event: Landscape.Write) -> None:
        self._main.query_one(CommandLine).prefill(event.line, event.offer)

    def action_type(self) -> None:
        self._main.set_focus(self._main.query_one(CommandLine).input)

    def action_write_walk(self) -> None:
        line = self.worker.rest or self.worker.last_walk
        self._main.query_one(CommandLine).prefill(line if " " in line else f"{line} --steps 400")

    # -- the screen --------------------------------------------------------------------------

    def action_plot(self, number: int) -> None:
        plots = self._main.query_one(Plots)
        plots.pick(number)
        self._fill_with(plots)
        plots.big.focus()

    def action_pane(self, number: int) -> None:
        name = PANES[number]
        main = self._main
        if name in ("replayed", "branches"):
            if name == "replayed" and not main.query_one(Replayed).count():
                self.notify("no replay yet: replay FOLDER runs a session again", timeout=4)
                return
            main.set_class(name == "replayed", "-replay")
        self._fill_with(main.query_one(f"#{name}"))
        for pane in main.query(".pane"):
            pane.set_class(pane.id == name, "-shown")
        self._name_panes()
        main.query_one(f"#{name}").focus()

    def _name_panes(self) -> None:
        """Where one pane is shown at a time, its frame names the others."""
        # By its size: on a resize, the screen's classes are still those of the size before.
        one = self.size.width < ROOMY_SIZE[0] or self.size.height < ROOMY_SIZE[1]
        for number, name in PANES.items():
            pane = self._main.query_one(f"#{name}")
            others = [
                f"[@click=app.pane({k})]{k} {_TITLES.get(word, word)}[/]"
                for k, word in PANES.items()
                if k and k != number
            ]
            pane.border_subtitle = "  ".join(others) if one else ""

    @property
    def _at_landscape(self) -> bool:
        """Whether the landscape screen stands in the place of the panes."""
        return bool(self.screen_stack) and self._main.has_class("-landscape")

    def action_landscape(self) -> None:
        main = self._main
        if self.screen is not main or not main.query(Landscape):  # behind a question, or too early
            return
        if self._at_landscape:
            main.remove_class("-landscape", "-picture")
            main.query_one(Landscape).pane.fill(False)
            main.set_focus(self._left if self._left is not None and self._left.display else None)
        else:
            if main.has_class("-full"):
                self.action_fill()
            self._left = self.focused
            self.clear_notifications()  # "the figure is on the landscape screen": so it is
            main.add_class("-landscape")
            main.query_one(Landscape).enter(live=self.worker.picture is not None)
        self._dirty = True
        self.call_after_refresh(self._tick)

    def action_landscape_back(self) -> None:
        """Stops the measure under way; else gives the figure's room back, or leaves the screen."""
        job = self.worker.running
        if job is not None and _measures_landscape(job.word):
            self.worker.stop()
        elif self._main.has_class("-picture"):
            self.action_fill()
        else:
            self.action_landscape()

    def action_fill(self) -> None:
        main, focused = self._main, self.focused
        if self._at_landscape:
            main.toggle_class("-picture")
            main.query_one(Landscape).fill(main.has_class("-picture"))
            return
        main.toggle_class("-full")
        pane = focused if focused is not None and focused.has_class("pane") else None
        if isinstance(focused, PlotPane):
            main.query_one(Plots).pick(focused.number)
        self._fill_with(pane or main.query_one(Plots))

    def _fill_with(self, pane: Widget) -> None:
        """Where one pane fills the body, this one does."""
        for other in self._main.query("#body > *"):
            other.set_class(other is pane and self._main.has_class("-full"), "-filled")
        self._dirty = True
        self.call_after_refresh(self._tick)

    def action_log_scale(self) -> None:
        self._main.query_one(Plots).toggle_log()

    def action_next_axis(self) -> None:
        self._main.query_one(Plots).next_axis()

    def action_next_shade(self) -> None:
        self._main.query_one(Plots).next_shade()

    def action_accuracy(self) -> None:
        self._main.query_one(Plots).toggle_accuracy()

    def action_grid(self) -> None:
        self._main.query_one(Plots).toggle_grid()

    def _theme_to_begin(self) -> str:
        """The one chosen last."""
        remembered = read_theme()
        return remembered if remembered in self.available_themes else self.theme

    def action_light(self) -> None:
        self.theme = LIGHT if self.current_theme.dark else DARK

    def watch_theme(self, before: str, now: str) -> None:
        if now != PLAIN and self.is_running:
            write_theme(now)

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        least = "×".join(map(str, LEAST_SIZE))
        self._main.query_one("#too-small", Static).update(
            f"lsshell needs {least} characters;\nthis terminal has {width}×{height}."
        )
        if self._main.query(Footer):
            self.call_after_refresh(self._name_panes)
        self._dirty = True

    def action_keys(self) -> None:
        from lsshell.screens.keys import help_text
        from lsshell.screens.reading import Reading

        commands = ""
        if self.worker.session is not None:
            from lsshell.sessions.commands import VOCABULARY

            commands = VOCABULARY.help(None)
        self.push_screen(Reading("help", help_text(commands)))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield from super().get_system_commands(screen)
        yield SystemCommand("Welcome", "the first screen: demo, open, resume", self._show_welcome)
        yield SystemCommand("New …", "choose data and network", self._show_setup)
        yield SystemCommand("Open …", "a checkpoint, data, a script, a session", self.action_open)
        yield SystemCommand("Save session as …", "in a folder of your choice", self.action_save_as)
        yield SystemCommand("Landscape", "measures around the path", self.action_landscape)
        yield SystemCommand("Run", "the rest of a paused walk, or another", self.action_run)
        if self.worker.session is not None:
            from lsshell.sessions.commands import VOCABULARY

            for name in VOCABULARY.commands:
                yield SystemCommand(
                    name,
                    VOCABULARY.summary(name),
                    lambda name=name: self._main.query_one(CommandLine).prefill(f"{name} "),
                )

    # -- opening, saving, leaving ------------------------------------------------------------

    def _show_welcome(self) -> None:
        from lsshell.screens.welcome import Welcome
        from lsshell.sessions.journal import sessions_root
        from lsshell.sessions.saved import saved_sessions

        self.push_screen(Welcome(saved_sessions(sessions_root(), 6)), self._chosen)

    def _chosen(self, what: str | None) -> None:
        if what == "demo":
            self.action_demo()
        elif what == "new":
            self._show_setup()
        elif what == "open":
            self.action_open()
        elif what:
            from lsshell.sessions.saved import quoted

            self.say(f"resume {quoted(FilePath(what.removeprefix('resume ')))}")

    def action_demo(self) -> None:
        """The bundled demo, its lines one by one, so that clicks find their place among them."""
        text = (FilePath(__file__).parent / "bundled" / "demo.lss").read_text()
        self._begin_anew(*(t for t in text.splitlines() if t and not t.startswith("#")))

    def _begin_anew(self, *lines: str) -> None:
        """Lines that set everything up: in a session of their own."""
        session = self.worker.session
        begun = session is not None and session.journal is not None
        self.say(*(("new",) if begun else ()), *lines)

    def _show_setup(self, checkpoint: str = "") -> None:
        from lsshell.screens.setup import Setup

        self.push_screen(
            Setup(checkpoint), lambda lines: self._begin_anew(*lines) if lines else None
        )

    def action_open(self) -> None:
        from lsshell.screens.opening import open_picker

        self.push_screen(open_picker(), self._open)

    def _open(self, path: FilePath | None) -> None:
        from lsshell.sessions.saved import CHECKPOINTS, lines_to_open

        if path is None:
            return
        has_data = bool(self._view.data)
        try:
            lines = lines_to_open(path, has_data=has_data)
        except ValueError as e:
            self.notify(str(e), severity="error", markup=False)
            return
        self._typed.extend(lines)  # one that fails comes to the command line, to be completed
        if path.suffix in CHECKPOINTS and not has_data and len(lines) == 1:
            self._show_setup(lines[0].removeprefix("load "))  # it does not say what it was made on
        elif path.suffix == ".lss" and lines[0].startswith("source "):
            self._begin_anew(*lines)
        else:
            self.say(*lines)

    def action_save_as(self) -> None:
        from lsshell.screens.opening import save_picker
        from lsshell.sessions.saved import quoted

        self.push_screen(
            save_picker("my-session"),
            lambda path: self.say(f"save-as {quoted(path)}") if path is not None else None,
        )

    def action_leave(self) -> None:
        from lsshell.screens.quit import Quit

        job = self.worker.running
        if job is not None and (job.word in LONG or _measures_landscape(job.word)):
            self.push_screen(Quit(f"`{job.text}`"), self._leave)
        else:
            self._leave(True)

    async def action_quit(self) -> None:
        """The palette's Quit asks as ours does."""
        self.action_leave()

    def _leave(self, really: bool | None) -> None:
        """Leaves as soon as what is under way has stopped, or does not in a reasonable time."""
        if really:
            self._leaving = time.monotonic()
            self.worker.stop()
            self._tick()


def _measures() -> list[tuple[str, str]]:
    """Commands that measure the landscape, with their summaries."""
    from lsshell.sessions.commands import VOCABULARY

    return [
        (c.name, VOCABULARY.summary(c.name))
        for c in VOCABULARY.commands.values()
        if c.kind == "landscape"
    ]


def _measures_landscape(word: str) -> bool:
    """Whether a command is one of those; asked only once there is a session."""
    from lsshell.sessions.commands import VOCABULARY

    return word in VOCABULARY.commands and VOCABULARY.commands[word].kind == "landscape"
