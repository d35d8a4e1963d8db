"""What was said and what came of it."""

from __future__ import annotations

from collections import deque

from rich.text import Text
from textual import events
from textual.widgets import RichLog

from lsshell.worker import Said

MOST, MOST_LINES = 1000, 20_000


class Log(RichLog):
    """Commands, typed or clicked, with their answers. The script on disk holds the same lines."""

    BORDER_TITLE = "9 log"

    def __init__(self, **options: str) -> None:
        super().__init__(wrap=True, min_width=20, max_lines=MOST_LINES, **options)
        self._texts: deque[Text] = deque(maxlen=MOST)
        self._width = 0

    def say(self, said: Said) -> None:
        """Writes an outcome or a notice."""
        for text in _texts(said):
            self._texts.append(text)
            if self._width:
                self.write(text)

    def on_resize(self, event: events.Resize) -> None:
        """Lines are broken for the width that they are written in: another one, written again."""
        width = self.scrollable_content_region.width
        if width and width != self._width:
            self._width = width
            self.clear()
            for text in self._texts:
                self.write(text)


def _texts(said: Said) -> list[Text]:
    outcome = said.outcome
    if outcome is None:
        return [Text(said.notice, "red" if said.error else "yellow")]
    texts = [Text.assemble(("› ", "bold cyan"), (outcome.line.text.strip(), "bold"))]
    if outcome.failure is not None:
        caret = " " * (outcome.failure.column + 1) + "^"
        return [*texts, Text(f"{caret} {outcome.failure.message}", "red")]
    reply = outcome.reply
    if reply is not None and reply.text:
        texts.append(Text(reply.text, no_wrap="\n" in reply.text))
    if reply is not None and reply.figure is not None:
        where = "" if outcome.command == "plot" else "  · figure: L or F2 shows it"
        texts.append(Text(f"{reply.figure.title}{where}", "dim"))
    return texts
