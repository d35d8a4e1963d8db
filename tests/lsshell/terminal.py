"""The installed command behind a pseudo-terminal, and its screen read back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pyte

from tests.lsshell.patience import BY_THE_CLOCK, Patience

LSSHELL = Path(sys.executable).with_name("lsshell")
CTRL_C, CTRL_D, TAB, ENTER = "\x03", "\x04", "\t", "\r"
SGR = re.compile(r"\x1b\[([\d;:]*)m")


class Terminal:
    """A running lsshell and the screen that it draws on."""

    def __init__(
        self, folder: Path, *words: str, columns: int = 100, rows: int = 40, **variables: str
    ) -> None:
        self.raw = ""
        self._prompt = -1  # the row of the last prompt that was waited for
        self.screen = pyte.HistoryScreen(columns, rows, history=2000)
        self._stream = pyte.Stream(self.screen)
        self.process = pexpect.spawn(
            str(LSSHELL),
            list(words),
            env=environment(folder) | variables,
            cwd=str(folder),
            dimensions=(rows, columns),
            encoding="utf-8",
        )
        # A terminal answers where its cursor is; without that there is no bottom line.
        self.screen.write_process_input = self.process.send

    def wait(self, seen: Callable[[], object], what: str) -> None:
        """Reads what is drawn until `seen()` holds."""
        patience = Patience()
        while not seen():
            assert patience.lasts(), f"no {what} on the screen:\n{self.text()}"
            try:
                found = self.process.read_nonblocking(65536, timeout=0.2)
            except pexpect.TIMEOUT:
                found = ""
            except pexpect.EOF:
                assert seen(), f"lsshell ended without {what}:\n{self.text()}"
                return
            self.raw += found
            self._stream.feed(found)

    def lines(self) -> list[str]:
        """Everything drawn, also what has scrolled off."""
        above = [
            "".join(row[x].data for x in range(self.screen.columns))
            for row in self.screen.history.top
        ]
        return [line.rstrip() for line in [*above, *self.screen.display]]

    def text(self) -> str:
        return "\n".join(self.lines())

    def typed(self) -> str:
        """The line that the cursor is on."""
        return self.screen.display[self.screen.cursor.y].rstrip()

    def bottom(self) -> str:
        return next((line for line in reversed(self.lines()) if line), "")

    def wait_for(self, text: str) -> None:
        self.wait(lambda: text in self.text(), repr(text))

    def wait_for_bottom(self, pattern: str) -> None:
        self.wait(lambda: re.search(pattern, self.bottom()), f"bottom line {pattern}")

    def row(self) -> int:
        """Where the cursor is, counted from the first line drawn."""
        return len(self.screen.history.top) + self.screen.cursor.y

    def wait_for_prompt(self) -> None:
        """Waits for an empty prompt below the one before, which is drawn anew once it is left."""
        self.wait(lambda: self.typed() == "lss>" and self.row() > self._prompt, "empty prompt")
        self._prompt = self.row()

    def type(self, text: str) -> None:
        """Types without Enter, and waits until the words are on the prompt's line."""
        self.process.send(text)
        self.wait(lambda: self.typed().startswith(f"lss> {text}".rstrip()), repr(text))

    def say(self, command: str) -> None:
        """Types a command and waits for the prompt after it."""
        self.type(command)
        self.process.send(ENTER)
        self.wait_for_prompt()

    def leave(self) -> int:
        """Ctrl-D; the exit code."""
        self.process.send(CTRL_D)
        return self.ended()

    def ended(self) -> int:
        """Waits for the end; the exit code."""
        self.wait(lambda: self.process.flag_eof, "end")
        self.process.wait()
        return self.process.exitstatus


def environment(folder: Path) -> dict[str, str]:
    """Of a terminal of 256 colours; whatever is written goes under the folder."""
    said = ("NO_COLOR", "COLORTERM", "COLUMNS", "LINES")
    kept = {k: v for k, v in os.environ.items() if k not in said}
    return kept | {
        "TERM": "xterm-256color",
        "XDG_STATE_HOME": str(folder / "state"),
        "LSSHELL_SESSIONS": str(folder / "sessions"),
        "OMP_NUM_THREADS": "1",
    }


def lsshell(folder: Path, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command with no terminal."""
    return subprocess.run(
        [LSSHELL, *words],
        input=said,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(folder),
        timeout=BY_THE_CLOCK,
    )


def the_session(folder: Path) -> Path:
    (found,) = (folder / "sessions").iterdir()
    return found


def points(session: Path) -> list[dict]:
    """Those that are written to their end; another may be under way."""
    written = (session / "steps.jsonl").read_text().split("\n")
    return [json.loads(line) for line in written[:-1]]
