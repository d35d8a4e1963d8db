"""Outcomes on the screen: text, figures, progress, JSON."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
import time
from typing import IO, TYPE_CHECKING, Any

from lsshell.engine.events import Pictured
from lsshell.live_picture import LivePicture
from lsshell.pace import Pace, bar
from lsshell.sessions.reply import Outcome
from lsshell.sessions.results import finite

if TYPE_CHECKING:
    from lsshell.engine.events import Event

REFRESH = 0.1
_SECOND_COLUMN = re.compile(r"\s*(?:\S{1,20}\s{2,})?")  # where the text of a list's item begins


def wants_colour(stream: IO[str]) -> bool:
    """Colours only on a terminal that has them and a user who does not mind."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM", "") != "dumb"


class Printer:
    """Prints outcomes for people on `out`, errors and progress on standard error."""

    def __init__(self, *, seen: str | None = None) -> None:
        """`seen`: the source whose lines the user sees anyway; those of others are echoed."""
        self.out, self.err = sys.stdout, sys.stderr
        self.seen = seen
        self.colour = wants_colour(self.out)
        self.progress = ProgressLine(self.err)
        colour = wants_colour(self.err)
        self.picture = LivePicture(self.err, active=self.progress.active, colour=colour)

    def hear(self, event: Event) -> None:
        """Events of the engine: progress is shown where there is a terminal to show it on."""
        if isinstance(event, Pictured):
            self.picture.hear(event)
        else:
            self.progress.hear(event)

    def _clear(self) -> None:
        """Takes what was on the way off the screen."""
        self.progress.clear()
        self.picture.clear()

    def say(self, outcome: Outcome) -> None:
        """A command's answer, or its error with a caret under the place."""
        self._clear()
        if outcome.line.source != self.seen:
            self._line(self._dim(f"› {outcome.line.text.strip()}"))
        if outcome.failure is not None:
            self.out.flush()
            message, line, caret = outcome.failure.with_caret().rsplit("\n", 2)
            shown = f"{_fitted(message, self.err)}\n{line}\n{caret}"
            self.err.write(self._red(shown, self.err) + "\n")
            self.err.flush()
            return
        assert outcome.reply is not None
        if outcome.reply.text:
            self._line(_fitted(outcome.reply.text, self.out))
        if outcome.reply.figure is not None:
            from lsshell.figures.text import draw_text

            size = shutil.get_terminal_size((96, 30))
            width, height = min(size.columns, 120), min(max(size.lines - 4, 12), 26)
            self._line(draw_text(outcome.reply.figure, width, height, colour=self.colour))

    def notice(self, text: str) -> None:
        """Something to know that is no command's answer; on standard error."""
        self._clear()
        self.err.write(f"{_fitted(text, self.err)}\n")
        self.err.flush()

    def _line(self, text: str) -> None:
        self.out.write(f"{text}\n")
        self.out.flush()

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.colour else text

    def _red(self, text: str, stream: IO[str]) -> str:
        return f"\x1b[31m{text}\x1b[0m" if wants_colour(stream) else text


def _fitted(text: str, stream: IO[str]) -> str:
    """Long lines broken between words on a terminal, under their second column if they have one."""
    if not stream.isatty():
        return text
    columns = shutil.get_terminal_size().columns
    return "\n".join(
        line
        if len(line) <= columns
        else textwrap.fill(
            line,
            columns,
            subsequent_indent=" " * _SECOND_COLUMN.match(line).end(),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )


class JsonPrinter(Printer):
    """One JSON object a command on standard output, nothing else there."""

    def __init__(self) -> None:
        super().__init__()

    def say(self, outcome: Outcome) -> None:
        self._clear()
        text = json.dumps(finite(outcome.as_dict()), ensure_ascii=False, allow_nan=False)
        self._line(text)


class ProgressLine:
    """One line that is rewritten in place: bar, rate, time left. Silent where no terminal is."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.active = stream.isatty() and os.environ.get("TERM", "") != "dumb"
        self._pace = Pace()
        self._shown = 0.0
        self._dirty = False

    def hear(self, event: Event) -> None:
        if not self.active or not hasattr(event, "done"):
            return
        self._pace.hear(event)
        now = time.monotonic()
        if now - self._shown < REFRESH and event.done < event.total:
            return
        self._shown = now
        self._draw(event)

    def _draw(self, event: Any) -> None:
        text = f"{self._pace.words(event)}  {event.note}"
        # Room for two ^C, which terminals echo: a line that wraps could not be taken off again.
        room = shutil.get_terminal_size().columns - 5
        width = max(min(24, room - len(event.task) - len(text) - 2), 4)
        self.stream.write(f"\r\x1b[K{f'{event.task} {bar(event, width)} {text}'[:room]}")
        self.stream.flush()
        self._dirty = True

    def clear(self) -> None:
        """Takes the line off the screen."""
        if self._dirty:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
        self._dirty, self._pace = False, Pace()
