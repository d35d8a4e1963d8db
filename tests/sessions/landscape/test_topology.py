"""topology in sessions: slices taken and saved, files, connections, errors, replay."""

import csv
import json

import numpy as np
import pytest

from lsshell.figures.text import draw_text
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_replay import replayed

SMALL = "--points 9"


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A walk of 6 steps with a slice's topology in its record, still open."""
    folder = tmp_path_factory.mktemp("topology") / "s"
    session = talk(folder, SETUP + f"walk --steps 6\ntopology {SMALL} --loops --range 2")
    yield session
    session.close()


@pytest.fixture
def wells(tmp_path):
    """(a² − 1)² + b² on a grid, as `slice --save` writes it."""
    axis = np.linspace(-2, 2, 21)
    rows = [f"{a},{b},{(a * a - 1) ** 2 + b * b}" for a in axis for b in axis]
    file = tmp_path / "wells.csv"
    file.write_text("a,b,train_loss\n" + "\n".join(rows) + "\n")
    return file


def test_a_slice_is_measured_and_replays_bit_for_bit(walked, tmp_path):
    found = replayed(walked.folder, tmp_path)
    assert found.failed is None
    assert found.difference is None, str(found.difference)


def test_nothing_moves(walked):
    engine = walked.engine
    before = engine.theta_hash(), engine.problem.gradients, engine.path.here
    results(walked, f"topology {SMALL}\ntopology start --toward end --on test")
    assert (engine.theta_hash(), engine.problem.gradients, engine.path.here) == before


def test_a_slice_that_was_saved_says_the_same_as_one_taken_now(walked, tmp_path):
    taken, _, read = results(
        walked,
        f"topology {SMALL} --range 3\nslice {SMALL} --range 3 --save {tmp_path}/s.csv\n"
        f"topology --from {tmp_path}/s.csv",
    )
    for name in ("least", "greatest", "minima", "smad", "pairs"):
        assert read[name] == taken[name], name
    assert "level" not in read


def test_a_double_well_is_told_with_its_saddle_and_its_level_components(wells, tmp_path):
    session = talk(tmp_path / "s", "seed 0")
    below, above = results(
        session,
        f"topology --from {wells} --level 0.9\ntopology --from {wells} --level 1.1 --loops",
    )
    session.close()
    assert (below["minima"], below["minima_inside"]) == (2, 2)
    assert below["pairs"][1] == pytest.approx([0, 1], abs=1e-9)
    assert below["smad"] == pytest.approx(1.0)
    assert (below["components"], above["components"]) == (2, 1)
    assert above["loops"] == 0
    assert "loops" not in below


def test_two_ends_of_a_walk_are_connected_from_the_highest_loss_between_them_on(walked):
    found, up = results(walked, "topology start --toward end\ntopology start --toward end --eps 0")
    (line,) = found["connected"]
    engine = walked.engine
    problem, start = engine.problem, engine.path.start()
    a = problem.flat(engine.path.store.get(start.index))
    b = engine.problem_theta()
    between = [problem.loss(a + k / 80 * (b - a)) for k in range(81)]
    assert line["to"] == "end"
    assert line["from_level"] == pytest.approx(max(between), rel=1e-5)
    assert line["at_level"] == (line["from_level"] <= found["level"])
    assert found["level"] == pytest.approx(start.level + start.tolerance)
    assert up["connected"] == found["connected"]


def test_three_points_make_a_plane_in_which_two_are_held_against_the_first(walked):
    (found,) = results(walked, "topology start --toward 3 --and end --points 21")
    assert [c["to"] for c in found["connected"]] == ["3", "end"]
    assert found["points"] == [21, 21]


def test_pairs_and_trees_are_written(wells, tmp_path):
    session = talk(tmp_path / "s", "seed 0")
    results(
        session,
        f"topology --from {wells} --save {tmp_path}/p.csv --out {tmp_path}/d.png --loops\n"
        f"topology --from {wells} --save {tmp_path}/t.json --out {tmp_path}/t.svg --show tree",
    )
    session.close()
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert [row["dimension"] for row in rows] == ["0", "0"]
    assert float(rows[1]["persistence"]) == pytest.approx(1)
    assert abs(float(rows[1]["birth_a"])) == pytest.approx(1)
    assert float(rows[1]["death_a"]) == pytest.approx(0, abs=1e-9)
    assert rows[0]["death_a"] == ""
    whole = json.loads((tmp_path / "t.json").read_text())
    assert len(whole["tree"]["nodes"]) == 4
    assert whole["minima"] == 2
    assert len(whole["axes"][1]) == 21
    assert (tmp_path / "d.png").read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (tmp_path / "t.svg").read_bytes()


def test_diagrams_and_trees_are_drawn(wells, tmp_path):
    session = talk(tmp_path / "s", "seed 0")
    for line, title in (
        (f"topology --from {wells} --loops", "persistence of"),
        (f"topology --from {wells} --show tree --level 0.5", "merge tree of"),
        (f"topology --from {wells} --eps 0.9", "persistence of"),
        (f"topology --from {wells} --eps 0.9 --show tree", "merge tree of"),
    ):
        (outcome,) = say(session, line)
        assert title in draw_text(outcome.reply.figure, 80, 20, colour=False)
    (outcome,) = say(session, f"topology --from {wells} --show tree")
    tree = outcome.reply.figure.series[0]
    # Down to two minima at 0 and 1, joined at the saddle over their middle.
    assert set(tree.x) == {0.0, 0.5, 1.0}
    assert sorted(set(np.round(tree.y, 9))) == pytest.approx([0, 1, 1.1])
    session.close()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("topology --from nowhere.csv", "no file nowhere.csv"),
        ("topology --from {wells} --on test", "no column test_loss"),
        ("topology start --from {wells}", "leave out where"),
        ("topology --from {wells} --points 5", "leave out where"),
        ("topology --from {wells} --eps 1", "--eps"),
        ("topology --from {wells} --eps -1", "--eps"),
        ("topology --from {wells} --level nan", "--level"),
        ("topology --from {wells} --save x.txt", "a table ends in"),
        ("topology --from {wells} --out x.doc", "a figure ends in"),
        ("topology --points 1", "--points"),
        ("topology --points 0", "--points"),
        ("topology --and start", "--and"),
        ("topology start --toward end --range 0.2:0.8", "outside 0.2:0.8"),
        ("topology --range 1e38 --points 5", "NaN or infinite"),
        ("topology nowhere", "no branch or step nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused(walked, wells, line, message):
    (outcome,) = say(walked, line.format(wells=wells))
    assert outcome.failure is not None
    assert message in str(outcome.failure)
