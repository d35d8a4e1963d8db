"""What can come next on a command line: commands, options, choices, branches, files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.errors import CommandError
from lsshell.sessions.language import Word, split_words

if TYPE_CHECKING:
    from lsshell.sessions.session import Session
    from lsshell.sessions.vocabulary import Option

# How measures of the landscape call a place: a point as in `goto`, `here`, or a checkpoint.
_OF_PLACES = ("WHERE", "A", "B", "PLACES", "--from", "--to")
_CURSOR = "\0"  # stands where the cursor is; no command line holds one


def complete(text: str, session: Session | None = None) -> Iterator[tuple[str, int]]:
    """(completion, how many characters before the cursor it replaces) for a line up to the cursor.

    Works without the engine: nothing here imports torch.
    """
    words, quote = _typed(text, session)
    if not words:
        return
    current = words[-1].text
    found = [c for c in _candidates([w.text for w in words], session) if c.startswith(current)]
    if found != [current]:
        length = len(text) - (words[-1].column - 1)
        yield from ((_spelled(candidate, quote), length) for candidate in found)


def typed_words(text: str, session: Session | None = None) -> list[str]:
    """The words up to the cursor, the last one as far as it is typed; none inside a comment."""
    return [word.text for word in _typed(text, session)[0]]


def _typed(text: str, session: Session | None) -> tuple[list[Word], str]:
    """The words up to the cursor, and the quote that is open there; none inside a comment."""
    variables = session.variables if session is not None else {}
    for quote in ("", '"', "'"):
        try:
            words = split_words(f"{text}{_CURSOR}{quote}", variables)
        except CommandError:  # this quote is not open, or a variable is not known
            continue
        if words and words[-1].text.endswith(_CURSOR):
            last = words[-1]
            opened = quote if text[last.column - 1 : last.column] == quote else ""
            return [*words[:-1], Word(last.text.removesuffix(_CURSOR), last.column)], opened
    return [], ""


def _spelled(word: str, quote: str) -> str:
    """The word as the command language reads it back, in the quote that was opened if any."""
    if quote == "'" and "'" not in word:
        return f"'{word}" + ("" if word.endswith("/") else "'")
    if quote == '"':
        inside = re.sub(r'["\\]|\$(?=\{)', r"\\\g<0>", word)
        return f'"{inside}' + ("" if word.endswith("/") else '"')
    return re.sub(r"""[\s'"#\\]|\$(?=\{)""", r"\\\g<0>", word)


def _candidates(words: list[str], session: Session | None) -> Iterator[str]:
    if len(words) == 1:
        yield from VOCABULARY.commands
        return
    name, current = words[0], words[-1]
    if name == "help" and len(words) == 2:
        yield from VOCABULARY.commands
        return
    if name not in VOCABULARY.commands:
        return
    options = VOCABULARY.options(name)
    named = {spelling: o for o in options for spelling in o.names if not o.positional}
    if current.startswith("-"):
        yield from (spelling for spelling in named if spelling not in words[:-1])
        return
    before = words[-2]
    if before in named and not named[before].flag:
        yield from named[before].choices
        if before == "--until":
            yield from (f"{r}=" for r in _regularizers())
        if named[before].wants_file:
            yield from _files(current)
        elif _is_place(name, named[before]):
            yield from ("here", *_places(session), *_files(current))
        return
    at = position(words, named)
    positional = [o for o in options if o.positional]
    if positional and positional[-1].many:
        at = min(at, len(positional) - 1)
    if at < len(positional):
        yield from positional[at].choices
        if _is_place(name, positional[at]):
            yield from ("here", *_places(session), *_files(current))
        yield from _known(name, at, session)
        if positional[at].wants_file or (name == "data" and at == 0):
            yield from _files(current)


def position(words: list[str], named: dict[str, Option]) -> int:
    """Which positional argument the last word is: options and their values do not count."""
    place, k = 0, 1
    while k < len(words) - 1:
        if words[k].startswith("--"):
            alone = "=" in words[k] or (words[k] in named and named[words[k]].flag)
            k += 1 if alone else 2
        else:
            place, k = place + 1, k + 1
    return place


def _known(name: str, position: int, session: Session | None) -> Iterator[str]:
    from lsshell.engine.vocabulary import DATA_SETS, NETWORKS

    if position == 1 and name == "reg":
        yield from ("on", "off")
    if position <= 1 and name == "bridge":
        yield from _places(session)
    if position:
        return
    if name == "data":
        yield from DATA_SETS
    elif name == "model":
        yield from NETWORKS
    elif name == "goto":
        yield from _places(session)
    elif name == "device":
        yield from ("cpu", "cuda", "mps")


def _is_place(name: str, option: Option) -> bool:
    measures = VOCABULARY.commands[name].kind == "landscape"
    return measures and not option.wants_file and any(n in _OF_PLACES for n in option.names)


def _places(session: Session | None) -> Iterator[str]:
    """Names of points: what `goto` takes."""
    yield from ("start", "end", "best")
    if session is not None and session.has_engine:
        yield from session.engine.path.branches()


def _regularizers() -> tuple[str, ...]:
    from lsshell.engine.vocabulary import REGULARIZERS

    return REGULARIZERS


def _files(current: str) -> Iterator[str]:
    folder, slash, begun = current.rpartition("/")
    try:
        base = Path(f"{folder}{slash}" or ".").expanduser()
        found = sorted((path.name, path.is_dir()) for path in base.iterdir())
    except (OSError, RuntimeError):  # no such folder; `~name` of nobody
        return
    for name, is_folder in found:
        if begun.startswith(".") or not name.startswith("."):
            yield f"{folder}{slash}{name}" + "/" * is_folder
