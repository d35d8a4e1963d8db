"""`torchrun -m lsshell run`: real processes, gloo, one thread each."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lsshell.sessions.journal import read_record
from lsshell.sessions.replay import replay
from lsshell.sessions.resume import resume
from lsshell.sessions.session import Session
from tests.sessions.conversation import results

SCRIPT = """\
threads 1
seed 3
device cpu
dtype float64
data iris
model mlp 4-8-3
train --epochs 30 --rate 0.01
level
reg l2 on
reg jacobian 0.01
walk --steps 8 --measure 2
save end
export points.csv
goto best
"""


@pytest.fixture(autouse=True)
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def torchrun(folder, *words):
    """Two ranks of `lsshell WORDS`, started in `folder`."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.Popen(
        [sys.executable, *launch, "-m", "lsshell", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, stdin=""):
    """Its exit code and what it printed."""
    out, err = process.communicate(stdin, timeout=240)
    return process.returncode, out, err


def steps(folder):
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_two_ranks_walk_the_path_of_one_process_and_write_one_session(tmp_path):
    (tmp_path / "walk.lss").write_text(SCRIPT)
    code, out, err = ended(torchrun(tmp_path, "run", "walk.lss", "--session", "two"))
    assert code == 0, err
    assert out.count("› ") == len(SCRIPT.splitlines())  # one of them speaks
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "end.safetensors", "points.csv", "two", "walk.lss",
    ]  # fmt: skip
    with (tmp_path / "points.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 9  # header, level, eight steps

    one = Session(tmp_path / "one")
    results(
        one,
        SCRIPT.replace("save end", f"save {tmp_path}/one-end").replace(
            "points.csv", f"{tmp_path}/one.csv"
        ),
    )
    one.close()
    pairs = list(zip(steps(tmp_path / "two"), steps(tmp_path / "one"), strict=True))
    assert len(pairs) > 9
    for two, alone in pairs:
        assert two["loss"] == pytest.approx(alone["loss"], rel=1e-7)
        assert two["regularizers"] == pytest.approx(alone["regularizers"], rel=1e-5)
        if alone["test_loss"] is not None:
            assert two["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-5)
            assert two["test_accuracy"] == alone["test_accuracy"]
        if two["level"] is not None:
            assert abs(two["loss"] - two["level"]) <= two["tolerance"]

    found = replay(tmp_path / "two", Session(tmp_path / "again"), check=True)
    assert found.failed is None
    assert found.difference is None
    assert found.elsewhere == ("ranks 2 there, 1 here",)
    assert found.compared > 20


def child_of_rank(process, rank):
    """The process id of a rank."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"rank {rank} is not there")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the rank in /proc")
def test_a_rank_that_is_killed_ends_the_others_and_the_session_goes_on(tmp_path):
    script = SCRIPT.partition("walk")[0] + "walk --steps 100000 --method paper\n"
    (tmp_path / "walk.lss").write_text(script)
    folder = tmp_path / "session"
    process = torchrun(tmp_path, "run", "walk.lss", "--session", "session")
    try:
        while process.poll() is None and not (
            (folder / "steps.jsonl").exists() and len(steps_so_far(folder)) > 6
        ):
            time.sleep(0.05)
        os.kill(child_of_rank(process, 1), signal.SIGKILL)
        code, _, err = ended(process)
    finally:
        process.kill()
    assert code != 0
    assert "walk.lss:11:6: walk: rank 1 was lost: it has ended or was killed" in err

    walked = len(read_record(folder).steps)
    session, _ = resume(folder)
    here = session.engine.path.here
    assert here.index == max(p["index"] for p in steps(folder))
    assert abs(here.loss - here.level) <= here.tolerance
    (walk,) = results(session, "walk --steps 2 --method paper")
    assert walk["end"]["step"] == here.step + 2
    session.close()
    assert len(read_record(folder).steps) >= walked + 2

    # Two ranks go on with what one went on with, and their walk is the same bits on both.
    code, out, err = ended(torchrun(tmp_path, "resume", "session"), "walk --steps 2\n")
    assert code == 0, err
    assert "2 steps taken" in out
    assert read_record(folder).header["ranks"] == "2 then 1 then 2"


def steps_so_far(folder):
    """Lines of steps.jsonl, the last of which may not be whole."""
    return (folder / "steps.jsonl").read_text().splitlines()


@pytest.mark.parametrize("words", [["repl"], ["batch", "x.lss"], []])
def test_what_is_for_one_process_is_refused_under_torchrun(words):
    found = {}
    for rank in ("0", "1"):
        found[rank] = subprocess.run(
            [sys.executable, "-m", "lsshell", *words],
            env={**os.environ, "RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert found[rank].returncode == 1
    name = f"lsshell {words[0]}" if words else "the app"
    assert found["0"].stderr == (
        f"lsshell: {name} is for one process; torchrun can start `run`, `resume` and `replay`\n"
    )
    assert found["1"].stderr == found["1"].stdout == ""
