"""Similarity of networks: CKA's invariances, layers, ensembles, and what is left untouched."""

import math

import pytest
import torch
from torch import nn

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.landscape.places import Place
from lsshell.engine.landscape.similarity import (
    _ensemble,
    _inputs,
    cka,
    kernel_cka,
    layers_of,
    similarity,
)
from lsshell.engine.problem import Problem
from tests.engine.landscape.test_alignment import problem_of, shuffled
from tests.engine.landscape.test_curves import normalised, state, two, unchanged
from tests.engine.small import blobs, regression


def gaussians(n, *sizes, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, k, generator=g, dtype=torch.float64) for k in sizes]


def place(problem, theta, name="p"):
    return Place(name, theta, {n: b.clone() for n, b in problem.network.named_buffers()})


def places(problem, count=2):
    g = torch.Generator().manual_seed(3)
    return [
        place(problem, torch.randn(problem.p, generator=g).to(problem.theta), f"p{k}")
        for k in range(count)
    ]


@pytest.mark.parametrize("measure", [cka, kernel_cka])
def test_cka_is_invariant_to_orthogonal_maps_shifts_and_scale_but_not_to_other_maps(measure):
    x, y, maps = gaussians(40, 6, 4, 6)
    rotation, _ = torch.linalg.qr(maps[:6])
    assert measure(x, x) == pytest.approx(1.0)
    assert measure(x, 7.0 * x @ rotation + 3.0) == pytest.approx(1.0)
    assert measure(x @ rotation, y) == pytest.approx(measure(x, y))
    assert measure(x, y) == pytest.approx(measure(y, x))
    stretched = x * torch.tensor([1, 1, 1, 1, 1, 30.0], dtype=torch.float64)
    assert measure(x, stretched) < 0.9


def test_linear_cka_is_the_normalised_alignment_of_centred_gram_matrices_in_both_forms():
    x, few, many = gaussians(30, 8, 5, 70)
    centre = torch.eye(30, dtype=torch.float64) - 1 / 30
    for y in (few, many):
        k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
        expected = float((k * m).sum() / (k.norm() * m.norm()))
        assert cka(x, y) == pytest.approx(expected)


def test_kernel_cka_is_hsic_with_gaussians_of_the_median_width():
    x, y = gaussians(25, 3, 4)
    centre = torch.eye(25, dtype=torch.float64) - 1 / 25
    grams = []
    for z in (x, y):
        squares = torch.cdist(z, z).square()
        i, j = torch.triu_indices(25, 25, 1)
        k = torch.exp(-squares / (2 * squares[i, j].median()))
        grams.append(centre @ k @ centre)
    k, m = grams
    expected = torch.trace(k @ m) / torch.sqrt(torch.trace(k @ k) * torch.trace(m @ m))
    assert kernel_cka(x, y) == pytest.approx(float(expected))


def test_linear_cka_of_independent_gaussians_is_about_features_over_examples():
    for n, k in ((2000, 20), (500, 10)):
        x, y = gaussians(n, k, k)
        assert cka(x, y) == pytest.approx(k / n, rel=0.25)


def test_activations_that_are_the_same_for_all_examples_have_no_cka():
    x, _ = gaussians(10, 3, 2)
    constant = torch.full((10, 4), 0.1)
    assert math.isnan(cka(x, constant))
    assert math.isnan(kernel_cka(constant, x))
    with pytest.raises(EngineError, match="the same examples"):
        cka(x, x[:9])


def test_the_same_function_with_its_units_shuffled_is_alike_in_every_layer():
    problem = problem_of("mlp 5-9-7-3")
    a = 0.5 * torch.randn(problem.p, generator=torch.Generator().manual_seed(0))
    b = shuffled(a, (5, 9, 7, 3), 1, signs=True)
    found = similarity(problem, [place(problem, a), place(problem, b)], permute=True)
    names = ("1 Linear", "2 Tanh", "3 Linear", "4 Tanh", "logits", "softmax")
    assert found.layers == names == layers_of(problem, place(problem, a))
    (pair,) = found.pairs
    for layer in pair.layers:
        assert layer.linear == pytest.approx(1.0)
        assert layer.kernel == pytest.approx(1.0)
    assert pair.disagreement == 0.0
    assert pair.ensemble.gain == 0.0
    assert pair.ensemble.loss_change == pytest.approx(0.0, abs=1e-6)
    assert pair.aligned_distance == 0.0
    assert pair.distance == pytest.approx(float((a - b).norm()), rel=1e-6)
    size = 0.5 * float(a.norm() + b.norm())
    assert pair.relative_distance == pytest.approx(pair.distance / size, rel=1e-6)


def test_a_layers_activations_are_those_of_the_network_up_to_it():
    problem = problem_of("mlp 5-9-7-3")
    problem.chunk = 4
    first, second = places(problem)
    found = similarity(problem, [first, second], split="train")
    hidden = []
    for at in (first, second):
        problem.outputs(at.theta, problem.x_train)
        hidden.append(problem.network[:3](problem.x_train))
    assert found.pairs[0].layer("2 Tanh").linear == pytest.approx(cka(*hidden))
    outputs = [problem.outputs(at.theta, problem.x_train) for at in (first, second)]
    assert found.pairs[0].layer("logits").kernel == pytest.approx(kernel_cka(*outputs))
    soft = [o.double().softmax(1) for o in outputs]
    assert found.pairs[0].layer("softmax").linear == pytest.approx(cka(*soft))
    differ = (outputs[0].argmax(1) != outputs[1].argmax(1)).double().mean()
    assert found.pairs[0].disagreement == pytest.approx(100 * float(differ))


