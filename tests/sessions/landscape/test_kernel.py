"""`kernel` in sessions: values, files, errors, replay."""

import csv
import json

import pytest

from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import Stop, replayed


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    session = talk(tmp_path_factory.mktemp("kernel") / "s", SETUP + "walk --steps 8")
    yield session
    session.close()


def test_it_tells_the_spectrum_here_and_the_change_since_the_start(walked):
    here, start = results(walked, "kernel --from start\nkernel start")
    assert (here["examples"], here["outputs"]) == (120, 3) and here["place"] == "here"
    assert here["greatest"] > here["mean"] > here["least"] >= 0.0
    assert 1.0 <= here["effective_rank"] <= 83.0  # as many as there are parameters
    assert here["zeros"] >= 360 - 83 and here["least"] == 0.0 and here["condition"] is None
    assert here["change"] > 0.0 and "change" not in start
    loss, gradient = here["loss"], here["gradient_norm"]
    assert here["rho"] == pytest.approx(gradient**2 / (2 * loss))


def test_along_the_path_it_measures_every_kept_point(walked, tmp_path):
    (found,) = results(walked, f"kernel --along --examples 20 --save {tmp_path / 'k.csv'}")
    rows = list(csv.DictReader((tmp_path / "k.csv").open()))
    assert [int(r["step"]) for r in rows] == list(range(9))
    assert found["places"] == 9 and found["start"]["change"] == 0.0
    assert found["least_rho"] == min(float(r["rho"]) for r in rows)
    (part,) = results(walked, "kernel 3 --along --examples 20")
    assert part["places"] == 4
    assert part["end"]["rho"] == pytest.approx(float(rows[3]["rho"]), rel=1e-12)


def test_picture_and_table_are_written(walked, tmp_path):
    line = f"kernel --examples 20 --out {tmp_path / 'k.png'} --save {tmp_path / 'k.json'}"
    (found,) = results(walked, line)
    assert (tmp_path / "k.png").stat().st_size > 1000
    rows = json.loads((tmp_path / "k.json").read_text())
    assert len(rows) == 60 and rows[0]["eigenvalue"] == found["greatest"]


def test_for_regression_the_bounds_on_the_sample_are_told(tmp_path):
    session = Session(tmp_path / "s", record=False)
    line = "seed 1\ndata mpg\nmodel mlp 9-40-1\ntrain --epochs 3\nkernel --examples 100"
    found = results(session, line)[-1]
    assert found["outputs"] == 1
    assert 0.0 < found["lower"] <= found["sample_rho"] <= found["upper"]
    assert found["lower"] == pytest.approx(2 * found["least"] / 100)
    reply = say(session, "kernel --examples 50")[0].reply
    assert "2λ_min/n" in reply.text and reply.figure.y_log


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kernel --examples 0", "1 to 120"),
        ("kernel --examples 5000", "1 to 120"),
        ("kernel nowhere", "no branch or step"),
        ("kernel --from nowhere", "no branch or step"),
        ("kernel missing.safetensors", "missing"),
        ("kernel --minimum 5", "least loss"),
        ("kernel --minimum nan", "number"),
        ("kernel --out k.jpg", "a figure ends in"),
        ("kernel --save k.txt", "a table ends in"),
        ("kernel --along missing.safetensors", "no branch or step"),
    ],
)
def test_what_is_wrong_is_said(walked, line, words):
    (outcome,) = say(walked, line)
    assert outcome.failure is not None and words in outcome.failure.message


def test_without_a_network_or_a_path_it_says_what_to_do(tmp_path):
    session = Session(tmp_path / "s", record=False)
    assert "data" in say(session, "kernel")[0].failure.message
    results(session, "data iris\nmodel mlp 4-5-3\nkernel")
    assert "nothing has been walked" in say(session, "kernel --along")[0].failure.message


def test_it_replays_bit_for_bit_and_moves_nothing(tmp_path):
    session = talk(tmp_path / "said", SETUP + "walk --steps 4")
    before = session.engine.theta_hash(), session.engine.problem.gradients
    results(session, f"kernel --from start --seed 4 --out {tmp_path / 'a.svg'}")
    results(session, f"kernel --along --examples 9 --save {tmp_path / 'a.csv'}")
    with Stop(session, 3):
        (outcome,) = say(session, "kernel --along")
    assert "interrupted" in outcome.failure.message
    assert (session.engine.theta_hash(), session.engine.problem.gradients) == before
    results(session, "walk --steps 3")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None
