"""What a command gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lsshell.figures.figure import Figure
from lsshell.sessions.language import Failure, Line


@dataclass(frozen=True)
class Reply:
    """values: the JSON result; text: for people; check: what replay compares (default: values).

    `figure` is drawn by whoever has a screen. `interrupted`: the user stopped it at a valid point.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    check: Mapping[str, Any] | None = None
    figure: Figure | None = None
    interrupted: bool = False
    quits: bool = False

    @property
    def checked(self) -> Mapping[str, Any]:
        """What goes into the script, and what replay and resume hold new results against."""
        return self.values if self.check is None else self.check


@dataclass(frozen=True)
class Outcome:
    """A line that was executed: its command, what it gave or how it failed, and seconds spent."""

    line: Line
    command: str
    seconds: float
    reply: Reply | None = None
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        return self.failure is None

    def as_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        base = {"line": self.line.number, "command": self.command, "ok": self.ok}
        if self.failure is not None:
            return base | {"error": self.failure.as_dict()}
        assert self.reply is not None
        values = dict(self.reply.values)
        return base | {"seconds": round(self.seconds, 4), "result": values}
