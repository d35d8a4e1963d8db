"""Measures of places by name, and their correlations along a walk."""

import itertools
import math

import pytest
import torch
from torch import nn

from lsshell.engine.engine import Engine, WalkRequest
from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.landscape.correlation import MeasureTable, correlate, correlate_along
from lsshell.engine.landscape.places import evenly, find_place, place_at, visit
from lsshell.engine.landscape.scalars import SCALARS, Context, find_scalars
from lsshell.engine.problem import Problem
from tests.engine.small import blobs, regression


@pytest.fixture(scope="module")
def walked():
    """A short walk along l2 on iris, from far off the constrained minimum."""
    engine = Engine()
    engine.device = "cpu"
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-8-3"], None, {})
    engine.train(epochs=20, rate=0.01)
    engine.fix_level(None, None)
    engine.switch("l2", None, {})
    engine.walk(WalkRequest(steps=8))
    return engine


def test_what_falls_all_the_way_has_minus_1_with_what_grows_all_the_way(walked):
    found = correlate_along(walked, find_scalars("l2,length"), points=9)
    l2, length = (found.table.columns[name] for name in ("l2", "length"))
    assert list(l2) == sorted(l2, reverse=True)
    assert list(length) == sorted(length)
    again = correlate(MeasureTable(found.table.places, {"a": l2, "b": length}), "b")
    assert (again.found["a"].spearman, again.found["a"].kendall) == (-1.0, -1.0)
    assert again.found["a"].p < 1e-3
    # Both have the same correlation with test loss, but for its sign.
    assert found.found["l2"].spearman == -found.found["length"].spearman


def test_measures_are_what_the_walk_has_on_record(walked):
    found = correlate_along(walked, find_scalars(None), points=50)
    line = [p for p in walked.path.lineage() if p.kept]
    columns = found.table.columns
    assert found.table.places == tuple(p.name for p in line)
    assert columns["loss"] == pytest.approx([p.loss for p in line], rel=1e-6)
    assert columns["length"] == tuple(p.length for p in line)
    assert columns["distance-to-start"] == pytest.approx([p.distance for p in line], abs=1e-6)
    for k, point in enumerate(line):
        if point.test_loss is not None:
            assert columns["test-loss"][k] == pytest.approx(point.test_loss)
            assert columns["test-accuracy"][k] == pytest.approx(point.test_accuracy)
        for name, value in point.regularizers.items():
            assert columns[name][k] == pytest.approx(value, rel=1e-5, abs=1e-9), name


def test_every_measure_is_finite_or_says_why_not_and_moves_nothing(walked):
    problem = walked.problem
    before = walked.theta_hash(), problem.gradients, walked.path.here
    buffers = {n: b.clone() for n, b in problem.network.named_buffers()}
    found = correlate_along(walked, find_scalars("all"), points=3)
    assert (walked.theta_hash(), problem.gradients, walked.path.here) == before
    for name, buffer in problem.network.named_buffers():
        assert torch.equal(buffer, buffers[name])
    assert set(found.table.columns) == set(SCALARS)
    for name, column in found.table.columns.items():
        assert name in found.table.missing or any(v is not None for v in column), name
    assert found.table.missing == {}, found.table.missing


def test_slope_and_pl_are_those_of_the_loss_in_closed_form():
    """L = ½ mean (x·w)², whose gradient is known."""
    problem = Problem(nn.Linear(3, 1), regression(), dtype=torch.float64)
    x, y = problem.x_train, problem.y_train.reshape(-1)
    theta = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    r = x @ theta[:3] + theta[3] - y
    gradient = torch.cat([2 * x.T @ r, 2 * r.sum()[None]]) / len(x)
    loss = float(r.square().mean())
    with visit(problem):
        found = {n: SCALARS[n].function(problem, theta, Context(None)) for n in ("slope", "pl")}
    assert found["slope"] == pytest.approx(float(gradient.norm()))
    assert found["pl"] == pytest.approx(float(gradient.square().sum()) / (2 * loss))


def test_measures_that_are_shared_at_a_place_are_of_that_place(walked):
    """What is computed once for several measures must not be taken over to the next place."""
    names = "hessian-top,hessian-least,cka-to-start,disagreement-to-start,kernel-rank"
    together = correlate_along(walked, find_scalars(names), points=3).table.columns
    for name in names.split(","):
        alone = correlate_along(walked, find_scalars(name), points=3).table.columns
        assert alone[name] == together[name], name
        assert len(set(alone[name])) > 1 or name == "disagreement-to-start"
    assert together["cka-to-start"][0] == pytest.approx(1.0)
    assert together["disagreement-to-start"][0] == 0.0


