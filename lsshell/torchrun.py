"""`lsshell` as one of the processes of one walk that torchrun starts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lsshell.ending import end_at_once
from lsshell.engine.errors import RanksError
from lsshell.sessions.errors import SessionError

if TYPE_CHECKING:
    from lsshell.engine.ranks import Ranks
    from lsshell.sessions.reply import Outcome
    from lsshell.sessions.session import Session

SPREAD = ("run", "resume", "replay")  # what several processes can do together
TIMEOUT_VARIABLE, TIMEOUT = "LSSHELL_RANK_TIMEOUT", 600.0  # seconds


def started() -> bool:
    """Whether this process is one of several that torchrun started."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ


def run_rank(words: list[str], command_line: Callable[[list[str], Ranks], int]) -> None:
    """Does what the words say as one rank, and ends the process with the exit code.

    Only the first rank prints, but for a word of each on why it had to end.
    """
    rank, ranks = int(os.environ["RANK"]), None
    loud = sys.stderr
    if rank != 0:
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - as long as we live
    try:
        _refuse(words)
        ranks = _join()
        code = command_line(words, ranks)
    except RanksError as e:
        code = 1
        sys.stderr.write(f"lsshell: {e}\n")
    if rank != 0 and ranks is not None and ranks.lost:
        loud.write(f"lsshell: rank {rank} ends: {ranks.lost}\n")
        loud.flush()
    end_at_once(code)  # the process group's own ending waits for ranks that may be gone


def _refuse(words: list[str]) -> None:
    """Raises RanksError for what is for one process alone."""
    if not words or words[0] not in SPREAD:
        name = f"lsshell {words[0]}" if words else "the app"
        raise RanksError(
            f"{name} is for one process; torchrun can start `run`, `resume` and `replay`"
        )


def _join() -> Ranks:
    """Joins the others; raises RanksError where they are not alike, which bit for bit needs."""
    from lsshell.engine.ranks import join
    from lsshell.sessions.replay import DECISIVE
    from lsshell.sessions.session import header

    ranks = join(_timeout())
    mine = header(ranks.count)
    first, *others = ranks.of_all({name: mine[name] for name in DECISIVE})
    for rank, found in enumerate(others, start=1):
        for name, value in found.items():
            if value != first[name]:
                raise RanksError(
                    f"rank {rank} has {name} {value}, rank 0 {first[name]}: the ranks must be"
                    " alike, since each takes every decision by itself"
                )
    return ranks


def _timeout() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text) if text else TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < 1e6:
        raise RanksError(f"{TIMEOUT_VARIABLE}={text}: expected a number of seconds above 0")
    return seconds


class Agreement:
    """Tells of each command, and ends it on all ranks before any begins the next.

    `asked`: any of them was asked to stop, as `asked_here` says of this one.
    """

    def __init__(
        self, session: Session, say: Callable[[Outcome], None], asked_here: Callable[[], bool]
    ) -> None:
        self.session, self.say, self.asked_here = session, say, asked_here
        self.asked = False

    def __call__(self, outcome: Outcome) -> None:
        """Raises SessionError where the command ended otherwise on another rank."""
        self.say(outcome)
        failure = None if outcome.failure is None else outcome.failure.message
        try:
            self.asked |= self.session.ranks.agree(
                outcome.line.text.strip(), failure, self.asked_here(), _result(outcome)
            )
        except RanksError as e:
            raise SessionError(str(e)) from e


def _result(outcome: Outcome) -> str:
    """What a command gave that is the same on all ranks."""
    from lsshell.sessions.commands import VOCABULARY

    command = VOCABULARY.commands[outcome.command]
    if outcome.reply is None or command.leaves_no_trace or command.kind == "talk":
        return ""
    return json.dumps(outcome.reply.checked, default=str)
