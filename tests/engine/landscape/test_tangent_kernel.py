"""The tangent kernel and the PL* constant, against linear models, gradients and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.landscape import tangent_kernel as module
from lsshell.engine.landscape.places import Place, visit
from lsshell.engine.landscape.tangent_kernel import (
    MOST_ROWS,
    kernel_matrix,
    kernels_along,
    tangent_kernel,
)
from lsshell.engine.problem import Problem
from tests.engine.small import blobs, dataset, images, regression

DOUBLE = torch.float64


def here(problem, theta=None):
    theta = problem.theta.clone() if theta is None else theta
    return Place("here", theta, {n: b.clone() for n, b in problem.network.named_buffers()})


def linear(n=7, features=9, targets=None):
    """F = Xθ without a bias, more parameters than rows."""
    torch.manual_seed(1)
    x = torch.randn(n, features, dtype=DOUBLE)
    y = torch.randn(n, dtype=DOUBLE) if targets is None else targets
    network = nn.Linear(features, 1, bias=False)
    return x, Problem(nn.Sequential(network, nn.Flatten(0)), dataset(x, y), dtype=DOUBLE)


class Gates(nn.Module):
    """Parameters of its own beside layers, one layer used twice: nothing that has a short cut."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.randn(5))
        self.twice = nn.Linear(5, 5)
        self.last = nn.Linear(5, 3)
        self.scale = nn.LayerNorm(5)

    def forward(self, x):
        for _ in range(2):
            x = torch.tanh(self.twice(self.gate * x))
        return self.last(self.scale(x))


