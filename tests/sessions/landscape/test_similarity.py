"""similarity in sessions: of two points and of more, its files, errors, and replays."""

import csv
import math
import re

import pytest

from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import Stop, replayed


@pytest.fixture
def walked(tmp_path):
    session = talk(tmp_path / "said", SETUP + f"save {tmp_path}/one\nwalk --steps 5")
    yield session
    session.close()


def test_two_points_are_compared_layer_by_layer_and_left_as_they_are(walked):
    before = walked.engine.theta_hash(), walked.engine.problem.gradients
    (outcome,) = say(walked, "similarity start")
    assert (walked.engine.theta_hash(), walked.engine.problem.gradients) == before
    values = outcome.reply.values
    assert values["places"] == ["start", "here"]
    assert list(values["layers"]) == ["1 Linear", "2 Tanh", "logits", "softmax"]
    assert all(0.0 < v <= 1.0 for c in values["layers"].values() for v in c.values())
    here = walked.engine.path.here
    assert values["distance"] == pytest.approx(here.distance, rel=1e-5)
    assert 0.0 <= values["disagreement"] <= 100.0
    assert values["ensemble_loss_change"] <= 0.0
    assert "1 Linear" in outcome.reply.text
    surface = outcome.reply.figure.surface
    assert surface.y_ticks == ("softmax", "logits", "2 Tanh", "1 Linear")
    assert surface.z[3][0] == values["layers"]["1 Linear"]["cka"]


def test_a_file_is_the_point_it_was_saved_at(walked, tmp_path):
    (values,) = results(walked, f"similarity start {tmp_path}/one.safetensors --align")
    assert values["distance"] == values["aligned_distance"] == values["disagreement"] == 0.0
    assert all(c["cka"] == pytest.approx(1.0) for c in values["layers"].values())


@pytest.mark.parametrize("show", ["cka", "kernel-cka", "disagreement", "ensemble", "distance"])
def test_more_points_make_a_symmetric_matrix_of_what_is_asked_for(walked, show):
    (outcome,) = say(walked, f"similarity start 2 here --show {show} --layer 2")
    values, surface = outcome.reply.values, outcome.reply.figure.surface
    assert values["layer"] == "2 Tanh"
    assert len(values["pairs"]) == 3
    assert surface.z[0][1] == surface.z[1][0] == values["pairs"][0]
    assert surface.z[1][2] == values["pairs"][2]
    assert surface.z[0][0] == (1.0 if "cka" in show else 0.0)
    assert values["mean"] == pytest.approx(math.fsum(values["pairs"]) / 3)
    assert "average of all 3" in outcome.reply.text


def test_every_layer_of_every_pair_is_saved_and_the_matrix_drawn(walked, tmp_path):
    line = f"similarity start 2 here --mixup --out {tmp_path}/s.png --save {tmp_path}/s.csv"
    (values,) = results(walked, line)
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert len(rows) == 3 * 4
    logits = [float(row["cka"]) for row in rows if row["layer"] == "logits"]
    assert logits == values["pairs"]
    assert (tmp_path / "s.png").stat().st_size > 1000
    results(walked, f"similarity start here here --out {tmp_path}/flat.txt")
    assert "CKA of logits" in (tmp_path / "flat.txt").read_text()


def test_regression_is_compared_by_its_outputs():
    session = Session(None, record=False)
    results(
        session, "data mpg\nmodel mlp 9-6-1\ntrain --epochs 2\nlevel\nreg l2 on\nwalk --steps 2"
    )
    two, three = results(session, "similarity start here\nsimilarity start 1 here --show ensemble")
    assert list(two["layers"]) == ["1 Linear", "2 Tanh", "outputs"]
    assert two["rms_difference"] > 0.0
    assert "disagreement" not in two
    assert three["layer"] == "outputs"
    assert three["greatest"] <= 0.0


def test_it_replays_bit_for_bit(tmp_path):
    session = talk(tmp_path / "said", SETUP + "walk --steps 3")
    results(
        session,
        f"similarity start --seed 5 --examples 20\nsimilarity start 1 2 --out {tmp_path}/s.svg\n"
        f"similarity start --mixup --split train --save {tmp_path}/s.csv\nwalk --steps 2",
    )
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_it_is_interrupted_without_a_trace(walked, tmp_path):
    before = walked.engine.theta_hash()
    with Stop(walked, 5):
        (outcome,) = say(walked, f"similarity start --save {tmp_path}/x.csv")
    assert outcome.failure.message == "interrupted; nothing was changed"
    assert walked.engine.theta_hash() == before
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("similarity", "name the points"),
        ("similarity nowhere", "nowhere"),
        ("similarity start no.safetensors", "no.safetensors"),
        ("similarity start --examples 1", "2 or more examples"),
        ("similarity start --examples -5", "2 or more examples"),
        ("similarity start --layer 9", "no such layer.*1 Linear, 2 Tanh, logits"),
        ("similarity start --show size", "size"),
        ("similarity start --out x.doc", "a figure ends in"),
        ("similarity start --save x.doc", "a table ends in"),
    ],
)
def test_what_is_wrong_is_said(walked, line, message):
    (outcome,) = say(walked, line)
    assert outcome.failure is not None
    assert re.search(message, outcome.failure.message), outcome.failure.message
