"""Loss change allocation, against polynomials whose integrals are known, and on level sets."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from lsshell.engine.engine import Engine, WalkRequest
from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.landscape.allocation import (
    LEAST_INTERVALS,
    MOST_INTERVALS,
    Quantity,
    allocate_training,
    allocate_walk,
    integrate,
)
from lsshell.engine.landscape.places import Place, kept_points, place_at, visit
from lsshell.engine.problem import Problem
from lsshell.engine.training import train
from tests.engine.small import GivenLoss, blobs, dataset, images, regression

DOUBLE = torch.float64
A = torch.tensor([0.3, -1.2, 0.7], dtype=DOUBLE)
B = torch.tensor([1.1, 0.4, -0.9], dtype=DOUBLE)
MATRIX = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]], dtype=DOUBLE)


def given(function):
    """A function of θ with its gradient by autograd."""

    def value_and_gradient(theta):
        leaf = theta.detach().requires_grad_()
        value = function(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.item(), gradient

    return Quantity("train", value_and_gradient)


def segment(quantity, start=A, end=B, tolerance=1e9, most=MOST_INTERVALS):
    first = quantity.value_and_gradient(start)
    found, _ = integrate([quantity], start, end, [first], [tolerance], most)
    return found[0]


def place(theta, name="here", buffers=None):
    return Place(name, theta, buffers or {})


def here(problem):
    buffers = {n: b.clone() for n, b in problem.network.named_buffers()}
    return Place("here", problem.theta.clone(), buffers)


def test_two_sub_intervals_are_exact_on_a_quadratic_parameter_by_parameter():
    quantity = given(lambda t: 0.5 * t @ MATRIX @ t - t.sum())
    found = segment(quantity, tolerance=0.0, most=LEAST_INTERVALS)
    ends = [quantity.value_and_gradient(t)[1] for t in (A, B)]
    torch.testing.assert_close(found.shares, (B - A) * (ends[0] + ends[1]) / 2, rtol=0, atol=1e-12)
    assert found.intervals == 2 and abs(found.error) < 1e-12


def test_a_quartic_loss_is_exact_too():
    found = segment(given(lambda t: (t**4).sum() + (t[0] * t[1]) ** 2))
    assert found.intervals == 2 and abs(found.error) < 1e-12


def test_a_quintic_and_higher_loss_converge_at_fourth_order_when_intervals_double():
    quantity = given(lambda t: (t**5).sum() + (t**6).sum())
    errors = [abs(segment(quantity, tolerance=0.0, most=m).error) for m in (2, 4, 8, 16)]
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(16.0, rel=1e-6)


def test_doubling_stops_at_the_tolerance_for_all_quantities_and_at_the_cap():
    easy = given(lambda t: t @ t)
    hard = given(lambda t: (t**6).sum())
    starts = [q.value_and_gradient(A) for q in (easy, hard)]
    found, _ = integrate([easy, hard], A, B, starts, [1e-6, 1e-3])
    assert found[0].intervals == found[1].intervals > 2
    assert abs(found[1].error) <= 1e-3 < abs(segment(hard).error)
    assert segment(given(lambda t: (50 * t).sin().sum()), tolerance=1e-15).intervals == 32


def test_gradients_are_taken_once_at_each_node():
    calls = []

    def value_and_gradient(theta):
        calls.append(theta.clone())
        return float(theta @ theta), 2 * theta

    quantity = Quantity("train", value_and_gradient)
    first = quantity.value_and_gradient(A)
    found, ends = integrate([quantity], A, B, [first], [-1.0], 8)
    assert len(calls) == 9 and found[0].intervals == 8
    assert ends[0][0] == float(B @ B)


def walked(problem, thetas, **options):
    places = [place(torch.as_tensor(t, dtype=problem.dtype), str(k)) for k, t in enumerate(thetas)]
    return allocate_walk(problem, places, of=("train",), **options)


def test_shares_of_a_path_are_the_sums_of_those_of_its_parts():
    problem = GivenLoss([0.0, 0.0, 0.0], lambda t: (t**4).sum() + t @ MATRIX @ t)
    middle = (A + B) / 2
    whole, parts = walked(problem, [A, B]), walked(problem, [A, middle, B])
    np.testing.assert_allclose(whole.quantities[0].net, parts.quantities[0].net, atol=1e-12)
    assert parts.segments == 2 and parts.stations == (0, 1, 2)
    cumulative = parts.quantities[0].cumulative
    assert cumulative.shape == (3, 1) and cumulative[0, 0] == 0.0
    values = parts.quantities[0].values
    np.testing.assert_allclose(cumulative[:, 0], values - values[0], atol=1e-12)


def test_a_closed_loop_sums_to_nothing():
    problem = GivenLoss([0.5], lambda t: (t**4).sum() + (2 * t).sin().sum())
    found = walked(problem, [[0.5], [1.3], [-0.4], [0.5]], tolerance=1e-5).quantities[0]
    assert found.change == 0.0 and abs(found.total) < 3e-5
    assert np.abs(found.cumulative).max() > 0.1


def test_a_parameter_that_does_not_move_or_matter_has_no_share_and_does_not_help():
    quantity = given(lambda t: t[0] ** 2 + t[1] ** 2)
    found = segment(quantity, A, torch.tensor([0.1, A[1], 9.0], dtype=DOUBLE))
    assert found.shares[1] == 0.0 and found.shares[2] == 0.0 and found.shares[0] < 0.0


def network():
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 3))


def pair(problem, seed=1, size=0.3):
    g = torch.Generator().manual_seed(seed)
    step = size * torch.randn(problem.p, generator=g, dtype=problem.dtype)
    return [place(problem.theta.clone(), "a"), place(problem.theta + step, "b")]


def test_groups_are_layers_neurons_or_kinds_and_share_out_the_same_total():
    problem = Problem(network(), blobs(), dtype=DOUBLE)
    found = {by: allocate_walk(problem, pair(problem), by=by) for by in ("layer", "neuron", "kind")}
    names = [g.name for g in found["layer"].groups]
    assert names == ["0", "2", "3"]
    assert [g.name for g in found["kind"].groups] == ["weights", "biases", "scales"]
    assert [g.parameters for g in found["neuron"].groups] == [6] * 4 + [2] * 4 + [5] * 3
    for k in (0, 1):
        totals = [one.quantities[k].total for one in found.values()]
        assert totals == pytest.approx([found["layer"].quantities[k].change] * 3, abs=1e-3)
        first = found["neuron"].quantities[k].net[:4].sum()
        assert found["layer"].quantities[k].net[0] == pytest.approx(first, abs=1e-14)


def test_neurons_that_change_places_change_their_shares():
    problem = Problem(network(), blobs(), dtype=DOUBLE)
    order = torch.tensor([2, 0, 3, 1])

    def permuted(theta):
        found = theta.clone()
        views = problem.tensors(found)
        for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
            views[name].copy_(views[name][order].clone())
        views["3.weight"].copy_(views["3.weight"][:, order].clone())
        return found

    places = pair(problem)
    found = allocate_walk(problem, places, by="neuron").quantities[1]
    other = [dataclasses.replace(p, theta=permuted(p.theta)) for p in places]
    again = allocate_walk(problem, other, by="neuron").quantities[1]
    np.testing.assert_allclose(again.net[:4], found.net[:4][order], atol=1e-12)
    np.testing.assert_allclose(again.net[8:], found.net[8:], atol=1e-12)


def test_help_is_the_share_of_parameters_below_zero():
    problem = GivenLoss([0.0, 0.0, 0.0], lambda t: (t**2).sum())
    found = walked(problem, [[1.0, 1.0, 1.0], [0.5, 2.0, 1.0], [0.1, 0.5, 1.0]]).quantities[0]
    assert found.helped[0] == pytest.approx(2 / 3)  # the third never moved
    assert found.helping[0] == found.helps == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert found.helped_so_far[1, 0] == pytest.approx(1 / 3)


def level_set_walk():
    torch.manual_seed(0)
    engine = Engine()
    g = torch.Generator().manual_seed(5)
    x, w = torch.randn(60, 6, generator=g), torch.randn(6, 3, generator=g)
    y = (x @ w + torch.randn(60, 3, generator=g)).argmax(1)
    engine.data = dataset(x[:40], y[:40], x[40:], y[40:], outputs=3)
    engine.build_model(["mlp", "6-8-3"], None, {})
    engine.train(epochs=40, rate=0.01)
    engine.fix_level(None, None)
    engine.switch("l2", None, {})
    engine.walk(WalkRequest(steps=25))
    return engine


def test_along_a_level_set_the_shares_of_the_training_loss_sum_to_within_the_tolerance():
    engine = level_set_walk()
    places = [place_at(engine, p) for p in kept_points(engine)]
    of = ("train", "test", "regularizer")
    spent = engine.problem.gradients
    theta, gradient = engine.problem.theta.clone(), engine.problem._gradient.clone()
    found = allocate_walk(engine.problem, places, of=of, regularizers=engine.sum)
    assert engine.problem.gradients == spent and found.gradients > 4 * found.segments
    assert torch.equal(engine.problem.theta, theta)
    assert torch.equal(engine.problem._gradient, gradient)
    train_loss, test_loss, l2 = found.quantities
    assert abs(train_loss.total) <= 2 * engine.level_set.tolerance
    assert np.abs(train_loss.net).max() > 2 * abs(train_loss.total)  # some pay, some gain
    assert test_loss.values[-1] == pytest.approx(engine.problem.metrics(theta, "test").loss)
    for one in found.quantities:
        assert abs(one.error) <= found.segments * one.tolerance
        assert one.worst <= one.tolerance
    # ½∇(Σθ²) is linear: what each parameter gained is the change of its square.
    start, end = places[0].theta.double(), places[-1].theta.double()
    sizes = (end.square() - start.square())[: found.groups[0].parameters].sum()
    assert l2.net[0] == pytest.approx(float(sizes), rel=1e-5)
    assert found.capped == 0


def test_the_gradient_of_the_test_loss_is_that_of_finite_differences_in_any_chunks():
    torch.manual_seed(1)
    g = torch.Generator().manual_seed(2)
    data = blobs(n=9)
    x, y = torch.randn(7, 5, generator=g), torch.arange(7) % 3
    data = dataset(data.x_train, data.y_train, x, y, outputs=3)
    problem = Problem(network(), data, dtype=DOUBLE, chunk=3)
    theta = problem.theta.clone()
    out = torch.empty_like(theta)
    loss, gradient = problem.loss_and_gradient(theta, out, split="test")
    assert gradient is out and problem.gradients == 1
    assert loss == pytest.approx(problem.metrics(theta, "test").loss, rel=1e-12)
    assert loss != pytest.approx(problem.loss(theta), rel=1e-3)
    for k in range(0, problem.p, 5):
        e = torch.zeros_like(theta)
        e[k] = 1e-6
        up, down = (problem.metrics(theta + s * e, "test").loss for s in (1, -1))
        assert float(gradient[k]) == pytest.approx((up - down) / 2e-6, abs=1e-8)
    whole = Problem(problem.network, data, dtype=DOUBLE)
    torch.testing.assert_close(whole.loss_and_gradient(theta, split="test")[1], gradient)
    assert problem.loss_and_gradient(theta)[0] == pytest.approx(problem.loss(theta))


@pytest.mark.parametrize("norm", [False, True], ids=["dropout", "batch norm"])
def test_a_training_run_is_allocated_and_leaves_no_trace(norm):
    torch.manual_seed(3)
    between = nn.BatchNorm1d(6) if norm else nn.Dropout(0.5)
    problem = Problem(nn.Sequential(nn.Linear(5, 6), between, nn.Tanh(), nn.Linear(6, 3)), blobs())
    before = {n: t.clone() for n, t in problem.network.state_dict().items()}
    modes = [m.training for m in problem.network.modules()]
    settings = {"epochs": 4, "batch": 5, "rate": 0.02, "seed": 5}
    found = allocate_training(problem, here(problem), **settings, every=3)
    for name, tensor in problem.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert [m.training for m in problem.network.modules()] == modes and problem.gradients == 0
    assert found.stations == (0, 3, 6, 9, 12)
    for one in found.quantities:
        assert abs(one.error) < 3e-3 and one.change < -0.05
        assert one.total == pytest.approx(one.change, abs=3e-3)
    # What is watched is the run that `train` makes, to the last bit.
    with visit(problem):
        plain = train(problem, problem.theta.clone(), **settings)
    assert torch.equal(found.training.theta, plain.theta)
    assert found.training.loss == plain.loss  # which depends on the running statistics, too
    if not norm:
        assert found.quantities[0].values[-1] == pytest.approx(plain.loss)


def test_many_stations_are_thinned_and_the_last_is_among_them(monkeypatch):
    monkeypatch.setattr("lsshell.engine.landscape.allocation.MOST_STATIONS", 3)
    problem = Problem(nn.Linear(5, 3), blobs())
    found = allocate_training(problem, here(problem), epochs=2, batch=3, of=("train",))
    assert found.segments == 10 and found.stations == (0, 4, 8, 10)
    assert found.quantities[0].cumulative[-1, 0] == pytest.approx(found.quantities[0].net[0])


def test_a_training_run_that_is_stopped_or_diverges_leaves_no_trace_either():
    problem = Problem(nn.Linear(5, 3), blobs())
    theta = problem.theta.clone()
    problem.cancelled = lambda: problem.gradients > 7
    with pytest.raises(Cancelled):
        allocate_training(problem, here(problem), epochs=3)
    problem.cancelled = lambda: False
    assert torch.equal(problem.theta, theta) and problem.gradients == 0
    squares = Problem(nn.Linear(3, 1), regression())
    with pytest.raises(EngineError):
        allocate_training(squares, here(squares), epochs=60, rate=1e30)
    assert math.isfinite(squares.loss(squares.theta))


def test_what_cannot_be_allocated_is_said():
    problem = Problem(nn.Linear(5, 3), blobs())
    with pytest.raises(EngineError, match="two kept points"):
        allocate_walk(problem, [here(problem)])
    with pytest.raises(EngineError, match="no regulariser is on"):
        allocate_walk(problem, pair(problem), of=("regularizer",))
    with pytest.raises(EngineError, match="tolerance"):
        allocate_walk(problem, pair(problem), tolerance=0.0)
    norms = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
    problem = Problem(norms, images(), chunk=1)
    with pytest.raises(EngineError, match="--chunk"):
        allocate_training(problem, here(problem))
    problem = Problem(norms, images())
    with pytest.raises(EngineError, match="in a batch"):
        allocate_training(problem, here(problem), batch=1)
