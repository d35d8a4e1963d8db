"""Batches: every script with every combination, failures apart, one table."""

import json
import subprocess
import sys

import pytest

from lsshell.sessions.batch import Job, plan, read_matrix, results_table, run_batch
from lsshell.sessions.errors import SessionError
from tests.sessions.conversation import SETUP


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
    rows = run_batch(jobs, workers=2, folder=tmp_path / "out", finished=finished.append)
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
    (row,) = run_batch(jobs, workers=1, folder=tmp_path / "out")
    assert not row.ok
    assert "no script" in row.error
