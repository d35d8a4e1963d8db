"""Session: executes commands on an Engine, tells listeners, writes the journal."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lsshell
from lsshell.engine.events import Stepped
from lsshell.engine.ranks import ALONE, Ranks
from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.errors import DEBUG_VARIABLE, CommandError, SessionError
from lsshell.sessions.journal import (
    FORMAT,
    Journal,
    make_folder,
    new_folder,
    refuse_occupied,
    sessions_root,
)
from lsshell.sessions.language import (
    Failure,
    Line,
    Word,
    assignment,
    refuse_control,
    split_words,
    spoken,
)
from lsshell.sessions.reply import Outcome, Reply
from lsshell.sessions.results import extent

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine
    from lsshell.engine.events import Event
    from lsshell.sessions.replay import Compared

BUNDLED = Path(lsshell.__file__).parent / "bundled"


class Session:
    """One conversation with one engine.

    folder: where it is written; None makes `sessions/DATE-name` (under $LSSHELL_SESSIONS or the
    working directory) at the first command, and `record=False` writes nothing. The engine, and
    torch with it, is imported when a command first needs it. Of several `ranks` each has a session
    that executes the same lines; only the first one's writes.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        name: str = "session",
        record: bool = True,
        listen: Callable[[Event], None] = lambda event: None,
        variables: Mapping[str, str] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.folder = folder
        self.name = name
        self.ranks = ranks
        self.record = record and ranks.first
        self.listen = listen
        self.variables: dict[str, str] = dict(variables or {})
        self.history: list[str] = []
        self.journal: Journal | None = None
        self.search: list[Path] = []
        self.modules: Path | None = None  # where `model module:factory` looks; None: here
        self.step_limit: int | None = None
        self.cut_reason: str | None = None  # why the walk ended on record that step_limit cuts
        self.replaying = False
        self.pace: float | None = None  # at most so many recorded steps a second
        self.compared: Callable[[Compared], None] = lambda compared: None
        self._next_step = 0.0  # when `pace` allows it
        self._silent = False
        self._executing = self._running_again = False
        self._written: dict[Path, Path] = {}  # while replaying: what was asked for → what was made
        self._unwanted: tempfile.TemporaryDirectory[str] | None = None
        self._engine: Engine | None = None
        self._sourcing: list[Path] = []
        self._outcomes: Callable[[Outcome], None] = lambda outcome: None

    # -- the engine --------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The engine, imported and made at first use."""
        if self._engine is None:
            from lsshell.engine.engine import Engine
            from lsshell.engine.shared_points import SharedPointStore
            from lsshell.engine.store import PointStore

            folder = self.journal.points_folder if self.journal else None
            alone = self.ranks.count == 1
            store = PointStore(folder) if alone else SharedPointStore(self.ranks, folder)
            self._engine = Engine(store, self._hear, self.ranks)
        return self._engine

    @property
    def has_engine(self) -> bool:
        """Whether a command has needed the engine yet."""
        return self._engine is not None

    def _hear(self, event: Event) -> None:
        point = getattr(event, "point", None)
        if point is not None and self.journal is not None and not self._silent:
            self.journal.point(point.as_dict())
        if self.pace is not None and isinstance(event, Stepped):
            self._keep_pace(self.pace)
        self.listen(event)

    def _keep_pace(self, pace: float) -> None:
        """Waits until the step is due; no longer once the command is asked to stop."""
        left = self._next_step - time.monotonic()
        if left > 0:
            self.engine.cancel.wait(min(left, threading.TIMEOUT_MAX))
        self._next_step = time.monotonic() + 1 / pace

    def cancel(self) -> None:
        """Asks the command under way to stop at a valid point; from any thread."""
        if self._engine is not None:
            self._engine.cancel.set()

    @property
    def cancelled(self) -> bool:
        """Whether the line under way was asked to stop."""
        return self._engine is not None and self.ranks.any(self._engine.cancel.is_set())

    def pause(self) -> None:
        """Asks the walk under way to end after its step, keeping what its stepper has learned."""
        if self._engine is not None:
            self._engine.pause.set()

    # -- executing ---------------------------------------------------------------------------

    def execute(
        self, line: Line, outcome: Callable[[Outcome], None] | None = None
    ) -> Outcome | None:
        """Executes a line and tells `outcome` of it (and of each line of a sourced file).

        Within another line it may be None: whoever is told of that one. Blank lines and comments
        give None. A failure leaves the state as it was; it is in the outcome, never raised.
        SessionError is raised where the session cannot be written.
        """
        told, within = self._outcomes, self._executing
        self._outcomes, self._executing = outcome or told, True
        if not within and self._engine is not None:
            self._engine.cancel.clear()
            self._engine.pause.clear()
        try:
            return self._execute(line)
        finally:
            self._outcomes, self._executing = told, within

    def _execute(self, line: Line) -> Outcome | None:
        began = time.perf_counter()
        name, text = "", line.text.strip()
        try:
            refuse_control(line.text)
            words = split_words(line.text, self.variables)
            if not words:
                return None
            name, text = words[0].text, spoken(line.text, words)
            refuse_control(text)  # which a variable may have brought
            command, call = VOCABULARY.parse(words)
        except CommandError as e:
            return self._tell(self._failed(line, name, text, e, began, 0, begun=False))
        self.history.append(text)
        talk = command.kind == "talk" or self._silent
        try:
            if not talk:
                self.open_journal()
                if self.journal is not None:
                    self.journal.begin(text)
            with contextlib.nullcontext() if talk else self._counted():
                reply = self._call(call)
            if self.journal is not None and not talk:
                self.journal.end(self._recorded(reply))
        except CommandError as e:
            column = _place(words, str(e))
            return self._tell(self._failed(line, name, text, e, began, column, begun=not talk))
        except SessionError:
            # What stands on disk is whole, but behind: only `resume` can go on with it.
            self.close()
            raise
        except KeyboardInterrupt:
            if self.journal is not None and not talk:
                self._write_failure(text, "stopped at once")
                if self.journal.steps_of_command:
                    self.forget_walker()
            raise
        return self._tell(Outcome(line, name, time.perf_counter() - began, reply=reply))

    def _recorded(self, reply: Reply) -> Mapping[str, Any]:
        """What goes into the script; what a replay cuts short says why, to be cut short again."""
        checked = reply.checked
        taken = extent(checked)
        if self.cut_reason is None or reply.interrupted or taken != self.step_limit:
            return checked
        return {**checked, "reason": self.cut_reason}

    def forget_walker(self) -> None:
        """The next walk knows nothing of the last, here and wherever this session is replayed."""
        if self.journal is not None:
            self.journal.note("resumed")
        self.engine.forget_walker()

    def _tell(self, outcome: Outcome) -> Outcome:
        self._outcomes(outcome)
        return outcome

    def _call(self, call: Callable[[Session], Reply]) -> Reply:
        """Runs a command; everything a user can cause comes out as CommandError."""
        from lsshell.engine.errors import Cancelled, EngineError, RanksError

        try:
            return call(self)
        except (EngineError, RanksError) as e:
            raise CommandError(str(e)) from e
        except Cancelled as e:
            raise CommandError("interrupted; nothing was changed") from e
        except MemoryError as e:
            raise CommandError("out of memory: a smaller --chunk or --memory helps") from e
        except CommandError:
            raise
        except Exception as e:
            if "out of memory" in str(e):
                raise CommandError(
                    f"out of memory on {self.engine.device}: a smaller --chunk (data) or --memory"
                    " (walk) helps"
                ) from e
            if DEBUG_VARIABLE in os.environ or isinstance(e, SessionError):
                raise
            raise CommandError(_defect(e)) from e

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """What fails with nothing on record costs the walk no gradients: no replay spends them."""
        path = None if self._engine is None else self._engine.path
        problem = None if self._engine is None else self._engine.problem
        spent = 0.0 if problem is None else problem.work
        recorded = 0 if path is None else path.next_index
        try:
            yield
        except BaseException:
            if problem is not None and path is not None and path.next_index == recorded:
                problem.work = spent
            raise

    def _failed(
        self,
        line: Line,
        name: str,
        text: str,
        error: CommandError,
        began: float,
        column: int,
        *,
        begun: bool,
    ) -> Outcome:
        failure = Failure(line, error.column or column or 1, name, str(error))
        if self.journal is not None and begun:
            self._write_failure(text, failure.message)
        return Outcome(line, name, time.perf_counter() - began, failure=failure)

    def _write_failure(self, text: str, message: str) -> None:
        """A walk that failed after some steps stays in the script, as far as it came."""
        assert self.journal is not None
        if self.journal.steps_of_command:
            steps = self.journal.steps_of_command
            self.journal.end({"steps": steps, "reason": f"failed: {message}"})
        else:
            self.journal.fail(text, message)

    def source(self, file: Path) -> Reply:
        """Executes a script's lines here; stops at its first failure."""
        path = self.find(file)
        if path.resolve() in self._sourcing:
            chain = " → ".join(p.name for p in [*self._sourcing, path])
            raise CommandError(f"{file} includes itself ({chain})")
        lines = read_lines(path)
        self._sourcing.append(path.resolve())
        try:
            for line in lines:
                if self.cancelled:
                    return Reply({"file": str(file)}, interrupted=True)
                outcome = self._execute(line)
                if outcome is not None and outcome.failure is not None:
                    raise CommandError(f"stopped at {outcome.failure}")
                if outcome is not None and outcome.reply is not None:
                    if outcome.reply.interrupted:
                        return Reply({"file": str(file)}, interrupted=True)
                    if outcome.reply.quits:
                        break
        finally:
            self._sourcing.pop()
        return Reply({"file": str(file)})

    def begin_script(self, path: Path) -> None:
        """The lines that follow are those of this script: it may not include itself."""
        self._sourcing.append(path.resolve())

    def set_variable(self, text: str) -> tuple[str, str]:
        """`name=value` for `${name}` in later lines."""
        name, value = assignment(text)
        self.variables[name] = value
        return name, value

    # -- files -------------------------------------------------------------------------------

    def find(self, file: Path) -> Path:
        """A file to read: from the working directory, else beside the script that names it, else
        one that comes with lsshell.

        Where that is not the working directory, the session remembers the folder for replays.
        """
        file = expanded(file)
        if file.resolve() in self._written:
            return self._written[file.resolve()]
        if file.exists() and not (self.replaying and self.search):
            return file
        for base in (*(script.parent for script in reversed(self._sourcing)), *self.search):
            if (base / file).exists():
                if self.journal is not None and not self._silent:
                    self.journal.search_too(base)
                return base / file
        return BUNDLED / file if (BUNDLED / file).is_file() else file

    def search_as(self, header: Mapping[str, str]) -> None:
        """Looks for files and modules where the session of this header did."""
        folders = [header[name] for name in ("folder", "search") if name in header]
        self.search[:0] = [Path(line) for text in folders for line in text.splitlines()]
        if "folder" in header:
            self.modules = Path(header["folder"])

    def writable(self, file: Path) -> Path:
        """A file to write: as said, but inside the session's folder when replaying, and in a
        place that goes with the process on all ranks but the first.
        """
        file = expanded(file)
        if not self.ranks.first:
            if self._unwanted is None:
                self._unwanted = tempfile.TemporaryDirectory(prefix="lsshell-rank-")
            made = Path(self._unwanted.name) / f"{len(self._written)}-{file.name}"
            return self._written.setdefault(file.resolve(), made)
        if not self.replaying:
            self._written.pop(file.resolve(), None)
            return file
        if self.journal is None:
            raise CommandError(f"{file} is not written while replaying")
        outputs = self.journal.folder / "outputs"
        outputs.mkdir(exist_ok=True)
        self._written[file.resolve()] = outputs / f"{len(self._written)}-{file.name}"
        return self._written[file.resolve()]

    @contextlib.contextmanager
    def reading_back(self) -> Iterator[None]:
        """Executes without writing: what is executed stands on disk already."""
        self._silent = True
        try:
            yield
        finally:
            self._silent = False

    @contextlib.contextmanager
    def running_again(self, *, recorded: bool) -> Iterator[None]:
        """Executes a script from its beginning; `recorded` says that it is a session's."""
        before = self.replaying, self._sourcing, self._running_again
        self.replaying, self._sourcing, self._running_again = recorded, [], True
        self._next_step = 0.0
        try:
            yield
        finally:
            self.replaying, self._sourcing, self._running_again = before

    # -- one session in the place of another -------------------------------------------------

    def refuse_within(self) -> None:
        """Raises CommandError in the middle of a replay: the session it runs in must stay."""
        if self._running_again or self._silent:
            raise CommandError("this cannot be part of what is replayed or resumed")

    def take_over(self, other: Session) -> None:
        """Ends this session and goes on as `other`, which is nobody's from then on.

        Whoever is told of events, outcomes and comparisons here is told of those to come.
        """
        self.close()
        self.folder, self.name, self.record = other.folder, other.name, other.record
        self.variables, self.history = other.variables, other.history
        self.search, self.modules, self._written = other.search, other.modules, other._written
        other.engine.listen = self._hear
        self._engine = other.engine
        self.journal, other.journal = other.journal, None

    def save_as(self, folder: Path) -> None:
        """Keeps this session in a new folder: what there is so far, and all that follows.

        The old folder stays as it is. Raises SessionError, with nothing changed, where the folder
        is occupied or cannot be written.
        """
        folder = expanded(folder)
        if not self.ranks.first:
            return
        if self.journal is None:
            if not self.record:
                raise CommandError("this session is not recorded: there is nothing to keep")
            refuse_occupied(folder)
            make_folder(folder)
            self.folder = folder
            return
        old = self.journal
        self.journal = old.copied(folder)
        self.folder = folder
        if self._engine is not None:
            self._engine.path.store.folder = self.journal.points_folder
        for asked, made in self._written.items():
            if made.is_relative_to(old.folder):
                self._written[asked] = folder / made.relative_to(old.folder)
        with contextlib.suppress(OSError):
            old.close()

    # -- the journal -------------------------------------------------------------------------

    def open_journal(self) -> None:
        """Begins to write, if that is wanted and not done yet; SessionError where it cannot be."""
        if self.journal is not None or not self.record:
            return
        if self.folder is None:
            root = sessions_root()
            self.folder = new_folder(root, self.name)
        here = Path.cwd()
        begun_in = self.modules or here  # a replay finds the modules there, and so will its own
        self.journal = Journal(self.folder, header(self.ranks.count) | {"folder": str(begun_in)})
        if begun_in != here:
            self.journal.search_too(here)
        if self._engine is not None:
            self._engine.path.store.folder = self.journal.points_folder

    def adopt(self, journal: Journal) -> None:
        """Goes on writing a session that was opened again."""
        self.journal, self.folder = journal, journal.folder

    def close(self) -> None:
        """Releases the session; everything is on disk already."""
        if self.journal is not None:
            with contextlib.suppress(OSError):
                self.journal.close()
            self.journal = None
        if self._unwanted is not None:
            self._unwanted.cleanup()
            self._unwanted = None


