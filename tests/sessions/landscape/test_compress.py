"""`compress` in sessions: values, files, errors, replay."""

import csv

import pytest

from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import Stop, replayed

WALKED = SETUP.replace("reg l2 on", "branch squeezed\nreg compress on") + "walk --steps 12"


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    session = talk(tmp_path_factory.mktemp("compress") / "s", WALKED)
    yield session
    session.close()


def test_places_stand_side_by_side_and_the_walk_has_made_the_weights_compressible(walked):
    (found,) = results(walked, "compress start squeezed:6 squeezed")
    start, _, end = found["places"].values()
    values = walked.engine.path.here.regularizers
    assert end["compressibility_sum"] == pytest.approx(values["compress"], rel=1e-3)
    assert end["compressibility_sum"] < start["compressibility_sum"]
    assert end["hoyer"] > start["hoyer"] and end["entropy_256"] < start["entropy_256"]
    for one in (start, end):
        assert one["pruned_train_accuracy"] >= one["train_accuracy"] - 0.005
        assert 0.0 <= one["sparsity"] <= 1.0 and one["size_ratio"] > 1.0
    assert end["test_accuracy"] == walked.engine.path.here.test_accuracy


def test_one_place_is_shown_layer_by_layer(walked):
    (outcome,) = say(walked, "compress")
    assert "1.weight" in outcome.reply.text and "3.weight" in outcome.reply.text
    assert list(outcome.reply.values["places"]) == ["here"]


def test_picture_and_table_are_written(walked, tmp_path):
    line = f"compress start end --out {tmp_path / 'c.png'} --save {tmp_path / 'c.csv'}"
    (found,) = results(walked, line)
    rows = list(csv.DictReader((tmp_path / "c.csv").open()))
    assert [(r["place"], r["layer"]) for r in rows] == [
        (place, layer) for place in ("start", "end") for layer in ("1.weight", "3.weight", "all")
    ]
    assert float(rows[-1]["sparsity"]) == found["places"]["end"]["sparsity"]
    assert rows[0]["sparsity"] == "" and (tmp_path / "c.png").stat().st_size > 1000


def test_regression_is_measured_by_its_error(tmp_path):
    session = Session(tmp_path / "s", record=False)
    found = results(session, "data mpg\nmodel mlp 9-12-1\ntrain --epochs 3\ncompress")[-1]
    one = found["places"]["here"]
    assert one["pruned_train_rmse"] <= 1.005 * one["train_rmse"] and "train_accuracy" not in one
    assert "RMSE" in say(session, "compress")[0].reply.text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("compress nowhere", "no branch or step"),
        ("compress start start", "named twice"),
        ("compress missing.pt", "missing"),
        (f"compress {' '.join(map(str, range(30)))}", "at most 20"),
        ("compress --out c.gif", "a figure ends in"),
        ("compress --save c", "a table ends in"),
    ],
)
def test_what_is_wrong_is_said(walked, line, words):
    (outcome,) = say(walked, line)
    assert outcome.failure is not None and words in outcome.failure.message


def test_the_regulariser_of_the_same_name_is_still_switched_on_and_off(walked):
    results(walked, "reg compress off\nreg compress 0.5\nreg compress on")
    assert list(walked.engine.sum.terms) == ["compress"]


def test_it_replays_bit_for_bit_and_moves_nothing(tmp_path):
    session = talk(tmp_path / "said", WALKED)
    before = session.engine.theta_hash(), session.engine.problem.gradients
    results(session, f"compress start here --save {tmp_path / 'c.json'}")
    with Stop(session, 9):
        (outcome,) = say(session, "compress")
    assert "interrupted" in outcome.failure.message
    assert (session.engine.theta_hash(), session.engine.problem.gradients) == before
    results(session, "walk --steps 2")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None
