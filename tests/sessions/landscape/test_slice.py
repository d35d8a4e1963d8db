"""The command slice in sessions: values, pictures, files, errors, replay."""

import csv
import json

import pytest
import torch

from lsshell.engine.landscape.slice import take_slice
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import replayed

WALKED = SETUP + "walk --steps 6 --record 1\n"


def test_it_looks_around_any_place_and_leaves_the_walk_where_it_was(tmp_path):
    session = talk(tmp_path / "said", WALKED + f"save {tmp_path}/here")
    engine = session.engine
    state = {k: v.clone() for k, v in engine.problem.network.state_dict().items()}
    before = engine.theta_hash(), engine.path.here, engine.problem.gradients
    plane, line, toward, three, file = results(
        session,
        "slice --points 5\nslice --dimensions 1 --points 9 --range 0.5\n"
        "slice start --toward here --points 9 --range -1:1\n"
        "slice start --toward here --and init --points 3 --on both\n"
        f"slice {tmp_path}/here.safetensors --points 5",
    )
    assert before == (engine.theta_hash(), engine.path.here, engine.problem.gradients)
    assert all(torch.equal(v, state[k]) for k, v in engine.problem.network.state_dict().items())
    here = engine.measure()
    assert plane["train"]["centre"] == pytest.approx(here.loss, rel=1e-6)
    assert "test" not in plane
    assert plane["level"] == engine.level_set.level
    assert [a["points"] for a in plane["axes"]] == [5, 5]
    assert line["test"]["centre"] == pytest.approx(here.test_loss, rel=1e-6)
    assert line["train"]["minimum"] <= line["train"]["centre"] <= line["train"]["maximum"]
    assert toward["where"] == "start" and toward["directions"] == "points"
    assert toward["axes"][0]["norm"] == pytest.approx(here.distance, rel=1e-5)
    assert len(three["axes"]) == 2 and abs(three["cosine"]) < 1
    assert file["train"] == plane["train"]
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_the_plane_of_the_walk_shows_it_beside_the_level_set(tmp_path):
    session = talk(tmp_path / "said", WALKED)
    reply = say(session, "slice --directions principal --points 9")[0].reply
    walk = reply.values["walk"]
    assert walk["variance_within"] > 0.5
    assert 0 < walk["out_of_plane_relative"] < 0.7
    assert "of its variance lies in this plane" in reply.text
    surface = reply.figure.surface
    assert surface.log and surface.contours == (("L*", session.engine.level_set.level),)
    line, *marks = reply.figure.series
    assert line.name == "walk main" and len(line.x) == 7
    assert [m.name for m in marks] == ["start", "now"]
    assert (marks[1].x, marks[1].y) == ((0.0,), (0.0,))
    # The whole of the walk lies within, its start and end too.
    assert min(surface.x) < min(line.x) and max(surface.y) > max(line.y)
    session.close()


def test_every_value_is_written_in_the_order_of_the_grid(tmp_path):
    session = talk(tmp_path / "said", WALKED)
    (flat, _) = results(
        session,
        f"slice --points 3 --range -1:1,0:2 --on both --save {tmp_path}/s.csv"
        f" --out {tmp_path}/s.svg\n"
        f"slice --dimensions 1 --quantity accuracy --points 4 --save {tmp_path}/s.json",
    )
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [(float(r["a"]), float(r["b"])) for r in rows] == [
        (a, b) for a in (-1, 0, 1) for b in (0, 1, 2)
    ]
    accuracies = [float(row["test_accuracy"]) for row in rows]
    told = flat["test"]["accuracy"]
    assert (told["minimum"], told["maximum"]) == (min(accuracies), max(accuracies))
    assert told["centre"] == accuracies[3]
    engine = session.engine
    found = take_slice(engine, points=3, spans=[(-1, 1), (0, 2)])
    theta = engine.problem_theta() - found.directions[0] + 2 * found.directions[1]
    wanted = engine.problem.metrics(theta, "test")
    assert float(rows[2]["test_loss"]) == pytest.approx(wanted.loss, rel=1e-5)
    assert float(rows[2]["test_accuracy"]) == wanted.accuracy
    assert float(found.values["test"].loss[0, 2]) == pytest.approx(wanted.loss, rel=1e-5)
    assert (tmp_path / "s.svg").stat().st_size > 1000
    assert len(json.loads((tmp_path / "s.json").read_text())) == 4
    session.close()


