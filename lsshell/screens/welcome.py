"""The first screen: the demo, a file, a session, or a clean start."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Label, OptionList
from textual.widgets.option_list import Option

from lsshell import __version__
from lsshell.sessions.saved import SavedSession

TITLE = "Walk along the level set of a network's training loss"


class Welcome(ModalScreen[str]):
    """Gives back `demo`, `open`, `new`, `resume FOLDER`, or nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Start empty"),
        Binding("q", "app.leave", show=False),
        Binding("d", "choose('demo')", show=False),
        Binding("o", "choose('open')", show=False),
        Binding("n", "choose('new')", show=False),
    ]

    def __init__(self, saved: list[SavedSession]) -> None:
        super().__init__()
        self._saved = saved

    def compose(self) -> ComposeResult:
        options = [
            _option("demo", "Demo", "walk a trained network along its level set (d)"),
            _option("new", "New", "choose data and network, train or load (n)"),
            _option("open", "Open", "a checkpoint, data, a script or a session (o)"),
        ]
        resumed = [
            _option(f"resume {s.folder}", "Resume", f"{s.folder.name}  {_when(s)}  {s.last}")
            for s in self._saved
        ]
        with Vertical(id="welcome", classes="dialog"):
            yield Label(
                Content.assemble(("lsshell ", "bold $accent"), (__version__, "$text-muted"))
            )
            yield Label(TITLE, classes="dim")
            yield OptionList(*options, *resumed, id="choices", compact=True)
            yield Label(
                Content.assemble(
                    ("Enter", "bold"), " chooses  ", ("Esc", "bold"), " starts empty  ",
                    ("?", "bold"), " shows the keys, any time",
                ), classes="dim",
            )  # fmt: skip

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)

    def action_choose(self, what: str) -> None:
        self.dismiss(what)

    def action_leave(self) -> None:
        self.dismiss("")


def _option(what: str, name: str, words: str) -> Option:
    return Option(Content.assemble((f" {name:<8}", "bold"), (words, "$text-muted")), id=what)


def _when(saved: SavedSession) -> str:
    return f"{datetime.fromtimestamp(saved.changed):%H:%M}"
