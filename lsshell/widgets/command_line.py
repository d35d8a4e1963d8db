"""The command line: completion, history, help while typing, errors where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.suggester import Suggester
from textual.widgets import Input, OptionList, Static
from textual.widgets.input import Selection

from lsshell.widgets.messages import Say

if TYPE_CHECKING:
    from lsshell.sessions.language import Failure
    from lsshell.sessions.session import Session

MOST_OFFERED = 200


class History(Suggester):
    """The lines typed before, in this session and earlier ones; suggests the latest that fits.

    Before them comes what was `offered`: a line that the one begun for the user may grow into.
    """

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.lines: list[str] = []
        self.offered = ""
        self._at = 0
        self._draft = ""
        self._file = None

    def read(self) -> None:
        """Reads those of earlier sessions, of the REPL too: the file is the same."""
        from prompt_toolkit.history import FileHistory

        from lsshell.state_folder import history_file

        file = history_file()
        if file is not None:
            self._file = FileHistory(str(file))
            self.lines[:0] = reversed(list(self._file.load_history_strings()))
        self._at = len(self.lines)

    def add(self, line: str) -> None:
        """Takes a line that was typed."""
        if not self.lines or self.lines[-1] != line:
            self.lines.append(line)
            if self._file is not None:
                self._file.append_string(line)
        self._at = len(self.lines)

    def move(self, by: int, typed: str) -> str | None:
        """The line so many further on; None past either end."""
        if self._at == len(self.lines):
            self._draft = typed
        to = self._at + by
        if not 0 <= to <= len(self.lines):
            return None
        self._at = to
        return self._draft if to == len(self.lines) else self.lines[to]

    async def get_suggestion(self, value: str) -> str | None:
        if self.offered.startswith(value):
            return self.offered
        return next((line for line in reversed(self.lines) if line.startswith(value)), None)


class CommandInput(Input):
    """One line of input. Tab completes; up and down look through the history."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete", priority=False),
        Binding("up", "history(-1)", "Earlier", show=False),
        Binding("down", "history(1)", "Later", show=False),
        Binding("escape", "leave", "Leave", show=False),
    ]

    async def _on_key(self, event: events.Key) -> None:
        """Enter takes the line here and now: what comes after it in one go is another line."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self._line.enter()
        else:
            await super()._on_key(event)

    def _on_paste(self, event: events.Paste) -> None:
        """Whole lines are executed in turn; what comes after the last of them stays."""
        *whole, rest = event.text.splitlines() if event.text else [""]
        if event.text.endswith(("\n", "\r")):
            whole, rest = [*whole, rest], ""
        if whole:
            event.stop()
            event.prevent_default()
            self._line.enter_lines([self.value + whole[0], *whole[1:]])
            self.value, self.cursor_position = rest, len(rest)
        else:
            super()._on_paste(event)

    def action_complete(self) -> None:
        self._line.complete()

    def action_history(self, by: int) -> None:
        self._line.look_back(by)

    def action_leave(self) -> None:
        self._line.leave()

    @property
    def _line(self) -> CommandLine:
        return self.query_ancestor(CommandLine)


class CommandLine(Vertical):
    """What can come next above, the line, and below it help or what was wrong with it."""

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self.session: Session | None = None
        self.history = History()
        self._completions: list[tuple[str, int]] = []
        self._vocabulary = False
        self._wrong: tuple[str | None, Content] = (None, Content(""))  # a line, and what is wrong

    def compose(self) -> ComposeResult:
        offered = OptionList(id="offered", compact=True, markup=False)
        offered.can_focus = False
        yield offered
        yield CommandInput(
            placeholder="a command, as in walk --steps 100",
            suggester=self.history,
            id="line",
            compact=True,
            select_on_focus=False,
        )
        yield Static("", id="hint")

    @property
    def input(self) -> CommandInput:
        return self.query_one(CommandInput)

    def use(self, session: Session) -> None:
        """Completes and helps from this session on: the vocabulary is imported."""
        self.session, self._vocabulary = session, True
        self.history.read()
        self._help()

    def prefill(self, text: str, offer: str = "") -> None:
        """Puts a line there, to be changed and sent; → takes what it is offered to grow into."""
        self.history.offered = offer
        self.input.value = text
        self.input.cursor_position = len(text)
        self.input.focus()

    def show_failure(self, failure: Failure) -> None:
        """Shows an error under the place; the line is there again, unless another was begun.

        All of it is selected: another one takes its place, an arrow key goes into it.
        """
        text, caret = failure.line.text, ""
        if not self.input.value:
            self.input.value = text
            self.input.selection = Selection(0, len(text))
            room = self.input.content_size.width - len(failure.message) - 2
            caret = " " * (failure.column - 1) + "^ " if failure.column <= room else ""
        self._wrong = (self.input.value, Content.styled(f"{caret}{failure.message}", "$text-error"))
        self._help()

    # -- typing ------------------------------------------------------------------------------

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if not event.value or not self.history.offered.startswith(event.value):
            self.history.offered = ""
        self._offer([])
        self._help()

    def enter(self) -> None:
        """Takes what is highlighted in the list, or executes the line."""
        offered = self.query_one("#offered", OptionList)
        if offered.display and offered.highlighted is not None:
            self._take(offered.highlighted)
            return
        text = self.input.value.strip().lstrip(":")  # who knows vi says : once more
        if not text:
            return
        self.input.value = ""
        self._wrong = (None, Content(""))
        self.history.add(text)
        self.post_message(Say(text, typed=True))

    def enter_lines(self, lines: Sequence[str]) -> None:
        """Executes lines that were pasted; comments and blank ones are left out."""
        spoken = [t.strip() for t in lines if t.strip() and not t.strip().startswith("#")]
        for line in spoken:
            self.history.add(line)
        self.post_message(Say(*spoken, typed=True))

    def _help(self) -> None:
        """What was wrong with the line as it stands, or what can come next."""
        if self.input.value == self._wrong[0]:
            self._say(self._wrong[1])
            return
        if not self._vocabulary:
            self._say(Content.styled("commands wait until torch is there", "$text-muted"))
            return
        from lsshell.hints import hint

        before = self.input.value[: self.input.cursor_position]
        what, why = hint(before, self.session)
        self._say(Content.assemble((what, "bold"), "  " if what else "", (why, "$text-muted")))

    def _say(self, content: Content) -> None:
        self.query_one("#hint", Static).update(content)

    # -- completing --------------------------------------------------------------------------

    def complete(self) -> None:
        """Takes what is certain; offers a list where there is a choice, and walks through it."""
        offered = self.query_one("#offered", OptionList)
        if offered.display:
            offered.action_cursor_down()
            return
        if not self._vocabulary:
            return
        from lsshell.completion import complete

        before = self.input.value[: self.input.cursor_position]
        found = list(complete(before, self.session))[:MOST_OFFERED]
        if not found:
            return
        common = _common([text for text, _ in found])
        length = found[0][1]
        if len(found) == 1:
            self._replace(length, common if common.endswith(("/", "=")) else f"{common} ")
        elif len(common) > length:
            self._replace(length, common)
        else:
            self._offer(found)

    def _replace(self, length: int, text: str) -> None:
        at, value = self.input.cursor_position, self.input.value
        self.input.value = value[: at - length] + text + value[at:].lstrip(" ")
        self.input.cursor_position = at - length + len(text)

    def _offer(self, found: list[tuple[str, int]]) -> None:
        self._completions = found
        offered = self.query_one("#offered", OptionList)
        offered.clear_options()
        offered.add_options([text for text, _ in found])
        offered.display = bool(found)
        if found:
            offered.highlighted = 0

    def _take(self, index: int) -> None:
        text, length = self._completions[index]
        self._offer([])
        self._replace(length, text if text.endswith(("/", "=")) else f"{text} ")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take(event.option_index)
        self.input.focus()

    def look_back(self, by: int) -> None:
        """Up and down: through what is offered, or through the history."""
        offered = self.query_one("#offered", OptionList)
        if offered.display:
            (offered.action_cursor_up if by < 0 else offered.action_cursor_down)()
            return
        line = self.history.move(by, self.input.value)
        if line is not None:
            self.input.value = line
            self.input.cursor_position = len(line)

    def leave(self) -> None:
        """Escape: closes the list, then empties the line, then leaves it."""
        if self.query_one("#offered", OptionList).display:
            self._offer([])
        elif self.input.value:
            self.input.value = ""
        else:
            self.screen.focus_next()

    def on_blur(self, event: events.Blur) -> None:
        self._offer([])


def _common(texts: list[str]) -> str:
    first, last = min(texts), max(texts)
    k = 0
    while k < len(first) and k < len(last) and first[k] == last[k]:
        k += 1
    return first[:k]
