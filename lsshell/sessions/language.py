"""A line of script ⇄ words: comments, quoting, variables, and errors that show the place."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lsshell.sessions.errors import CommandError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Word:
    """One word of a line and the column (from 1) where it starts."""

    text: str
    column: int


@dataclass(frozen=True)
class Line:
    """A line of a script or of the keyboard: where it stands and what it says."""

    source: str
    number: int
    text: str


@dataclass(frozen=True)
class Failure:
    """A failed command: `file:line:column: command: message`, with the line and a caret."""

    line: Line
    column: int
    command: str
    message: str

    def __str__(self) -> str:
        what = f"{self.command}: " if self.command else ""
        return f"{self.line.source}:{self.line.number}:{self.column}: {what}{self.message}"

    def with_caret(self) -> str:
        """The message, then the line with a caret under the place."""
        return f"{self}\n  {self.line.text}\n  {' ' * (self.column - 1)}^"

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": self.line.source,
            "line": self.line.number,
            "column": self.column,
            "message": f"{self.command}: {self.message}" if self.command else self.message,
        }


# What would break a line of the script in two, or speak to the terminal that shows it.
# The last ones stand for bytes of a name that are no UTF-8.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def refuse_control(text: str) -> None:
    """Raises CommandError for a line with control characters (line breaks among them) in it."""
    found = CONTROL.search(text)
    if found is not None:
        code = f"U+{ord(found.group()):04X}"
        raise CommandError(f"a command is one line of text, without {code}", found.start() + 1)


def split_words(text: str, variables: Mapping[str, str]) -> list[Word]:
    """Splits as a POSIX shell does: quotes, backslashes, `#` comments, and `${name}`.

    Variables are replaced outside single quotes; what they hold is never split again. Raises
    CommandError with the column of an unclosed quote or an unknown variable.
    """
    words: list[Word] = []
    current: list[str] | None = None
    start, i = 0, 0

    def variable_at(i: int) -> tuple[str, int]:
        found = _VARIABLE.match(text, i)
        if found is None:
            raise CommandError("a variable is written ${name}", i + 1)
        name = found.group(1)
        if name not in variables:
            known = f"; there are {', '.join(sorted(variables))}" if variables else ""
            raise CommandError(
                f"no variable {name}: say `set {name}=VALUE` or --set {name}=VALUE{known}", i + 1
            )
        return variables[name], found.end()

    while i < len(text):
        c = text[i]
        if current is None:
            if c.isspace():
                i += 1
                continue
            if c == "#":
                break
            current, start = [], i
        if c.isspace():
            words.append(Word("".join(current), start + 1))
            current = None
        elif c == "'":
            end = text.find("'", i + 1)
            if end < 0:
                raise CommandError("this quote is never closed", i + 1)
            current.append(text[i + 1 : end])
            i = end
        elif c == '"':
            opened = i
            i += 1
            while i < len(text) and text[i] != '"':
                if text[i] == "\\" and text[i + 1 : i + 2] in ('"', "\\", "$"):
                    i += 1
                    current.append(text[i])
                elif text.startswith("${", i):
                    value, after = variable_at(i)
                    current.append(value)
                    i = after - 1
                else:
                    current.append(text[i])
                i += 1
            if i >= len(text):
                raise CommandError("this quote is never closed", opened + 1)
        elif c == "\\" and i + 1 < len(text):
            i += 1
            current.append(text[i])
        elif text.startswith("${", i):
            value, after = variable_at(i)
            current.append(value)
            i = after - 1
        else:
            current.append(c)
        i += 1
    if current is not None:
        words.append(Word("".join(current), start + 1))
    return words


def spoken(text: str, words: list[Word]) -> str:
    """The line as a script that stands alone says it: as typed, or with its variables filled in."""
    if _VARIABLE.search(text):
        return shlex.join(word.text for word in words)
    return text.strip()


def assignment(text: str) -> tuple[str, str]:
    """`name=value` → (name, value); raises CommandError on anything else."""
    found = _ASSIGNMENT.fullmatch(text)
    if found is None:
        raise CommandError(f"expected NAME=VALUE, not {text!r}")
    return found.group(1), found.group(2)
