"""The command roughness in sessions: values, pictures, files, errors, replay."""

import csv
import statistics

import pytest

from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import replayed

SHORT = "--directions 6 --points 4"


def test_it_measures_any_place_and_leaves_the_walk_where_it_was(tmp_path):
    session = talk(tmp_path / "said", SETUP + "walk --steps 2")
    engine = session.engine
    before = engine.theta_hash(), engine.path.here, engine.problem.gradients
    here, start, single = results(
        session,
        f"roughness {SHORT} --save {tmp_path}/r.csv\nroughness start {SHORT} --seed 5\n"
        f"roughness {SHORT} --range 0.3 --out {tmp_path}/r.png",
    )
    assert before == (engine.theta_hash(), engine.path.here, engine.problem.gradients)
    assert [r["range"] for r in here["ranges"]] == [0.001, 0.01, 0.1, 1.0]
    assert here["ranges"] != start["ranges"]
    assert len(single["ranges"]) == 1
    rows = [r for r in csv.DictReader((tmp_path / "r.csv").open()) if r["range"] == "1.0"]
    found = [float(r["normalised_total_variation"]) for r in rows]
    index = statistics.stdev(found) / statistics.fmean(found)
    assert here["ranges"][-1]["index"] == pytest.approx(index)
    assert (tmp_path / "r.png").stat().st_size > 1000
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_several_ranges_are_drawn_against_the_index_and_one_as_its_lines():
    session = talk(None, SETUP, record=False)
    several = say(session, f"roughness {SHORT}")[0].reply
    assert several.figure.x_log and len(several.figure.series) == 1
    assert "roughness index" in several.text
    one = say(session, f"roughness {SHORT} --range 0.5")[0].reply
    assert len(one.figure.series) == 6
    assert one.figure.series[0].x == pytest.approx((-0.5, -0.25, 0.0, 0.25, 0.5))
    session.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("roughness --range 0", "above 0"),
        ("roughness --range nan", "above 0"),
        ("roughness --range 0.1,x", "expected lengths"),
        ("roughness --directions 1", "--directions"),
        ("roughness --points 0", "--points"),
        ("roughness nowhere", "no branch or step"),
        ("roughness --save x.txt", "a table ends in"),
    ],
)
def test_what_cannot_be_is_refused_in_words(line, words):
    session = talk(None, SETUP, record=False)
    failure = say(session, line)[0].failure
    assert failure is not None and words in failure.message
    session.close()
