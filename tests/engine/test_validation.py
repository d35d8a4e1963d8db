"""Examples to choose by: held out of training and testing, and what is chosen by them."""

import itertools
import math

import pytest
import torch

from lsshell.engine import Engine, EngineError, WalkRequest
from lsshell.engine.comparison import Spread, comparison_rows
from lsshell.engine.data import load_data
from lsshell.engine.path import best_of
from tests.engine.test_path import point


def rows(x):
    """Examples as hashable rows (pixels or lengths: no two of these sets are alike)."""
    return {tuple(r) for r in x.reshape(len(x), -1).tolist()}


def test_the_parts_have_nothing_in_common_and_leave_nothing_over():
    held = load_data("mnist-5k", train=300, validation=200)
    parts = [held.x_train, held.x_validation, held.x_test]
    assert [len(p) for p in parts] == [300, 200, 4500]
    sets = [rows(p) for p in parts]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert "300 training, 200 validation and 4500 test examples" in " ".join(held.notes)


def test_the_same_examples_train_with_and_without_validation():
    plain, held = load_data("mnist-5k", train=300), load_data("mnist-5k", train=300, validation=50)
    assert torch.equal(plain.x_train, held.x_train)
    assert rows(held.x_validation) <= rows(plain.x_test)
    assert plain.digest != held.digest


def test_where_all_are_used_validation_is_taken_from_training_and_the_test_part_stays():
    plain, held = load_data("iris"), load_data("iris", validation=20)
    assert [len(held.x_train), len(held.x_validation), len(held.x_test)] == [100, 20, 30]
    assert torch.equal(plain.y_test, held.y_test)
    # Scaled by the examples that train, as the test part is.
    assert held.x_train.mean(0).abs().max() < 1e-6
    assert held.x_validation.mean(0).abs().max() > 1e-3


def test_more_than_there_are_is_refused():
    with pytest.raises(EngineError, match="--validation 120: iris has 120 examples"):
        load_data("iris", validation=120)
    with pytest.raises(EngineError, match="--validation is a number of examples"):
        load_data("iris", validation=-1)


def measured(index, test, validation, *, kept=True):
    made = point(index, index - 1 if index else None)
    return type(made)(**{**made.as_dict(), "test_loss": test, "validation_loss": validation,
                         "kept": kept})  # fmt: skip


def test_the_best_point_is_of_least_validation_loss_where_there_is_one():
    points = [measured(0, 1.0, 3.0), measured(1, 2.0, 1.0), measured(2, 0.5, 0.5, kept=False)]
    assert best_of(points).index == 1
    assert best_of([measured(0, 2.0, None), measured(1, 1.0, None)]).index == 1
    assert best_of([]) is None


@pytest.fixture(scope="module")
def walked():
    engine = Engine()
    engine.load_data("iris", "iris", None, validation=20)
    engine.build_model(["mlp", "4-8-3"], None, {})
    engine.train(epochs=20)
    engine.fix_level(None, None)
    engine.switch("l2", None, {})
    engine.walk(WalkRequest(steps=10, measure=1, record=1))
    return engine


def test_a_walk_measures_and_records_the_validation_loss(walked):
    here = walked.path.here
    problem = walked.problem
    outputs = problem.outputs(walked.problem_theta(), problem.validation[0]).double()
    truth = torch.nn.functional.cross_entropy(outputs, problem.validation[1])
    assert here.validation_loss == pytest.approx(float(truth), rel=1e-6)
    best = walked.goto("best")
    assert best.validation_loss == min(p.validation_loss for p in walked.path.traversal())
    walked.goto("end")


def test_each_step_records_its_predictor(walked):
    steps = [p for p in walked.path.traversal() if p.kind == "step"]
    assert all(p.rate > 0.0 and p.corrections >= 0 for p in steps)
    # A predictor is what a step is made of, but for its correction.
    moved = [b.length - a.length for a, b in itertools.pairwise(steps)]
    assert [p.rate for p in steps[1:]] == pytest.approx(moved, rel=0.5)


SETTINGS = {"runs": 2, "epochs": 3, "rate": 1e-3, "batch": 32, "biases": True}


def test_fine_tuning_begins_at_the_walks_start_and_leaves_the_walk_where_it_was(walked):
    before, spent = walked.theta_hash(), walked.problem.gradients
    still = {**SETTINGS, "rate": 1e-12}
    found = walked.compare_weight_decay([0.0, 1e-2], from_start=True, **still)
    start = walked.path.start()
    # At a rate of nothing every run stays where it began.
    assert all(t.train_loss == pytest.approx(start.loss, rel=1e-6) for t in found)
    assert all(t.l2 == pytest.approx(start.regularizers["l2"], rel=1e-6) for t in found)
    assert all(t.validation_loss is not None for t in found)
    assert walked.theta_hash() == before
    assert walked.problem.gradients == spent
    assert walked.measure().loss == walked.path.here.loss


def test_biases_are_penalised_where_asked(walked):
    def biases(penalised):
        walked.train(epochs=60, rate=1e-2, batch=32, penalty=10.0, biases=penalised)
        return sum(float(t.norm()) for s, t in walked.problem.tensors(walked.theta).items()
                   if "bias" in s)  # fmt: skip

    assert biases(True) < 0.1 * biases(False)


def test_a_penalty_at_which_training_diverges_does_not_lose_the_others():
    engine = Engine()
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-8-3"], "relu", {})
    settings = {**SETTINGS, "runs": 1, "rate": 1e30}
    found = engine.compare_weight_decay([0.0, 1e-2], from_start=False, **settings)
    assert len(found) == 2 and all(math.isnan(t.test_loss) for t in found)
    assert math.isnan(comparison_rows(found)[0].test_loss.mean)
    assert Spread.of([math.nan]).std == 0.0
