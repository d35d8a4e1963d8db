"""Processes that measure cells of a phase grid side by side (`phases.worker`)."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import IO

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.landscape.phase_grid import CellResult
from lsshell.sessions.phases.cells import CellJob, Laboratory, result_of


class Processes:
    """So many processes, which each measure a cell at a time; killed when this closes.

    Killing is safe: all that they give goes through this process. They die with it.
    """

    def __init__(
        self, laboratory: Laboratory, count: int, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        self._laboratory, self._cancelled = laboratory, cancelled
        self._all = [_Process() for _ in range(count)]
        self._idle = list(self._all)
        self._lock = threading.Lock()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._all:
            process.close()

    def measure(
        self, cells: Mapping[int, CellJob], keep: Callable[[int, CellResult], None]
    ) -> None:
        """Tells `keep` of each result as it comes; raises what the first one that fails raises."""
        with ThreadPoolExecutor(len(self._all)) as pool:
            waiting = {pool.submit(self._one, job): k for k, job in cells.items()}
            try:
                while waiting:
                    if self._cancelled():
                        raise Cancelled
                    done, _ = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
                    for future in [f for f in waiting if f in done]:  # the first asked for first
                        keep(waiting.pop(future), future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in self._all:
                    process.kill()
                raise

    def _one(self, job: CellJob) -> CellResult:
        with self._lock:
            process = self._idle.pop()
        try:
            return process.measure(self._laboratory, job)
        finally:  # also where it has failed: the next cell may be asked for before that is heard of
            with self._lock:
                self._idle.append(process)


class _Process:
    """A process, with what it writes besides answers in a file, which takes any length."""

    def __init__(self) -> None:
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lsshell.sessions.phases.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for this process to hear
        )
        self._equipped = False

    def measure(self, laboratory: Laboratory, job: CellJob) -> CellResult:
        """Sends the data with the first cell only."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        said = b""
        with suppress(OSError):
            if not self._equipped:
                pickle.dump(laboratory, stdin)
                self._equipped = True
            pickle.dump(job, stdin)
            stdin.flush()
            said = stdout.readline()
        if not said.endswith(b"\n"):
            raise EngineError(f"the process of {job.name} ended: {self._last_words()}")
        answer = json.loads(said)
        if "error" in answer:
            raise EngineError(answer["error"])
        return result_of(answer)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.kill()
        with suppress(OSError):  # what it was sent and did not read
            self._process.communicate()
        self._words.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it was killed"
