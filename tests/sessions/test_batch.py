"""Batches: every script with every combination, failures apart, one table; begun, and finished."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
from filelock import FileLock

from lsshell.sessions import batch_local
from lsshell.sessions.batch import Job, plan, read_matrix, results_table, run_batch
from lsshell.sessions.batch_engine import Ended
from lsshell.sessions.batch_local import local_engine
from lsshell.sessions.batch_record import BatchRecord, not_ended
from lsshell.sessions.errors import SessionError
from lsshell.sessions.points import point_values
from tests.sessions.conversation import SETUP, say, talk


def test_every_script_meets_every_combination_in_a_folder_of_its_own(tmp_path):
    scripts = [tmp_path / "a.lss", tmp_path / "sub" / "a.lss"]
    jobs = plan(scripts, {"seed": ["0", "1"], "rate": ["1e-3"]}, tmp_path / "out")
    assert len(jobs) == 4
    assert len({j.folder for j in jobs}) == 4
    assert jobs[1].variables == {"seed": "1", "rate": "1e-3"}
    assert jobs[0].folder.name == "a-seed=0-rate=1e-3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = ", "not TOML"),
        ("seed = 3", "must be a list"),
        ("seed = []", "must be a list"),
        ("", "names no variables"),
    ],
)
def test_a_bad_matrix_is_refused(tmp_path, text, message):
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(SessionError, match=message):
        read_matrix(tmp_path / "m.toml")
    with pytest.raises(SessionError, match="no matrix file"):
        read_matrix(tmp_path / "n.toml")


def test_a_matrix_may_stand_under_its_own_heading(tmp_path):
    (tmp_path / "m.toml").write_text("[matrix]\nseed = [0, 1]\nname = ['x']\n")
    assert read_matrix(tmp_path / "m.toml") == {"seed": ["0", "1"], "name": ["x"]}


def test_a_failed_run_does_not_stop_the_others(tmp_path):
    good, bad = tmp_path / "good.lss", tmp_path / "bad.lss"
    good.write_text("seed ${seed}\n" + SETUP.partition("\n")[2] + "walk --steps 3\n")
    bad.write_text("data iris\nwalk\n")
    jobs = plan([bad], {}, tmp_path / "out") + plan([good], {"seed": ["1", "2"]}, tmp_path / "out")
    finished = []
    rows = run_batch(jobs, local_engine(2), folder=tmp_path / "out", finished=finished.append)
    assert [r.ok for r in rows] == [False, True, True]
    assert "bad.lss:2: walk: no network yet" in rows[0].error
    assert rows[1].point["step"] == 3
    assert rows[1].point["test_loss"] != rows[2].point["test_loss"]
    assert len(finished) == 3
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [r["ok"] for r in saved] == [False, True, True]
    table = results_table(rows)
    assert table.count("done") == 2
    assert "no network yet" in table


def test_the_command_exits_with_one_if_any_failed(tmp_path):
    (tmp_path / "bad.lss").write_text("nonsense\n")
    (tmp_path / "good.lss").write_text("seed 1\n")
    words = [sys.executable, "-m", "lsshell", "batch", "good.lss", "bad.lss", "--session", "out"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unknown command nonsense" in done.stdout
    assert (tmp_path / "out" / "good" / "session.lss").exists()


def test_a_script_that_cannot_start_is_a_failed_row(tmp_path):
    jobs = [Job(tmp_path / "none.lss", {}, tmp_path / "out" / "none")]
    (row,) = run_batch(jobs, local_engine(), folder=tmp_path / "out")
    assert not row.ok
    assert "no script" in row.error


# -- a batch run again -------------------------------------------------------------------------

# A network of one's own that is not ready before there is a file `go`, but for seed 1.
HOLDING = """
import pathlib, time, torch
def make(seed):
    pathlib.Path(f"begun-{seed}").touch()
    while seed > 1 and not pathlib.Path("go").exists():
        time.sleep(0.02)
    return torch.nn.Linear(4, 3)
