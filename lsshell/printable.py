"""Nothing that a file or a name holds speaks to the terminal."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from lsshell.sessions.language import CONTROL


class Printable(LineFilter):
    """Takes control characters (escape codes begin with one) out of all that is drawn."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if not any(CONTROL.search(s.text) for s in segments):
            return segments
        return [
            s if s.control else Segment(CONTROL.sub("", s.text), s.style, None) for s in segments
        ]
