"""What runs the jobs of a batch: an engine's workers, and the process that each job is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lsshell.sessions.batch_record import Job


@dataclass(frozen=True)
class Ended:
    """How a job's process ended: exit code, what it wrote, seconds of wall-clock time."""

    code: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Workers:
    """`run` runs a job to its end; `count` threads may call it at a time."""

    count: int
    run: Callable[[Job], Ended]


class Engine(Protocol):
    """Opens workers for a batch of so many jobs in a folder; they are gone when it closes.

    Once `cancelled` is set, the jobs under way end at a valid point of their sessions. Raises
    SessionError where there can be no workers.
    """

    def __call__(
        self, folder: Path, jobs: int, cancelled: threading.Event
    ) -> AbstractContextManager[Workers]: ...


def run_process(
    job: Job,
    *,
    environment: Mapping[str, str],
    cancelled: Callable[[], bool],
    program: Sequence[str] = ("lsshell",),
    folder: Path | None = None,
) -> Ended:
    """Runs `lsshell run` on the job, in `folder` (here), and interrupts it where it is cancelled.

    environment: what of it is the job's own.
    program: the module that Python runs as lsshell, with what comes before `run`.
    """
    words = [sys.executable, "-m", *program, "run", str(job.script), "--json"]
    words += ["--session", str(job.folder)]
    for name, value in job.variables.items():
        words += ["--set", f"{name}={value}"]
    began, told = time.monotonic(), False
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | environment,
    )
    while True:
        try:
            out, err = process.communicate(timeout=0.2)
            return Ended(process.returncode, out, err, round(time.monotonic() - began, 2))
        except subprocess.TimeoutExpired:
            if cancelled() and not told:
                process.terminate()
                told = True