"""
HELD = """\
seed ${seed}
data iris
model holding:make --seed ${seed}
train --epochs 2
"""


@pytest.fixture
def command(tmp_path):
    """Starts `lsshell batch` on a script whose runs, but that of seed 1, wait for a file `go`."""
    (tmp_path / "holding.py").write_text(HOLDING)
    (tmp_path / "held.lss").write_text(HELD)
    groups = []

    def start(*words):
        process = subprocess.Popen(
            [sys.executable, "-m", "lsshell", "batch", "held.lss", *words, "--session", "out"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        groups.append(process)
        return process

    yield start
    for process in groups:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(file, process):
    while not file.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def saved_rows(folder):
    return {row["session"].rpartition("/")[2]: row for row in rows_of(folder)}


def rows_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_batch_that_was_killed_finishes_only_what_was_missing(tmp_path, command):
    (tmp_path / "m.toml").write_text("seed = [1, 2, 3]\n")
    first = command("--matrix", "m.toml")
    wait_for(tmp_path / "begun-2", first)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    out = tmp_path / "out"
    before = saved_rows(out)
    assert {name: row["ok"] for name, row in before.items()} == {
        "held-seed=1": True,
        "held-seed=2": False,
    }
    whole, cut = (out / f"held-seed={k}" / "session.lss" for k in (1, 2))
    finished, half = whole.stat().st_mtime_ns, cut.read_text()
    assert half.endswith("model holding:make --seed 2\n")

    (tmp_path / "go").touch()
    second = command("--matrix", "m.toml", "--jobs", "2", "--json")
    printed, notices = second.communicate()
    assert second.returncode == 0, notices
    assert "1 of 3 are done already; 2 to run\n" in notices
    assert "3/3 done out/held-seed=" in notices
    rows = [json.loads(line) for line in printed.splitlines()]
    assert rows == rows_of(out)
    assert [row["variables"]["seed"] for row in rows] == ["1", "2", "3"]
    assert all(row["ok"] and row["point"]["loss"] > 0 for row in rows)
    assert rows[0] == before["held-seed=1"]
    assert whole.stat().st_mtime_ns == finished
    assert (out / "held-seed=2.cut-off-1" / "session.lss").read_text() == half
    assert cut.read_text() != half

    words = [sys.executable, "-m", "lsshell", "batch", "held.lss", "--matrix", "m.toml"]
    third = subprocess.run(
        [*words, "--session", "out"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert third.returncode == 0
    assert "3 of 3 are done already; 0 to run\n" in third.stderr
    assert third.stdout.count("done") == 3
    assert rows_of(out) == rows


def test_runs_whose_batch_is_killed_end_after_their_command(tmp_path, command):
    (tmp_path / "m.toml").write_text("seed = [2]\n")
    process = command("--matrix", "m.toml")
    wait_for(tmp_path / "begun-2", process)
    process.kill()
    process.wait()
    (tmp_path / "go").touch()
    session = tmp_path / "out" / "held-seed=2"
    with FileLock(session / ".lock", timeout=240):
        text = (session / "session.lss").read_text()
    assert "#= parameters=15" in text
    assert "train --epochs" not in text


@pytest.fixture
def ran(monkeypatch):
    """The jobs that were run, in place of running them: each ends well at once."""
    jobs = []

    def run(job, **rest):
        jobs.append(job)
        job.folder.mkdir()
        (job.folder / "session.lss").write_text("seed 1\n#= seed=1\n")
        return Ended(0, "", "", 1.5)

    monkeypatch.setattr(batch_local, "run_process", run)
    return jobs


@pytest.fixture
def script(tmp_path):
    file = tmp_path / "walk.lss"
    file.write_text("seed ${seed}\n")
    return file


def run(script, out, **matrix):
    """A batch of one script; gives its rows, and those that it says are done already."""
    done = []
    jobs = plan([script], matrix, out)
    return run_batch(jobs, local_engine(), folder=out, begun=done.extend), done


def test_jobs_not_asked_for_now_stay_on_record(tmp_path, script, ran):
    out = tmp_path / "out"
    first, _ = run(script, out, seed=["1", "2"])
    second, done = run(script, out, seed=["3", "2"])
    assert done == [first[1]]
    assert [j.variables["seed"] for j in ran] == ["1", "2", "3"]
    assert [r.variables["seed"] for r in second] == ["3", "2"]
    assert [r["variables"]["seed"] for r in rows_of(out)] == ["3", "2", "1"]


def test_a_script_that_was_changed_is_run_again_and_its_old_session_kept(tmp_path, script, ran):
    out = tmp_path / "out"
    (before,), _ = run(script, out)
    script.write_text("seed 2\n")
    (after,), done = run(script, out)
    assert not done
    assert len(ran) == 2
    assert before.sha256 != after.sha256
    assert (out / "walk.cut-off-1" / "session.lss").exists()
    assert rows_of(out) == [asdict(after)]


def test_a_row_that_does_not_know_its_script_counts_as_of_this_one(tmp_path, script, ran):
    out = tmp_path / "out"
    run(script, out)
    (row,) = rows_of(out)
    del row["sha256"]
    (out / "results.json").write_text(json.dumps([row]))
    _, done = run(script, out)
    assert len(done) == len(ran) == 1


def test_a_job_whose_session_has_gone_is_run_again(tmp_path, script, ran):
    out = tmp_path / "out"
    run(script, out)
    (out / "walk" / "session.lss").unlink()
    (out / "walk").rmdir()
    run(script, out)
    assert len(ran) == 2
    assert not list(out.glob("walk.*"))


def test_another_script_of_the_same_name_is_not_taken_for_done(tmp_path, script, ran):
    (tmp_path / "sub").mkdir()
    other = tmp_path / "sub" / "walk.lss"
    other.write_text(script.read_text())
    run(script, tmp_path / "out")
    run(other, tmp_path / "out")
    assert [j.script for j in ran] == [script, other]


def test_what_failed_is_run_again_and_what_it_left_is_never_lost(tmp_path, script, ran):
    out = tmp_path / "out"
    for k in (1, 2):
        (row,), _ = run(script, out)
        (out / "results.json").write_text(json.dumps([asdict(replace(row, ok=False))]))
        (out / "walk" / "session.lss").write_text(f"# {k}\n")
    run(script, out)
    assert (out / "walk.cut-off-1" / "session.lss").read_text() == "# 1\n"
    assert (out / "walk.cut-off-2" / "session.lss").read_text() == "# 2\n"


def test_a_session_that_is_no_batchs_is_not_moved(tmp_path):
    out = tmp_path / "out"
    talk(out / "walk", "seed 3").close()
    with (
        BatchRecord(out, []) as record,
        pytest.raises(SessionError, match="holds a session already"),
    ):
        record.make_room(Job(tmp_path / "walk.lss", {}, out / "walk"))
    assert (out / "walk" / "session.lss").exists()


def test_a_session_that_is_open_elsewhere_fails_and_the_others_run(tmp_path, script, ran):
    out = tmp_path / "out"
    jobs = plan([script], {"seed": ["1", "2"]}, out)
    with BatchRecord(out, jobs) as record:
        record.put(not_ended(jobs[0]))
    session = talk(jobs[0].folder, "seed 1\ndata iris")
    rows = run_batch(jobs, local_engine(), folder=out)
    session.close()
    assert [r.ok for r in rows] == [False, True]
    assert "still open in another process" in rows[0].error
    assert "run the batch again" in rows[0].error
    assert jobs[0].folder.exists()
    assert all(r.ok for r in run_batch(jobs, local_engine(), folder=out))
    assert [j.variables["seed"] for j in ran] == ["2", "1"]


def test_two_batches_do_not_write_one_record(tmp_path, script, ran):
    out = tmp_path / "out"
    run(script, out)
    before = (out / "results.json").read_bytes()
    with (
        BatchRecord(out, []),
        pytest.raises(SessionError, match=r"another batch is running in .*out: wait"),
    ):
        run(script, out, seed=["7"])
    assert (out / "results.json").read_bytes() == before
    run(script, out, seed=["7"])
    assert len(ran) == 2


@pytest.mark.parametrize("text", ["[", "[3]", '[{"script": "a.lss"}]', "3"])
def test_a_record_that_cannot_be_read_is_left_as_it_is(tmp_path, script, ran, text):
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.json").write_text(text)
    with pytest.raises(SessionError, match="is not the record of a batch"):
        run(script, out)
    assert (out / "results.json").read_text() == text
    assert not ran


# -- what a session tells ----------------------------------------------------------------------

SCRIPT = """\
set seed=3  # the other way round
source setup.lss

