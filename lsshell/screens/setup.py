"""Data and network for someone who starts with nothing."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static

BUNDLED = ("iris", "digits", "mpg", "mnist-5k")
# What suits which data: network, training examples ("" for all), epochs.
SUITED = {
    "iris": ("iris-ff", "", "100"),
    "digits": ("mlp 64-64-10", "1000", "100"),
    "mpg": ("mpg-ff", "", "100"),
    "mnist-5k": ("mnist-ff", "1000", "100"),
}


class Setup(ModalScreen[tuple[str, ...]]):
    """Gives back the lines that set up what was chosen, or none."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(())", "Cancel")]

    def __init__(self, checkpoint: str = "") -> None:
        super().__init__()
        self._checkpoint = checkpoint

    def compose(self) -> ComposeResult:
        with Vertical(id="setup", classes="dialog") as box:
            box.border_title = "What to walk on"
            with Grid(id="fields"):
                yield Label("data")
                yield Select(
                    [(n, n) for n in BUNDLED],
                    value="mnist-5k", allow_blank=False, compact=True, id="data",
                )  # fmt: skip
                yield Label("training examples")
                yield Input("1000", placeholder="all", id="examples", type="integer", compact=True)
                yield Label("network")
                yield Input("mnist-ff", id="network", compact=True)
                yield Label("epochs, or checkpoint")
                yield Input(self._checkpoint or "100", id="start", compact=True)
                yield Label("seed")
                yield Input("0", id="seed", type="integer", compact=True)
            yield Label(
                "network: also mlp 784-100-10, cnn 20-20-d100, module:factory", classes="dim"
            )
            yield Static("", id="preview", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Go", id="go", variant="primary", compact=True)
                yield Button("Cancel (Esc)", id="cancel", compact=True)

    def on_mount(self) -> None:
        self._preview()

    @property
    def lines(self) -> tuple[str, ...]:
        """The commands that do what stands in the form."""
        data = str(self.query_one("#data", Select).value)
        examples, network, start, seed = (
            self.query_one(f"#{name}", Input).value.strip()
            for name in ("examples", "network", "start", "seed")
        )
        count = f" --train {examples}" if examples else ""
        begin = f"train --epochs {start}" if start.isdecimal() else f"load {start}"
        return (
            f"seed {seed or 0}",
            f"data {data}{count}",
            f"model {network}",
            *([begin] if start and start != "0" else ()),
            "level",
        )

    def _preview(self) -> None:
        self.query_one("#preview", Static).update("\n".join(self.lines))

    @on(Select.Changed)
    def _suit(self, event: Select.Changed) -> None:
        network, examples, epochs = SUITED[str(event.value)]
        self.query_one("#network", Input).value = network
        self.query_one("#examples", Input).value = examples
        if not self._checkpoint:
            self.query_one("#start", Input).value = epochs
        self._preview()

    @on(Input.Changed)
    def _changed(self) -> None:
        self._preview()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.dismiss(self.lines)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(self.lines if event.button.id == "go" else ())
