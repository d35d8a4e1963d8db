"""The command hessian in sessions: values, files, errors, replay."""

import csv
import json

import pytest

from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import Stop, replayed

SHORT = "--k 2 --trace-probes 4 --density 6 --density-probes 2"


def test_it_measures_any_place_and_leaves_the_walk_where_it_was(tmp_path):
    session = talk(tmp_path / "said", SETUP + f"walk --steps 3\nsave {tmp_path}/here")
    engine = session.engine
    before = engine.theta_hash(), engine.path.here, engine.problem.gradients
    here, start, file, few = results(
        session,
        f"hessian {SHORT}\nhessian start {SHORT}\nhessian {tmp_path}/here.safetensors {SHORT}\n"
        f"hessian {SHORT} --examples 20 --matrix gauss-newton",
    )
    assert before == (engine.theta_hash(), engine.path.here, engine.problem.gradients)
    assert here["where"] == "here"
    assert len(here["eigenvalues"]) == len(here["residuals"]) == len(here["converged"]) == 4
    assert here["eigenvalues"] == sorted(here["eigenvalues"], reverse=True)
    assert here["trace_probes"] == 4
    assert here["gradients"] == 2 * here["products"] + 1
    low, high = here["range"]
    assert low >= here["eigenvalues"][-1] - 1e-5 * high
    assert high <= here["eigenvalues"][0] * (1 + 1e-5)
    assert file["eigenvalues"] == here["eigenvalues"] != start["eigenvalues"]
    assert (few["examples"], len(few["eigenvalues"])) == (20, 2)
    assert few["negative_share"] < 1e-6
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_it_draws_and_writes_what_it_found(tmp_path):
    session = talk(tmp_path / "said", SETUP)
    outcomes = say(session, f"hessian {SHORT} --save {tmp_path}/h.csv")
    reply = outcomes[0].reply
    assert reply.figure.y_log
    assert [s.name.split(",")[0] for s in reply.figure.series] == ["density", "eigenvalues"]
    assert "trace" in reply.text
    assert "‖Hv − λv‖" in reply.text
    rows = list(csv.DictReader((tmp_path / "h.csv").open()))
    found = [float(r["value"]) for r in rows if r["what"] == "eigenvalue"]
    assert found == reply.values["eigenvalues"]
    weights = [float(r["weight"]) for r in rows if r["what"] == "node" and r["probe"] == "1"]
    assert sum(weights) == pytest.approx(1.0)
    results(session, f"hessian {SHORT} --out {tmp_path}/h.png --save {tmp_path}/h.json")
    assert (tmp_path / "h.png").stat().st_size > 1000
    assert len(json.loads((tmp_path / "h.json").read_text())) == len(rows)
    bare = say(session, "hessian --k 1 --trace-probes 0 --density 0")[0].reply
    assert bare.figure is None
    assert not {"trace", "width"} & set(bare.values)
    session.close()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("hessian nowhere", "nowhere"),
        ("hessian --k 0", "above 0"),
        ("hessian --k 51", "at most 50"),
        ("hessian --k 1.5", "whole number"),
        ("hessian --examples 0", "at least 1"),
        ("hessian --examples -5", "at least 1"),
        ("hessian --tolerance nan", "above 0"),
        ("hessian --trace-probes 1", "at least 2"),
        ("hessian --trace-probes 5 --trace-method hutch++", "at least 6"),
        ("hessian --trace-probes -1", "0 or more"),
        ("hessian --trace-error 0", "above 0"),
        ("hessian --trace-error nan", "above 0"),
        ("hessian --density -3", "0 or more"),
        ("hessian --density-probes 0", "at least 1"),
        ("hessian --density 0 --out a.png", "--density must be above 0"),
        ("hessian --out a.jpg", "--out a.jpg"),
        ("hessian --save a.xls", "--save a.xls"),
        ("hessian --matrix fisher", "fisher"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(tmp_path, line, what):
    session = talk(tmp_path / "said", SETUP)
    with Stop(session, 0):
        (outcome,) = say(session, line)
    assert what in str(outcome.failure)
    session.close()


def test_without_a_network_it_says_what_is_missing(tmp_path):
    session = Session(tmp_path / "said")
    (outcome,) = say(session, "hessian")
    assert not outcome.ok
    assert "data" in str(outcome.failure)
    session.close()


def test_stopped_it_has_changed_nothing(tmp_path):
    session = talk(tmp_path / "said", SETUP)
    before = session.engine.theta_hash()
    with Stop(session, 7):
        (outcome,) = say(session, f"hessian --save {tmp_path}/h.csv")
    assert "interrupted" in str(outcome.failure)
    assert not (tmp_path / "h.csv").exists()
    assert session.engine.theta_hash() == before
    results(session, f"hessian {SHORT}\nwalk --steps 2")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None
