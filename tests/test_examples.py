"""The scripts that users start from."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

import lsshell
from lsshell.sessions.batch import read_matrix
from lsshell.sessions.language import Line
from lsshell.sessions.replay import replay
from lsshell.sessions.session import Session, read_lines

EXAMPLES = Path(__file__).parent.parent / "examples"
BUNDLED = Path(lsshell.__file__).parent / "bundled"


def run(name, folder):
    session = Session(folder)
    script = EXAMPLES / name
    session.begin_script(script)
    outcomes = []
    for line in read_lines(script):
        session.execute(line, outcomes.append)
        assert not outcomes or outcomes[-1].ok, str(outcomes[-1].failure)
    session.close()
    return {o.command: o.reply.values for o in outcomes}


def test_the_quickstart_does_what_it_says_and_replays(tmp_path):
    found = run("quickstart.lss", tmp_path / "s")
    start, end = found["walk"]["start"], found["walk"]["end"]
    assert abs(end["loss"] - end["level"]) <= end["tolerance"] <= 0.011 * end["level"]
    assert end["regularizers"]["l2"] < 0.26 * start["regularizers"]["l2"]
    assert end["test_loss"] < start["test_loss"] - 0.05
    assert found["goto"]["point"]["test_loss"] <= end["test_loss"]
    session = Session(tmp_path / "again")
    replayed = replay(tmp_path / "s", session, check=True)
    session.close()
    assert replayed.failed is None
    assert replayed.difference is None, str(replayed.difference)


def test_the_bundled_checkpoint_says_what_it_is():
    with safe_open(BUNDLED / "mnist-ff.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["model"] == "mnist-ff"
    assert metadata["data"] == "mnist-5k --train 1000"
    assert metadata["seed"] == "0"


@pytest.mark.parametrize("name", ["iris.lss", "regularizers.lss", "walkers.lss"])
def test_the_other_examples_run(tmp_path, name):
    found = run(name, tmp_path / "s")
    assert found["walk"]["steps"] > 0


@pytest.mark.parametrize("name", ["wander", "bridge", "regularization-path"])
def test_the_examples_of_wandering_stay_on_their_level_sets(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    session = Session(tmp_path / "s")
    reasons = {}
    for line in read_lines(EXAMPLES / f"{name}.lss"):
        outcome = session.execute(line)
        assert outcome is None or outcome.ok, str(outcome.failure)
        if outcome is not None and outcome.command == name:
            reasons[name] = outcome.reply.values["reason"]
    assert reasons[name].endswith(("steps taken", "reached", "found"))
    points = [p for p in session.engine.path.traversal() if p.level is not None]
    session.close()
    assert len(points) > 12
    assert all(abs(p.loss - p.level) <= p.tolerance for p in points)


def test_the_batch_example_runs_with_its_variables(tmp_path):
    session = Session(tmp_path / "s", variables={"seed": "0", "regularizer": "l2"})
    for line in read_lines(EXAMPLES / "seeds.lss"):
        outcome = session.execute(line)
        assert outcome is None or outcome.ok, str(outcome.failure)
    assert session.engine.path.here.step == 100
    session.close()
    assert set(read_matrix(EXAMPLES / "seeds.toml")) == {"seed", "regularizer"}


def test_the_script_of_the_checkpoint_makes_it(tmp_path):
    text = (
        (EXAMPLES / "train-mnist-ff.lss")
        .read_text()
        .replace("save lsshell/bundled/", f"save {tmp_path}/")
    )
    session = Session(tmp_path / "s")
    for number, line in enumerate(text.splitlines(), start=1):
        outcome = session.execute(Line("train", number, line))
        assert outcome is None or outcome.ok
    here = session.engine.path.here
    with safe_open(BUNDLED / "mnist-ff.safetensors", "pt") as file:
        recorded = float(file.metadata()["loss"])
    session.close()
    # Bit for bit where it was made; elsewhere Adam's path turns a little.
    assert here.loss == pytest.approx(recorded, rel=0.3)


def test_the_quickstart_runs_as_the_readme_says(tmp_path):
    done = subprocess.run(
        [Path(sys.executable).with_name("lsshell"), "run", EXAMPLES / "quickstart.lss"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "test loss along the level set" in done.stdout
    assert "session in sessions/" in done.stderr
