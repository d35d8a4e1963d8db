"""The points recorded on this line of the path; Enter goes to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from lsshell.sessions.tables import number
from lsshell.sessions.view import View, objective
from lsshell.widgets.messages import Say
from lsshell.widgets.rows import Cell, Rows

if TYPE_CHECKING:
    from lsshell.engine.path import Point
    from lsshell.sessions.plots import Traversal

_COLUMNS = (
    ("step", 5),
    ("ΔL/tol", 8),
    ("R", 8),
    ("test", 8),
    ("acc %", 7),
    ("angle", 8),
    ("grads", 7),
)


class Steps(Rows):
    """From the start to here, and what was walked further on before going back (dim)."""

    BORDER_TITLE = "7 steps"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "goto", "Go to")]

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self._points: list[Point] = []
        self._here = -1
        self._weights: Mapping[str, float] = {}
        self._since: Mapping[str, int] = {}
        self._best = -1

    def show_traversal(self, traversal: Traversal | None, view: View) -> None:
        """Shows these points; the cursor stays at the end while it is there."""
        at_end = self.cursor >= len(self._points) - 1
        moved = view.here is not None and view.here.index != self._here
        self._weights, self._since = view.weights, view.since
        self._points = [*traversal.lineage, *traversal.ahead] if traversal is not None else []
        self._here = view.here.index if view.here is not None else -1
        best = traversal.best if traversal is not None else None
        self._best = best.index if best is not None else -1
        rmse = bool(self._points) and self._points[0].test_rmse is not None
        self._rate = "RMSE" if rmse else "acc %"
        self.show()
        if moved and (at_end or not self.has_focus) and traversal is not None:
            self.cursor = len(traversal.lineage) - 1

    def count(self) -> int:
        return len(self._points)

    def header(self, width: int) -> str:
        names = [self._rate if name == "acc %" else name for name, _ in _COLUMNS]
        return " " + "".join(f"{n:>{w}}" for n, (_, w) in zip(names, _COLUMNS, strict=True))

    _rate = "acc %"

    def row(self, index: int, width: int) -> Sequence[Cell]:
        point = self._points[index]
        residual = "" if point.residual is None else f"{point.residual:+.3f}"
        rate = (
            f"{100 * point.test_accuracy:.2f}" if point.test_accuracy is not None
            else number(point.test_rmse) if point.test_rmse is not None else ""
        )  # fmt: skip
        value = objective(point, self._weights, self._since)
        cells = (
            str(point.step),
            residual,
            "" if value is None else number(value),
            "" if point.test_loss is None else number(point.test_loss),
            rate,
            "" if point.angle_deg is None else f"{point.angle_deg:.2f}°",
            str(point.gradients),
        )
        name = ""
        if point.index > self._here or not point.kept:
            name = "rows--dim"
        texts = [f"{c:>{w}}" for c, (_, w) in zip(cells, _COLUMNS, strict=True)]
        sign = "▶" if point.index == self._here else " "
        best = "rows--good" if point.index == self._best else name
        return [
            (sign, "rows--accent"),
            ("".join(texts[:3]), "rows--strong" if sign == "▶" else name),
            (texts[3], best),
            ("".join(texts[4:]), name),
            (" ★" if point.index == self._best else "", "rows--good"),
        ]

    def action_goto(self) -> None:
        if self._points:
            point = self._points[self.cursor]
            self.post_message(Say(f"goto {point.branch}:{point.step}"))

    def choose(self, index: int, x: int, clicks: int) -> None:
        if clicks == 2:
            self.action_goto()
