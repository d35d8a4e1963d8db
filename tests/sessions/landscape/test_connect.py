"""connect in sessions: between points and files, its files, errors, and replays."""

import csv
import json
import re

import pytest

from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import Stop, replayed

TWO_SEEDS = """\
data digits
seed 1
model mlp 64-16-10
train --epochs 12
save {folder}/one
seed 2
model mlp 64-16-10
train --epochs 12
level
"""


@pytest.fixture
def walked(tmp_path):
    session = talk(tmp_path / "said", SETUP + "walk --steps 5")
    yield session
    session.close()


def test_networks_of_two_seeds_have_a_barrier_that_a_curve_and_an_alignment_lower(tmp_path):
    session = Session(None, record=False)
    results(session, TWO_SEEDS.format(folder=tmp_path))
    before = session.engine.theta_hash(), session.engine.problem.gradients
    plain, aligned = results(
        session,
        f"connect {tmp_path}/one.safetensors --epochs 30 --rate 0.1\n"
        f"connect {tmp_path}/one.safetensors here --epochs 30 --rate 0.1 --align --seed 4",
    )
    assert (session.engine.theta_hash(), session.engine.problem.gradients) == before
    assert plain["line"]["reading"] == "barrier"
    assert plain["line"]["mc"] < -5.0
    assert plain["line"]["train_error"]["barrier"] > 5.0
    assert plain["curve"]["mc"] > 0.5 * plain["line"]["mc"]
    assert plain["curve"]["length"] > plain["distance"]
    assert plain["gradients"] == plain["epochs"] == 30
    made = aligned["alignment"]
    assert made["distance_after"] == pytest.approx(aligned["distance"], rel=1e-5)
    assert made["distance_after"] < made["distance_before"]
    assert made["distance_before"] == pytest.approx(plain["distance"], rel=1e-5)
    assert 0 < made["moved"] <= made["units"] == 16
    assert aligned["line"]["mc"] > 0.5 * plain["line"]["mc"]
    for split in ("train", "test"):
        ends = [found["line"][f"{split}_loss"]["end"] for found in (plain, aligned)]
        assert ends[0] == pytest.approx(ends[1], rel=1e-5)


def test_the_table_and_the_picture_hold_every_point_of_both_ways(walked, tmp_path):
    (outcome,) = say(
        walked,
        f"connect start --points 7 --epochs 2 --kind chain --bends 2 --out {tmp_path}/c.svg"
        f" --save {tmp_path}/c.csv",
    )
    assert "straight line: " in outcome.reply.text
    assert "wrote" in outcome.reply.text
    assert outcome.reply.figure is None
    rows = list(csv.DictReader((tmp_path / "c.csv").open()))
    assert [row["along"] for row in rows] == ["line"] * 7 + ["chain"] * 7
    values = outcome.reply.values
    ends = values["line"]["train_loss"]
    assert float(rows[0]["train_loss"]) == ends["start"] == walked.engine.start_point().loss
    assert float(rows[13]["train_loss"]) == ends["end"] == walked.engine.path.here.loss
    assert float(rows[6]["distance"]) == values["distance"]
    assert (tmp_path / "c.svg").read_text().startswith("<?xml")
    results(walked, f"connect start --points 3 --epochs 1 --save {tmp_path}/c.json")
    assert len(json.loads((tmp_path / "c.json").read_text())) == 6


def test_the_figure_shows_error_or_loss_on_both_splits_along_both_ways(walked):
    for show, label in (("error", "error, %"), ("loss", "loss")):
        (outcome,) = say(walked, f"connect start --points 5 --epochs 1 --show {show}")
        figure = outcome.reply.figure
        assert figure.y_label == label
        names = [series.name for series in figure.series]
        assert names == ["line, train", "line, test", "bezier, train", "bezier, test"]
        assert figure.series[0].x == (0.0, 0.25, 0.5, 0.75, 1.0)


def test_regression_is_connected_by_its_loss(tmp_path):
    session = Session(None, record=False)
    results(
        session, "data mpg\nmodel mlp 9-6-1\ntrain --epochs 2\nlevel\nreg l2 on\nwalk --steps 2"
    )
    (outcome,) = say(session, "connect start here --epochs 2 --points 5")
    assert "train_error" not in outcome.reply.values["line"]
    assert outcome.reply.values["line"]["mc"] == outcome.reply.values["line"]["train_loss"]["mc"]
    assert "of the training loss" in outcome.reply.text
    assert outcome.reply.figure.y_label == "loss"


def test_it_replays_bit_for_bit_with_its_files(tmp_path):
    session = talk(tmp_path / "said", SETUP + "walk --steps 3")
    results(
        session,
        f"connect start --epochs 3 --align --init random --out {tmp_path}/a.png\n"
        f"connect here start --epochs 3 --save {tmp_path}/a.csv\nwalk --steps 2",
    )
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_it_is_interrupted_without_a_trace(walked, tmp_path):
    before = walked.engine.theta_hash(), walked.engine.problem.gradients
    with Stop(walked, 30):
        (outcome,) = say(walked, f"connect start --epochs 500 --save {tmp_path}/x.csv")
    assert outcome.failure.message == "interrupted; nothing was changed"
    assert (walked.engine.theta_hash(), walked.engine.problem.gradients) == before
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("connect", "parameter"),
        ("connect nowhere", "nowhere"),
        ("connect no.safetensors", "no.safetensors"),
        ("connect here", "the same parameters"),
        ("connect start --points 2", "at 3 to"),
        ("connect start --points -1", "at 3 to"),
        ("connect start --epochs 0", "1 epoch"),
        ("connect start --bends 0", "1 to 20 bends"),
        ("connect start --batch 0", "batches of 1"),
        ("connect start --rate nan", "above 0"),
        ("connect start --rate 1e30", "diverged|not finite|is nan|is inf"),
        ("connect start --weight-decay -1", "0 or more"),
        ("connect start --kind arc", "arc"),
        ("connect start --out x.doc", "a figure ends in"),
        ("connect start --save x.doc", "a table ends in"),
    ],
)
def test_what_is_wrong_is_said_before_anything_changes(walked, line, message):
    before = walked.engine.theta_hash()
    (outcome,) = say(walked, line)
    assert outcome.failure is not None
    assert re.search(message, outcome.failure.message), outcome.failure.message
    assert walked.engine.theta_hash() == before


def test_a_checkpoint_of_another_network_is_refused(walked, tmp_path):
    other = Session(None, record=False)
    results(other, f"data iris\nmodel mlp 4-5-3\ntrain --epochs 1\nsave {tmp_path}/other")
    (outcome,) = say(walked, f"connect {tmp_path}/other.safetensors")
    assert "is not a checkpoint of this network" in outcome.failure.message


def test_a_batch_greater_than_any_number_of_examples_is_all_of_them(walked):
    whole, huge = results(
        walked,
        "\n".join(
            f"connect start --epochs 1 --points 3 --batch {batch}" for batch in (120, 10**20)
        ),
    )
    assert whole == huge
