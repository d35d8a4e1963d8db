"""Permutation alignment: the function of B is kept, and the units found again."""

from itertools import pairwise, permutations, product

import pytest
import torch
from torch import nn

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.landscape.alignment import align
from lsshell.engine.networks import build_network
from lsshell.engine.problem import Problem
from tests.engine.small import blobs, images


def problem_of(words, data=None, activation="tanh", seed=0):
    data = blobs(n=13, features=5) if data is None else data
    return Problem(build_network(words.split(), data, activation=activation, seed=seed), data)


def fresh(problem, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(problem.p, generator=g) * 0.5


def shuffled(theta, sizes, seed, signs):
    """A dense network's θ with its hidden units in another order, and other signs."""
    g = torch.Generator().manual_seed(seed)
    at, layers = 0, []
    for a, b in pairwise(sizes):
        layers.append((theta[at : at + a * b].view(b, a), theta[at + a * b : at + a * b + b]))
        at += a * b + b
    parts, order, sign = [], torch.arange(sizes[0]), torch.ones(sizes[0])
    for k, (weight, bias) in enumerate(layers):
        weight = weight[:, order] * sign
        order, sign = torch.arange(len(bias)), torch.ones(len(bias))
        if k + 1 < len(layers):
            order = torch.randperm(len(bias), generator=g)
            if signs:
                sign = 2.0 * torch.randint(2, (len(bias),), generator=g) - 1.0
        parts += [(weight[order] * sign[:, None]).reshape(-1), bias[order] * sign]
    return torch.cat(parts)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_units_that_were_shuffled_are_found_again(activation):
    problem = problem_of("mlp 5-9-7-3", activation=activation)
    a = fresh(problem, 0)
    b = shuffled(a, (5, 9, 7, 3), 1, signs=activation == "tanh")
    x = problem.x_train
    torch.testing.assert_close(problem.outputs(a, x), problem.outputs(b, x))
    found = align(problem, a, b)
    assert torch.equal(found.theta, a)
    assert found.after == 0.0 < found.before
    assert found.moved > 8
    assert (found.flipped > 3) == (activation == "tanh") == found.signs


@pytest.mark.parametrize(
    ("words", "data", "activation"),
    [
        ("mlp 5-9-7-3", None, "tanh"),
        ("mlp 5-9-7-3", None, "softplus"),
        ("cnn 4-6-d5", images(size=12), "tanh"),
        ("cnn 4-d6", images(size=8), "relu"),
    ],
)
def test_the_function_of_another_network_is_kept_and_it_comes_nearer(words, data, activation):
    problem = problem_of(words, data, activation)
    a, b = fresh(problem, 0), fresh(problem, 1)
    before = problem.theta.clone(), problem.gradients
    found = align(problem, a, b)
    assert torch.equal(problem.theta, before[0])
    assert problem.gradients == before[1]
    assert found.after < found.before
    assert found.moved > 0
    assert (found.flipped > 0) == (activation == "tanh")
    x = problem.x_train
    torch.testing.assert_close(
        problem.outputs(found.theta, x), problem.outputs(b, x), rtol=1e-5, atol=1e-5
    )
    assert sorted(found.theta.abs().tolist()) == sorted(b.abs().tolist())


def test_one_hidden_layer_is_aligned_as_well_as_by_trying_every_order_and_sign():
    problem = problem_of("mlp 5-4-3")
    a, b = fresh(problem, 0), fresh(problem, 3)
    a[20:24] *= 5.0  # the biases have their say
    b[20:24] *= 5.0
    w, bias, out = b[:20].view(4, 5), b[20:24], b[24:36].view(3, 4)
    least = min(
        float(torch.linalg.norm(a - torch.cat([
            (w[list(order)] * s[:, None]).reshape(-1), bias[list(order)] * s,
            (out[:, list(order)] * s).reshape(-1), b[36:],
        ])))
        for order in permutations(range(4))
        for s in map(torch.tensor, product((1.0, -1.0), repeat=4))
    )  # fmt: skip
    assert align(problem, a, b).after == pytest.approx(least, rel=1e-6)


def test_a_network_without_hidden_units_stays_as_it_is():
    problem = problem_of("mlp 5-3")
    a, b = fresh(problem, 0), fresh(problem, 1)
    found = align(problem, a, b)
    assert torch.equal(found.theta, b)
    assert (found.units, found.moved, found.sweeps) == (0, 0, 0)


def test_the_seed_decides_the_order_of_layers_and_so_the_result_is_the_same_again():
    problem = problem_of("mlp 5-9-9-9-3")
    a, b = fresh(problem, 0), fresh(problem, 1)
    first, again = (align(problem, a, b, seed=5).theta for _ in range(2))
    assert torch.equal(first, again)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Own(), "not for a Own"),
        (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), "BatchNorm1d"),
        (nn.Sequential(nn.Linear(5, 6), nn.Softmax(1), nn.Linear(6, 3)), "Softmax"),
    ],
)
def test_networks_whose_symmetries_are_not_known_are_refused(network, message):
    problem = Problem(network, blobs())
    with pytest.raises(EngineError, match=message):
        align(problem, problem.theta, problem.theta)


def test_a_layer_that_is_used_twice_or_is_not_trained_is_refused():
    twice = nn.Linear(5, 5)
    problem = Problem(nn.Sequential(twice, nn.Tanh(), twice, nn.Linear(5, 3)), blobs())
    with pytest.raises(EngineError, match="a layer twice"):
        align(problem, problem.theta, problem.theta)
    frozen = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    frozen[0].weight.requires_grad_(False)
    problem = Problem(frozen, blobs())
    with pytest.raises(EngineError, match="not trained"):
        align(problem, problem.theta, problem.theta)


def test_it_stops_when_asked_to():
    problem = problem_of("mlp 5-9-3")
    problem.cancelled = lambda: True
    with pytest.raises(Cancelled):
        align(problem, fresh(problem, 0), fresh(problem, 1))
