"""From words to a bound call of a typed function, and from functions to help and completion."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import UnusedCliTokensError

from lsshell.engine.suggestions import did_you_mean
from lsshell.sessions.errors import CommandError
from lsshell.sessions.language import Word
from lsshell.sessions.reply import Reply

# The parameter through which a command gets its session; never parsed from the line.
FromSession = Annotated[Any, Parameter(parse=False)]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Many = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]


MOST = 1e18


@dataclass(frozen=True)
class Command:
    """A word of the vocabulary.

    kind: `setup` changes what there is to walk on and is done again at resume; `work` makes
    points and is read back from disk at resume; `move` goes along the path; `view` shows or
    writes out, `landscape` measures what is around the path; `talk` belongs to the conversation
    and is no part of the script.
    """

    name: str
    kind: str
    function: Callable[..., Reply]

    @property
    def leaves_no_trace(self) -> bool:
        """Whether the state is the same afterwards."""
        return self.kind in ("view", "landscape")


@dataclass(frozen=True)
class Option:
    """A parameter of a command: its spellings (`--steps`, or `NAME` where it has its place), what
    can be chosen, whether it takes a file or (a flag) nothing, what it is for, what it is where
    nothing is said, as it would be typed ("": nothing in particular), and whether its place may
    hold several words.
    """

    names: tuple[str, ...]
    choices: tuple[str, ...]
    wants_file: bool
    flag: bool
    required: bool
    help: str
    default: str = ""
    many: bool = False

    @property
    def positional(self) -> bool:
        return not any(name.startswith("--") for name in self.names)


class Vocabulary:
    """All commands, with one parser for every place where a line can be typed."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        self._options: dict[str, list[Option]] = {}
        self._app = App(
            name="",
            help_flags=[],
            version_flags=[],
            help_formatter="plain",
            help_format="plaintext",
        )

    def command(
        self, kind: str, name: str | None = None
    ) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
        """Adds a typed, documented function under its name."""

        def add(function: Callable[..., Reply]) -> Callable[..., Reply]:
            word = name or function.__name__
            self.commands[word] = Command(word, kind, function)
            self._app.command(function, name=word)
            return function

        return add

    def parse(self, words: list[Word]) -> tuple[Command, Callable[[Any], Reply]]:
        """The command and its call, waiting for the session; raises CommandError with a column."""
        texts = [word.text for word in words]
        if texts[0] not in self.commands:
            raise CommandError(self._unknown(texts[0]), words[0].column)
        try:
            function, bound, _ = self._app.parse_args(texts, exit_on_error=False, print_error=False)
        except CycloptsError as e:
            raise CommandError(_message(e), _column(e, words)) from e
        self._refuse_fractions(words)
        command = self.commands[texts[0]]
        return command, lambda session: function(*bound.args, **bound.kwargs, session=session)

    def _refuse_fractions(self, words: list[Word]) -> None:
        """The parser rounds: 1.5 is no number of steps."""
        arguments = self._app[words[0].text].assemble_argument_collection()
        whole = {n for a in arguments if a.hint in (int, int | None) for n in a.names}
        for word, following in zip(words, [*words[1:], words[-1]], strict=True):
            name, equals, value = word.text.partition("=")
            if name in whole:
                found = value if equals else following.text
                if not found.lstrip("+-").isdecimal():
                    column = word.column if equals else following.column
                    raise CommandError(f"{name} takes a whole number, not {found}", column)

    def _unknown(self, name: str) -> str:
        hint = did_you_mean(name, self.commands) or "; `help` lists the commands"
        return f"unknown command {name}{hint}"

    def help(self, name: str | None) -> str:
        """The list of commands, or one command's page."""
        from rich.console import Console

        if name is None:
            width = max(map(len, self.commands))
            lines = [f"{n:<{width}}  {_summary(c.function)}" for n, c in self.commands.items()]
            return "\n".join([*lines, "", "help COMMAND says more; # starts a comment."])
        if name not in self.commands:
            raise CommandError(self._unknown(name))
        out = io.StringIO()
        # As wide as any line: who prints it breaks lines for the screen at hand.
        console = Console(file=out, width=1000, no_color=True, highlight=False)
        self._app.help_print([name], console=console)
        usage, _, rest = out.getvalue().strip().partition("\n")
        return f"Usage: {usage[usage.index(f' {name}') + 1 :]}\n{rest}"

    def options(self, name: str) -> list[Option]:
        """The parameters of a command, in order: for completion and help while typing."""
        if name not in self._options:  # 3 ms, and asked for at every key
            self._options[name] = self._read_options(name)
        return self._options[name]

    def _read_options(self, name: str) -> list[Option]:
        from docstring_parser import parse

        described = {
            p.arg_name: " ".join((p.description or "").split())
            for p in parse(self.commands[name].function.__doc__ or "").params
        }
        found = []
        for argument in self._app[name].assemble_argument_collection():
            if argument.parse:
                spelled = (n for n in argument.names if "[" not in n)  # [KEYWORD]: any name
                names = tuple(n for n in spelled if not n.startswith("--empty-"))
                wants_file = argument.hint in (Path, Path | None)
                option = Option(
                    names,
                    tuple(argument.get_choices() or ()),
                    wants_file,
                    argument.hint is bool,
                    argument.required,
                    described.get(argument.field_info.name, ""),
                    "" if argument.required else _spoken(argument.field_info.default),
                    argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL,
                )
                found.append(option)
        return found

    def summary(self, name: str) -> str:
        """The first line on a command."""
        return _summary(self.commands[name].function)


def _spoken(default: Any) -> str:
    """A default as it is typed; "" for none, and for one that no word can say."""
    if isinstance(default, bool) or not isinstance(default, int | float | str | Path):
        return ""
    return str(default)


def _summary(function: Callable[..., Reply]) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]


def _message(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected {' '.join(error.unused_tokens or ())}"
    message = " ".join(str(error).split())
    return message[:1].lower() + message[1:].rstrip(".")


def _column(error: CycloptsError, words: list[Word]) -> int:
    """Where the word stands that the parser could not take; past the end for a missing one."""
    token = getattr(error, "token", None)
    wanted = [t for t in (token.value, token.keyword) if t] if token is not None else []
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        wanted = [error.unused_tokens[0]]
    for text in wanted:
        for word in reversed(words[1:]):
            if (
                word.text == text
                or word.text.startswith(f"{text}=")
                or word.text.endswith(f"={text}")
            ):
                return word.column
    last = words[-1]
    return last.column + len(last.text) if not wanted else last.column


def positive(**options: float) -> None:
    """Raises CommandError for an option that is not a number above 0 (and sane)."""
    for name, value in options.items():
        if not 0 < value < MOST:
            raise CommandError(
                f"--{name} must be above 0" + (f" and under {MOST:g}" if value > 0 else "")
            )


VOCABULARY = Vocabulary()
