"""A replay: each recorded result beside the one that came out now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lsshell.sessions.tables import number
from lsshell.widgets.rows import Cell, Rows

if TYPE_CHECKING:
    from lsshell.sessions.replay import Compared

_COMMAND, _NAME, _VALUE = 8, 24, 18


class Replayed(Rows):
    """Grows while the replay goes on; differences are red, and counted in the title."""

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self._rows: list[Compared] = []
        self._different = 0

    def clear(self) -> None:
        """Another replay begins."""
        self._rows, self._different = [], 0
        self.cursor = 0

    def add(self, compared: Iterable[Compared]) -> None:
        """Shows what was compared since."""
        at_end = self.cursor >= len(self._rows) - 1
        for found in compared:
            self._rows.append(found)
            self._different += not found.same
        agree = len(self._rows) - self._different
        words = "all agree" if not self._different else f"{self._different} differ"
        self.border_title = f"0 replay  {agree}/{len(self._rows)} {words}"
        self.show()
        if at_end:
            self.cursor = len(self._rows) - 1

    def count(self) -> int:
        return len(self._rows)

    def header(self, width: int) -> str:
        names = f"{'command':<{_COMMAND}} {'result':<{_NAME}}"
        return f"   {names} {'recorded':>{_VALUE}} {'new':>{_VALUE}}"

    def row(self, index: int, width: int) -> Sequence[Cell]:
        found = self._rows[index]
        command = found.entry.line.text.split()[0]
        colour = "rows--good" if found.same else "rows--bad"
        return [
            (" ✓ " if found.same else " ✗ ", colour),
            (f"{command:<{_COMMAND}} {found.name:<{_NAME}.{_NAME}} ", ""),
            (f"{_shown(found.recorded, found.same):>{_VALUE}} ", "rows--dim"),
            (f"{_shown(found.found, found.same):>{_VALUE}}", "" if found.same else "rows--bad"),
        ]


def _shown(value: Any, same: bool) -> str:
    """Where two values differ, in all their digits."""
    if isinstance(value, float):
        return number(value, 10) if same else repr(value)
    return str(value)[:_VALUE]
