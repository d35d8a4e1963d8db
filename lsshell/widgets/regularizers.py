"""The regularisers: a switch, a weight, the value now, the change since the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.reactive import reactive

from lsshell.sessions.tables import number
from lsshell.sessions.view import RegularizerView, View
from lsshell.widgets.messages import Say
from lsshell.widgets.rows import Cell, Rows

_SWITCH, _NAME, _WEIGHT, _VALUE, _CHANGE = 3, 14, 11, 10, 9
_LESS = _SWITCH + _NAME  # the columns of − and + around the weight
_MORE = _LESS + _WEIGHT - 1


class Regularizers(Rows):
    """Space switches one on or off, + and − change its weight; a click does, too."""

    BORDER_TITLE = "6 regularisers"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "switch", "Switch"),
        Binding("plus,equals_sign", "weigh(1)", "Weight", key_display="+ −"),
        Binding("minus", "weigh(-1)", "Weight down", show=False),
    ]

    view: reactive[View] = reactive(View, init=False)

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self._asked: dict[str, float | None] = {}  # weights that are to come; None: off

    def watch_view(self, before: View, after: View) -> None:
        if before.regularizers == after.regularizers:
            return
        was = {r.name: r.weight for r in before.regularizers}
        now = {r.name: r.weight for r in after.regularizers}
        # What is as asked for and was so before may be on its way off and on again.
        self._asked = {
            n: asked for n, asked in self._asked.items() if now[n] != asked or was.get(n) == asked
        }
        self.show()

    def count(self) -> int:
        return len(self.view.regularizers)

    def header(self, width: int) -> str:
        return (
            f"{'':{_SWITCH}}{'':{_NAME}}{'weight':^{_WEIGHT}}{'value':>{_VALUE}}"
            f"{'change':>{_CHANGE}}  formula"
        )

    def row(self, index: int, width: int) -> Sequence[Cell]:
        found = self.view.regularizers[index]
        change = "" if found.change is None else f"{100 * found.change:+.1f} %"
        falls = found.change is not None and found.change < 0
        weight = f"−{number(found.weight):^{_WEIGHT - 2}}+" if found.on else " " * _WEIGHT
        plain = "" if found.on else "rows--dim"
        return [
            (self._sign(found), "rows--good" if found.on else "rows--dim"),
            (f"{found.name:<{_NAME}}", "rows--strong" if found.on else ""),
            (weight, "rows--accent"),
            (f"{'' if found.value is None else number(found.value):>{_VALUE}}", plain),
            (f"{change:>{_CHANGE}}", plain if not found.on else "rows--good" if falls else ""),
            (f"  {found.formula}", "rows--dim"),
        ]

    def choose(self, index: int, x: int, clicks: int) -> None:
        found = self.view.regularizers[index]
        if found.on and x == _LESS:
            self._weigh(found, -1)
        elif found.on and x == _MORE:
            self._weigh(found, 1)
        elif x < _LESS:
            self._switch(found)

    def action_switch(self) -> None:
        self._switch(self.view.regularizers[self.cursor])

    def action_weigh(self, way: int) -> None:
        self._weigh(self.view.regularizers[self.cursor], way)

    def _sign(self, found: RegularizerView) -> str:
        """On, off, or asked for and to come at the next step."""
        return " ◐ " if found.name in self._asked else " ● " if found.on else " ○ "

    def _weight(self, found: RegularizerView) -> float | None:
        """What it will be once all that was asked for is done."""
        return self._asked.get(found.name, found.weight)

    def _switch(self, found: RegularizerView) -> None:
        if self._weight(found) is None:
            self._ask(found, f"reg {found.name} on", found.weight or 1.0)
        else:
            self._ask(found, f"reg {found.name} off", None)

    def _ask(self, found: RegularizerView, line: str, weight: float | None) -> None:
        self._asked[found.name] = weight
        self.refresh()
        self.post_message(Say(line))

    def forget_asked(self) -> None:
        """Nothing that was asked for is still to come."""
        if self._asked:
            self._asked = {}
            self.refresh()

    def _weigh(self, found: RegularizerView, way: int) -> None:
        before = self._weight(found)
        weight = 1.0 if before is None else beside(before, way)
        self._ask(found, f"reg {found.name} {weight:g}", weight)


def beside(weight: float, way: int) -> float:
    """The next weight up or down on the scale … 0.1, 0.2, 0.5, 1, 2, 5 …, of the same sign."""
    scale = [float(f"{m}e{e}") for e in range(-12, 12) for m in (1, 2, 5)]
    size, sign = abs(weight), 1.0 if weight > 0 else -1.0
    if way > 0:
        return sign * next((s for s in scale if s > size * (1 + 1e-9)), scale[-1])
    return sign * next((s for s in reversed(scale) if s < size * (1 - 1e-9)), scale[0])
