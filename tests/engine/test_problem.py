"""The problem as functions of θ, against torch itself and finite differences."""

import numpy as np
import pytest
import torch
from torch import nn

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.problem import Problem
from tests.engine.small import blobs, dataset, images, regression

F64 = {"dtype": torch.float64}


def dense(sizes=(5, 6, 3), seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(*sizes[:2]), nn.Tanh(), nn.Linear(*sizes[1:]))


def classifier(**kwargs):
    return Problem(dense(), blobs(), **(F64 | kwargs))


def regressor(**kwargs):
    return Problem(dense((3, 6, 1)), regression(), **(F64 | kwargs))


BOTH = pytest.mark.parametrize("make", [classifier, regressor])


def test_loss_is_mean_cross_entropy_and_mean_squared_error():
    problem = classifier()
    logits = problem.network(problem.x_train)
    wanted = nn.functional.cross_entropy(logits, problem.y_train)
    assert problem.loss(problem.theta) == pytest.approx(wanted.item(), rel=1e-12)
    problem = regressor()
    outputs = problem.network(problem.x_train)[:, 0]
    wanted = (outputs - problem.y_train).square().mean()
    assert problem.loss(problem.theta) == pytest.approx(wanted.item(), rel=1e-12)


@BOTH
def test_gradient_equals_autograd_and_central_differences(make):
    problem = make()
    theta = problem.theta.clone()
    loss, gradient = problem.loss_and_gradient(theta)
    direction = torch.randn(problem.p, dtype=torch.float64)
    up, down = (problem.loss(theta + s * 1e-5 * direction) for s in (1, -1))
    assert (up - down) / 2e-5 == pytest.approx(float(gradient @ direction), rel=1e-7)
    assert loss == problem.loss(theta)


@BOTH
@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_chunks_give_the_same_numbers(make, chunk):
    whole, parts = make(), make(chunk=chunk)
    v = torch.randn(whole.p, dtype=torch.float64)
    theta = whole.theta.clone()
    (a, g), (b, h) = whole.loss_and_gradient(theta), parts.loss_and_gradient(theta)
    assert a == pytest.approx(b, rel=1e-12)
    assert torch.allclose(g, h, rtol=1e-10, atol=1e-14)
    for product in ("hessian_vector", "gauss_newton_vector"):
        left, right = getattr(whole, product)(theta, v), getattr(parts, product)(theta, v)
        assert torch.allclose(left, right, rtol=1e-9, atol=1e-12)
    assert whole.test(theta).loss == pytest.approx(parts.test(theta).loss, rel=1e-12)


def test_chunks_agree_in_float32():
    data = images(n=64)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    losses = [Problem(network, data, chunk=c).loss_and_gradient for c in (1, 32, 64)]
    theta = Problem(network, data).theta.clone()
    found = [loss(theta)[0] for loss in losses]
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)


@BOTH
def test_hessian_vector_product_equals_the_explicit_hessian(make):
    problem = make()
    theta = problem.theta.clone()
    eye = torch.eye(problem.p, dtype=torch.float64)
    hessian = torch.stack([problem.hessian_vector(theta, e) for e in eye])
    differences = torch.stack(
        [
            (
                problem.loss_and_gradient(theta + 1e-5 * e)[1]
                - problem.loss_and_gradient(theta - 1e-5 * e)[1]
            )
            / 2e-5
            for e in eye
        ]
    )
    assert torch.allclose(hessian, hessian.T, atol=1e-12)
    assert torch.allclose(hessian, differences, atol=1e-8)


@BOTH
def test_gauss_newton_product_equals_the_explicit_matrix(make):
    problem = make()
    theta = problem.theta.clone()
    names = [s.name for s in problem.slots]

    def outputs(flat):
        tensors = problem.tensors(flat)
        return torch.func.functional_call(problem.network, tensors, (problem.x_train,))

    jacobian = torch.autograd.functional.jacobian(outputs, theta)  # (N, k, p)
    n, k = jacobian.shape[:2]
    matrix = torch.zeros(problem.p, problem.p, dtype=torch.float64)
    q = outputs(theta).softmax(1).detach()
    for i in range(n):
        if problem.classification:
            curvature = torch.diag(q[i]) - torch.outer(q[i], q[i])
        else:
            curvature = 2.0 * torch.eye(k, dtype=torch.float64) / k
        matrix += jacobian[i].T @ curvature @ jacobian[i] / n
    v = torch.randn(problem.p, dtype=torch.float64)
    assert torch.allclose(problem.gauss_newton_vector(theta, v), matrix @ v, atol=1e-10)
    assert names


def test_gauss_newton_equals_the_hessian_of_a_linear_network():
    problem = Problem(nn.Linear(5, 3), blobs(), **F64)
    v = torch.randn(problem.p, dtype=torch.float64)
    theta = problem.theta.clone()
    assert torch.allclose(
        problem.gauss_newton_vector(theta, v), problem.hessian_vector(theta, v), atol=1e-12
    )


def test_parameters_and_gradients_are_views_of_one_buffer():
    problem = classifier()
    start, size = problem.theta.data_ptr(), problem.theta.element_size()
    for q, slot in zip(problem.parameters, problem.slots, strict=True):
        assert q.data_ptr() == start + slot.offset * size
        assert q.grad.data_ptr() - problem.parameters[0].grad.data_ptr() == slot.offset * size
    grads = [q.grad.data_ptr() for q in problem.parameters]
    problem.loss_and_gradient(problem.theta.clone())
    assert grads == [q.grad.data_ptr() for q in problem.parameters]


