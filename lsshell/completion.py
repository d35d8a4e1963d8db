"""What can come next on a command line: commands, options, choices, branches, files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lsshell.sessions.commands import VOCABULARY

if TYPE_CHECKING:
    from lsshell.sessions.session import Session


def complete(text: str, session: Session | None = None) -> Iterator[tuple[str, int]]:
    """(completion, how many characters before the cursor it replaces) for a line up to the cursor.

    Works without the engine: nothing here imports torch.
    """
    words = text.split()
    if not text or text[-1].isspace():
        words.append("")
    current = words[-1]
    for candidate in _candidates(words, session):
        if candidate.startswith(current) and candidate != current:
            yield candidate, len(current)


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
    named = {spelling: o for o in options for spelling in o[0] if spelling.startswith("--")}
    before = words[-2]
    if before in named and len(words) > 2:
        _, choices, wants_file = named[before]
        yield from choices
        if before == "--until":
            yield from (f"{r}=" for r in _regularizers())
        if wants_file:
            yield from _files(current)
        return
    if current.startswith("-"):
        yield from (spelling for spelling in named if spelling not in words)
        return
    position = _position(words, named)
    positional = [o for o in options if not any(n.startswith("--") for n in o[0])]
    if position < len(positional):
        _, choices, wants_file = positional[position]
        yield from choices
        yield from _known(name, position, session)
        if wants_file or (name == "data" and position == 0):
            yield from _files(current)


def _position(words: list[str], named: dict[str, tuple]) -> int:
    """Which positional argument the last word is: options and their values do not count."""
    position, k = 0, 1
    while k < len(words) - 1:
        if words[k].startswith("--"):
            k += 2 if "=" not in words[k] else 1
        else:
            position, k = position + 1, k + 1
    return position


def _known(name: str, position: int, session: Session | None) -> Iterator[str]:
    from lsshell.engine.vocabulary import DATA_SETS, NETWORKS

    if position == 1 and name == "reg":
        yield from ("on", "off")
    if position:
        return
    if name == "data":
        yield from DATA_SETS
    elif name == "model":
        yield from NETWORKS
    elif name == "goto":
        yield from ("start", "end", "best")
        if session is not None and session.has_engine:
            yield from session.engine.path.branches()
    elif name == "device":
        yield from ("cpu", "cuda", "mps")


def _regularizers() -> tuple[str, ...]:
    from lsshell.engine.vocabulary import REGULARIZERS

    return REGULARIZERS


def _files(current: str) -> Iterator[str]:
    folder, _, _ = current.rpartition("/")
    base = Path(folder or ("/" if current.startswith("/") else ".")).expanduser()
    try:
        found = sorted(base.iterdir())
    except OSError:
        return
    for path in found:
        if not path.name.startswith("."):
            name = f"{folder}/{path.name}" if folder or current.startswith("/") else path.name
            yield name + ("/" if path.is_dir() else "")
