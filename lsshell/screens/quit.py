"""Asks before a walk is left."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label


class Quit(ModalScreen[bool]):
    """True where the user wants to leave."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "dismiss(False)", "Stay"),
        Binding("y", "dismiss(True)", "Leave"),
        Binding("left,right", "app.focus_next", show=False),
    ]

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Label(f"{self._what} is under way.", markup=False)
            yield Label(
                "Leaving stops it at a valid point; everything so far is saved, and what is"
                " left of a walk is offered when the session is resumed.",
                classes="dim",
            )
            with Horizontal(classes="buttons"):
                yield Button("Stop and leave (y)", id="leave", variant="warning", compact=True)
                yield Button("Stay (Esc)", id="stay", compact=True)

    def on_mount(self) -> None:
        self.query_one("#stay").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "leave")
