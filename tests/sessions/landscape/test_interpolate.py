"""The command interpolate in sessions: values, pictures, files, errors, replay."""

import csv

import pytest
import torch

from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import replayed

WALKED = SETUP + "walk --steps 4\n"


def test_from_the_initialisation_to_here_and_along_the_chord_of_a_walk(tmp_path):
    session = talk(tmp_path / "said", WALKED)
    engine = session.engine
    before = engine.theta_hash(), engine.path.here, engine.problem.gradients
    first, chord = results(
        session, f"interpolate init --save {tmp_path}/i.csv\ninterpolate start here --points 9"
    )
    assert before == (engine.theta_hash(), engine.path.here, engine.problem.gradients)
    here = engine.measure()
    assert first["train"]["to"] == pytest.approx(here.loss, rel=1e-6)
    assert first["test"]["to"] == pytest.approx(here.test_loss, rel=1e-6)
    assert first["train"]["from"] > 2 * first["train"]["to"]
    assert first["gauss_length"] > 0 and first["gauss_examples"] == len(engine.problem.x_test)
    assert chord["distance"] == pytest.approx(here.distance, rel=1e-5)
    rows = list(csv.DictReader((tmp_path / "i.csv").open()))
    assert len(rows) == first["points"] == 50
    losses = [float(r["train_loss"]) for r in rows]
    rise = max(b - a for i, a in enumerate(losses) for b in losses[i:])
    assert first["rise"] == rise
    assert first["monotone_within"]["0"] == (rise == 0.0)
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_init_is_where_training_began_whatever_the_seed_is_now(tmp_path):
    session = talk(None, "seed 3\ndata iris\nmodel mlp 4-8-3", record=False)
    theta = session.engine.problem_theta().clone()
    loss = session.engine.problem.loss(theta)
    results(session, "train --epochs 20\nseed 8")
    found = results(session, "interpolate init here --points 3")[0]
    assert found["train"]["from"] == pytest.approx(loss, rel=1e-12)
    distance = float((session.engine.problem_theta() - theta).double().norm())
    assert found["distance"] == pytest.approx(distance, rel=1e-6)
    session.close()


def test_a_network_that_comes_with_its_parameters_has_no_initialisation(tmp_path):
    example = torch.zeros(2, 4)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3))
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    session = talk(None, f"data iris\nload {tmp_path}/net.pt2", record=False)
    assert "initialised is lost" in say(session, "interpolate init")[0].failure.message
    line = results(session, "slice --dimensions 1 --points 3")[0]
    loss = session.engine.measure().loss
    assert line["train"]["centre"] == pytest.approx(loss, rel=1e-6)
    session.close()


def test_it_draws_both_curves_and_names_the_bumps(tmp_path):
    session = talk(tmp_path / "said", WALKED)
    reply = say(session, "interpolate here start --points 7 --refine 5")[0].reply
    assert [s.name for s in reply.figure.series] == ["training", "test"]
    assert "Gauss length" in reply.text
    if not reply.values["monotone"]:
        assert reply.values["bumps"]
    results(session, f"interpolate init here --points 5 --out {tmp_path}/i.svg")
    assert (tmp_path / "i.svg").stat().st_size > 1000
    session.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("interpolate here", "itself"),
        ("interpolate start here", "itself"),
        ("interpolate", "argument"),
        ("interpolate init --points 0", "--points"),
        ("interpolate init --refine -1", "--refine"),
        ("interpolate init nowhere.safetensors", "nowhere.safetensors"),
        ("interpolate init --out x.gif", "a figure ends in"),
    ],
)
def test_what_cannot_be_is_refused_in_words(line, words):
    session = talk(None, SETUP, record=False)
    failure = say(session, line)[0].failure
    assert failure is not None and words in failure.message
    session.close()
