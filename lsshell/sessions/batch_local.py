"""Jobs of a batch as processes on this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lsshell.sessions.batch_engine import Engine, Workers, run_process


def local_engine(at_a_time: int = 1) -> Engine:
    """So many processes at a time, which share the CPUs out among them as threads.

    Where this process is killed, each ends after its command under way, as it then has nobody to
    tell of it.
    """
    threads = max(1, (os.cpu_count() or 1) // at_a_time)

    @contextmanager
    def opened(folder: Path, jobs: int, cancelled: threading.Event) -> Iterator[Workers]:
        environment = {"OMP_NUM_THREADS": str(threads)}
        yield Workers(
            at_a_time,
            lambda job: run_process(job, environment=environment, cancelled=cancelled.is_set),
        )

    return opened