def test_along_an_eigenvector_the_loss_bends_by_its_eigenvalue(tmp_path):
    session = talk(tmp_path / "said", "dtype float64\n" + SETUP)
    problem = session.engine.problem
    found = take_slice(
        session.engine, directions="hessian", dimensions=1, points=3, spans=[(-1e-3, 1e-3)]
    )
    low, middle, high = found.values["train"].loss.tolist()
    assert (high - 2 * middle + low) / 1e-6 == pytest.approx(found.eigenvalues[0], rel=1e-3)
    product = problem.hessian_vector(session.engine.problem_theta(), found.directions[0])
    assert torch.allclose(product, found.eigenvalues[0] * found.directions[0], atol=1e-2)
    values = results(session, "slice --directions hessian --points 3")[0]
    reach = values["axes"][0]["to"]
    loss = session.engine.measure().loss
    assert reach**2 * found.eigenvalues[0] / 2 == pytest.approx(4 * loss, rel=1e-3)
    session.close()


def test_regression_has_a_map_of_its_loss_and_none_of_accuracy(tmp_path):
    session = talk(tmp_path / "said", "data mpg\nmodel mlp 9-4-1\ntrain --epochs 2")
    assert results(session, "slice --points 3")[0]["train"]["accuracy"] is None
    assert "regression" in say(session, "slice --quantity accuracy")[0].failure.message
    session.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("slice --points 1", "--points"),
        ("slice --points 2000", "--points"),
        ("slice --dimensions 3", "one dimension or two"),
        ("slice --range 0", "lower first"),
        ("slice --range nan", "two numbers"),
        ("slice --range 1:x", "expected a number"),
        ("slice --range 1,2,3", "3 parts and the slice two dimensions"),
        ("slice --and start", "--toward"),
        ("slice --toward start", "itself"),
        ("slice --toward init --dimensions 2", "--and"),
        ("slice --toward init --directions random", "leave out"),
        ("slice --toward init --and init", "one line"),
        ("slice --directions principal", "walk first"),
        ("slice nowhere", "no branch or step"),
        ("slice --out x.gif", "a figure ends in"),
        ("slice --save x.txt", "a table ends in"),
    ],
)
def test_what_cannot_be_is_refused_in_words(tmp_path, line, words):
    session = talk(None, SETUP, record=False)
    failure = say(session, line)[0].failure
    assert failure is not None and words in failure.message
    session.close()


def test_a_level_is_not_compared_with_losses_by_other_batch_norm_statistics():
    setup = SETUP.replace("model mlp 4-8-3", "model mlp-bn 4-8-3")
    session = talk(None, setup + "walk --steps 3", record=False)
    frozen, anew = (
        say(session, f"slice --points 3{bn}")[0].reply for bn in ("", " --batch-norm recomputed")
    )
    level = session.engine.level_set
    assert frozen.values["train"]["centre"] == pytest.approx(level.level, abs=level.tolerance)
    assert frozen.values["level"] == level.level
    assert frozen.figure.surface.contours == (("L*", level.level),)
    assert abs(anew.values["train"]["centre"] - level.level) > level.tolerance
    assert anew.values["level"] is anew.values["under_level"] is None
    assert not anew.figure.surface.contours
    assert "statistics taken anew" in anew.text
    for line in ("connect start --epochs 1 --points 3", "interpolate start --points 3"):
        assert "statistics taken anew" in say(session, line)[0].reply.text
    session.close()
    session = talk(None, SETUP, record=False)  # without batch norm nothing is taken anew
    plain = say(session, "slice --points 3 --batch-norm recomputed")[0].reply
    assert plain.values["level"] is not None and "anew" not in plain.text
    session.close()