def test_flat_and_named_tensors_are_one_another_exactly():
    problem = Problem(dense(), blobs())
    theta = torch.randn(problem.p)
    state = problem.state(theta)
    assert torch.equal(problem.flat(state), theta)
    assert sum(s.size for s in problem.slots) == problem.p


def test_test_metrics_are_loss_and_accuracy_or_rmse():
    x = torch.eye(3)
    network = nn.Linear(3, 3)
    problem = Problem(network, dataset(x, torch.tensor([0, 1, 2]), x, torch.tensor([0, 1, 1])))
    problem.theta.copy_(torch.cat([2 * torch.eye(3).reshape(-1), torch.zeros(3)]))
    metrics = problem.test(problem.theta)
    assert metrics.accuracy == pytest.approx(2 / 3)
    assert metrics.rmse is None
    problem = regressor()
    metrics = problem.test(problem.theta)
    assert metrics.accuracy is None
    assert metrics.rmse == pytest.approx(np.sqrt(metrics.loss))


def test_dropout_is_off_and_batch_norm_frozen_and_both_are_said():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, 3)
    )
    problem = Problem(network, images())
    before = network[1].running_mean.clone()
    assert problem.loss(problem.theta) == problem.loss(problem.theta)
    assert torch.equal(network[1].running_mean, before)
    assert (
        problem.notices
        == (
            "dropout is off (1 layer)",
            "batch-norm statistics are frozen (1 layer)",
        )
        or len(problem.notices) == 2
    )


def test_float32_loss_near_zero_is_formed_in_float64():
    network = nn.Linear(2, 2, bias=False)
    problem = Problem(network, dataset(torch.eye(2), torch.tensor([0, 1])))
    problem.theta.copy_(torch.tensor([18.0, 0.0, 0.0, 18.0]))
    assert problem.loss(problem.theta) == pytest.approx(np.log1p(np.exp(-18.0)), rel=1e-6)


def test_gradients_are_counted_and_products_count_twice():
    problem = classifier()
    theta = problem.theta.clone()
    problem.loss_and_gradient(theta)
    problem.loss(theta)
    problem.hessian_vector(theta, theta)
    problem.gauss_newton_vector(theta, theta)
    assert problem.gradients == 1 + 2 + 2


@pytest.mark.parametrize("chunk", [None, 4])
def test_an_evaluations_gradient_is_that_of_loss_and_gradient(chunk):
    problem = classifier(chunk=chunk)
    theta, other = problem.theta.clone(), problem.theta + 1.0
    loss, gradient = problem.loss_and_gradient(theta)
    elsewhere = problem.loss_and_gradient(other)[1]
    latest = problem.evaluate(theta)
    assert latest.loss == loss and torch.equal(latest.gradient, gradient)
    first, second = problem.evaluate(theta), problem.evaluate(other)
    assert torch.equal(second.gradient, elsewhere)
    assert torch.equal(first.gradient, gradient)  # anew
    assert torch.equal(latest.gradient, gradient)


def test_a_loss_alone_is_a_third_of_a_gradient():
    problem = classifier()
    theta = problem.theta.clone()
    latest = problem.evaluate(theta)
    assert problem.work == pytest.approx(1 / 3) and not latest.asked
    latest.gradient, latest.gradient  # noqa: B018
    assert problem.work == pytest.approx(1.0) and problem.gradients == 1
    earlier = problem.evaluate(theta)
    problem.loss(theta)
    earlier.gradient  # noqa: B018 - its graph is gone
    assert problem.work == pytest.approx(1 + 1 / 3 + 1)
    several = classifier(chunk=4)  # chunks, whose graphs might not fit
    several.evaluate(theta).gradient  # noqa: B018
    assert several.work == 1.0


def test_a_request_to_stop_is_heard_between_gradients():
    asked = False
    problem = classifier(cancelled=lambda: asked)
    asked = True
    with pytest.raises(Cancelled):
        problem.loss_and_gradient(problem.theta)
    with problem.uncancelled():
        problem.loss_and_gradient(problem.theta)
    with pytest.raises(Cancelled):
        problem.test(problem.theta)


@pytest.mark.parametrize(
    ("network", "data", "message"),
    [
        (nn.Linear(4, 3), blobs(), "does not take the data small"),
        (nn.Linear(5, 2), blobs(), "2 outputs, the data small has 3 classes"),
        (nn.Linear(3, 2), regression(), "2 outputs, the data small has 1 targets"),
        (nn.Tanh(), blobs(), "no trainable parameters"),
        (nn.Linear(3, 2), regression(1), "2 outputs, the data small has 1 targets"),
        (nn.BatchNorm1d(5, track_running_stats=False), blobs(), "would depend on --chunk"),
    ],
)
def test_networks_that_do_not_fit_the_data_are_refused(network, data, message):
    with pytest.raises(EngineError, match=message):
        Problem(network, data)


def test_one_example_is_data_enough():
    data = regression(1)
    problem = Problem(nn.Linear(3, 1), data, dtype=torch.float64)
    error = float(problem.network(data.x_train.double()).detach() - data.y_train)
    assert problem.loss(problem.theta) == pytest.approx(error**2)


def test_more_outputs_than_classes_are_allowed():
    assert Problem(nn.Linear(5, 7), blobs()).p == 42
