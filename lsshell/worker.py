"""Executes lines one after another in a thread of its own, so that the screen never waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsshell.ending import Background

if TYPE_CHECKING:
    from lsshell.engine.events import Event, Pictured, Progress
    from lsshell.sessions.replay import Compared
    from lsshell.sessions.reply import Outcome
    from lsshell.sessions.session import Session

TYPED = "<app>"
# During a walk these take effect at its next step, and the walk goes on ...
BETWEEN_STEPS = frozenset(
    ("reg", "branch", "measure", "plot", "path", "export", "save", "status", "history", "help")
)
INSTEAD = frozenset(("goto", "undo"))  # ... these end it; all others wait until it has ended.
# What is left of a paused walk is no more once one of these has been done.
ENDS_A_WALK = INSTEAD | frozenset(
    ("walk", "level", "load", "train", "model", "data", "dtype", "device", "source", "new",
     "resume", "replay", "wander", "bridge", "regularization-path")
)  # fmt: skip


@dataclass(eq=False)
class Job:
    """A line to execute. Those of one group fall with the first of them that fails.

    model: whether the next `run` repeats it; neither a single step nor the rest of a walk is one.
    single: a step of a walk that may be paused, whose rest it shortens.
    """

    text: str
    group: int
    model: bool = True
    single: bool = False
    began: float = 0.0
    of: int = 0  # steps of the walk

    @property
    def word(self) -> str:
        return self.text.split(maxsplit=1)[0] if self.text.strip() else ""


@dataclass(frozen=True)
class Said:
    """Something for the log: an outcome, or a notice with no command.

    at: the point of the path that the session stood at once the command was done.
    """

    outcome: Outcome | None = None
    notice: str = ""
    error: bool = False
    at: str = ""


@dataclass
class Worker:
    """One session and the thread that it is executed in.

    Everything public may be called from the screen's thread. `wake` is called, in the worker's
    thread, when there is something to show that should not wait for the next tick.
    """

    wake: Callable[[], None]
    folder: Path | None = None
    assignments: tuple[str, ...] = ()
    session: Session | None = None
    ready: bool = False  # torch is there
    running: Job | None = None
    rest: str | None = None  # what is left of a walk that was paused
    last_walk: str = "walk"
    progress: Progress | None = None
    picture: Pictured | None = None  # that the command under way makes, as it is by now
    changes: int = 0  # events heard: something is new on the path
    said: deque[Said] = field(default_factory=deque)
    compared: deque[Compared] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._queue: deque[Job] = deque()
        self._held: deque[Job] = deque()  # what waits behind the rest of a paused walk
        self._slipped: deque[Job] = deque()
        self._goes_on = False
        self._going_on: Job | None = None  # the rest of the walk that jobs have slipped into
        self._stopping = False
        self._ended = False
        self._group = 0
        self._number = 0
        self._changed = threading.Condition()
        self._thread = Background(self._run, "engine")

    # -- from the screen ---------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread, which imports torch first: after the first frame."""
        self._thread.start()

    def submit(self, *lines: str, at_once: bool = False) -> None:
        """Executes lines in turn; during a walk, what can take effect at its next step does.

        `at_once`: that even where other lines wait already (a click: who clicks does not queue).
        """
        with self._changed:
            self._group += 1
            in_turn = False  # no line overtakes one that it came with
            for text in lines:
                job = Job(text, self._group)
                others = any(j is not self._going_on for j in self._queue)
                in_turn = in_turn or not ((at_once or not others) and self._slips(job))
                if in_turn:
                    self._queue.append(job)
            self._changed.notify_all()
        self.insist()

    def _slips(self, job: Job) -> bool:
        """Puts a job between two steps of the walk under way, where it can go there."""
        if job.word not in BETWEEN_STEPS | INSTEAD or self._stopping:
            return False
        if self.running is not None and self.running.word == "walk":
            self._goes_on = (self._goes_on or not self._slipped) and job.word not in INSTEAD
            self._slipped.append(job)
            return True
        rest = self._going_on
        if rest is None or rest not in self._queue:
            return False
        self._queue.insert(self._queue.index(rest), job)  # the walk stands between two steps now
        if job.word in INSTEAD:
            self._put_by()
        return True

    def _put_by(self) -> None:
        """The walk that would go on does not: what is left of it waits for `run`."""
        if self._going_on is not None and self._going_on in self._queue:
            self._queue.remove(self._going_on)
            self.rest = self._going_on.text
        self._going_on = None

    def pause(self) -> None:
        """Ends the walk under way after its step; `run` goes on with the rest of it."""
        with self._changed:
            self._put_by()
            walks = self.running is not None and self.running.word == "walk"
            if not walks and self._queue and self._queue[0].word == "walk":
                self.rest = self._queue.popleft().text  # not begun yet
            if walks:
                self._goes_on = False
                self._slipped.append(Job("", self._group))
        self.insist()

    def stop(self) -> None:
        """Ends what is under way at a valid point, and drops what waits."""
        with self._changed:
            self._put_by()
            self._queue.clear()
            self._held.clear()
            self._slipped.clear()
            self._stopping = self.running is not None
        self.insist()

    def insist(self) -> None:
        """Passes a wish to pause or stop on; again at each tick, lest it came too early."""
        with self._changed:  # so that it meets this job and not the next
            if self.session is None or self.running is None:
                return
            if self._stopping:
                self.session.cancel()
            elif self._slipped:
                self.session.pause()

    def run(self) -> None:
        """The rest of a paused walk and what waited behind it, or a walk like the last one."""
        with self._changed:
            self._group += 1
            text, self.rest = self.rest or self.last_walk, None
            self._queue.append(Job(text, self._group, model=False))
            self._queue.extend(self._held)
            self._held.clear()
            self._changed.notify_all()

    def step(self) -> None:
        """One step in the manner of the paused or the last walk."""
        from lsshell.sessions.remainder import one_step

        with self._changed:
            self._group += 1
            text = one_step(self.rest or self.last_walk, self._variables())
            self._queue.append(Job(text, self._group, model=False, single=True))
            self._changed.notify_all()

    @property
    def waiting(self) -> tuple[str, ...]:
        """Lines that are not begun yet."""
        with self._changed:
            return tuple(j.text for j in (*self._slipped, *self._queue, *self._held) if j.text)

    @property
    def walking(self) -> bool:
        """Whether a walk is under way, or comes next."""
        with self._changed:
            following = self._queue[0] if self._queue else None
            return any(j is not None and j.word == "walk" for j in (self.running, following))

    @property
    def idle(self) -> bool:
        """Nothing under way and nothing waiting."""
        with self._changed:
            return self.running is None and not self._queue and not self._slipped

    def close(self, timeout: float = 10.0) -> str:
        """Stops at a valid point and closes the session; the folder it is in, or nothing."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:
            self.stop()
            self._thread.join(0.05)
        session = self.session
        if session is None or session.journal is None:
            return ""
        folder = str(session.folder)
        session.close()
        return folder

    # -- in the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        from lsshell.sessions.errors import CommandError
        from lsshell.sessions.session import Session

        session = Session(self.folder, listen=self._hear)
        session.compared = self.compared.append
        try:
            for text in self.assignments:
                session.set_variable(text)
        except CommandError as e:
            self._notice(str(e), error=True)
        self.session = session
        self.wake()
        try:
            # What takes long is imported here; plotext for the screen, which is to draw at once.
            import plotext  # noqa: F401

            import lsshell.engine.engine  # noqa: F401
        except ImportError as e:
            self._notice(f"torch cannot be imported: {e}", error=True)
        self.ready = True
        self.wake()
        while (job := self._next()) is not None:
            self._execute(session, job)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._queue and not self._ended:
                self._changed.wait()
            if self._ended:
                return None
            job = self._queue.popleft()
            job.began = time.monotonic()
            self.running, self._stopping = job, False
        self.wake()
        return job

    def _execute(self, session: Session, job: Job) -> None:
        from lsshell.sessions.errors import SessionError
        from lsshell.sessions.language import Line

        self._number += 1
        outcome: Outcome | None = None
        ok = False
        try:
            outcome = session.execute(Line(TYPED, self._number, job.text), self._outcome)
            ok = outcome is None or outcome.ok
        except SessionError as e:
            self._notice(str(e), error=True)
        except Exception as e:  # a defect of ours: the session stands, and the screen says so
            self._notice(f"unexpected {type(e).__name__}: {e}", error=True)
        with self._changed:
            self.running, self.progress, self.picture = None, None, None
            if not ok:
                self._queue = deque(j for j in self._queue if j.group != job.group)
            self._after(session, job, outcome if ok else None)
            self.changes += 1
        self.wake()

    def _after(self, session: Session, job: Job, outcome: Outcome | None) -> None:
        """What follows a job: the commands that slipped in between two steps, and the rest.

        `outcome`: None where it failed.
        """
        slipped = [j for j in self._slipped if j.text]
        paused, goes_on, stopped = bool(self._slipped), self._goes_on, self._stopping
        self._slipped.clear()
        self._goes_on = self._stopping = False
        if outcome is not None and job.word in ENDS_A_WALK:
            self._set_rest(session, job, outcome)
        if stopped:
            return
        follow = [*slipped]
        if paused and self.rest is not None:
            if goes_on:
                self._going_on = Job(self.rest, job.group, model=False)
                follow.append(self._going_on)
                self.rest = None
            else:  # what waited for the walk's end waits on
                self._held.extend(self._queue)
                self._queue.clear()
        self._queue.extendleft(reversed(follow))
        if job.word == "reg":
            self._hold_back(session)

    def _set_rest(self, session: Session, job: Job, outcome: Outcome) -> None:
        """What is left of a walk once this job is done."""
        taken = int(outcome.reply.values.get("steps", 0)) if outcome.reply is not None else 0
        cut_short = outcome.reply is not None and outcome.reply.interrupted
        if job.word == "walk" and job.single:
            self.rest = self._without_one(self.rest) if self.rest and taken else self.rest
        elif job.word == "walk" and cut_short:
            self.rest = self._rest(job, taken)
        elif job.word in ("new", "resume"):
            self._resumed(session)
        else:
            self.rest = None
        if self.rest is None and self._held:
            lines = ", ".join(j.text for j in self._held)
            self._held.clear()
            self._notice(f"no more waiting for the end of that walk: {lines}")

    def _hold_back(self, session: Session) -> None:
        """With nothing to descend, the rest of the walk waits for `run`."""
        held = self._going_on
        if held is None or held not in self._queue or session.engine.sum.terms:
            return
        before = list(self._queue)[: self._queue.index(held)]
        if not any(j.word == "reg" for j in before):  # which may switch one on
            self._put_by()
            self._notice("no regulariser is on: the walk waits until one is, and is run on")

    def _resumed(self, session: Session) -> None:
        """What the session that was opened has left of its last walk, and what that one was."""
        from lsshell.sessions.journal import read_record
        from lsshell.sessions.remainder import rest_of_record

        self.rest, self.last_walk = None, "walk"
        if session.journal is None:  # a new one
            return
        entries = read_record(session.journal.folder).entries
        walks = [e.line.text for e in entries if e.line.text.split()[0] == "walk"]
        self.last_walk = walks[-1] if walks else "walk"
        self.rest = rest_of_record(entries, session.engine.default_steps, BETWEEN_STEPS)

    def _rest(self, job: Job, taken: int) -> str | None:
        from lsshell.sessions.remainder import rest_of_walk

        if taken == 0:
            return job.text
        seconds = time.monotonic() - job.began
        return rest_of_walk(job.text, self._variables(), taken=taken, of=job.of, seconds=seconds)

    def _without_one(self, rest: str) -> str | None:
        from lsshell.sessions.remainder import asked_steps, rest_of_walk

        of = asked_steps(rest, self._variables())
        if of is None:  # paused before its first step: it still says what it said
            return rest
        return rest_of_walk(rest, self._variables(), taken=1, of=of, seconds=0.0)

    def _variables(self) -> Mapping[str, str]:
        return self.session.variables if self.session is not None else {}

    def _outcome(self, outcome: Outcome) -> None:
        job = self.running
        if outcome.command == "walk" and outcome.ok and (job is None or job.model):
            self.last_walk = outcome.line.text.strip()
        session = self.session
        here = session.engine.path.here if session is not None and session.has_engine else None
        self.picture = None  # who has heard of the end sees nothing under way any more
        self.said.append(Said(outcome, at=here.name if here is not None else ""))
        self.wake()

    def _notice(self, text: str, *, error: bool = False) -> None:
        self.said.append(Said(notice=text, error=error))
        self.wake()

    def _hear(self, event: Event) -> None:
        """In the middle of a walk: as little as can be."""
        if hasattr(event, "limits"):  # only Pictured has them
            self.picture = event
            return
        done: Any = getattr(event, "done", None)
        if done is None:
            self.changes += 1
            if hasattr(event, "what"):  # only Noticed has it
                self._notice(str(event))
            return
        self.progress = event  # type: ignore[assignment] - only Progress has `done`
        job = self.running
        if job is not None and job.word == "walk":
            job.of = event.total  # type: ignore[union-attr]
