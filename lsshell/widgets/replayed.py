"""A replay: each recorded result beside the one that came out now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lsshell.sessions.tables import number
from lsshell.widgets.rows import Cell, Rows

if TYPE_CHECKING:
    from lsshell.sessions.replay import Compared

_COMMAND, _NAME = 8, 16


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
        value = _value_width(width)
        names = f"{'command':<{_COMMAND}} {'result':<{_NAME}}"
        return f"   {names} {'recorded':>{value}} {'new':>{value}}"

    def row(self, index: int, width: int) -> Sequence[Cell]:
        found, value = self._rows[index], _value_width(width)
        command = found.entry.line.text.split()[0]
        recorded, new = (_shown(v, value, found.same) for v in (found.recorded, found.found))
        return [
            (" ✓ " if found.same else " ✗ ", "rows--good" if found.same else "rows--bad"),
            (f"{command:<{_COMMAND}.{_COMMAND}} {found.name:<{_NAME}.{_NAME}} ", ""),
            (f"{recorded:>{value}} ", "rows--dim"),
            (f"{new:>{value}}", "" if found.same else "rows--bad"),
        ]


def _value_width(width: int) -> int:
    return max(8, min(24, (width - _COMMAND - _NAME - 6) // 2))


def _shown(value: Any, width: int, same: bool) -> str:
    """A value in the room there is; where two differ, in all their digits."""
    if isinstance(value, float):
        return number(value, width - 6) if same else repr(value)
    return str(value)[:width]
