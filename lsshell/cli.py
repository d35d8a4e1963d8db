"""`lsshell` with words after it: `app`, `repl`, `run`, `replay`, `resume`, `batch`, `doctor`."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.exceptions import UnusedCliTokensError

from lsshell import __version__
from lsshell.ending import end
from lsshell.engine.ranks import ALONE, Ranks
from lsshell.engine.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lsshell.printing import Printer
    from lsshell.sessions.language import Line
    from lsshell.sessions.reply import Outcome
    from lsshell.sessions.session import Session

STDIN = "<stdin>"
DONE, FAILED, WRONG_USAGE, DIFFERS, INTERRUPTED = 0, 1, 2, 3, 130

app = App(
    name="lsshell",
    help="Walk neural networks along the level sets of their training loss.",
    version=__version__,
    help_format="plaintext",
)
app.register_install_completion_command()

# Of a section of a report on a terminal; all are in its files.
MOST_SHOWN, MOST_PANELS = 3, 4
Variables = Annotated[tuple[str, ...], Parameter(name="--set", negative="")]
Flag = Annotated[bool, Parameter(negative="", show_default=False)]
# The processes that torchrun started; never parsed.
Together = Annotated[Any, Parameter(parse=False)]


def main() -> None:
    """The command `lsshell`."""
    if sys.stdout is None:  # closed by whoever called
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - as long as we live
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no terminal is too plain to be written to
            stream.reconfigure(errors="replace")
    from lsshell.torchrun import run_rank, started

    if started():
        run_rank(sys.argv[1:], run_cli)
    end(run_cli(sys.argv[1:]))


def run_cli(words: list[str], ranks: Ranks = ALONE) -> int:
    """Runs a command line, alone or as one of several ranks; returns the exit code."""
    words = [STDIN if word == "-" else word for word in words]  # no option, but standard input
    try:
        command, bound, unparsed = app.parse_args(words, exit_on_error=False, print_error=False)
        if "ranks" in unparsed:
            bound.arguments["ranks"] = ranks
        found = command(*bound.args, **bound.kwargs)
    except CycloptsError as e:
        _complain(f"{_usage_error(e, words)}\n`lsshell --help` shows how it is used.")
        return WRONG_USAGE
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone: no more words
        return FAILED
    except OSError as e:
        _complain(f"output cannot be written: {e.strerror or e}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return found if isinstance(found, int) else DONE


def _usage_error(error: CycloptsError, words: list[str]) -> str:
    if isinstance(error, UnusedCliTokensError) and not words[0].startswith("-"):
        known = [name for name in app if not name.startswith("-")]
        if words[0] not in known:
            script = f"; `lsshell run {words[0]}` runs a script" if Path(words[0]).exists() else ""
            return f"unknown command {words[0]}{did_you_mean(words[0], known)}{script}"
        return f"unexpected {' '.join(error.unused_tokens or ())}"
    return " ".join(str(error).split())


def _complain(text: str) -> None:
    sys.stderr.write(f"lsshell: {text}\n")


@app.default
def start(*, session: Path | None = None, set_: Variables = ()) -> int:
    """Open the app; on a terminal that cannot show it, the REPL.

    Parameters
    ----------
    session
        The folder to write the session to (sessions/DATE-session).
    set_
        NAME=VALUE for ${NAME} in commands. May be repeated.
    """
    from lsshell.launch import launch, refusal
    from lsshell.sessions.errors import SessionError
    from lsshell.sessions.journal import refuse_occupied

    why = refusal()
    if why is not None:
        if sys.stdin.isatty() and sys.stdout.isatty():
            _complain(why)
        return repl(session=session, set_=set_)
    try:
        if session is not None:
            refuse_occupied(session)
    except SessionError as e:
        _complain(str(e))
        return WRONG_USAGE
    return launch(session, assignments=set_)


@app.command
def repl(*, session: Path | None = None, set_: Variables = ()) -> int:
    """Open the REPL; with no terminal, read commands from standard input.

    Parameters
    ----------
    session
        The folder to write the session to (sessions/DATE-session).
    set_
        NAME=VALUE for ${NAME} in commands. May be repeated.
    """
    from lsshell.sessions.errors import CommandError, SessionError

    try:
        opened = _session(session, "session", set_)
    except (CommandError, SessionError) as e:
        _complain(str(e))
        return WRONG_USAGE
    return _converse(opened)


@app.command
def run(
    script: str,
    /,
    *,
    set_: Variables = (),
    session: Path | None = None,
    json: Flag = False,
    ranks: Together = ALONE,
) -> int:
    """Run a script; - reads it from standard input. Ends at the first failed command.

    Parameters
    ----------
    script
        FILE.lss, or -.
    set_
        NAME=VALUE for ${NAME} in the script. May be repeated.
    session
        The folder to write the session to (sessions/DATE-SCRIPT); it must not hold one.
    json
        Print one JSON object a command on standard output, and nothing else there.
    """
    from lsshell.printing import JsonPrinter, Printer
    from lsshell.sessions.errors import CommandError, SessionError
    from lsshell.sessions.session import read_lines

    printer = JsonPrinter() if json else Printer()

    def read() -> tuple[list[Line], str]:
        if script != STDIN:
            path = Path(script)
            return read_lines(path), path.stem
        return _stdin_lines(ALONE), "stdin"

    try:
        lines, name = ranks.from_first(read)
        opened = _session(session, name, set_, ranks)
    except (CommandError, SessionError) as e:
        _complain(str(e))
        return FAILED
    opened.listen = printer.hear
    if script != STDIN:
        opened.begin_script(Path(script))
    return _execute_all(opened, lines, printer)


@app.command
def replay(
    path: Path,
    /,
    *,
    check: Flag = False,
    session: Path | None = None,
    quiet: Flag = False,
    json: Flag = False,
    ranks: Together = ALONE,
) -> int:
    """Run a saved session again; with --check, compare each recorded result.

    Exit code 3 and the first difference where one differs. Results are compared bit for bit where
    versions, machine and threads are those of the record, otherwise within tolerances.

    Parameters
    ----------
    path
        A session's folder, or its session.lss.
    check
        Compare, and stop at the first difference.
    session
        Keep the new session in this folder; otherwise it is thrown away.
    quiet
        Print the verdict only.
    json
        Print one JSON object a command.
    """
    import tempfile

    from lsshell.interrupts import Interrupts
    from lsshell.printing import JsonPrinter, Printer
    from lsshell.sessions.errors import SessionError
    from lsshell.sessions.replay import replay as replay_session
    from lsshell.sessions.session import Session
    from lsshell.torchrun import Agreement

    printer = JsonPrinter() if json else Printer()
    with tempfile.TemporaryDirectory(prefix="lsshell-replay-") as temporary:
        opened = Session(session or Path(temporary) / "session", listen=printer.hear, ranks=ranks)
        say = _say_failures(printer) if quiet else printer.say
        interrupts = Interrupts(opened.cancel, patient=ranks.count > 1)
        if ranks.count > 1:
            say = Agreement(opened, say, lambda: interrupts.asked)
        try:
            with interrupts.watched():
                found = replay_session(path, opened, check=check, outcome=say)
        except SessionError as e:
            _complain(str(e))
            return FAILED
        finally:
            opened.close()
    if interrupts.asked:
        return INTERRUPTED
    if found.failed is not None:
        return FAILED
    if check and found.difference is not None:
        printer.notice(f"differs: {found.difference}")
        return DIFFERS
    if check:
        verdict, how = "identical", "bit for bit"
        if found.elsewhere:
            verdict, how = "agrees", f"within tolerances ({'; '.join(found.elsewhere)})"
        printer.notice(
            f"{verdict}: {found.compared} results of {found.commands} commands agree {how}"
        )
    return DONE


@app.command
def resume(folder: Path, /, *, repl: Flag = False, ranks: Together = ALONE) -> int:
    """Go on with a session where it ended or was killed: in the app, or by standard input.

    Parameters
    ----------
    folder
        The session's folder.
    repl
        In the REPL rather than the app.
    """
    from lsshell.launch import launch, refusal
    from lsshell.sessions.errors import SessionError
    from lsshell.sessions.resume import resume as resume_session
    from lsshell.sessions.saved import quoted

    if ranks.count > 1 and sys.stdin.isatty():
        _complain("with torchrun, `resume` takes its commands from standard input: pipe them in")
        return WRONG_USAGE
    if ranks.count == 1 and not repl and refusal() is None:
        return launch(lines=(f"resume {quoted(folder)}",))
    try:
        opened, notices = resume_session(folder, ranks=ranks)
    except SessionError as e:
        _complain(str(e))
        return FAILED
    for notice in notices:
        _complain(notice)
    here = opened.engine.path.here
    if here is not None:
        from lsshell.sessions.points import point_words

        _complain(f"at {point_words(here)}")
    return _converse(opened)


@app.command
def batch(
    *scripts: Path,
    set_: Variables = (),
    matrix: Path | None = None,
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    gpus: float | None = None,
    session: Path | None = None,
    json: Flag = False,
) -> int:
    """Run scripts side by side, each in its own process and session; a table of results at the end.

    A failed one does not stop the others; exit code 1 if any failed.

    In a folder that holds a batch already, only what is missing is run: what
    was cut off or failed, and scripts that were changed since. What there is
    of it is kept, as NAME.cut-off-1.

    Parameters
    ----------
    scripts
        FILE.lss …
    set_
        NAME=VALUE for ${NAME} in every run. May be repeated.
    matrix
        A TOML file of variables, seed = [0, 1, 2]; every combination is run.
    jobs
        How many at a time (1; by Ray: as many as there is room for).
    engine
        local: processes on this machine. ray: tasks of Ray, each with its share of the CPUs, and
        with a GPU where there are any; run again where a worker dies.
    address
        HOST:PORT of a Ray cluster, or auto on one of its hosts; the working directory and the
        session's folder must be on a file system that its hosts share. Without: Ray on this
        machine.
    gpus
        The share of a GPU that a job has by Ray, 0 to 1: 0 for none, 0.25 for four jobs on one.
    session
        The folder for the sessions and results.json (sessions/DATE-batch); to finish a batch
        that was stopped, give its folder.
    json
        Print one JSON object a run, also for those done before.
    """
    import json as json_module
    import threading
    from dataclasses import asdict

    from lsshell.interrupts import Interrupts
    from lsshell.printing import Printer
    from lsshell.sessions.batch import plan, read_matrix, results_table, run_batch
    from lsshell.sessions.batch_local import local_engine
    from lsshell.sessions.batch_ray import ray_engine
    from lsshell.sessions.batch_record import RESULTS, Row
    from lsshell.sessions.errors import CommandError, SessionError
    from lsshell.sessions.journal import new_folder, sessions_root
    from lsshell.sessions.language import assignment

    if not scripts or (jobs is not None and jobs < 1):
        _complain("batch needs at least one script, and --jobs at least 1")
        return WRONG_USAGE
    if engine == "local" and (address is not None or gpus is not None):
        _complain("--address and --gpus are for --engine ray")
        return WRONG_USAGE
    if gpus is not None and not 0 <= gpus <= 1:
        _complain("--gpus must be from 0 to 1")
        return WRONG_USAGE
    printer, cancelled = Printer(), threading.Event()
    ended: list[Row] = []
    try:
        if engine == "local":
            workers = local_engine(jobs or 1)
        else:
            workers = ray_engine(address=address, at_a_time=jobs, gpus=gpus, say=printer.notice)
        folder = session or new_folder(sessions_root(), "batch")
        variables = {name: [value] for name, value in map(assignment, set_)}
        planned = plan(scripts, variables | (read_matrix(matrix) if matrix else {}), folder)
        again, total = (folder / RESULTS).exists(), len(planned)

        def begun(done: list[Row]) -> None:
            ended.extend(done)
            if again:
                n = len(done)
                printer.notice(f"{n} of {total} are done already; {total - n} to run")

        def finished(row: Row) -> None:
            ended.append(row)
            word = "done" if row.ok else "FAILED"
            printer.notice(f"{len(ended)}/{total} {word} {row.session}")

        with Interrupts(cancelled.set).watched():
            rows = run_batch(
                planned,
                workers,
                folder=folder,
                begun=begun,
                finished=finished,
                cancelled=cancelled,
            )
    except (CommandError, SessionError, OSError) as e:
        _complain(str(e))
        return FAILED
    if json:
        for row in rows:
            sys.stdout.write(json_module.dumps(asdict(row)) + "\n")
    else:
        sys.stdout.write(f"{results_table(rows)}\nresults in {folder / RESULTS}\n")
    if cancelled.is_set():
        return INTERRUPTED
    return DONE if all(row.ok for row in rows) else FAILED


@app.command
def report(*folders: Path, out: Path | None = None, points: Flag = False) -> int:
    """Tables and figures over the sessions in some folders, those of one experiment together.

    Prints the tables; writes report.md with a CSV for each, and every figure as PNG, SVG and CSV.

    Parameters
    ----------
    folders
        Sessions, or folders that hold some: what `batch` made.
    out
        Where to write (FOLDER/report, FOLDER being the first).
    points
        Also write all kept parameters of every walk over runs, NAME-points.npz: they can be large.
    """
    from lsshell.engine.errors import EngineError
    from lsshell.figures.text import draw_text
    from lsshell.printing import Printer
    from lsshell.sessions.errors import SessionError
    from lsshell.sessions.report.layout import write_report
    from lsshell.sessions.report.report import make_report, write_points

    if not folders:
        _complain("report needs at least one folder of sessions")
        return WRONG_USAGE
    printer = Printer()
    try:
        sections = make_report(folders)
        width = min(shutil.get_terminal_size((100, 24)).columns, 120)
        for section in sections:
            sys.stdout.write(f"\n{section.title}\n{section.text}\n")
            for part in section.tables:
                sys.stdout.write(f"\n{part.caption}\n{part.text()}\n")
            for picture in section.pictures[:MOST_SHOWN]:
                sys.stdout.write(f"\n{picture.caption}\n")
                for panel in picture.panels[:MOST_PANELS]:
                    drawn = draw_text(panel, width, 16, colour=printer.colour)
                    sys.stdout.write(f"{drawn}\n")
        target = out or folders[0] / "report"
        written = write_report(target, "Report", sections)
        for file in write_points(folders, target) if points else ():
            printer.notice(f"wrote {file}")
    except (EngineError, SessionError, OSError) as e:
        _complain(str(e))
        return FAILED
    printer.notice(f"wrote {written}")
    return DONE


@app.command
def doctor(*, root: Path | None = None) -> int:
    """Show versions, devices and the data sets found.

    Parameters
    ----------
    root
        The folder of mnist, fashion-mnist and cifar10.
    """
    from lsshell.doctor import examine

    report, sound = examine(root)
    sys.stdout.write(f"{report}\n")
    return DONE if sound else FAILED


def _say_failures(printer: Printer) -> Callable[[Outcome], None]:
    def say(outcome: Outcome) -> None:
        if outcome.failure is not None:
            printer.say(outcome)

    return say


def _stdin_lines(ranks: Ranks) -> list[Line]:
    """The lines of the first rank's standard input."""
    from lsshell.sessions.language import Line

    text = ranks.from_first(sys.stdin.read)
    return [Line(STDIN, k, t) for k, t in enumerate(text.splitlines(), start=1)]


