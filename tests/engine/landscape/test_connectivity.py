"""Mode connectivity: the measure on losses whose connections are known."""

import math

import pytest
import torch

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.batch_norm import recompute_statistics
from lsshell.engine.landscape.connectivity import (
    BARRIER,
    BETTER,
    BETWEEN,
    WELL,
    connect,
    mode_connectivity,
    profile,
)
from lsshell.engine.landscape.curves import Curve, line, train_curve
from lsshell.engine.landscape.places import visit
from tests.engine.landscape.test_curves import normalised, ring, state, two, unchanged
from tests.engine.small import GivenLoss, regression


def pair(a, b):
    return torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)


def test_the_measure_takes_the_point_that_deviates_most_from_the_mean_of_the_ends():
    found = profile([0, 0.25, 0.5, 0.75, 1], [0, 1, 2, 4, 8], [2.0, 3.0, 9.0, 0.0, 4.0])
    assert (found.mc, found.t_star) == (-6.0, 0.5)
    assert (found.barrier, found.barrier_at) == (6.0, 0.5)
    assert found.ends == (2.0, 4.0)
    assert (found.least, found.greatest, found.mean) == (0.0, 9.0, 3.6)
    trapezoids = 1 * 2.5 + 1 * 6.0 + 2 * 4.5 + 4 * 2.0
    assert found.weighted_mean == pytest.approx(trapezoids / 8)
    better = profile([0, 0.5, 1], [0, 1, 2], [5.0, 1.0, 5.0])
    assert (better.mc, better.barrier) == (4.0, 0.0)


def test_a_barrier_is_above_the_line_between_unequal_ends():
    t = [0.0, 0.25, 0.5, 0.75, 1.0]
    falling = profile(t, t, [8.0, 6.0, 4.0, 2.0, 0.0])
    assert (falling.barrier, falling.mc, falling.t_star) == (0.0, -4.0, 0.0)
    bumped = profile(t, t, [8.0, 6.0, 4.0, 3.0, 0.0])
    assert (bumped.barrier, bumped.barrier_at) == (1.0, 0.75)


def test_two_wells_in_one_dimension_have_a_barrier_that_no_curve_goes_round():
    problem = GivenLoss([1.0], lambda w: (w.square() - 1.0).square().sum())
    a, b = pair([1.0], [-1.0])
    found = connect(problem, a, b, epochs=300, rate=0.05)
    assert found.line.train_loss.mc == pytest.approx(-1.0)
    assert found.curve.train_loss.mc < -0.9
    assert found.line.reading == found.curve.reading == BARRIER


def test_round_a_ring_a_curve_is_found_and_only_off_the_line_of_symmetry():
    problem = GivenLoss([1.0, 0.0], ring)
    a, b = pair([1.0, 0.0], [-1.0, 0.0])
    settings = {"epochs": 700, "rate": 0.015, "weight_decay": 0.0}
    straight = mode_connectivity(problem, line(a, b))
    assert straight.train_loss.barrier == pytest.approx(1.0)
    assert straight.train_loss.barrier_at == 0.5
    curve = mode_connectivity(problem, train_curve(problem, a, b, **settings))
    assert -0.12 < curve.train_loss.mc < -0.001  # a parabola is no arc of a circle
    assert 2.0 < curve.length < math.pi + 0.3
    stuck = train_curve(problem, a, b, perturbation=0.0, **settings)
    assert mode_connectivity(problem, stuck).train_loss.barrier > 0.98


def test_a_chain_with_more_bends_comes_nearer_to_the_ring():
    problem = GivenLoss([1.0, 0.0], ring)
    a, b = pair([1.0, 0.0], [-1.0, 0.0])
    curves = [
        train_curve(problem, a, b, kind="chain", bends=k, epochs=700, rate=0.015, weight_decay=0.0)
        for k in (1, 5)
    ]
    barriers = [mode_connectivity(problem, c, 61).train_loss.barrier for c in curves]
    assert barriers[1] < 0.3 * barriers[0] < 0.3


def test_the_straight_line_of_a_convex_loss_with_equal_ends_is_never_worse_than_they_are():
    scales = torch.tensor([1.0, 3.0, 0.2], dtype=torch.float64)
    problem = GivenLoss([0.0] * 3, lambda w: (scales * w.square()).sum())
    a = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    b = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)
    found = mode_connectivity(problem, line(a, b))
    assert found.mc == pytest.approx(12.2)
    assert found.train_loss.barrier == 0.0
    assert found.reading == BETTER


def test_ends_that_differ_more_than_what_is_between_are_called_so():
    problem = GivenLoss([0.0], lambda w: w.sum() + 3.0)
    found = mode_connectivity(problem, line(*pair([0.0], [1.0])))
    assert (found.mc, found.train.t_star, found.reading) == (0.5, 0.0, BETWEEN)
    flat = mode_connectivity(GivenLoss([0.0], lambda w: 0 * w.sum()), line(*pair([0.0], [1.0])))
    assert flat.reading == WELL


def test_errors_are_in_percent_and_losses_those_of_the_problem_with_statistics_made_anew():
    problem = normalised()
    a, b = two(problem)
    curve = Curve("bezier", (a, 0.3 * a, b))
    before = state(problem)
    found = mode_connectivity(problem, curve, 5)
    assert unchanged(problem, before)
    assert found.t == (0.0, 0.25, 0.5, 0.75, 1.0)
    with visit(problem):
        for i, t in enumerate(found.t):
            recompute_statistics(problem, curve.at(t))
            metrics = problem.metrics(curve.at(t), "test")
            assert found.test_loss.values[i] == metrics.loss
            assert found.test_error.values[i] == pytest.approx(100 * (1 - metrics.accuracy))
    frozen = problem.metrics(b, "train").loss
    assert found.train_loss.values[-1] != pytest.approx(frozen, rel=1e-3)
    assert found.mc == found.train_error.mc


def test_the_distance_is_along_the_chain_through_the_points():
    problem = GivenLoss([0.0, 0.0], ring)
    a, b = pair([3.0, 0.0], [0.0, 4.0])
    straight = mode_connectivity(problem, line(a, b), 11)
    assert straight.length == pytest.approx(5.0)
    assert straight.distance[5] == pytest.approx(2.5)
    corner = Curve("chain", (a, torch.zeros(2, dtype=torch.float64), b))
    assert mode_connectivity(problem, corner, 11).length == pytest.approx(7.0)


def test_regression_is_read_by_its_loss_in_units_of_the_variance_of_the_targets():
    from torch import nn

    from lsshell.engine.problem import Problem

    data = regression()
    problem = Problem(nn.Linear(3, 1), data)
    found = mode_connectivity(problem, line(*two(problem)))
    assert found.train_error is None
    assert found.mc == found.train_loss.mc
    variance = float(data.y_train.var(correction=0))
    assert found.tolerance == pytest.approx(0.01 * variance)


def test_what_cannot_be_connected_is_refused():
    problem = GivenLoss([1.0, 0.0], ring)
    a, b = pair([1.0, 0.0], [-1.0, 0.0])
    with pytest.raises(EngineError, match="the same parameters"):
        connect(problem, a, a.clone())
    with pytest.raises(EngineError, match="at 3 to"):
        connect(problem, a, b, points=2)
    with pytest.raises(EngineError, match="alignment"):
        connect(problem, a, b, permute=True)
