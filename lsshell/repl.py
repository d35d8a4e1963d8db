"""The REPL: prompt_toolkit around a session."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterable

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.styles import Style

from lsshell import __version__
from lsshell.completion import complete
from lsshell.ending import Background
from lsshell.interrupts import Interrupts
from lsshell.printing import Printer, wants_colour
from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.errors import SessionError
from lsshell.sessions.language import Line
from lsshell.sessions.session import Session
from lsshell.sessions.tables import number
from lsshell.state_folder import history_file

TYPED = "<repl>"
STYLE = Style.from_dict(
    {
        "command": "bold ansicyan",
        "option": "ansigreen",
        "comment": "ansibrightblack italic",
        "variable": "ansimagenta",
        "bottom-toolbar": "noreverse ansibrightblack",
        "prompt": "bold",
    }
)


_COMMENT = re.compile(r"(?<!\S)#.*")  # a # inside a word is no comment


class CommandCompleter(Completer):
    """Completion of the session's vocabulary."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        for text, length in complete(document.text_before_cursor, self.session):
            yield Completion(text, -length)


class CommandLexer(Lexer):
    """Colours commands, options, variables and comments."""

    def lex_document(self, document: Document):  # noqa: ANN201 - prompt_toolkit's signature
        return lambda number: _colour(document.lines[number])


def _colour(line: str) -> StyleAndTextTuples:
    parts: StyleAndTextTuples = []
    comment = _COMMENT.search(line)
    text = line[: comment.start()] if comment else line
    for k, word in enumerate(text.split(" ")):
        if k:
            parts.append(("", " "))
        if k == 0 and word:
            parts.append(("class:command" if word in VOCABULARY.commands else "", word))
        elif word.startswith("--"):
            parts.append(("class:option", word))
        else:
            parts.append(("class:variable" if word.startswith("${") else "", word))
    if comment:
        parts.append(("class:comment", comment.group()))
    return parts


class Repl:
    """Reads lines, executes them, shows what they gave; Ctrl-C stops what is running."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.printer = Printer(seen=TYPED)
        self.session.listen = self.printer.hear
        self.number = 0

    def run(self) -> int:
        """Until quit or Ctrl-D; returns the exit code."""
        Background(_import_engine, "import").start()
        read = input if os.environ.get("TERM") == "dumb" else self._prompt().prompt
        self.printer.out.write(f"lsshell {__version__}; `help` lists the commands, Ctrl-D leaves\n")
        try:
            while True:
                try:
                    text = read("lss> ")
                except KeyboardInterrupt:
                    continue
                except EOFError:
                    break
                if self._answer(text):
                    break
        finally:
            folder = self.session.folder if self.session.journal is not None else None
            self.session.close()
        if folder is not None:
            words = shlex.quote(str(folder))
            self.printer.notice(f"session in {folder}; `lsshell resume {words}` goes on with it")
        return 0

    def _prompt(self) -> PromptSession[str]:
        """The line editor; a dumb terminal has none, since it shows its escapes as they are."""
        colour = wants_colour(self.printer.out)
        return PromptSession(
            history=_history(),
            completer=CommandCompleter(self.session),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            enable_history_search=False,
            lexer=CommandLexer() if colour else None,
            style=STYLE if colour else None,
            bottom_toolbar=self._toolbar,
        )

    def _answer(self, text: str) -> bool:
        """Executes what was typed, or the lines that were pasted up to the first that fails.

        True where one says quit, or the program was told to end meanwhile.
        """
        with Interrupts(self.session.cancel).watched() as interrupts:
            for part in text.splitlines():
                self.number += 1
                line = Line(TYPED, self.number, part)
                try:
                    outcome = self.session.execute(line, self.printer.say)
                except SessionError as e:
                    self.printer.notice(f"lsshell: {e}")
                    break
                except KeyboardInterrupt:
                    self.printer.notice("stopped at once: the last recorded point stands")
                    break
                if outcome is not None and outcome.reply is not None and outcome.reply.quits:
                    return True
                if interrupts.asked or (outcome is not None and not outcome.ok):
                    break
        return interrupts.ended

    def _toolbar(self) -> StyleAndTextTuples:
        """L, |L − L*|/tol, R, test loss, angle, of the point that the session is at."""
        return [("class:bottom-toolbar", f" {self._where()} ")]

    def _where(self) -> str:
        if not self.session.has_engine:
            return "no data loaded · `data mnist-5k --train 1000` loads some"
        engine = self.session.engine
        point = engine.path.here
        if point is None:
            return " · ".join(w for w in (engine.data_words, engine.model_words) if w) or "ready"
        parts = [f"{point.branch}:{point.step}", f"L {number(point.loss)}"]
        if point.residual is not None:
            parts.append(f"|L−L*|/tol {abs(point.residual):.2f}")
        parts += [
            f"{name} {number(point.regularizers[name])}"
            for name in engine.sum.terms
            if name in point.regularizers
        ]
        if point.test_loss is not None:
            parts.append(f"test {number(point.test_loss)}")
        if point.angle_deg is not None:
            parts.append(f"∠ {point.angle_deg:.1f}°")
        return " · ".join(parts)


def _import_engine() -> None:
    """Imports torch while the user is still typing."""
    with contextlib.suppress(ImportError):
        import lsshell.engine.engine  # noqa: F401


def _history() -> History:
    """Persistent history; in memory where the home folder cannot be written."""
    file = history_file()
    return FileHistory(str(file)) if file is not None else InMemoryHistory()