def header(ranks: int = 1) -> dict[str, str]:
    """What a session was made with: results are bit for bit the same where all of this is.

    `ranks`: processes that walk together; another number sums in another order.
    """
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return {
        "lsshell-session": FORMAT,
        "created": f"{datetime.now(UTC).astimezone():%Y-%m-%dT%H:%M:%S%z}",
        "lsshell": version("lsshell"),
        "torch": version("torch"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()} {capability}",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": str(torch.get_num_threads()),
        "ranks": str(ranks),
        "folder": str(Path.cwd()),
    }


def _place(words: Sequence[Word], message: str) -> int:
    """The column of the word that a message starts with; otherwise of the first argument."""
    for word in words[1:]:
        if message.startswith(word.text):
            return word.column
    return words[min(1, len(words) - 1)].column


def _defect(error: Exception) -> str:
    """What nobody foresaw, in one line."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    message = (str(error).splitlines() or [""])[0]
    return (
        f"unexpected {type(error).__name__}: {message} ({Path(at.filename).name}:{at.lineno});"
        f" {DEBUG_VARIABLE}=1 shows more"
    )


def expanded(file: Path) -> Path:
    """The path with its ~ or ~USER filled in; raises CommandError for the home of nobody."""
    try:
        return file.expanduser()
    except RuntimeError as e:
        raise CommandError(f"{file}: there is no home folder {file.parts[0]}") from e


def use_threads(recorded: Mapping[str, str]) -> None:
    """As many threads as the session of this header had: another number sums in another order."""
    import torch

    if recorded.get("threads", "").isdigit():
        torch.set_num_threads(int(recorded["threads"]))


@contextlib.contextmanager
def threads_kept_on_failure() -> Iterator[None]:
    """Where the block fails, there are as many threads afterwards as before."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    except BaseException:
        torch.set_num_threads(before)
        raise


def read_lines(path: Path) -> list[Line]:
    """The lines of a script; raises CommandError where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as e:
        raise CommandError(f"no script {path}") from e
    except IsADirectoryError as e:
        raise CommandError(f"{path} is a folder, not a script") from e
    except UnicodeDecodeError as e:
        raise CommandError(f"{path} is not a text file") from e
    except OSError as e:
        raise CommandError(f"{path} cannot be read: {e.strerror}") from e
    return [Line(str(path), k, text) for k, text in enumerate(text.splitlines(), start=1)]


__all__ = ["Session", "SessionError", "header", "read_lines", "use_threads"]
