"""Executes lines one after another in a thread of its own, so that the screen never waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsshell.engine.events import Event, Progress
    from lsshell.sessions.replay import Compared
    from lsshell.sessions.reply import Outcome
    from lsshell.sessions.session import Session

TYPED = "<app>"
# During a walk these take effect at its next step, and the walk goes on ...
BETWEEN_STEPS = frozenset(
    ("reg", "branch", "measure", "plot", "path", "export", "save", "status", "history", "help")
)
ENDS_A_WALK = frozenset(  # what is left of a paused one is then no more
    ("walk", "level", "load", "train", "model", "data", "goto", "undo", "resume", "replay")
)
INSTEAD = frozenset(("goto", "undo"))  # ... these end it; all others wait until it has ended.


@dataclass(eq=False)
class Job:
    """A line to execute. Those of one group fall with the first of them that fails.

    model: whether the next `run` repeats it; neither a single step nor the rest of a walk is one.
    """

    text: str
    group: int
    model: bool = True
    began: float = 0.0
    steps: int = 0
    of: int = 0

    @property
    def word(self) -> str:
        return self.text.split(maxsplit=1)[0] if self.text.strip() else ""


@dataclass(frozen=True)
class Said:
    """Something for the log: an outcome, or a notice with no command."""

    outcome: Outcome | None = None
    notice: str = ""
    error: bool = False


@dataclass
class Worker:
    """One session and the thread that it is executed in.

    Everything public may be called from the screen's thread. `wake` is called, in the worker's
    thread, when there is something to show that should not wait for the next tick.
    """

    wake: Callable[[], None]
    folder: Path | None = None
    name: str = "session"
    assignments: tuple[str, ...] = ()
    session: Session | None = None
    ready: bool = False  # torch is there
    running: Job | None = None
    rest: str | None = None  # what is left of a walk that was paused
    last_walk: str = "walk"
    progress: Progress | None = None
    changes: int = 0  # events heard: something is new on the path
    said: deque[Said] = field(default_factory=deque)
    compared: deque[Compared] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._queue: deque[Job] = deque()
        self._slipped: deque[Job] = deque()
        self._goes_on = False
        self._going_on: Job | None = None  # the rest of the walk that jobs have slipped into
        self._stopping = False
        self._ended = False
        self._group = 0
        self._number = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # -- from the screen ---------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread, which imports torch first: after the first frame."""
        self._thread.start()

    def submit(self, *lines: str, model: bool = True, at_once: bool = False) -> None:
        """Executes lines in turn; during a walk, what can take effect at its next step does.

        `at_once`: that even where other lines wait already (a click: who clicks does not queue).
        """
        with self._changed:
            self._group += 1
            for text in lines:
                job = Job(text, self._group, model)
                others = [j for j in self._queue if j is not self._going_on]
                if not ((at_once or not others) and self._slips(job)):
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
            self._queue.remove(rest)
        return True

    def pause(self) -> None:
        """Ends the walk under way after its step; `run` goes on with the rest of it."""
        with self._changed:
            if self.running is not None and self.running.word == "walk":
                self._goes_on = False
                self._slipped.append(Job("", self._group))
        self.insist()

    def stop(self) -> None:
        """Ends what is under way at a valid point, and drops what waits."""
        with self._changed:
            self._queue.clear()
            self._slipped.clear()
            self._stopping = self.running is not None
        self.insist()

    def insist(self) -> None:
        """Passes a wish to pause or stop on; again at each tick, lest it came too early."""
        session = self.session
        if session is None or self.running is None:
            return
        if self._stopping:
            session.cancel()
        elif self._slipped:
            session.pause()

    def run(self) -> None:
        """The rest of a paused walk, or a walk like the last one."""
        self.submit(self.rest or self.last_walk, model=False)

    def step(self) -> None:
        """One step in the manner of the last walk."""
        from lsshell.sessions.remainder import one_step

        self.submit(one_step(self.last_walk, self._variables()), model=False)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Lines that are not begun yet."""
        with self._changed:
            return tuple(j.text for j in (*self._slipped, *self._queue) if j.text)

    @property
    def idle(self) -> bool:
        """Nothing under way and nothing waiting."""
        with self._changed:
            return self.running is None and not self._queue and not self._slipped

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

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

        session = Session(self.folder, name=self.name, listen=self._hear)
        session.compared = self.compared.append
        try:
            for text in self.assignments:
                session.set_variable(text)
        except CommandError as e:
            self._notice(str(e), error=True)
        self.session = session
        self.wake()
        try:
            import lsshell.engine.engine  # noqa: F401 - what takes long is imported here
        except ImportError as e:
            self._notice(f"torch cannot be imported: {e}", error=True)
        self.ready = True
        self.wake()
        while (job := self._next()) is not None:
            try:
                self._execute(session, job)
            except Exception as e:  # a defect of ours: the thread lives on, and the screen says so
                self.running = None
                self._notice(f"unexpected {type(e).__name__}: {e}", error=True)

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
        failed = True
        try:
            outcome = session.execute(Line(TYPED, self._number, job.text), self._outcome)
            failed = outcome is not None and not outcome.ok
        except SessionError as e:
            self._notice(str(e), error=True)
        with self._changed:
            self.running, self.progress = None, None
            if failed:
                self._queue = deque(j for j in self._queue if j.group != job.group)
            self._after(session, job, outcome)
            self.changes += 1
        self.wake()

    def _after(self, session: Session, job: Job, outcome: Outcome | None) -> None:
        """What follows a job: the commands that slipped in between two steps, and the rest."""
        slipped = [j for j in self._slipped if j.text]
        goes_on = self._goes_on
        self._slipped.clear()
        self._goes_on = False
        rest = None
        if job.word == "walk":
            self.last_walk = job.text if job.model else self.last_walk
            reply = outcome.reply if outcome is not None else None
            if reply is not None and reply.interrupted:
                rest = self._rest(job, int(reply.values.get("steps", 0)))
        if job.word == "resume" and outcome is not None and outcome.ok:
            rest = self._rest_on_disk(session)
        if job.word in ENDS_A_WALK:
            self.rest = rest
        stopped, self._stopping = self._stopping, False
        if stopped:
            return
        follow = [*slipped]
        if goes_on and rest is not None and slipped:
            self._going_on = Job(rest, job.group, model=False)
            follow.append(self._going_on)
            self.rest = None
        self._queue.extendleft(reversed(follow))
        if job.word == "reg" and not session.engine.sum.terms:
            self._hold_back()

    def _hold_back(self) -> None:
        """With nothing to descend, the rest of the walk waits for `run`."""
        held = self._going_on
        if held is not None and held in self._queue:
            self._queue.remove(held)
            self.rest = held.text
            self._notice("no regulariser is on: the walk waits until one is, and is run on")

    def _rest_on_disk(self, session: Session) -> str | None:
        """What the session that was opened has left of its last walk."""
        from lsshell.sessions.journal import read_record
        from lsshell.sessions.remainder import rest_of_record

        if session.folder is None:
            return None
        entries = read_record(session.folder).entries
        return rest_of_record(entries, session.engine.default_steps)

    def _rest(self, job: Job, taken: int) -> str | None:
        from lsshell.sessions.remainder import rest_of_walk

        if taken == 0:
            return job.text
        return rest_of_walk(
            job.text,
            self._variables(),
            taken=taken,
            of=job.of,
            seconds=time.monotonic() - job.began,
        )

    def _variables(self) -> Mapping[str, str]:
        return self.session.variables if self.session is not None else {}

    def _outcome(self, outcome: Outcome) -> None:
        self.said.append(Said(outcome))
        self.wake()

    def _notice(self, text: str, *, error: bool = False) -> None:
        self.said.append(Said(notice=text, error=error))
        self.wake()

    def _hear(self, event: Event) -> None:
        """In the middle of a walk: as little as can be."""
        done: Any = getattr(event, "done", None)
        if done is None:
            self.changes += 1
            return
        self.progress = event  # type: ignore[assignment] - only Progress has `done`
        job = self.running
        if job is not None and job.word == "walk":
            job.steps, job.of = done, event.total  # type: ignore[union-attr]
