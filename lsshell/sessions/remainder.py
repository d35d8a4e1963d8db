"""What is left of a walk that was paused, as a line that goes on with it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from lsshell.sessions.errors import CommandError
from lsshell.sessions.language import split_words

if TYPE_CHECKING:
    from lsshell.sessions.journal import Entry

UNFINISHED = ("interrupted", "paused", "killed")


def walk_line(text: str, options: Mapping[str, str | None], variables: Mapping[str, str]) -> str:
    """The walk `text` with these options set (`steps` → "12"), or left out where None.

    Text that is no line of the language is given back as it is.
    """
    try:
        words = split_words(text, variables)
    except CommandError:
        return text
    kept: list[str] = []
    k = 0
    while k < len(words):
        word = words[k].text
        name = _option(word)
        if name in options:
            k += 1 if "=" in word else 2
            continue
        kept.append(word)
        k += 1
    for name, value in options.items():
        if value is not None:
            kept += [f"--{name}", value]
    return shlex.join(kept)


def _option(word: str) -> str:
    """The name of the option that a word gives, spelled as in the help; "" for none."""
    if not word.startswith("--"):
        return ""
    return word.removeprefix("--").partition("=")[0].replace("_", "-")


def asked_steps(text: str, variables: Mapping[str, str]) -> int | None:
    """How many steps a walk asks for; None where it does not say."""
    asked = _value(text, "steps", variables)
    return int(asked) if asked is not None and asked.isdecimal() else None


def many_walkers(text: str, variables: Mapping[str, str]) -> bool:
    """Whether a walk is one of many walkers."""
    options = [_value(text, option, variables) for option in ("runs", "each")]
    return text.split()[0] == "walk" and any(value is not None for value in options)


def rest_of_walk(
    text: str, variables: Mapping[str, str], *, taken: int, of: int, seconds: float
) -> str | None:
    """The line that takes the steps that are left; None where none are.

    None for many walkers too (--runs, --each): each can be walked on from its own branch.
    `seconds`: how long the walk took so far, off its own `--seconds`.
    """
    if taken >= of or many_walkers(text, variables):
        return None
    options: dict[str, str | None] = {"steps": str(of - taken)}
    limit = _value(text, "seconds", variables)
    if limit is not None:
        left = float(limit) - seconds
        if left <= 0:
            return None
        options["seconds"] = f"{math.ceil(10 * left) / 10:g}"
    return walk_line(text, options, variables)


def one_step(text: str, variables: Mapping[str, str]) -> str:
    """One step in the manner of this walk, wherever that one would have ended."""
    left_out = """
    until until-angle until-plateau patience seconds record measure runs each spread seed batched
    """
    return walk_line(text, {**dict.fromkeys(left_out.split()), "steps": "1"}, variables)


def rest_of_record(
    entries: Sequence[Entry],
    default_steps: Callable[[str], int],
    passing: Collection[str] = (),
) -> str | None:
    """What is left of the walk that a session ended in; None where it ended otherwise.

    `passing`: words of commands that may have come after it; `default_steps` tells how many
    steps a method takes where the line does not say.
    """
    while entries and entries[-1].line.text.split()[0] in passing:
        entries = entries[:-1]
    if not entries:
        return None
    last, results = entries[-1].line.text, entries[-1].results or {}
    if last.split()[0] != "walk" or results.get("reason") not in UNFINISHED:
        return None
    method = _value(last, "method", {}) or "quasi-newton"
    of = asked_steps(last, {}) or default_steps(method)
    return rest_of_walk(last, {}, taken=int(results.get("steps", 0)), of=of, seconds=0.0)


def _value(text: str, option: str, variables: Mapping[str, str]) -> str | None:
    """What an option is given in a line; None without it."""
    words = [word.text for word in split_words(text, variables)]
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if _option(word) == option:
            return word.partition("=")[2] or following
    return None
