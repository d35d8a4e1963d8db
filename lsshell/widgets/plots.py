"""The plots: one big and the others small beneath it, a grid, or one alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from lsshell.sessions.plots import (
    NOT_RELATIVE,
    Axis,
    Plot,
    Shade,
    Traversal,
    curve_figure,
    path_figure,
)
from lsshell.sessions.tables import number
from lsshell.sessions.view import View
from lsshell.widgets.ansi_strips import strips

if TYPE_CHECKING:
    from lsshell.engine.projection import Projection
    from lsshell.figures.figure import Figure

PANES: tuple[Plot, ...] = ("test-loss", "regularizers", "loss", "angle", "path")
NAMES: dict[str, str] = {
    "test-loss": "test loss",
    "test-accuracy": "test accuracy",
    "regularizers": "regularisers",
    "loss": "residual",
    "angle": "angle",
    "path": "path (PCA)",
}
# In a small frame what it has come to matters more than its name.
_SHORT = NAMES | {"test-loss": "test", "test-accuracy": "", "regularizers": "", "path": "path"}
_AXES: tuple[Axis, ...] = get_args(Axis)
_EMPTY = "nothing has been walked yet"


class PlotPane(Widget, can_focus=True):
    """One plot in a frame; a click makes it the big one."""

    class Picked(Message):
        """It was clicked."""

        def __init__(self, pane: PlotPane) -> None:
            super().__init__()
            self.pane = pane

    def __init__(self, number_: int, what: Plot) -> None:
        super().__init__(id=f"plot-{what}")
        self.number = number_
        self.what: Plot = what
        self.logarithmic = False
        self._figure: Figure | None = None
        self._strips: list[Strip] = []
        self._empty = _EMPTY

    @property
    def big(self) -> bool:
        return self.has_class("big")

    def draw(self, figure: Figure | None, latest: str, empty: str = _EMPTY) -> None:
        """Draws a figure; `latest`, in the title, is where the curve has come to."""
        self._figure, self._empty = figure, empty
        log = " log" if self.logarithmic else ""
        name = NAMES[self.what] if self.big or not latest else _SHORT[self.what]
        self.border_title = "  ".join(filter(None, (f"{self.number} {name}{log}".strip(), latest)))
        self._render_strips()
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        self._render_strips()

    def _render_strips(self) -> None:
        width, height = self.content_size
        if self._figure is None or width < 12 or height < 4:
            self._strips = []
            return
        from lsshell.figures.text import draw_text

        figure = replace(self._figure, title="")
        colour, bare = not self.app.no_color, height < 12 or width < 50
        self._strips = strips(draw_text(figure, width, height, colour=colour, bare=bare))

    def render_line(self, y: int) -> Strip:
        base, width = self.rich_style, self.content_size.width
        if y < len(self._strips):
            return self._strips[y].apply_style(base).adjust_cell_length(width, base)
        if not self._strips and y == self.content_size.height // 2:
            return Strip(Text(f"{self._empty:^{width}}"[:width], "dim").render(self.app.console)
            ).apply_style(base).adjust_cell_length(width, base)  # fmt: skip
        return Strip.blank(width, base)

    def on_click(self) -> None:
        self.post_message(self.Picked(self))


class Plots(Container):
    """The five plots, drawn when the app has time for it."""

    DEFAULT_CLASSES = "focus"

    axis: reactive[Axis] = reactive[Axis]("steps")
    shade: reactive[Shade] = reactive[Shade]("test-loss")

    class Wanted(Message):
        """Something has to be drawn anew."""

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.panes = [PlotPane(k, what) for k, what in enumerate(PANES, start=1)]
        self.panes[0].add_class("big")
        self._turn = 0

    def compose(self) -> ComposeResult:
        yield Static(id="plot-tabs")
        yield from self.panes

    def on_mount(self) -> None:
        self._show_tabs()

    @property
    def big(self) -> PlotPane:
        return next(p for p in self.panes if p.big)

    @property
    def on_screen(self) -> Iterator[PlotPane]:
        """The panes that can be seen."""
        return (p for p in self.panes if p.display and p.region.area)

    def pick(self, number_: int) -> None:
        """Makes plot 1 … 5 the big one."""
        for pane in self.panes:
            pane.set_class(pane.number == number_, "big")
        self._show_tabs()
        self.post_message(self.Wanted())

    def choose(self, what: Plot, axis: Axis, shade: Shade, *, log: bool) -> None:
        """Shows what a `plot` command asked for."""
        pane = self.panes[PANES.index("test-loss" if what == "test-accuracy" else what)]
        pane.what, pane.logarithmic = what, log
        self.axis, self.shade = axis, shade
        self.pick(pane.number)

    def _show_tabs(self) -> None:
        parts: list[str | tuple[str, str]] = []
        for pane in self.panes:
            style = "reverse" if pane.big else "$text-muted"
            parts += [
                (f" {pane.number} {NAMES[pane.what]} ", f"{style} @click=app.plot({pane.number})")
            ]
        self.query_one("#plot-tabs", Static).update(Content.assemble(*parts))

    def on_plot_pane_picked(self, event: PlotPane.Picked) -> None:
        self.pick(event.pane.number)

    # -- what keys change --------------------------------------------------------------------

    def toggle_log(self) -> None:
        """A logarithmic scale for the big plot, or none."""
        self.big.logarithmic = not self.big.logarithmic and self.big.what != "path"
        self.post_message(self.Wanted())

    def next_axis(self) -> None:
        """Steps, gradients, path length, ‖θ‖²."""
        self.axis = _AXES[(_AXES.index(self.axis) + 1) % len(_AXES)]
        self.post_message(self.Wanted())

    def next_shade(self) -> None:
        """The path's colour: by test loss or by step."""
        self.shade = "step" if self.shade == "test-loss" else "test-loss"
        self.post_message(self.Wanted())

    def toggle_accuracy(self) -> None:
        """Test loss or test accuracy (RMSE) in the first plot."""
        pane = self.panes[0]
        pane.what = "test-accuracy" if pane.what == "test-loss" else "test-loss"
        self._show_tabs()
        self.post_message(self.Wanted())

    def toggle_grid(self) -> None:
        """All alike, or one big."""
        self.toggle_class("grid", "focus")
        self.post_message(self.Wanted())

    # -- drawing -----------------------------------------------------------------------------

    def show(
        self,
        traversal: Traversal | None,
        projection: Projection | None,
        view: View,
        *,
        every: bool = True,
    ) -> None:
        """Draws what can be seen; without `every`, the big plot and, in turn, one of the others."""
        panes = list(self.on_screen)
        if not every and any(p.big for p in panes):
            others = [p for p in panes if not p.big]
            self._turn += 1
            panes = [p for p in panes if p.big] + others[self._turn % max(len(others), 1) :][:1]
        for pane in panes:
            if traversal is None or not traversal.walked:
                pane.draw(None, "")
                continue
            if pane.what == "path":
                self._draw_path(pane, traversal, projection)
            else:
                self._draw_curve(pane, traversal, view)

    def _draw_path(
        self, pane: PlotPane, traversal: Traversal, projection: Projection | None
    ) -> None:
        known = projection is not None and projection.points[0].index == traversal.start.index
        if not known or projection is None:
            pane.draw(None, "", "two kept points make a path")
            return
        share = 100 * float(projection.explained.sum())
        figure = path_figure(traversal, projection, self.shade)
        pane.draw(figure, f"{share:.1f} % of variance")

    def _draw_curve(self, pane: PlotPane, traversal: Traversal, view: View) -> None:
        most = 2 * max(pane.content_size.width, 20)  # a braille character is two dots wide
        start = self._relative_to(pane, view) if pane.what == "regularizers" else {}
        if pane.what == "regularizers" and not start:
            pane.draw(None, "", "no regulariser is above 0 at the start")
            return
        assert pane.what != "path"
        figure = curve_figure(
            traversal,
            pane.what,
            self.axis,
            log=pane.logarithmic,
            start=start,
            since=view.since,
            most=most,
        )
        if not any(s.x for s in figure.series):
            pane.draw(None, "", "nothing here to draw")
            return
        pane.draw(figure, _latest(pane, traversal, view))

    def _relative_to(self, pane: PlotPane, view: View) -> dict[str, float]:
        """Those that are on; in the big plot, after them, all others."""
        first = {r.name: r.first for r in view.regularizers if r.first is not None}
        on = [name for name in view.weights if name in first]
        names = on if on and not pane.big else [*on, *(n for n in first if n not in on)]
        return {n: first[n] for n in names if first[n] > 0 and n not in NOT_RELATIVE}


def _latest(pane: PlotPane, traversal: Traversal, view: View) -> str:
    here, start = traversal.here, traversal.start
    if pane.what == "test-loss":
        tested = traversal.tested
        if tested is None or tested.test_loss is None or not start.test_loss:
            return ""
        change = 100 * (tested.test_loss / start.test_loss - 1)
        return f"{number(tested.test_loss)}  {change:+.1f} %"
    if pane.what == "test-accuracy":
        tested = traversal.tested or here
        if tested.test_accuracy is None:
            return number(tested.test_rmse)
        return f"{100 * tested.test_accuracy:.2f} %"
    if pane.what == "loss":
        return "" if view.share is None else f"{view.share:+.2f} tol"
    if pane.what == "angle":
        return "" if here.angle_deg is None else f"{here.angle_deg:.1f}°"
    on = [r for r in view.regularizers if r.on and r.change is not None]
    return "  ".join(f"{r.name} {100 * (r.change or 0):+.1f} %" for r in on[:2])
