"""correlate in sessions: along a walk, across saved sessions, files, errors, replay."""

import csv
import json

import pytest

from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_replay import replayed


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A walk of 8 steps, saved with a correlation in it, and still open."""
    folder = tmp_path_factory.mktemp("correlate") / "s"
    session = talk(folder, SETUP + "walk --steps 8\ncorrelate --measures l2,length,angle")
    yield session
    session.close()


def test_a_walk_is_correlated_and_replays_bit_for_bit(walked, tmp_path):
    found = replayed(walked.folder, tmp_path)
    assert found.failed is None
    assert found.difference is None, str(found.difference)


def test_what_falls_is_the_mirror_of_what_grows(walked):
    (found,) = results(walked, "correlate --measures length,l2,random --points 9")
    l2, length = (found["measures"][name] for name in ("l2", "length"))
    assert found["points"] == 9
    assert l2["n"] == 9
    assert l2["spearman"] == -length["spearman"] != 0
    assert l2["kendall"] == -length["kendall"]
    assert l2["p"] == length["p"]


def test_the_table_of_measures_and_the_bars_are_written(walked, tmp_path):
    (outcome,) = say(
        walked,
        f"correlate --points 5 --out {tmp_path}/b.png --save {tmp_path}/t.csv",
    )
    assert outcome.ok, outcome.failure
    assert (tmp_path / "b.png").read_bytes()[:4] == b"\x89PNG"
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert len(rows) == 5
    assert rows[0]["place"].endswith(":0")
    l2 = [float(row["l2"]) for row in rows]
    assert l2 == sorted(l2, reverse=True)
    assert "test-loss" in rows[0]
    assert "not independent" in outcome.reply.text
    assert outcome.reply.figure is None
    assert (walked.folder / "figures" / "b.png").exists()


def test_it_is_shown_as_bars_the_strongest_first(walked):
    (outcome,) = say(walked, "correlate --measures l2,random,slope,group")
    heights = [abs(y) for y in outcome.reply.figure.series[0].y]
    assert heights == sorted(heights, reverse=True)
    assert len(outcome.reply.figure.categories) == 4
    json.dumps(outcome.as_dict())


def test_nothing_moves(walked):
    engine = walked.engine
    before = engine.theta_hash(), engine.problem.gradients, engine.path.here
    results(walked, "correlate")
    assert (engine.theta_hash(), engine.problem.gradients, engine.path.here) == before


def test_ends_of_sessions_are_correlated_with_what_is_on_record(tmp_path):
    ends = []
    for k, steps in enumerate((2, 4, 7, 11)):
        lines = SETUP.replace("seed 3", f"seed {k}") + f"walk --steps {steps}"
        session = talk(tmp_path / "all" / f"s{k}", lines)
        ends.append(session.engine.path.here)
        session.close()
    session = talk(tmp_path / "asking", "seed 1")
    found, one = results(
        session,
        f"correlate --sessions {tmp_path}/all --save {tmp_path}/t.csv\n"
        f"correlate --measures l2 --sessions {tmp_path}/all/s0 {tmp_path}/all/s1 {tmp_path}/all/s3",
    )
    session.close()
    assert found["sessions"] == 4
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["place"] for row in rows] == ["s0", "s1", "s2", "s3"]
    for row, end in zip(rows, ends, strict=True):
        assert float(row["l2"]) == end.regularizers["l2"]
        assert float(row["test-loss"]) == end.test_loss
        assert float(row["steps"]) == end.step
    order = sorted(range(4), key=lambda k: ends[k].test_loss)
    ranks = {k: r for r, k in enumerate(order)}
    d = sum((k - ranks[k]) ** 2 for k in range(4))  # steps rise from session to session
    assert found["measures"]["steps"]["spearman"] == pytest.approx(1 - 6 * d / (4 * 15))
    assert one["sessions"] == 3
    assert list(one["measures"]) == ["l2"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("correlate --measures slpe", "no measure slpe; did you mean slope"),
        ("correlate --with test-accuracy", "the test accuracy is the same, 0.966667, at all 9"),
        ("correlate --measures ''", "no measure"),
        ("correlate --points 2", "3 points or more"),
        ("correlate --points -5", "3 points or more"),
        ("correlate --points 1.5", "whole number"),
        ("correlate --out x.exe", "a figure ends in"),
        ("correlate --save x.exe", "a table ends in"),
        ("correlate --with loss", "--with"),
        ("correlate --measures test-loss", "what measures are correlated with"),
        ("correlate --sessions nowhere", "no folder nowhere"),
    ],
)
def test_what_cannot_be_correlated_is_refused(walked, line, message):
    (outcome,) = say(walked, line)
    assert message in str(outcome.failure)


def test_too_little_is_refused(tmp_path):
    session = talk(tmp_path / "s", "seed 1")
    assert "no data yet" in str(say(session, "correlate")[0].failure)
    results(session, SETUP)
    assert "3 kept points" in str(say(session, "correlate")[0].failure)
    results(session, "walk --steps 4\nwalk --steps 1\ngoto start")
    assert "goto end" in str(say(session, "correlate")[0].failure)
    (outcome,) = say(session, f"correlate --sessions {tmp_path}/s")
    assert "none on record" in str(outcome.failure)
    session.close()


def test_regression_has_no_accuracy_to_correlate_with(tmp_path):
    table = tmp_path / "d.csv"
    table.write_text("a,b,y\n" + "".join(f"{k},{k * k % 7},{0.5 * k}\n" for k in range(30)))
    session = talk(
        tmp_path / "s",
        f"data {table} --target y --task regression\nmodel mlp 2-4-1\ntrain --epochs 3\nlevel\n"
        "reg l2 on\nwalk --steps 4",
    )
    (outcome,) = say(session, "correlate --with test-accuracy --measures l2")
    assert "regression" in str(outcome.failure)
    (outcome,) = say(session, "correlate --measures l2,test-accuracy,train-accuracy")
    assert outcome.ok, outcome.failure
    assert "train-accuracy: " in outcome.reply.text
    session.close()
