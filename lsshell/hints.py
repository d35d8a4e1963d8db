"""Help for the command that is being typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsshell.completion import position, typed_words
from lsshell.sessions.commands import VOCABULARY

if TYPE_CHECKING:
    from lsshell.sessions.session import Session
    from lsshell.sessions.vocabulary import Option

# Places for measures that cannot do without: of two, from the start to the current point.
_EXAMPLES = {"A": "start", "B": "here", "PLACES": "start here", "WHERE": "start here"}


def hint(text: str, session: Session | None = None) -> tuple[str, str]:
    """(what comes at the cursor, what it is for) of a line up to the cursor.

    The usage of the command, or the option whose value is being typed.
    """
    words = typed_words(text, session)
    if not words or not words[0]:
        return "", "a command: Tab completes, ↑ looks back, F1 lists them all"
    name = words[0]
    if name not in VOCABULARY.commands:
        found = [c for c in VOCABULARY.commands if c.startswith(name)]
        if len(found) == 1:
            return _usage(found[0], VOCABULARY.options(found[0])), VOCABULARY.summary(found[0])
        return "  ".join(found), "" if found else "no such command"
    options = VOCABULARY.options(name)
    named = {n: o for o in options for n in o.names}
    for word in (words[-1], *words[-2:-1]) if len(words) > 1 else ():
        spelled = word.partition("=")[0]
        if spelled in named and (word is words[-1] or not named[spelled].flag):
            option = named[spelled]
            choices = f" {' | '.join(option.choices)}" if option.choices else ""
            return f"{spelled}{choices}", option.help
    begun = [n for n in named if n.startswith(words[-1])] if words[-1].startswith("-") else []
    if begun:
        return "  ".join(begun), named[begun[0]].help if len(begun) == 1 else ""
    placed = [o for o in options if o.positional and o.names]
    at = position(words, named) if len(words) > 1 else len(placed)
    why = f"{placed[at].names[0]}: {placed[at].help}" if at < len(placed) else ""
    others = " ".join(o.names[0] for o in options if not o.positional)
    return _usage(name, options), "  ".join((why or VOCABULARY.summary(name), others)).strip()


def begun(name: str) -> str:
    """The beginning of a command's line: what has its place, as far as it goes without saying."""
    words = [name]
    for option in VOCABULARY.options(name):
        if option.positional and option.names:
            if option.required or option.many:
                return f"{' '.join(words)} "
            if not option.default:
                break
            words.append(option.default)
    return " ".join(words)


def with_defaults(name: str) -> str:
    """A command's line with every option that has a default, and places for a measure that needs
    them; "" where something else is to be said, or nothing can be.
    """
    line, options = begun(name), VOCABULARY.options(name)
    if line.endswith(" "):
        places = [o for o in options if o.positional and (o.required or o.many)]
        if VOCABULARY.commands[name].kind != "landscape" or places[0].names[0] not in _EXAMPLES:
            return ""
        line += " ".join(_EXAMPLES[o.names[0]] for o in options if o.names[0] in _EXAMPLES)
    named = [o for o in options if not o.positional and o.default]
    whole = " ".join([line, *(f"{o.names[0]} {o.default}" for o in named)])
    return whole if whole != begun(name) else ""


def page(name: str) -> str:
    """What a command does, and its options with what they are where nothing is said."""
    from docstring_parser import parse

    said = parse(VOCABULARY.commands[name].function.__doc__ or "")
    options = VOCABULARY.options(name)
    parts = [_usage(name, options), said.short_description or ""]
    parts += map(_joined, (said.long_description or "").split("\n\n"))
    lines = []
    for option in options:
        if option.names:
            default = f" = {option.default}" if option.default else ""
            choices = f"of {', '.join(option.choices)}. " if option.choices else ""
            lines += [f"  {option.names[0]}{default}", f"      {choices}{option.help}"]
    return "\n\n".join(filter(None, (*parts, "\n".join(lines))))


def _joined(paragraph: str) -> str:
    """A paragraph in one line, to be broken anew; one with indented lines (formulas) as it is."""
    indented = any(line.startswith(" ") for line in paragraph.split("\n"))
    return paragraph if indented else " ".join(paragraph.split())


def _usage(name: str, options: list[Option]) -> str:
    """`goto WHERE`, `reg [NAME] [WEIGHT]`: what has its place."""
    placed = [o for o in options if o.positional and o.names]
    words = [o.names[0] if o.required else f"[{o.names[0]}]" for o in placed]
    return " ".join([name, *words])