walk --steps ${steps}
quit
not reached
"""
SAID = (
    f"set seed=3  # the other way round\n{SETUP.replace('3', '${seed}', 1)}walk --steps ${{steps}}"
)


@pytest.fixture
def job(tmp_path):
    """A job that its batch began, and never wrote the end of."""
    (tmp_path / "walk.lss").write_text(SCRIPT)
    (tmp_path / "setup.lss").write_text(SETUP.replace("3", "${seed}", 1))
    (job,) = plan([tmp_path / "walk.lss"], {"steps": ["2"]}, tmp_path / "out")
    with BatchRecord(tmp_path / "out", [job]) as record:
        record.put(not_ended(job))
    return job


def found(job):
    with BatchRecord(job.folder.parent, [job]) as record:
        return record.done(job)


def test_a_session_that_ended_well_is_done_though_its_batch_wrote_no_row(tmp_path, job):
    began = time.time()
    session = talk(job.folder, SAID, variables={"steps": "2"})
    point = point_values(session.engine.path.here)
    session.close()
    row = found(job)
    assert row.ok
    assert row.error is None
    assert row.point == point
    assert 0 <= row.seconds <= time.time() - began + 1  # a session's date is in whole seconds
    assert row.sha256 == not_ended(job).sha256
    assert run_batch([job], local_engine(), folder=job.folder.parent) == [row]
    assert rows_of(job.folder.parent) == [asdict(row)]


def test_a_point_without_a_level_is_told_whole(tmp_path, job):
    job.script.write_text("data iris\nmodel mlp 4-3\ntrain --epochs 1\n")
    session = talk(job.folder, job.script.read_text())
    point = point_values(session.engine.path.here)
    session.close()
    assert found(job).point == point


def test_a_session_that_may_have_been_cut_off_is_not_done(job):
    session = talk(job.folder, SAID, variables={"steps": "2"})
    session.close()
    file = job.folder / "session.lss"
    text = file.read_text()
    before, walk, results = text.partition("walk --steps 2\n")
    cuts = {
        "before the last command": before,
        "in the last command": before + walk,
        "in its results": text[:-4],
        "by Ctrl-C": re.sub('reason="[^"]*"', 'reason="interrupted"', text),
        "by a failure": re.sub('reason="[^"]*"', 'reason="failed: no"', text),
        "after other commands": text.replace("walk --steps 2", "walk --steps 3"),
        "and went on": text + "walk --steps 2\n" + results,
    }
    for how, cut in cuts.items():
        file.write_text(cut)
        assert found(job) is None, how
    file.write_text(text)
    assert found(job) is not None


@pytest.mark.parametrize(
    "script",
    ["source walk.lss", "source none.lss", "seed 1\nhelp no", "seed 1\nnonsense", "seed ${no}", ""],
)
def test_a_script_that_tells_too_little_is_run_again(tmp_path, job, script):
    say(session := talk(job.folder, "seed 1"), "")
    session.close()
    job.script.write_text(script)
    assert found(job) is None


def test_the_command_line_sets_variables_for_every_run(tmp_path):
    script = tmp_path / "say.lss"
    script.write_text("seed ${seed}\nthreads ${count}\n")
    matrix = tmp_path / "m.toml"
    matrix.write_text("seed = [1, 2]\n")
    words = ["batch", str(script), "--matrix", str(matrix), "--set", "count=1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "lsshell", *words, "--session", str(tmp_path / "b")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["variables"] for r in rows] == [{"count": "1", "seed": s} for s in "12"]
    words[words.index("count=1")] = "count"
    done = subprocess.run([sys.executable, "-m", "lsshell", *words], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
