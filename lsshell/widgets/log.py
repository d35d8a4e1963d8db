"""What was said and what came of it."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import RichLog

from lsshell.worker import Said

MOST_LINES = 5000


class Log(RichLog):
    """Commands, typed or clicked, with their answers. The script on disk holds the same lines."""

    BORDER_TITLE = "9 log"

    def __init__(self, **options: str) -> None:
        super().__init__(max_lines=MOST_LINES, wrap=True, min_width=20, **options)

    def say(self, said: Said) -> None:
        """Writes an outcome or a notice."""
        outcome = said.outcome
        if outcome is None:
            self.write(Text(said.notice, "red" if said.error else "yellow"))
            return
        self.write(Text.assemble(("› ", "bold cyan"), (outcome.line.text.strip(), "bold")))
        if outcome.failure is not None:
            failure = outcome.failure
            caret = " " * (failure.column + 1) + "^"
            self.write(Text(f"{caret} {failure.message}", "red"))
        elif outcome.reply is not None:
            if outcome.reply.text:
                self.write(Text(outcome.reply.text, no_wrap="\n" in outcome.reply.text))
            if outcome.reply.figure is not None:
                self.write(Text(outcome.reply.figure.title, "dim"))
