"""Opens the app on a terminal that can show it, and says where the session is when it ends."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

PLAIN = ("", "dumb", "unknown")


def refusal() -> str | None:
    """Why the app cannot be shown here; None where it can."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "no terminal"
    term = os.environ.get("TERM", "")
    if term in PLAIN:
        return f"this terminal (TERM={term or 'not set'}) cannot show the app; here is the prompt"
    return None


def launch(
    folder: Path | None = None,
    *,
    lines: tuple[str, ...] = (),
    assignments: tuple[str, ...] = (),
) -> int:
    """Runs the app until it is left; returns the exit code.

    `folder`: where the session is written; `lines`: what is executed first; `assignments`:
    NAME=VALUE. However the app ends, the worker is stopped at a valid point and the session
    closed; in a step of many seconds the thread may still run (`ending.end`).
    """
    from lsshell.app import LsshellApp

    app = LsshellApp(folder, lines=lines, assignments=assignments)
    if sys.platform != "win32":
        from lsshell.driver import TerminalDriver

        app.driver_class = TerminalDriver
    try:
        app.run()
    finally:
        closed = app.worker.close(timeout=1.0 if app.late else 10.0)
        if closed:
            words = shlex.quote(closed)
            _say(f"session in {closed}; `lsshell resume {words}` goes on with it")
    if app.crash:
        _say(f"the app has failed; no step is lost. {_kept(app.crash, closed)}")
    return app.return_code or 0


def _kept(crash: str, folder: str) -> str:
    """Where the traceback is, or its last line where it has no place."""
    last = crash.strip().splitlines()[-1]
    try:
        file = Path(folder) / "crash.txt"
        if folder:
            file.write_text(crash)
            return f"{last} (see {file})"
    except OSError:  # then its last line must do
        pass
    return f"{last} (LSSHELL_DEBUG=1 shows more)"


def _say(text: str) -> None:
    try:
        sys.stderr.write(f"lsshell: {text}\n")
        sys.stderr.flush()
    except OSError:  # the terminal has gone
        return
