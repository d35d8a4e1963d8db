"""The command `pattern`: its values and files, errors, interruptions and replays."""

import csv

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lsshell.engine.events import Progress
from lsshell.engine.landscape import patterns
from lsshell.sessions.replay import replay
from lsshell.sessions.session import Session
from tests.sessions.conversation import results, say, talk

SETUP = """\
seed 2
data digits --train 96
model mlp 64-6-10
"""
QUICK = "--epochs 1 --batch 48 --examples 30 --padding 1"


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = talk(tmp_path / "said", SETUP)
    yield session
    session.close()


def test_it_reports_both_kinds_on_both_sets_and_leaves_the_session_where_it_was(session):
    before, spent = session.engine.theta_hash(), session.engine.ready().gradients
    (found,) = results(session, f"pattern ring --size 4 {QUICK}")
    assert found["picture"] == "ring"
    assert found["cells"]["light"] + found["cells"]["dark"] == 16
    assert (found["steps"], found["epochs"], found["reason"]) == (2, 1, "1 epoch")
    for split in ("train", "test"):
        kinds = found[split]
        difference = kinds["light"]["accuracy"] - kinds["dark"]["accuracy"]
        assert kinds["difference"] == pytest.approx(difference)
        assert kinds["light"]["loss"] > 0
    assert found["examples"] == [30, 30]
    assert session.engine.theta_hash() == before
    assert session.engine.ready().gradients == spent


def test_contrast_grows_on_digits(tmp_path):
    session = talk(tmp_path / "said", "data digits --train 300\nmodel mlp 64-16-10")
    (found,) = results(
        session, "pattern cross --size 5 --epochs 25 --batch 100 --rate 0.02 --examples 200"
    )
    assert found["train"]["difference"] > 0.3
    assert found["test"]["difference"] > 0.2
    assert found["train"]["light"]["loss"] < found["train"]["dark"]["loss"] - 1.0
    session.close()


def test_it_writes_panels_a_table_and_the_plane(session, tmp_path):
    files = "--out a.png --save a.csv --save-plane a.safetensors"
    (found,) = results(session, f"pattern --text I --epochs 1 --examples 20 --padding 0 {files}")
    names = [found[name] for name in ("file", "saved", "plane")]
    assert names == ["a.png", "a.csv", "a.safetensors"]
    assert Image.open("a.png").size[0] > 800
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 * 7
    light = [float(r["train_loss"]) for r in rows if r["mask"] == "1"]
    assert len(light) == found["cells"]["light"]
    assert sum(light) / len(light) == pytest.approx(found["train"]["light"]["loss"])
    plane = load_file("a.safetensors")
    row = rows[10]
    theta = plane["o"] + plane["s"] * (float(row["i"]) * plane["u"] + float(row["j"]) * plane["v"])
    problem = session.engine.ready()
    right = problem.metrics(theta.to(problem.dtype), "test").accuracy
    outputs = problem.outputs(theta, problem.x_train)
    assert torch.isfinite(outputs).all()
    assert abs(right - float(row["test_accuracy"])) < 0.2  # of other examples
    assert plane["mask"].tolist()[0] == [-1] * 7


def test_a_picture_file_is_drawn_and_light_may_be_dark(session):
    image = Image.new("L", (4, 4), 0)
    image.paste(255, (0, 0, 4, 1))
    image.save("bar.png")
    rest = "--epochs 1 --examples 10 --padding 0"
    found, inverted = results(session, f"pattern bar.png {rest}\npattern bar.png {rest} --invert")
    assert (found["cells"]["light"], found["cells"]["dark"]) == (4, 12)
    assert (inverted["cells"]["light"], inverted["cells"]["dark"]) == (12, 4)
    (outlined,) = results(session, f"pattern bar.png {rest} --outline")
    assert (outlined["cells"]["light"], outlined["cells"]["dark"]) == (4, 4)


def test_a_replay_gives_the_same_bits(session, tmp_path):
    results(session, f"pattern smile {QUICK} --size 5\nmodel mlp-bn 64-6-10")
    results(session, f"pattern heart --size 6 {QUICK} --seed 7")
    session.close()
    found = replay(tmp_path / "said", Session(tmp_path / "again"), check=True)
    assert found.failed is None and found.difference is None
    assert found.compared > 40


def test_stopped_it_scores_what_there_is_and_replays(session, tmp_path):
    def hear(event):
        if isinstance(event, Progress) and event.task == "pattern" and event.done == 5:
            session.cancel()

    session.listen = hear
    (outcome,) = say(
        session, "pattern ring --size 4 --epochs 400 --batch 48 --examples 30 --padding 1"
    )
    assert outcome.reply.interrupted
    assert outcome.reply.values["steps"] == 5
    assert outcome.reply.values["reason"] == "interrupted"
    session.close()
    found = replay(tmp_path / "said", Session(tmp_path / "again"), check=True)
    assert found.failed is None and found.difference is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pattern haert", "did you mean heart"),
        ("pattern none.png", "there is no file none.png"),
        ("pattern heart --text LS", "not both"),
        ("pattern --text é", "no letter for é"),
        ("pattern --size 1", "from 2 to 256"),
        ("pattern --size 100000", "from 2 to 256"),
        ("pattern --epochs 0", "--epochs must be at least 1"),
        ("pattern --rate nan", "--rate must be"),
        ("pattern --epochs 1 --rate 1e30 --examples 9", "lower --rate"),
        ("pattern --out a.gif", "a figure ends in"),
        ("pattern --out a.txt", "four panels go into"),
        ("pattern --out none/a.png", "there is no folder none"),
        ("pattern --save a.png", "a table ends in"),
        ("pattern --save-plane a.pt", "ends in .safetensors"),
        ("pattern --until-difference 2", "at most 1"),
    ],
)
def test_bad_input_is_refused_in_words_and_writes_nothing(session, tmp_path, line, message):
    (outcome,) = say(session, line)
    assert message in str(outcome.failure)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["said"]


def test_what_it_needs_is_asked_for(tmp_path):
    session = Session(tmp_path / "said")
    (outcome,) = say(session, "pattern")
    assert "no data yet" in str(outcome.failure)
    session.close()


def test_a_batch_greater_than_any_number_of_examples_is_all_of_them(session):
    line = "pattern ring --size 4 --epochs 1 --examples 9 --padding 0 --batch"
    whole, huge = results(session, f"{line} 100000\n{line} {10**20}")
    assert whole == huge


def test_stopped_between_two_cells_it_counts_whole_updates_and_replays(
    session, tmp_path, monkeypatch
):
    calls, cell = [], patterns._Fit._cell

    def stopping(*args):
        calls.append(args)
        if len(calls) == 40:  # 16 cells: in the middle of the third update
            session.cancel()
        return cell(*args)

    monkeypatch.setattr(patterns._Fit, "_cell", stopping)
    line = "pattern ring --size 4 --epochs 400 --batch 48 --examples 30 --padding 1 --clip 99"
    (outcome,) = say(session, line)
    assert (outcome.reply.values["steps"], outcome.reply.values["gradients"]) == (2, 32)
    monkeypatch.undo()
    session.close()
    found = replay(tmp_path / "said", Session(tmp_path / "again"), check=True)
    assert found.failed is None and found.difference is None