def _session(
    folder: Path | None, name: str, assignments: tuple[str, ...], ranks: Ranks = ALONE
) -> Session:
    from lsshell.sessions.journal import refuse_occupied
    from lsshell.sessions.session import Session

    if folder is not None:
        ranks.from_first(lambda: refuse_occupied(folder))
    session = Session(folder, name=name, ranks=ranks)
    for text in assignments:
        session.set_variable(text)
    return session


def _converse(session: Session) -> int:
    """The REPL on a terminal, lines of standard input otherwise."""
    ranks = session.ranks
    if ranks.count == 1 and sys.stdin.isatty() and sys.stdout.isatty():
        from lsshell.repl import Repl

        return Repl(session).run()
    from lsshell.printing import Printer
    from lsshell.sessions.language import Line

    lines: Iterable[Line]
    if ranks.count > 1:
        lines = _stdin_lines(ranks)
    else:
        lines = (Line(STDIN, k, t.rstrip("\n")) for k, t in enumerate(sys.stdin, start=1))
    printer = Printer(seen=STDIN)
    session.listen = printer.hear
    return _execute_all(session, lines, printer)


def _execute_all(session: Session, lines: Iterable[Line], printer: Printer) -> int:
    """Executes lines until one fails, quits or is interrupted; says where the session is."""
    from lsshell.interrupts import Interrupts
    from lsshell.sessions.errors import SessionError
    from lsshell.torchrun import Agreement

    code, together = DONE, session.ranks.count > 1
    interrupts = Interrupts(session.cancel, patient=together)
    agreement = Agreement(session, printer.say, lambda: interrupts.asked)
    say = agreement if together else printer.say
    try:
        for line in lines:
            with interrupts.watched():
                outcome = session.execute(line, say)
            if outcome is None:
                continue
            asked = agreement.asked if together else interrupts.asked
            if asked or (outcome.reply is not None and outcome.reply.interrupted):
                code = INTERRUPTED
            elif outcome.failure is not None:
                code = FAILED
            if code != DONE or (outcome.reply is not None and outcome.reply.quits):
                break
    except SessionError as e:
        printer.notice(f"lsshell: {e}")
        code = FAILED
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        folder = session.folder if session.journal is not None else None
        session.close()
    if code == INTERRUPTED:
        printer.notice(
            f"interrupted; `lsshell resume {shlex.quote(str(folder))}` goes on"
            if folder
            else "interrupted"
        )
    elif folder is not None:
        printer.notice(f"session in {folder}")
    return code
