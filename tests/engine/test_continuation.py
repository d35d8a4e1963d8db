"""The regularisation path by level: against ridge regression, and against weighted-sum training."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from lsshell.engine import Engine, EngineError
from lsshell.engine.continuation import ContinuationRequest
from tests.engine.small import regression

N, FEATURES = 40, 5


def linear():
    """Linear regression in float64 with its design matrix, targets and least loss."""
    engine, data = Engine(), regression(N, FEATURES)
    engine.use_dtype("float64")
    engine.data, engine.data_words = data, "linear"
    engine._adopt(problem := engine._problem(nn.Linear(FEATURES, 1), data, None), problem.theta)
    x = torch.cat([data.x_train.double(), torch.ones(N, 1, dtype=torch.float64)], 1)
    y = data.y_train.reshape(-1)
    best = torch.linalg.lstsq(x, y[:, None]).solution.reshape(-1)
    engine.theta = best + 0.1
    return engine, x, y, float((x @ best - y).square().mean())


def test_in_linear_regression_every_minimum_is_the_ridge_solution_of_its_weight_decay():
    engine, x, y, least = linear()
    engine.fix_level(1.2 * least, None)
    engine.switch("l2", 0.5, {})
    result = engine.regularization_path(
        ContinuationRequest(30 * least, points=6, until_angle=179.9999)
    )
    assert result.reason.endswith("reached")
    assert len(result.minima) == 7
    ratio = 25 ** (1 / 6)
    for k, point in enumerate(result.minima):
        assert point.level == pytest.approx(1.2 * least * ratio**k)
        assert abs(point.loss - point.level) <= point.tolerance == pytest.approx(0.01 * point.level)
        penalty = 0.5 * point.implied_weight_decay
        eye = torch.eye(FEATURES + 1, dtype=torch.float64)
        ridge = torch.linalg.solve(x.T @ x / N + penalty * eye, x.T @ y / N)
        theta = engine.problem.flat(engine.path.store.get(point.index))
        assert torch.dist(theta, ridge) <= 1e-5 * ridge.norm()


@pytest.fixture(scope="module")
def followed():
    """The path of a small network on the irises, in float64."""
    engine = Engine()
    engine.use_dtype("float64")
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-6-3"], None, {})
    engine.train(epochs=60, rate=1e-2, batch=32)
    engine.fix_level(0.05, None)
    engine.switch("l2", None, {})
    request = ContinuationRequest(0.3, points=8, until_angle=179.9)
    return engine, engine.regularization_path(request)


def test_the_minima_are_points_of_the_path_each_with_its_own_level(followed):
    engine, result = followed
    line = engine.path.lineage()
    assert [p.index for p in line[-8:]] == [p.index for p in result.minima[1:]]
    assert result.steps == line[-1].step
    assert all(p.kept and p.test_loss is not None for p in result.minima)
    assert all(p.angle_deg >= 179.9 for p in result.minima)
    assert engine.level_set.level == result.minima[-1].level == 0.3
    assert engine.goto(str(line[-3].step)).level == line[-3].level == engine.level_set.level
    engine.goto("end")


def test_r_falls_with_the_level_at_the_rate_of_the_multiplier(followed):
    _, result = followed
    for a, b in pairwise(result.minima):
        fall = (a.regularizers["l2"] - b.regularizers["l2"]) / (b.level - a.level)
        # The envelope theorem: dR*/dL* = −ν, and R* is convex here.
        assert 1 / b.implied_weight_decay < fall < 1 / a.implied_weight_decay


def test_training_with_the_implied_weight_decay_stays_at_the_minimum(followed):
    engine, result = followed
    problem = engine.problem
    for point in result.minima[::4]:
        penalty = point.implied_weight_decay

        def penalised(x, penalty=penalty):
            loss, gradient = problem.loss_and_gradient(torch.from_numpy(x))
            return loss + penalty * x @ x, gradient.numpy() + 2 * penalty * x

        theta = problem.flat(engine.path.store.get(point.index)).numpy()
        value, gradient = penalised(theta)
        along = problem.loss_and_gradient(torch.from_numpy(theta))[1].norm()
        assert np.linalg.norm(gradient) < 0.002 * along
        trained = minimize(penalised, theta, jac=True, method="L-BFGS-B", options={"gtol": 1e-9})
        assert np.linalg.norm(trained.x - theta) < 0.01 * np.linalg.norm(theta)
        assert 0 <= value - trained.fun < 1e-5 * value
        assert problem.loss(torch.from_numpy(trained.x)) == pytest.approx(point.loss, rel=0.01)


def test_levels_beyond_the_least_of_r_end_it_with_what_there_is():
    engine, _, y, least = linear()
    engine.fix_level(1.2 * least, None)
    engine.switch("l2", None, {})
    beyond = 4 * float(y.square().mean())  # at θ = 0 the loss is the mean square of y
    result = engine.regularization_path(ContinuationRequest(beyond, points=4))
    assert "R's own minimum" in result.reason
    assert 1 <= len(result.minima) < 5
    assert all(p.implied_weight_decay > 0 for p in result.minima)
    assert engine.level_set.level == result.minima[-1].level


def test_levels_that_cannot_be_reached_end_it_with_what_there_is():
    engine, _, _, least = linear()
    engine.fix_level(1.2 * least, None)
    engine.switch("l2", None, {})
    result = engine.regularization_path(ContinuationRequest(0.5 * least, points=2))
    assert "was not reached" in result.reason
    assert engine.problem.loss(engine.theta) >= least


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (ContinuationRequest(-1.0), "--to"),
        (ContinuationRequest(math.inf), "--to"),
        (ContinuationRequest(0.3, points=0), "--points"),
        (ContinuationRequest(0.3, until_angle=200.0), "--until-angle"),
        (ContinuationRequest(0.3, steps=-1), "--steps"),
        (ContinuationRequest(0.3, method="nothing"), "no method"),
    ],
)
def test_what_cannot_be_followed_is_said_and_changes_nothing(request_, said):
    engine, *_ = linear()
    engine.switch("l2", None, {})
    with pytest.raises(EngineError, match=said):
        engine.regularization_path(request_)
    assert engine.path.here is None
    engine.switch_off("l2")
    with pytest.raises(EngineError, match="no regulariser is on"):
        engine.regularization_path(ContinuationRequest(0.3))