def test_eigenvalues_and_barrier_are_those_of_dense_algebra_and_of_the_line(walked):
    problem, line = walked.problem, [p for p in walked.path.lineage() if p.kept]
    place, start = place_at(walked, line[-1]), place_at(walked, line[0])
    context = Context(place, start)
    with visit(problem, place):
        found = {
            name: SCALARS[name].function(problem, place.theta, context)
            for name in ("hessian-top", "hessian-least", "linear-barrier-to-start")
        }
        columns = [problem.hessian_vector(place.theta, e) for e in torch.eye(problem.p)]
        losses = [problem.loss(torch.lerp(start.theta, place.theta, k / 20)) for k in range(21)]
    dense = torch.linalg.eigvalsh(torch.stack(columns).double())
    assert found["hessian-top"] == pytest.approx(float(dense[-1]), rel=1e-3)
    assert found["hessian-least"] == pytest.approx(float(dense[0]), rel=1e-2, abs=1e-3)
    straight = [losses[0] + k / 20 * (losses[-1] - losses[0]) for k in range(21)]
    above = max(a - b for a, b in zip(losses, straight, strict=True))
    assert found["linear-barrier-to-start"] == pytest.approx(max(above, 0.0), abs=1e-6)


def test_regression_has_no_accuracy_and_a_place_without_a_start_no_distance():
    problem = Problem(nn.Linear(3, 1), regression())
    for name, message in (("test-accuracy", "regression"), ("distance-to-start", "no start")):
        with pytest.raises(EngineError, match=message):
            SCALARS[name].function(problem, problem.theta, Context(None))


def test_points_are_chosen_evenly_with_both_ends(walked):
    line = [p for p in walked.path.lineage() if p.kept]
    chosen = evenly(line, 4)
    assert (chosen[0], chosen[-1], len(chosen)) == (line[0], line[-1], 4)
    gaps = [line.index(b) - line.index(a) for a, b in itertools.pairwise(chosen)]
    assert max(gaps) - min(gaps) <= 1
    assert evenly(line, 1000) == line
    assert evenly(line[:1], 4) == line[:1]


def test_bad_requests_say_what_to_do(walked):
    with pytest.raises(EngineError, match=r"no measure l3.*there are length"):
        find_scalars("l3")
    with pytest.raises(EngineError, match="3 points or more"):
        correlate_along(walked, find_scalars("l2"), points=2)
    fresh = Engine()
    with pytest.raises(EngineError, match="no data yet"):
        correlate_along(fresh, find_scalars("l2"))
    fresh.device = "cpu"
    fresh.load_data("iris", "iris", None)
    fresh.build_model(["mlp", "4-8-3"], None, {})
    with pytest.raises(EngineError, match="walked yet"):
        correlate_along(fresh, find_scalars("l2"))


def test_columns_that_never_change_have_no_correlation():
    table = MeasureTable(
        ("a", "b", "c"), {"test-loss": (3.0, 1.0, 2.0), "same": (1.0,) * 3, "gone": (None,) * 3}
    )
    found = correlate(table, "test-loss").found
    assert (found["same"].spearman, found["same"].n) == (None, 3)
    assert (found["gone"].spearman, found["gone"].n) == (None, 0)
    with pytest.raises(EngineError, match="3 places with a test loss, not 2"):
        correlate(MeasureTable(("a", "b"), {"test-loss": (1.0, 2.0)}), "test-loss")


def test_it_stops_when_asked_to_and_leaves_all_as_it_was(walked):
    before = walked.theta_hash(), walked.problem.gradients
    walked.cancel.set()
    try:
        with pytest.raises(Cancelled):
            correlate_along(walked, find_scalars("loss"))
    finally:
        walked.cancel.clear()
    assert (walked.theta_hash(), walked.problem.gradients) == before


def test_a_recorded_point_is_a_place_with_its_own_parameters(walked):
    point = [p for p in walked.path.lineage() if p.kept][2]
    place = place_at(walked, point)
    assert place.point is point
    assert torch.equal(place.theta, find_place(walked, point.name).theta)
    assert not torch.equal(place.theta, walked.problem_theta())
    assert math.isfinite(SCALARS["loss"].function(walked.problem, place.theta, Context(place)))


def test_blobs_fit_every_regulariser():
    problem = Problem(nn.Sequential(nn.Linear(5, 3)), blobs())
    for scalar in find_scalars("l2,compress,jacobian,hessian-trace"):
        assert math.isfinite(scalar.function(problem, problem.theta, Context(None)))
