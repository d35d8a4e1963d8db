"""`allocation` in sessions: values, files, errors, replay."""

import csv

import pytest

from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import Stop, replayed


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    session = talk(tmp_path_factory.mktemp("allocation") / "s", SETUP + "walk --steps 8")
    yield session
    session.close()


def test_it_shares_out_training_and_test_loss_among_the_layers_of_the_walk(walked):
    (found,) = results(walked, "allocation")
    level_set = walked.engine.level_set
    assert (found["segments"], found["from_step"], found["to_step"]) == (8, 0, 8)
    assert abs(found["train"]["total"]) <= 2 * level_set.tolerance
    here, start = walked.engine.path.here, walked.engine.path.start()
    assert found["test"]["change"] == pytest.approx(here.test_loss - start.test_loss, abs=1e-6)
    nets = [group["net"] for group in found["test"]["groups"].values()]
    assert sum(nets) == pytest.approx(found["test"]["total"]) and len(nets) == 2
    assert abs(found["test"]["error"]) <= 8e-3 * found["test"]["first"]
    assert all(0.0 <= g["helped"] <= 1.0 for g in found["train"]["groups"].values())


def test_a_part_of_the_path_and_its_rest_make_the_whole(walked):
    whole, first, second = results(
        walked,
        "allocation --of test --by kind\nallocation --of test --by kind --to 3\n"
        "allocation --of test --by kind --from 3",
    )
    for name in ("weights", "biases"):
        parts = [one["test"]["groups"][name]["net"] for one in (first, second)]
        assert whole["test"]["groups"][name]["net"] == pytest.approx(sum(parts), abs=1e-12)


def test_the_regulariser_goes_down_by_what_its_shares_say(walked, tmp_path):
    line = f"allocation --of regularizer --by neuron --save {tmp_path / 'a.csv'}"
    (found,) = results(walked, line)
    assert found["regularizer"]["total"] == pytest.approx(found["regularizer"]["change"], rel=1e-5)
    assert found["regularizer"]["change"] < 0.0 and found["gradients"] == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(rows) == 9 * 11 and rows[0]["neuron"] == "1[0]"
    last = {r["neuron"]: float(r["regularizer"]) for r in rows if r["step"] == "8"}
    assert sum(last.values()) == pytest.approx(found["regularizer"]["total"])


def test_a_training_run_is_allocated_without_a_trace(walked, tmp_path):
    before = walked.engine.theta_hash(), walked.engine.path.here
    line = f"allocation --train --epochs 2 --every 2 --from start --out {tmp_path / 'a.png'}"
    (found,) = results(walked, line)
    assert found["epochs"] == 2 and found["segments"] == 4
    for one in (found["train"], found["test"]):
        assert one["total"] == pytest.approx(one["change"], abs=1e-3 * 4)
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert (walked.engine.theta_hash(), walked.engine.path.here) == before


def test_the_figure_is_of_the_last_named_with_a_line_for_each_layer_and_one_for_all(walked):
    (outcome,) = say(walked, "allocation --of test --of train")
    figure = outcome.reply.figure
    assert "training loss" in figure.title
    assert [s.name for s in figure.series] == ["1", "3", "all"]
    assert figure.series[0].x == tuple(float(k) for k in range(9))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("allocation --epochs 2", "--train"),
        ("allocation --train --epochs 0", "--epochs must be above 0"),
        ("allocation --train --rate nan", "--rate must be above 0"),
        ("allocation --train --to 3", "--to"),
        ("allocation --train --from ''", "no branch or step"),
        ("allocation --from 7 --to 3", "not on the way"),
        ("allocation --from 8", "two kept points"),
        ("allocation --to 99", "no step 99"),
        ("allocation --tolerance -1", "--tolerance must be above 0"),
        ("allocation --of everything", "everything"),
        ("allocation --save a.png", "a table ends in"),
        ("allocation --out a.csv", "a figure ends in"),
    ],
)
def test_what_is_wrong_is_said(walked, line, words):
    (outcome,) = say(walked, line)
    assert outcome.failure is not None and words in outcome.failure.message


def test_without_a_regulariser_or_a_walk_it_says_what_to_do(tmp_path):
    session = Session(tmp_path / "s", record=False)
    assert "data" in say(session, "allocation")[0].failure.message
    results(session, "data iris\nmodel mlp 4-5-3")
    assert "nothing has been walked" in say(session, "allocation")[0].failure.message
    (found,) = results(session, "allocation --train")
    assert found["train"]["change"] < 0.0
    (outcome,) = say(session, "allocation --train --of regularizer")
    assert "no regulariser is on" in outcome.failure.message


def test_it_replays_bit_for_bit_and_a_stop_changes_nothing(tmp_path):
    session = talk(tmp_path / "said", SETUP + "walk --steps 4")
    results(session, "allocation --of train --of test --of regularizer\nallocation --train")
    before = session.engine.theta_hash(), session.engine.problem.gradients
    for line in ("allocation", "allocation --train --epochs 3"):
        with Stop(session, 9):
            (outcome,) = say(session, line)
        assert "interrupted" in outcome.failure.message
        assert (session.engine.theta_hash(), session.engine.problem.gradients) == before
    results(session, "walk --steps 3")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None
