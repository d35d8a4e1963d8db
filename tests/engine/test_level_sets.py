"""Walks on level sets whose constrained minima are known in closed form (T1 to T6)."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from lsshell.engine.errors import EngineError, NotFiniteError
from lsshell.engine.events import Corrected, Refused
from lsshell.engine.levelset import (
    LevelNotReached,
    LevelSet,
    correct,
    move_to,
    newton_length,
    secant,
    split,
)
from lsshell.engine.problem import Problem
from lsshell.engine.steppers import Auto, Gradient, Newton, Paper, QuasiNewton
from lsshell.engine.steppers.tangent_descent import Direction, TangentDescent, Trail
from tests.engine.descent import descend
from tests.engine.small import GivenLoss, dataset

STEPPERS = pytest.mark.parametrize("stepper", [QuasiNewton, Newton, Gradient])


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def on_the_set(walked):
    """Every accepted point is within the tolerance and lower in R than the one before."""
    for before, after in pairwise(walked.positions):
        assert abs(after.loss - walked.level_set.level) <= walked.level_set.tolerance
        assert after.value < before.value
    return True


# -- T1: sphere ------------------------------------------------------------------------------


@STEPPERS
def test_sphere_leads_to_the_point_nearest_to_a(stepper):
    rho, a = 1.5, tensor(2.0, -1.0, 0.5)
    start = tensor(-1.0, -1.0, 0.3)
    problem = GivenLoss(start * rho / start.norm(), lambda t: t.square().sum() / 2)
    walked = descend(
        problem,
        stepper(),
        {"distance": {"reference": a}},
        level=rho**2 / 2,
        tolerance=1e-10,
        steps=2000,
    )
    end = walked.end.position
    assert on_the_set(walked)
    assert "constrained minimum" in walked.end.reason
    assert end.theta.tolist() == pytest.approx((rho * a / a.norm()).tolist(), abs=1e-4)
    assert end.value == pytest.approx(float(a.norm() - rho) ** 2, rel=1e-6)
    assert end.split.multiplier == pytest.approx(2 * (float(a.norm()) / rho - 1), rel=1e-6)
    assert end.split.angle_deg == pytest.approx(180.0, abs=0.01)


@STEPPERS
def test_sphere_path_stays_in_the_plane_of_start_and_target(stepper):
    a, start = tensor(0.0, 3.0, 0.0, 0.0), tensor(1.0, -0.5, 0.0, 0.0)
    problem = GivenLoss(start, lambda t: t.square().sum() / 2)
    level = float(start.square().sum()) / 2
    walked = descend(
        problem,
        stepper(),
        {"distance": {"reference": a}},
        level=level,
        tolerance=1e-9,
        steps=2000,
    )
    assert max(float(p.theta[2:].abs().max()) for p in walked.positions) < 1e-12
    # The straight way on a sphere is its great circle.
    length = sum(float((q.theta - p.theta).norm()) for p, q in pairwise(walked.positions))
    arc = float(start.norm()) * math.acos(float(start @ a) / float(start.norm() * a.norm()))
    assert arc * 0.99 < length < arc * 1.1  # chords


# -- T2: ellipsoid ---------------------------------------------------------------------------

H = torch.diag(tensor(1.0, 4.0, 25.0))


def on_ellipsoid(c, a):
    """θ = (I + μH/2)⁻¹a with L(θ) = c, by bisection on μ."""
    h, low, high = np.diag(H.numpy()), -2 / 25 + 1e-9, 1e6

    def point(mu):
        return a.numpy() / (1 + mu * h / 2)

    for _ in range(300):
        mu = (low + high) / 2
        low, high = (mu, high) if 0.5 * (h * point(mu) ** 2).sum() > c else (low, mu)
    return point(mu), mu


@STEPPERS
def test_ellipsoid_leads_to_the_point_nearest_to_a(stepper):
    c, a = 2.0, tensor(3.0, 2.0, 1.0)
    problem = GivenLoss(tensor(-1.5, 0.5, 0.1), lambda t: t @ H @ t / 2)
    walked = descend(
        problem,
        stepper(),
        {"distance": {"reference": a}},
        level=c,
        tolerance=1e-9,
        steps=5000,
    )
    wanted, mu = on_ellipsoid(c, a)
    assert on_the_set(walked)
    end = walked.end.position
    assert end.value == pytest.approx(float(((wanted - a.numpy()) ** 2).sum()), rel=1e-6)
    assert end.theta.tolist() == pytest.approx(wanted.tolist(), abs=1e-3)
    assert end.split.multiplier == pytest.approx(mu, rel=1e-3)
    assert end.split.angle_deg == pytest.approx(180.0, abs=0.01)


@STEPPERS
def test_ellipse_has_its_point_of_least_norm_where_the_gradients_oppose(stepper):
    centre = tensor(3.0, 2.0, 1.0)
    problem = GivenLoss(tensor(4.5, 2.5, 1.1), lambda t: (t - centre) @ H @ (t - centre) / 2)
    walked = descend(problem, stepper(), {"l2": {}}, level=2.0, tolerance=1e-9, steps=5000)
    wanted, mu = on_ellipsoid(2.0, -centre)
    assert on_the_set(walked)
    end = walked.end.position
    assert end.value == pytest.approx(float(((wanted + centre.numpy()) ** 2).sum()), rel=1e-6)
    assert end.split.multiplier == pytest.approx(mu, rel=1e-3)
    assert end.split.angle_deg == pytest.approx(180.0, abs=0.01)


@STEPPERS
def test_around_the_origin_the_least_norm_is_on_the_shortest_axis(stepper):
    problem = GivenLoss(tensor(1.2, 0.5, 0.1), lambda t: t @ H @ t / 2)
    walked = descend(problem, stepper(), {"l2": {}}, level=2.0, tolerance=1e-9, steps=5000)
    assert on_the_set(walked)
    assert walked.end.position.value == pytest.approx(2 * 2.0 / 25, rel=1e-6)
    # The loss grows outwards, as the norm does: the gradients agree.
    assert walked.end.position.split.angle_deg == pytest.approx(0.0, abs=0.01)
    assert "stationary point" in walked.end.reason


def test_climbing_an_ellipse_ends_on_its_longest_axis():
    problem = GivenLoss(tensor(1.2, 0.5, 0.1), lambda t: t @ H @ t / 2)
    walked = descend(
        problem, QuasiNewton(), {"l2": {}}, level=2.0, tolerance=1e-9, steps=5000, sign=-1.0
    )
    assert -walked.end.position.value == pytest.approx(2 * 2.0 / 1.0, rel=1e-6)


# -- T3: linear regression -------------------------------------------------------------------


def regression_problem(n=20, d=50, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g)
    y = (x @ torch.randn(d, generator=g)).double() / math.sqrt(d)
    network = nn.Linear(d, 1, bias=False)
    problem = Problem(network, dataset(x, y), dtype=torch.float64)
    problem.theta.copy_(torch.randn(d, generator=g) * 2)
    return problem, x.double().numpy(), y.numpy()


def ridge(x, y, c):
    """min ‖θ‖² + νL with L = ‖Xθ − y‖²/n = c, by bisection on ν."""
    n, d = x.shape
    low, high = 1e-6, 1e12
    for _ in range(300):
        nu = math.sqrt(low * high)
        theta = np.linalg.solve(np.eye(d) + nu / n * x.T @ x, nu / n * x.T @ y)
        loss = ((x @ theta - y) ** 2).mean()
        low, high = (nu, high) if loss > c else (low, nu)
    return theta, nu


@pytest.mark.parametrize("c", [1e-1, 1e-2, 1e-3, 1e-4, 1e-6])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_linear_regression_leads_to_the_ridge_solution_of_equal_loss(c, tolerance):
    problem, x, y = regression_problem()
    walked = descend(
        problem, QuasiNewton(), {"l2": {}}, level=c, tolerance=tolerance * c, steps=200
    )
    end = walked.end.position
    assert on_the_set(walked)
    assert abs(end.loss - c) <= 0.1 * tolerance * c  # centred
    theta, nu = ridge(x, y, end.loss)
    assert end.value == pytest.approx(float(theta @ theta), rel=1e-6)
    assert end.split.angle_deg == pytest.approx(180.0, abs=0.01)
    assert 1 / end.split.multiplier == pytest.approx(1 / nu, rel=1e-2)
    null = np.eye(50) - np.linalg.pinv(x) @ x
    assert np.linalg.norm(null @ end.theta.numpy()) < 1e-3


@pytest.mark.parametrize("stepper", [Newton, Auto])
def test_newton_reaches_the_ridge_solution_and_superlinearly(stepper):
    problem, x, y = regression_problem()
    walked = descend(problem, stepper(), {"l2": {}}, level=1e-3, tolerance=1e-7, steps=100)
    theta, _ = ridge(x, y, 1e-3)
    assert on_the_set(walked)
    assert walked.end.position.value == pytest.approx(float(theta @ theta), rel=1e-6)
    sines = [p.split.sine for p in walked.positions]
    if stepper is Newton:
        assert sines[-1] < 0.1 * sines[-2] < 0.1 * 0.5 * sines[-3]


def test_without_second_derivatives_newton_is_refused_and_auto_is_quasi_newton(monkeypatch):
    def product(problem, theta, v):
        raise RuntimeError("derivative for aten::attention_backward is not implemented")

    monkeypatch.setattr(Problem, "hessian_vector", product)
    for stepper in (Newton(), Auto()):
        problem, x, y = regression_problem()
        if isinstance(stepper, Auto):
            walked = descend(problem, stepper, {"l2": {}}, level=1e-3, tolerance=1e-7, steps=300)
            theta, _ = ridge(x, y, 1e-3)
            assert on_the_set(walked)
            assert walked.end.position.value == pytest.approx(float(theta @ theta), rel=1e-6)
        else:
            with pytest.raises(EngineError, match="newton needs higher derivatives"):
                descend(problem, stepper, {"l2": {}}, level=1e-3, tolerance=1e-7, steps=100)


def test_first_order_walk_reaches_the_ridge_solution_too():
    problem, x, y = regression_problem()
    walked = descend(problem, Gradient(), {"l2": {}}, level=0.1, tolerance=1e-3, steps=3000)
    theta, _ = ridge(x, y, 0.1)
    assert on_the_set(walked)
    assert walked.end.position.value == pytest.approx(float(theta @ theta), rel=1e-3)


# -- T4: two weights -------------------------------------------------------------------------


@STEPPERS
@pytest.mark.parametrize("name", ["l2", "l1"])
def test_two_weights_balance_on_their_hyperbola(stepper, name):
    problem = GivenLoss(tensor(3.0, 0.2), lambda t: (t[0] * t[1] - 1) ** 2 / 2)
    c = 0.08
    options = {"eps": 1e-6} if name == "l1" else {}
    walked = descend(problem, stepper(), {name: options}, level=c, tolerance=1e-9, steps=4000)
    assert on_the_set(walked)
    product = 1 - math.sqrt(2 * c)
    wanted = 2 * product if name == "l2" else 2 * math.sqrt(product)
    assert walked.end.position.value == pytest.approx(wanted, rel=1e-5)
    assert abs(float(walked.end.position.theta[0])) == pytest.approx(math.sqrt(product), rel=1e-2)


# -- T5: linear loss -------------------------------------------------------------------------


def linear_problem():
    a = tensor(0.3, -0.7, 0.2, 0.1)
    return GivenLoss(tensor(2.0, -1.0, 0.5, 0.4), lambda t: a @ t)


@pytest.mark.parametrize("stepper", [QuasiNewton, Gradient, Paper])
def test_linear_loss_gives_a_straight_line_and_no_correction(stepper):
    problem = linear_problem()
    level = problem.loss(problem.theta)
    walked = descend(
        problem, stepper(), {"random": {}}, level=level, tolerance=1e-5 * level, steps=30
    )
    steps = [q.theta - p.theta for p, q in pairwise(walked.positions)]
    units = [s / s.norm() for s in steps]
    assert all(float((u - units[0]).norm()) < 1e-9 for u in units)
    assert not any(e.corrections for e in walked.events if isinstance(e, Corrected))


def test_paper_grows_its_rate_by_a_tenth_on_a_straight_line():
    problem = linear_problem()
    level = problem.loss(problem.theta)
    walked = descend(problem, Paper(), {"random": {}}, level=level, tolerance=1e-5, steps=100)
    lengths = [float((q.theta - p.theta).norm()) for p, q in pairwise(walked.positions)]
    rate, wanted = 1e-4, []
    for _ in range(100):
        wanted.append(rate)
        rate = min(round(1.1 * rate, 10), 0.1)
    assert lengths == pytest.approx(wanted, rel=1e-9)
    assert wanted[-1] == 0.1


# -- T6: the published corrector's cycle -----------------------------------------------------


def test_paper_reports_the_corrector_that_jumps_over_the_level_for_ever():
    problem = GivenLoss(tensor(0.0, -1.0), lambda t: t.square().sum() / 2)
    walked = descend(
        problem,
        Paper(),
        {"distance": {"reference": tensor(2.0, 0.5)}},
        level=0.5,
        tolerance=1e-5,
        steps=1000,
    )
    assert "10000 steps in a row" in walked.end.reason
    assert 0 < walked.end.steps < 1000
    assert all(abs(p.loss - 0.5) <= 1e-5 for p in walked.positions)


# -- the corrector and the tangent space -----------------------------------------------------


def test_corrector_converges_quadratically():
    problem = GivenLoss(tensor(1.1, 0.4), lambda t: t @ torch.diag(tensor(1.0, 3.0)) @ t / 2)
    residuals, theta = [], problem.theta.clone()
    for _ in range(4):
        loss, g = problem.loss_and_gradient(theta)
        residuals.append(abs(loss - 0.8))
        theta = theta - (loss - 0.8) / float(g @ g) * g
    assert residuals[2] < 2 * residuals[1] ** 2
    correction = correct(problem, LevelSet(0.8, 1e-3), problem.theta.clone(), within=1e-10)
    assert correction.converged
    assert abs(correction.loss - 0.8) <= 1e-10
    assert len(correction.legs) <= 5


def test_secants_along_a_normal_need_losses_only():
    problem = GivenLoss(tensor(1.1, 0.4), lambda t: t @ torch.diag(tensor(1.0, 3.0)) @ t / 2)
    start = problem.theta.clone()
    g = problem.loss_and_gradient(start)[1]
    n, spent = tensor(0.3, 1.0), problem.work
    legs = list(secant(problem, 0.8, start, n, float(n @ g)))
    residuals = [abs(leg.loss - 0.8) for leg in legs]
    assert residuals[-1] < 1e-12
    assert residuals[2] < 0.2 * residuals[1]  # slope by their secant, not that of the start
    assert problem.work - spent == pytest.approx(len(legs) / 3)
    moved = torch.stack([leg.theta - start for leg in legs[1:]])
    assert torch.allclose(moved[:, 0] * n[1], moved[:, 1] * n[0])


@pytest.mark.parametrize(
    ("start", "normal", "slope"),
    [
        (tensor(1.1, 0.4), tensor(1.1, 1.2), 1.7),  # a slope that is wrong: it goes too far
        (tensor(2.0, 0.4), tensor(2.0, 1.2), 5.44),  # far from the level
        (tensor(1.2, 0.4), tensor(-1.0, 0.95), 1.0),  # a normal that is none: flat
    ],
)
def test_the_gradient_is_asked_for_where_losses_do_not_lead_to_the_level(start, normal, slope):
    problem = GivenLoss(start, lambda t: t @ torch.diag(tensor(1.0, 3.0)) @ t / 2)
    legs = list(secant(problem, 0.8, start, normal, slope))
    assert abs(legs[-1].loss - 0.8) < 1e-9
    assert any(leg.asked for leg in legs)


class Tilted(TangentDescent):
    """Short steps, put right along a normal that R does not change along as along g."""

    name = "tilted"
    rise = 0.02

    def __init__(self, tilt):
        super().__init__()
        self.tilt = tilt

    def direction(self, terrain, here):
        t, g = here.split.tangent, here.gradient
        return Direction(-1e-5 * t, g - self.tilt(here) * t)


@pytest.mark.parametrize(
    ("x", "target", "tilt"),
    [
        # Above the level, ν = 0, and R rises by what the loss is put right by.
        (1.0045, tensor(1.0045, -5.0), lambda here: 0.3),
        # Below it: R does not change, but by ν would rise by more than the step gains.
        (
            0.9955,
            tensor(2.0, -5.0),
            lambda h: float(h.slope @ h.gradient / (h.slope @ h.split.tangent)),
        ),
    ],
)
def test_centring_costs_what_r_changes_along_the_normal(x, target, tilt):
    theta = tensor(x, 0.0)
    problem = GivenLoss(theta, lambda t: t.square().sum() / 2)
    walked = descend(
        problem, Tilted(tilt), {"distance": {"reference": target}}, level=0.5, tolerance=0.01,
        steps=3, theta=theta,
    )  # fmt: skip
    assert walked.end.steps == 3
    assert not [e for e in walked.events if isinstance(e, Refused)]
    assert on_the_set(walked)


def test_a_trail_keeps_the_points_whose_gradients_were_asked_for():
    problem = GivenLoss(tensor(1.0, 0.0), lambda t: t.square().sum() / 2)
    a, b, c = (problem.evaluate(tensor(x, 1.0)) for x in (1.0, 2.0, 3.0))
    b.gradient  # noqa: B018
    trail = Trail().to(a).to(b).to(c)
    assert trail.points == (b, c)
    assert trail.losses == (a.loss, b.loss, c.loss) and trail.corrections == 2


def test_a_path_does_not_depend_on_whether_gradients_come_with_losses():
    start, ends = tensor(1.0, 0.4, -0.3), []
    for chunk in (None, 1):
        problem = GivenLoss(start, lambda t: (t @ H @ t) / 2 + t[0] ** 3 / 3, chunk=chunk)
        walked = descend(
            problem, QuasiNewton(), {"distance": {"reference": tensor(-2.0, 1.0, 2.0)}},
            level=problem.loss(start), tolerance=1e-3, steps=20, theta=start,
        )  # fmt: skip
        assert any(e.corrections for e in walked.events if isinstance(e, Corrected))
        ends.append(walked.end.position.theta)
    assert torch.allclose(*ends, rtol=1e-9)


def test_newton_length_is_that_of_the_logarithm_far_above_the_level():
    assert newton_length(1.05, 1.0) == pytest.approx(0.05)
    assert newton_length(2.0, 1.0) == pytest.approx(2.0 * math.log(2.0))


def test_moving_to_a_level_below_the_least_loss_says_how_close_it_came():
    problem = GivenLoss(tensor(1.0, 1.0), lambda t: t.square().sum() + 1.0)
    with pytest.raises(LevelNotReached) as e:
        move_to(problem, LevelSet(0.5, 0.005), problem.theta.clone())
    assert e.value.closest >= 1.0
    assert e.value.closest == pytest.approx(1.0, abs=0.05)


def test_moving_to_a_level_turns_back_where_the_loss_is_not_a_number():
    # The first Newton step goes far beyond 1, where there is no loss.
    problem = GivenLoss(tensor(0.1), lambda t: -(1.0 - t).log().sum())
    theta, loss = move_to(problem, LevelSet(3.0, 1e-3), problem.theta.clone())
    assert loss == pytest.approx(3.0, abs=1e-4)
    assert float(theta) == pytest.approx(1.0 - math.exp(-3.0), abs=1e-4)


@pytest.mark.parametrize("cosine", [-1.0, -0.999999, -0.5, 0.0, 0.7, 1.0])
def test_split_gives_the_rejection_and_an_angle_without_loss_near_180(cosine):
    g = tensor(0.0, 2.0, 0.0)
    sine = math.sqrt(1 - cosine**2)
    r = 3.0 * tensor(sine, cosine, 0.0)
    parts = split(r, g)
    assert abs(float(parts.tangent @ g)) < 1e-12
    assert float(r @ parts.tangent) >= 0.0
    assert parts.angle_deg == pytest.approx(math.degrees(math.atan2(sine, cosine)), abs=1e-9)
    assert parts.multiplier == pytest.approx(-3.0 * cosine / 2.0)
    assert torch.allclose(parts.tangent, r + parts.multiplier * g)


def test_split_is_orthogonal_in_float32_where_the_vectors_are_long():
    g = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    r = -3.0 * g + 1e-3 * torch.randn(100_000, generator=torch.Generator().manual_seed(1))
    parts = split(r, g)
    assert abs(float(parts.tangent.double() @ g.double())) < 1e-5 * parts.tangent_norm * 316


def test_a_loss_that_is_not_finite_is_an_error_for_people():
    problem = GivenLoss(tensor(1.0), lambda t: t.sum().log())
    with pytest.raises(NotFiniteError, match="loss is nan"):
        problem.loss_and_gradient(tensor(-1.0))