class Shortcut(nn.Module):
    """A layer that is called once, while its weights are used a second time behind its back."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = torch.tanh(self.layer(x))
        return self.last(torch.tanh(nn.functional.linear(x, self.layer.weight)))


class Refusing(nn.Module):
    """What vmap cannot take: it looks at values."""

    def __init__(self):
        super().__init__()
        self.gate, self.last = nn.Parameter(torch.randn(5)), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.gate * x * (1.0 if float(x.detach().sum()) > 1e9 else 2.0))


def networks():
    torch.manual_seed(0)
    yield "dense", nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3, bias=False)), blobs()
    convolution = [nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
    convolution += [nn.Conv2d(3, 4, 2, dilation=2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)]
    yield "convolution", nn.Sequential(*convolution), images()
    norms = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=2)]
    yield "batch norm", nn.Sequential(*norms, nn.Flatten(), nn.Linear(64, 3)), images()
    rows = dataset(torch.randn(6, 4, 5), torch.arange(6) % 2)
    tokens = [nn.Linear(5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)]
    yield "several positions", nn.Sequential(*tokens), rows
    yield "gates", Gates(), blobs()
    yield "shortcut", Shortcut(), blobs()
    yield "refusing", Refusing(), blobs()
    frozen = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    frozen[0].bias.requires_grad_(False)
    yield "frozen", frozen, blobs()


def jacobian(problem, x):
    """J row by row from plain gradients, a forward pass for each example."""
    rows = []
    for one in x:
        for output in problem.network(one[None]).reshape(-1):
            parts = problem.gradient_of(output, retain_graph=True)
            rows.append(torch.cat([p.reshape(-1) for p in parts]))
    return torch.stack(rows)


NETWORKS = {name: (network, data) for name, network, data in networks()}


def held_against_the_jacobian(name):
    network, data = NETWORKS[name]
    problem = Problem(network, data, dtype=DOUBLE)
    x = problem.x_train[:5]
    wanted = jacobian(problem, x)
    found = kernel_matrix(problem, problem.theta.clone(), x)
    torch.testing.assert_close(found, wanted @ wanted.T, rtol=1e-10, atol=1e-12)
    assert float(found.trace()) == pytest.approx(float(wanted.square().sum()), rel=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_kernel_is_the_jacobian_times_its_transpose(name):
    held_against_the_jacobian(name)


@pytest.mark.parametrize("name", ["dense", "convolution", "several positions"])
def test_dense_and_convolution_layers_need_no_jacobian_of_each_example(monkeypatch, name):
    def refuse(*arguments):
        raise AssertionError("a Jacobian was taken")

    monkeypatch.setattr(module, "_vmapped", refuse)
    monkeypatch.setattr(module, "_one_by_one", refuse)
    held_against_the_jacobian(name)


@pytest.mark.parametrize("name", ["convolution", "several positions", "gates"])
def test_the_kernel_is_the_same_in_small_pieces(monkeypatch, name):
    monkeypatch.setattr(module, "BUDGET", 1 << 12)
    held_against_the_jacobian(name)


def test_a_linear_model_has_the_same_kernel_everywhere_and_the_condition_number_of_its_inputs():
    x, problem = linear()
    first = tangent_kernel(problem, here(problem))
    torch.testing.assert_close(first.matrix, x @ x.T)
    singular = torch.linalg.svdvals(x)
    assert first.condition == pytest.approx(float((singular[0] / singular[-1]) ** 2), rel=1e-9)
    there = here(problem, torch.randn(problem.p, dtype=DOUBLE))
    assert tangent_kernel(problem, there, origin=first).change == pytest.approx(0.0, abs=1e-14)


def test_more_rows_than_parameters_leave_eigenvalues_that_are_reported_as_zero():
    _, problem = linear(n=9, features=4)
    found = tangent_kernel(problem, here(problem))
    assert (found.zeros, found.least, found.condition) == (5, 0.0, math.inf)
    assert found.square is not None and found.square.lower == 0.0


def test_its_non_zero_eigenvalues_are_those_of_the_gauss_newton_matrix():
    torch.manual_seed(2)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    problem = Problem(network, regression(n=8), dtype=DOUBLE)
    found = tangent_kernel(problem, here(problem))
    columns = [problem.gauss_newton_vector(problem.theta, e) for e in torch.eye(problem.p).double()]
    wanted = torch.linalg.eigvalsh(torch.stack(columns))[-8:]  # of 2JᵀJ/n
    torch.testing.assert_close(2 * found.eigenvalues / 8, wanted, rtol=1e-8, atol=1e-10)


def test_square_loss_is_pl_with_the_least_eigenvalue_and_exactly_so_along_its_eigenvector():
    for which in (0, -1):
        x, problem = linear(n=5)
        values, vectors = torch.linalg.eigh(x @ x.T)
        theta = problem.theta.clone()
        problem.y_train.copy_(x @ theta - 0.3 * vectors[:, which])
        found = tangent_kernel(problem, here(problem))
        assert found.rho == pytest.approx(2 * float(values[which]) / 5, rel=1e-9)
        assert found.square.rho == pytest.approx(found.rho, rel=1e-9)
        bound = found.square.lower if which == 0 else found.square.upper
        assert found.rho == pytest.approx(bound, rel=1e-9)
        assert found.square.lower <= found.rho * (1 + 1e-9)


def test_the_bounds_hold_for_several_outputs_whose_mean_the_loss_is():
    torch.manual_seed(3)
    x, y = torch.randn(6, 4).double(), torch.randn(6, 2).double()
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    problem = Problem(network, dataset(x, y), dtype=DOUBLE)
    found = tangent_kernel(problem, here(problem))
    assert (found.examples, found.outputs) == (6, 2)
    assert found.square.rho == pytest.approx(found.rho, rel=1e-9)  # the sample is all there is
    assert 0.0 < found.square.lower <= found.rho <= found.square.upper


def test_rho_is_the_squared_gradient_over_twice_the_excess_loss():
    problem = Problem(nn.Linear(5, 3), blobs(), dtype=DOUBLE)
    loss, gradient = problem.loss_and_gradient(problem.theta.clone())
    found = tangent_kernel(problem, here(problem), minimum=0.2)
    assert found.rho == pytest.approx(float(gradient.square().sum()) / (2 * (loss - 0.2)))
    assert tangent_kernel(problem, here(problem), minimum=loss).rho is None
    for wrong in (loss + 1, math.nan, math.inf):
        with pytest.raises(EngineError, match="least loss"):
            tangent_kernel(problem, here(problem), minimum=wrong)


def test_effective_rank_and_mean_are_those_of_the_spectrum():
    x, problem = linear(n=6)
    found = tangent_kernel(problem, here(problem))
    values = np.linalg.eigvalsh((x @ x.T).numpy())
    assert found.effective_rank == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert found.mean == pytest.approx(values.mean())


def two_layer(width, data, seed):
    """A net in NTK parametrisation: f = v·tanh(Wx)/√m."""

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            g = torch.Generator().manual_seed(seed)
            self.w = nn.Linear(4, width, bias=False)
            self.v = nn.Linear(width, 1, bias=False)
            with torch.no_grad():
                self.w.weight.copy_(torch.randn(width, 4, generator=g))
                self.v.weight.copy_(torch.randn(1, width, generator=g))

        def forward(self, x):
            return self.v(torch.tanh(self.w(x))) / width**0.5

    return Problem(Wide(), data, dtype=DOUBLE)


def test_the_kernel_changes_over_a_ball_as_one_over_the_root_of_the_width():
    """The published bound, in the direction that reaches it. (Along gradient descent from random
    weights terms of both signs cancel, and it falls faster.)
    """
    g = torch.Generator().manual_seed(0)
    data = dataset(torch.randn(6, 4, generator=g), torch.randn(6, generator=g).double())
    widths, changes = (100, 400, 1600, 6400), []
    for width in widths:
        problem = two_layer(width, data, 0)
        first = tangent_kernel(problem, here(problem))
        theta = problem.theta.clone()
        v = problem.tensors(theta)["v.weight"]
        v += v.sign() / width**0.5  # a step of length 1 for every width
        changes.append(tangent_kernel(problem, here(problem, theta), origin=first).change)
    slope = np.polyfit(np.log(widths), np.log(changes), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.15)


def test_the_sample_is_the_same_for_a_seed_and_another_for_another():
    problem = Problem(nn.Linear(5, 3), blobs(n=40))
    found = [tangent_kernel(problem, here(problem), examples=9, seed=s) for s in (1, 1, 2)]
    assert torch.equal(found[0].matrix, found[1].matrix)
    assert not torch.equal(found[0].matrix, found[2].matrix)


def test_a_path_is_measured_on_one_sample_with_the_change_from_its_first_place():
    problem = Problem(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)), blobs())
    theta = problem.theta.clone()
    places = [here(problem, theta * (1 + 0.1 * k)) for k in range(3)]
    found = list(kernels_along(problem, places, examples=6))
    alone = tangent_kernel(problem, places[2], examples=6, origin=found[0])
    assert found[0].change == 0.0
    assert found[2].change == alone.change > found[1].change > 0.0


def test_too_many_rows_or_no_such_examples_are_refused_in_words():
    problem = Problem(nn.Linear(5, 3), blobs(n=MOST_ROWS))
    for examples, words in ((0, "1 to 2000"), (9999, "1 to 2000"), (700, "at most 666")):
        with pytest.raises(EngineError, match=words):
            tangent_kernel(problem, here(problem), examples=examples)


def test_the_state_is_untouched_and_the_work_is_told():
    network = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    problem = Problem(network, blobs())
    theta = problem.theta.clone()
    problem.loss_and_gradient(theta)
    before = {n: t.clone() for n, t in problem.network.state_dict().items()}
    gradient, spent = problem._gradient.clone(), problem.gradients
    place = here(problem, torch.randn_like(theta))
    place.buffers["1.running_var"].fill_(3.0)
    found = tangent_kernel(problem, place)
    assert found.gradients > 1
    assert problem.gradients == spent and torch.equal(problem._gradient, gradient)
    assert all(torch.equal(t, before[n]) for n, t in problem.network.state_dict().items())
    with visit(problem, place):
        assert found.loss == problem.loss(place.theta)


def test_it_stops_when_asked_to():
    problem = Problem(nn.Linear(5, 3), blobs(), cancelled=lambda: problem.gradients > 0)
    with pytest.raises(Cancelled):
        tangent_kernel(problem, here(problem))
    assert problem.gradients == 0


def test_one_parameter_and_one_row_have_a_kernel():
    problem = Problem(
        nn.Sequential(nn.Linear(1, 1, bias=False)),
        dataset(torch.tensor([[3.0], [4.0]]), torch.zeros(2).double()),
        dtype=DOUBLE,
    )
    found = tangent_kernel(problem, here(problem), examples=1)
    assert found.greatest in (pytest.approx(9.0), pytest.approx(16.0)) and found.condition == 1.0
