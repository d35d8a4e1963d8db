"""A batch by Ray: the rows of the local engine, workers that are killed, room, words for people."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from filelock import FileLock, Timeout

from lsshell.cli import FAILED, WRONG_USAGE, run_cli
from lsshell.sessions import batch_ray
from lsshell.sessions.batch import plan, run_batch
from lsshell.sessions.batch_local import local_engine
from lsshell.sessions.batch_ray import ray_engine, share
from lsshell.sessions.batch_record import Job
from lsshell.sessions.errors import SessionError
from tests.sessions.conversation import SETUP
from tests.sessions.test_batch import HELD

ray = pytest.importorskip("ray")

SLOW_TO_START = 120  # seconds, at most


@pytest.fixture(scope="module")
def connected():
    """A Ray of two CPUs on this machine, which every batch in this process then uses."""
    ray_engine()  # what Ray reads from the environment when it is imported
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=batch_ray.OBJECT_STORE,
        **batch_ray.SILENT,
    )
    yield
    ray.shutdown()


def wait_for(found):
    """What `found` gives as soon as it is true."""
    for _ in range(100 * SLOW_TO_START):
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError


def test_the_rows_are_those_of_the_local_engine(tmp_path, connected):
    good, bad = tmp_path / "good.lss", tmp_path / "bad.lss"
    good.write_text(f"{SETUP}walk --steps ${{steps}}\n")
    bad.write_text("set k=1\nnonsense\n")
    rows, told = {}, []
    for name, engine in {"local": local_engine(2), "ray": ray_engine(say=told.append)}.items():
        jobs = plan([good, bad], {"steps": ["3"]}, tmp_path / name)
        rows[name] = run_batch(jobs, engine, folder=tmp_path / name)
        assert len(json.loads((tmp_path / name / "results.json").read_text())) == 2
    assert [row.ok for row in rows["ray"]] == [True, False]
    assert "bad.lss:2: nonsense: unknown command" in rows["ray"][1].error
    for local, by_ray in zip(rows["local"], rows["ray"], strict=True):
        assert (by_ray.point, by_ray.error, by_ray.sha256) == (
            local.point,
            local.error,
            local.sha256,
        )
    assert told == ["Ray: up to 2 at a time on 1 host, 1 CPU each"]
    left = [sorted(file.name for file in (tmp_path / name).iterdir()) for name in rows]
    assert left[0] == left[1]


def test_a_cancelled_job_ends_at_a_valid_point_and_those_to_come_do_not_begin(tmp_path, connected):
    script, out = tmp_path / "long.lss", tmp_path / "out"
    script.write_text(f"{SETUP}walk --steps 1000000 --method paper\n")
    jobs = plan([script], {"k": ["1", "2"]}, out)
    cancelled = threading.Event()
    steps = jobs[0].folder / "steps.jsonl"

    def cancel():
        try:
            wait_for(lambda: steps.exists() and steps.read_text().count("\n") > 3)
        finally:
            cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    (row,) = run_batch(jobs, ray_engine(at_a_time=1), folder=out, cancelled=cancelled)
    thread.join()
    assert "interrupted" in row.error
    assert row.point["step"] > 0
    assert 'reason="interrupted"' in (jobs[0].folder / "session.lss").read_text()
    assert not jobs[1].folder.exists()


# A network of one's own that is not ready before there is a file `go`; says who its parent is.
HOLDING = """
import os, pathlib, signal, time, torch
def make(seed):
    if seed == 0:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    pathlib.Path(f"worker-{os.getppid()}").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    return torch.nn.Linear(4, 3)