def test_the_ensemble_is_the_average_of_the_softmax_and_its_loss_never_above_the_mean():
    problem = problem_of("mlp 5-9-3")
    at = places(problem, 3)
    found = similarity(problem, at)
    x, y = problem.examples("test")
    soft = [problem.outputs(p.theta, x).double().softmax(1) for p in at]
    average = sum(soft) / 3

    def loss(q):
        return -float(q[torch.arange(len(y)), y].log().mean())

    def accuracy(q):
        return 100 * float((q.argmax(1) == y).double().mean())

    members = sum(map(loss, soft)) / 3, sum(map(accuracy, soft)) / 3
    assert found.ensemble.loss_change == pytest.approx(loss(average) - members[0])
    assert found.ensemble.gain == pytest.approx(accuracy(average) - members[1])
    assert found.ensemble.loss_change < 0.0
    assert len(found.pairs) == 3
    assert all(pair.ensemble.loss_change < 0.0 for pair in found.pairs)
    assert found.pair(2, 1).distance == pytest.approx(float((at[1].theta - at[2].theta).norm()))


def test_regression_has_outputs_their_difference_and_the_ambiguity_of_the_ensemble():
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    problem = Problem(network, regression())
    first, second = places(problem)
    found = similarity(problem, [first, second])
    assert found.layers == ("0 Linear", "1 Tanh", "2 Linear", "outputs")
    (pair,) = found.pairs
    assert pair.disagreement is pair.ensemble.gain is None
    f, g = (problem.outputs(p.theta, problem.x_test).double() for p in (first, second))
    apart = float((f - g).square().mean())
    assert pair.rms_difference == pytest.approx(apart**0.5)
    assert pair.ensemble.loss_change == pytest.approx(-apart / 4, rel=1e-5)
    correlation = float(torch.corrcoef(torch.stack([f, g]))[0, 1])
    assert pair.layer("outputs").linear == pytest.approx(correlation**2)


def test_every_place_has_its_own_statistics_and_the_problem_stays_as_it_was():
    problem = normalised()
    a, _ = two(problem)
    first, second = place(problem, a), place(problem, a)
    second.buffers["1.running_var"].mul_(torch.linspace(1, 50, 6))
    before = state(problem)
    found = similarity(problem, [first, second])
    assert unchanged(problem, before)
    assert not any(m._forward_hooks for m in problem.network.modules())
    (pair,) = found.pairs
    assert found.layers == ("0 Linear", "1 BatchNorm1d", "2 Tanh", "logits", "softmax")
    assert pair.distance == 0.0
    assert pair.layer("0 Linear").linear == pytest.approx(1.0)
    assert pair.layer("1 BatchNorm1d").linear < 0.999


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.act = nn.Linear(5, 4), nn.Linear(4, 3), nn.Tanh()

    def forward(self, x):
        return self.act(self.second(self.act(self.first(x))))


def test_a_layer_that_is_called_twice_is_listed_twice_and_the_output_as_outputs():
    problem = Problem(Twice(), blobs())
    found = similarity(problem, places(problem))
    assert found.layers == ("first Linear", "act Tanh", "second Linear", "logits", "softmax")
    network = nn.Sequential(Twice(), nn.Linear(3, 3))
    problem = Problem(network, blobs())
    assert "0.act Tanh (2)" in layers_of(problem, places(problem)[0])


def test_dead_layers_have_no_cka_and_the_rest_has():
    problem = problem_of("mlp 5-4-3", activation="relu")
    dead = problem.theta.clone()
    dead[:20], dead[20:24] = 0.0, -1.0
    found = similarity(problem, [place(problem, dead), places(problem)[0]])
    layer = found.pairs[0].layer("2 ReLU")
    assert layer.linear is layer.kernel is None


def test_examples_are_drawn_by_the_seed_and_mixtures_lie_between_two_of_them():
    problem = problem_of("mlp 5-9-3", blobs(n=300, features=5))
    at = places(problem)
    few = [similarity(problem, at, examples=50, seed=s) for s in (1, 1, 2)]
    assert few[0].examples == 50
    assert few[0].predicted == 300
    assert few[0] == few[1]
    assert few[0].pairs[0].layers != few[2].pairs[0].layers
    assert few[0].pairs[0].disagreement == few[2].pairs[0].disagreement
    mixed = similarity(problem, at, mixup=True, examples=50, seed=1)
    assert mixed.pairs[0].layers != few[0].pairs[0].layers
    assert mixed.pairs[0].disagreement == few[0].pairs[0].disagreement
    plain, mixture = (_inputs(problem, "test", 50, m, 1) for m in (False, True))
    apart = torch.cdist(plain, plain)
    ways = torch.cdist(plain, mixture)
    gaps = (ways[:, None] + ways[None, :] - apart[:, :, None]).flatten(0, 1).amin(0)
    assert float(gaps.abs().max()) < 1e-3  # on the segment between two
    assert not torch.equal(plain, mixture)


def test_what_cannot_be_compared_is_refused_and_it_stops_when_asked_to():
    problem = problem_of("mlp 5-9-3")
    at = places(problem)
    with pytest.raises(EngineError, match="two or more places"):
        similarity(problem, at[:1])
    with pytest.raises(EngineError, match="2 or more examples"):
        similarity(problem, at, examples=1)
    before = state(problem)
    asked = iter([False, False, True])
    problem.cancelled = lambda: next(asked)
    with pytest.raises(Cancelled):
        similarity(problem, at)
    assert unchanged(problem, before)


def test_three_networks_that_are_one_gain_exactly_nothing():
    """12/31 is no mean of three of itself in floating point."""
    outputs = torch.tensor([[1.0, 0.0, 0.0]]).expand(31, 3)
    labels = torch.tensor([0] * 12 + [1] * 19)
    problem = problem_of("mlp 5-4-3")
    assert _ensemble(problem, [outputs] * 3, labels).gain == 0.0
