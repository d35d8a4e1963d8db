"""Jobs of a batch as tasks of Ray: on this machine, or on the hosts of a cluster."""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lsshell.sessions.batch_engine import Ended, Engine, Workers, run_process
from lsshell.sessions.batch_record import Job, move_aside
from lsshell.sessions.errors import SessionError

RETRIES = 3  # of a job whose worker died
OBJECT_STORE = 100_000_000  # bytes of a local Ray's; jobs and what they wrote are text
ANSWER_WITHIN = 30  # seconds for a cluster to answer
UNLOCK_WITHIN = 30  # seconds for a job of a worker that died to be gone

# Ray says nothing in the terminal and sends nothing home. Read when it is imported.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` too, workers have what their host has
    "RAY_task_oom_retries": str(RETRIES),
}
SILENT: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
PROBE = """
import sys, logging, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
except Exception as e:
    print(e)
    while e.__cause__ is not None:
        e = e.__cause__
    print(str(e).strip().rpartition("\\n")[2])
    sys.exit(1)
"""


def ray_engine(
    *,
    address: str | None = None,
    at_a_time: int | None = None,
    gpus: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Engine:
    """Jobs as Ray tasks that each ask for CPUs, and a GPU where there are any.

    address: HOST:PORT of a cluster, or `auto` for the one that this host is of; None starts a
    Ray on this machine, and ends it.
    at_a_time: the most jobs at a time; None: as many as there is room for.
    gpus: the share of a GPU for a job, 0 to 1; None: 1 where the cluster has any GPU.
    say: told how many run at a time, and on what.

    CPUs are shared out among the jobs that run at a time (see `share`). A job whose worker dies
    is run again, up to 3 times, in a new session folder; the old one is kept as .cut-off-1. The
    folder of the batch and the working directory must be on a file system that all hosts share.
    Raises SessionError where Ray is not installed or no cluster answers.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as e:
        raise SessionError(
            f"--engine ray needs Ray: `pip install 'lsshell[ray]'` installs it ({e})"
        ) from e
    if address is not None:
        _require_answer(address)

    @contextmanager
    def opened(folder: Path, jobs: int, cancelled: threading.Event) -> Iterator[Workers]:
        with _connected(address), _marked(folder) as marker:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            each = gpus if gpus is not None else float(any(n.get("GPU") for n in nodes))
            count, cpus = share(nodes, min(jobs, at_a_time or jobs), each)
            say(_about(count, cpus, each, len(nodes)))
            environment = {"OMP_NUM_THREADS": str(cpus)}
            if gpus == 0:  # whatever Ray lets its workers see
                environment["CUDA_VISIBLE_DEVICES"] = ""
            task = ray.remote(num_cpus=cpus, num_gpus=each, max_retries=RETRIES)(_run_job)

            def run(job: Job) -> Ended:
                named = task.options(name=f"lsshell {job.folder.name}")
                return _result(named.remote(job, environment, marker, Path.cwd()), cancelled)

            yield Workers(count, run)

    return opened


def share(nodes: Sequence[Mapping[str, float]], most: int, gpus: float) -> tuple[int, int]:
    """How many jobs, at most `most`, have room at a time, and the most CPUs that each can have.

    nodes: the resources of each host, CPU and GPU; a job lies on one host, with `gpus` of a GPU
    and at least one CPU. Raises SessionError where there is no room for one.
    """

    def room(cpus: int) -> int:
        # 1e-4 is the grain of Ray's shares.
        by_gpu = [math.floor(n.get("GPU", 0) / gpus + 1e-4) if gpus else math.inf for n in nodes]
        by_cpu = [n.get("CPU", 0) // cpus for n in nodes]
        return int(sum(map(min, by_cpu, by_gpu)))

    count = min(most, room(1))
    if count < 1:
        raise SessionError(
            f"no host of the cluster has room for a job of {_resources(1, gpus)}"
            + ("; `--gpus 0` runs without" if gpus else "")
        )
    largest = int(max(n.get("CPU", 0) for n in nodes))
    return count, next(cpus for cpus in range(largest, 0, -1) if room(cpus) >= count)


def _resources(cpus: int, gpus: float) -> str:
    cpu = f"{cpus} CPU{'s' * (cpus != 1)}"
    return f"{cpu} and {gpus:g} GPU" if gpus else cpu


def _about(count: int, cpus: int, gpus: float, hosts: int) -> str:
    where = f"{hosts} host{'s' * (hosts != 1)}"
    return f"Ray: up to {count} at a time on {where}, {_resources(cpus, gpus)} each"


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """A Ray to run tasks; one that this process is connected to already is used, and stays."""
    import ray

    if ray.is_initialized():
        yield
        return
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    local = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        ray.init(address=address or "local", **SILENT, **({} if address else local))
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as e:
        raise SessionError(f"Ray cannot be started: {_last_line(e)}") from e
    try:
        if main and handler is not None:
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which exits
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Asks a process of its own, as Ray would try for minutes, and write about it all the while."""
    if "://" in address:
        raise SessionError(
            f"{address} is not HOST:PORT: run the batch on a host of the cluster, with its address"
            " or `--address auto`"
        )
    host, colon, port = address.rpartition(":")
    if address != "auto" and not (host and colon and port.isdecimal() and int(port) < 2**16):
        raise SessionError(f"--address must be HOST:PORT or auto, not {address!r}")
    try:
        if address != "auto":
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        words = [sys.executable, "-c", PROBE, address]
        found = subprocess.run(
            words, timeout=ANSWER_WITHIN, capture_output=True, text=True, check=False
        )
    except OSError as e:
        raise SessionError(f"no Ray cluster at {address}: {e.strerror or e}") from e
    except subprocess.TimeoutExpired as e:
        raise SessionError(
            f"no Ray cluster answered at {address} within {ANSWER_WITHIN} s; `ray status --address"
            f" {address}` on one of its hosts tells more"
        ) from e
    if found.returncode != 0:
        said = (found.stdout or found.stderr).splitlines()
        why = ". ".join(dict.fromkeys(line.strip().rstrip(".") for line in said if line.strip()))
        raise SessionError(f"no Ray cluster to be used at {address}: {why}")


@contextmanager
def _marked(folder: Path) -> Iterator[Path]:
    """A file by which a worker knows that it sees this folder, and not its namesake."""
    for left in folder.glob(".ray-*"):
        left.unlink(missing_ok=True)
    marker = folder.resolve() / f".ray-{secrets.token_hex(8)}"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _result(reference: Any, cancelled: threading.Event) -> Ended:
    """What the task gives; cancelled, it is told and waited for."""
    import ray

    told = False
    while not ray.wait([reference], timeout=0.5)[0]:
        if cancelled.is_set() and not told:
            ray.cancel(reference, force=False)
            told = True
    try:
        return ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return _failed("cancelled before it had ended")
    except ray.exceptions.OutOfMemoryError:
        return _failed(f"its host ran out of memory in each of {RETRIES + 1} attempts")
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError):
        return _failed(f"its worker died in each of {RETRIES + 1} attempts")
    except ray.exceptions.RayError as e:
        why = _last_line(e)
        if "No module named 'lsshell" in why:
            why = "the worker's host has no lsshell, or not this version of it"
        return _failed(f"Ray could not run it: {why}")


def _run_job(job: Job, environment: Mapping[str, str], marker: Path, folder: Path) -> Ended:
    """The task, in a worker: runs the job in the batch's working directory."""
    cancelled = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: cancelled.set())  # how Ray cancels a task
    try:
        if not marker.exists():
            return _failed(_unseen(marker.parent))
        if not folder.is_dir():
            return _failed(_unseen(folder))
        # Only a worker that died can have left something: the batch has made room before.
        move_aside(folder / job.folder, wait=UNLOCK_WITHIN)
        return run_process(
            job,
            environment=environment,
            cancelled=cancelled.is_set,
            program=("lsshell.sessions.ends_with_parent", str(os.getpid())),
            folder=folder,
        )
    except (SessionError, OSError) as e:
        return _failed(str(e))
    finally:
        signal.signal(signal.SIGINT, before)


def _unseen(path: Path) -> str:
    return (
        f"the worker's host {socket.gethostname()} does not see {path}: the working directory and"
        " the batch's folder must be on a file system that all hosts of the cluster share"
    )


def _failed(why: str) -> Ended:
    return Ended(1, "", why, 0.0)


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