"""


@pytest.fixture
def held(tmp_path, monkeypatch):
    (tmp_path / "holding.py").write_text(HOLDING)
    (tmp_path / "held.lss").write_text(HELD)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "held.lss"


def test_a_job_whose_worker_always_dies_is_given_up(tmp_path, held, connected, monkeypatch):
    monkeypatch.setattr(batch_ray, "RETRIES", 0)
    jobs = plan([held], {"seed": ["0"]}, tmp_path / "out")
    (row,) = run_batch(jobs, ray_engine(), folder=tmp_path / "out")
    assert not row.ok
    assert row.error == "its worker died in each of 1 attempts"
    with FileLock(jobs[0].folder / ".lock", timeout=240):  # its process has died with it
        assert (jobs[0].folder / "session.lss").read_text().endswith("--seed 0\n")


def test_a_job_whose_worker_is_killed_is_run_again_and_the_terminal_hears_nothing_of_ray(
    tmp_path, held
):
    words = [sys.executable, "-m", "lsshell", "batch", "held.lss", "--set", "seed=1"]
    process = subprocess.Popen(
        [*words, "--engine", "ray", "--session", "out", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        (worker,) = wait_for(lambda: list(tmp_path.glob("worker-*")))
        session, cut = tmp_path / "out" / "held-seed=1", tmp_path / "out" / "held-seed=1.cut-off-1"
        with pytest.raises(Timeout), FileLock(session / ".lock", timeout=0):
            pass
        os.kill(int(worker.name.removeprefix("worker-")), signal.SIGKILL)
        wait_for(cut.exists)
        (tmp_path / "go").touch()
        out, err = process.communicate(timeout=SLOW_TO_START)
    finally:
        process.kill()
    assert process.returncode == 0, err
    (row,) = map(json.loads, out.splitlines())
    assert row["ok"] and row["point"]["loss"] > 0
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        "Ray",
        "1/1 done out/held-seed=1",
    ]
    assert len(list(tmp_path.glob("worker-*"))) == 2
    assert (cut / "session.lss").read_text().endswith("model holding:make --seed 1\n")
    assert (session / "session.lss").read_text().count("model holding:make") == 1


def test_a_worker_that_does_not_see_the_folders_says_who_and_which(tmp_path):
    job = Job(tmp_path / "a.lss", {}, tmp_path / "out" / "a")
    ended = batch_ray._run_job(job, {}, tmp_path / "out" / ".ray-1", tmp_path)
    assert f"the worker's host {socket.gethostname()} does not see {tmp_path}/out" in ended.err
    (tmp_path / "marker").touch()
    ended = batch_ray._run_job(job, {}, tmp_path / "marker", tmp_path / "elsewhere")
    assert f"does not see {tmp_path}/elsewhere" in ended.err
    assert ended.code == 1
    assert not job.folder.exists()


CPU_NODE, GPU_NODE = {"CPU": 32.0}, {"CPU": 96.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("nodes", "most", "gpus", "expected"),
    [
        ([CPU_NODE], 100, 0, (32, 1)),
        ([CPU_NODE, CPU_NODE], 4, 0, (4, 16)),
        ([CPU_NODE, CPU_NODE], 3, 0, (3, 16)),
        ([GPU_NODE], 100, 1, (8, 12)),
        ([GPU_NODE], 1, 1, (1, 96)),
        ([GPU_NODE], 100, 0.25, (32, 3)),
        ([GPU_NODE], 100, 0.1, (80, 1)),
        ([GPU_NODE, CPU_NODE, {}], 100, 1, (8, 12)),
        ([GPU_NODE, CPU_NODE, {}], 200, 0, (128, 1)),
        ([{"CPU": 4.0, "GPU": 8.0}], 100, 1, (4, 1)),
    ],
)
def test_jobs_share_out_what_the_hosts_have(nodes, most, gpus, expected):
    assert share(nodes, most, gpus) == expected


def test_where_there_is_no_room_it_is_said():
    with pytest.raises(SessionError, match=r"1 CPU and 1 GPU; `--gpus 0` runs without"):
        share([CPU_NODE], 4, 1)
    with pytest.raises(SessionError, match=r"no host of the cluster has room .* 1 CPU$"):
        share([{}], 4, 0)


def test_without_ray_it_is_said_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.lss").write_text("seed 1\n")
    assert run_cli(["batch", "a.lss", "--engine", "ray"]) == FAILED
    assert "`pip install 'lsshell[ray]'` installs it" in capsys.readouterr().err
    assert not (tmp_path / "sessions").exists()


@pytest.mark.parametrize(
    "address", ["ray://head:10001", "head", "head:", "head:port", "head:70000"]
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(SessionError, match="HOST:PORT"):
        ray_engine(address=address)


def test_where_no_cluster_answers_it_is_said(monkeypatch):
    monkeypatch.setattr(batch_ray, "ANSWER_WITHIN", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "127.0.0.1:{1}".format(*server.getsockname())
        with pytest.raises(SessionError, match=f"no Ray cluster answered at {address} within 1 s"):
            ray_engine(address=address)
    with pytest.raises(SessionError, match=f"no Ray cluster at {address}: Connection refused"):
        ray_engine(address=address)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--address", "auto"], "are for --engine ray"),
        (["--gpus", "1"], "are for --engine ray"),
        (["--engine", "ray", "--gpus", "2"], "from 0 to 1"),
        (["--engine", "ray", "--jobs", "0"], "--jobs at least 1"),
        (["--engine", "slurm"], "--engine"),
    ],
)
def test_wrong_usage_is_refused(tmp_path, capsys, words, message):
    assert run_cli(["batch", str(tmp_path / "a.lss"), *words]) == WRONG_USAGE
    assert message in capsys.readouterr().err
