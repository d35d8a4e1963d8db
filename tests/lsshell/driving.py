"""Drives the app by keys and mouse, without a terminal: what the tests of the app share."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Static

from lsshell.app import LsshellApp
from lsshell.engine.events import Event, Progress
from lsshell.engine.vocabulary import REGULARIZERS
from lsshell.sessions.journal import read_record
from lsshell.sessions.session import Session
from lsshell.widgets.command_line import CommandLine
from lsshell.widgets.log import Log
from lsshell.widgets.messages import Woken
from lsshell.widgets.regularizers import Regularizers
from tests.lsshell.patience import BY_THE_CLOCK, Patience

HOPS = 8  # each widget on the way hands a message on when its turn comes
WIDE = (120, 40)


def played(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs an async test in a loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Driven:
    """An app on a screen of no terminal, its hands and its eyes."""

    def __init__(self, app: LsshellApp, pilot: Pilot[int]) -> None:
        self.app = app
        self.pilot = pilot

    # -- waiting -----------------------------------------------------------------------------

    async def until(self, seen: Callable[[], object], what: str) -> None:
        """Waits until `seen()` holds."""
        patience = Patience()
        while not seen():
            assert patience.lasts(), f"never came: {what}"
            await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """Waits until a message has gone from a widget up to the app, and its effect down again."""
        for _ in range(HOPS):
            await self.pilot.pause(0.0)

    async def idle(self) -> None:
        """Waits until everything asked for is done, said and drawn."""
        await self.settle()
        worker = self.app.worker
        await self.until(lambda: worker.ready and worker.idle and not worker.said, "idleness")
        self.app.post_message(Woken())  # drawn once more: now all of it is there to be drawn
        await self.settle()

    # -- hands -------------------------------------------------------------------------------

    async def press(self, *keys: str) -> None:
        """Presses keys by name, each when the one before it has had its effect."""
        for key in keys:
            self.app.post_message(events.Key(key, key if len(key) == 1 else None))
            await self.settle()

    async def type(self, text: str) -> None:
        """Types characters where the focus is."""
        for character in text:
            self.app.post_message(events.Key(character, character))
        await self.settle()

    async def enter(self, line: str, *, wait: bool = True) -> None:
        """Types a line on the command line, and sends it."""
        await self.press("colon")
        await self.type(line)
        await self.press("enter")
        if wait:
            await self.idle()

    async def click_regularizer(self, name: str, x: int = 1) -> None:
        """Clicks at column x of a regulariser's row (within the frame, under the header)."""
        row = 2 + REGULARIZERS.index(name)
        assert await self.pilot.click(Regularizers, offset=(1 + x, row))

    async def choose_regularizer(self, name: str, *keys: str) -> None:
        """Puts the cursor on a regulariser by keys, and presses others."""
        await self.press("6", "home", *["down"] * REGULARIZERS.index(name), *keys)

    # -- eyes --------------------------------------------------------------------------------

    @property
    def session(self) -> Any:
        return self.app.worker.session

    @property
    def path(self) -> Any:
        return self.session.engine.path

    @property
    def history(self) -> list[str]:
        """Commands executed so far."""
        return list(self.session.history)

    @property
    def script(self) -> list[str]:
        """Commands in session.lss."""
        return [entry.line.text for entry in read_record(self.session.folder).entries]

    @property
    def log(self) -> str:
        """What the log shows, its lines not yet broken for the screen."""
        return "\n".join(text.plain for text in self.app._main.query_one(Log)._texts)

    @property
    def logged(self) -> list[str]:
        """The commands that the log shows."""
        return [t[2:] for t in self.log.splitlines() if t.startswith("› ")]

    @property
    def typed(self) -> CommandLine:
        return self.app._main.query_one(CommandLine)

    @property
    def hint(self) -> str:
        """What stands under the command line."""
        return str(self.typed.query_one("#hint", Static).content)

    @property
    def notices(self) -> list[str]:
        """Notices in the corner of the screen."""
        return [n.message for n in self.app._notifications]

    @contextmanager
    def holding(self, step: int) -> Iterator[Callable[[], bool]]:
        """Holds walks after this step of theirs while the block runs, or until one is cancelled.

        So that a key pressed "during a walk" is that on every machine. Gives what says whether a
        walk is held.
        """
        with held_walk(self.session, step) as held:
            yield held


@contextmanager
def held_walk(session: Session, step: int) -> Iterator[Callable[[], bool]]:
    """Holds walks of a session as `Driven.holding` does those of the app."""
    let_go, held = [], []
    hear = session.listen

    def listen(event: Event) -> None:
        hear(event)
        if isinstance(event, Progress) and event.task == "walk" and event.done == step:
            held.append(event)
            while not let_go and not session.engine.cancel.is_set():
                time.sleep(0.002)

    session.listen = listen
    try:
        yield lambda: bool(held)
    finally:
        let_go.append(True)
        session.listen = hear


@contextmanager
def held_before(session: Session, line: str) -> Iterator[Callable[[], bool]]:
    """Holds what executes a session before this line; gives what says whether it is held."""
    let_go, held = threading.Event(), threading.Event()
    execute = session.execute

    def wait_and_execute(what: Any, *rest: Any) -> Any:
        if what.text == line:
            held.set()
            assert let_go.wait(BY_THE_CLOCK)
        return execute(what, *rest)

    session.execute = wait_and_execute
    try:
        yield held.is_set
    finally:
        let_go.set()
        del session.execute


@asynccontextmanager
async def driven(
    folder: Path | None,
    *lines: str,
    size: tuple[int, int] = WIDE,
    welcome: bool = False,
    wait: bool = True,
) -> AsyncIterator[Driven]:
    """The app with its session in `folder`, in which these lines were executed first."""
    app = LsshellApp(folder, lines=lines, welcome=welcome)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lsshell.budget.LEAST", 0.0)  # what is asked for is drawn at once
        try:
            async with app.run_test(size=size) as pilot:
                hands = Driven(app, pilot)
                await hands.until(lambda: app._main.query("#log"), "the panes")
                if wait:
                    await hands.idle()
                yield hands
        finally:
            app.worker.close()
