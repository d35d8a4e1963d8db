"""The Gauss-Newton factor on the most curved examples, against products with the whole matrix."""

import math

import pytest
import torch
from torch import nn

from lsshell.engine.inverse_hessian import InverseHessian
from lsshell.engine.problem import Problem
from lsshell.engine.sample_curvature import RANK, SampleCurvature
from tests.engine.small import blobs, dataset, images, regression

DOUBLE = torch.float64


def vectors(problem, count=2, seed=3):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(problem.p, generator=g, dtype=problem.dtype) for _ in range(count)]


def product(curvature, v):
    """JᵀJv."""
    out = torch.zeros(1, len(v), dtype=v.dtype)
    curvature.subtract_transposed(-curvature.times(v[None]), out)
    return out[0]


def networks():
    """(name, problem): every curvature of these is of rank one per example, so J holds all."""
    torch.manual_seed(0)
    two = blobs(classes=2)
    dense = [nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)]
    yield "dense", Problem(nn.Sequential(*dense), two, dtype=DOUBLE)
    in_place = [nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 2, bias=False)]
    yield "in place", Problem(nn.Sequential(*in_place), two, dtype=DOUBLE)
    one = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0))
    yield "regression", Problem(one, regression(), dtype=DOUBLE)
    layers = [nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(3, 4, 2, dilation=2)]
    convolution = nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.Linear(16, 2))
    yield "convolution", Problem(convolution, images(classes=2), dtype=DOUBLE)
    rows = dataset(torch.randn(11, 4, 5), torch.arange(11) % 2)
    tokens = nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))
    yield "several positions", Problem(tokens, rows, dtype=DOUBLE)


NETWORKS = pytest.mark.parametrize("problem", [pytest.param(p, id=name) for name, p in networks()])


@NETWORKS
def test_with_all_examples_it_is_the_gauss_newton_matrix(problem):
    curvature = SampleCurvature(problem)
    theta = problem.theta.clone()
    assert curvature.refresh(theta)
    for v in vectors(problem):
        wanted = problem.gauss_newton_vector(theta, v)
        assert torch.allclose(product(curvature, v), wanted, rtol=1e-9, atol=1e-12)


@NETWORKS
def test_its_coordinates_are_those_of_the_kernels_eigenvectors(problem):
    curvature = SampleCurvature(problem)
    curvature.refresh(problem.theta.clone())
    k = len(curvature.eigenvalues)
    rows = torch.zeros(k, problem.p, dtype=DOUBLE)
    curvature.subtract_transposed(-torch.eye(k, dtype=DOUBLE), rows)
    kernel = rows @ rows.T
    assert torch.allclose(kernel, curvature.eigenvalues.diag(), atol=1e-10)


def test_of_many_inputs_their_principal_directions_are_kept():
    g = torch.Generator().manual_seed(1)
    many = 3 * RANK + 8
    few = torch.randn(20, RANK - 10, generator=g) @ torch.randn(RANK - 10, many, generator=g)
    data = dataset(few, torch.arange(20) % 2)
    problem = Problem(nn.Sequential(nn.Linear(many, 2)), data, dtype=DOUBLE)
    theta = problem.theta.clone()
    curvature = SampleCurvature(problem)
    assert curvature.refresh(theta)
    (v,) = vectors(problem, 1)
    wanted = problem.gauss_newton_vector(theta, v)
    assert torch.allclose(product(curvature, v), wanted, rtol=1e-7, atol=1e-12)


def test_of_many_examples_the_most_curved_are_taken():
    x = torch.tensor([[9.0], [0.1], [-8.0], [-0.2], [7.0]])
    problem = Problem(nn.Linear(1, 2), dataset(x, torch.tensor([1, 0, 0, 1, 1])), dtype=DOUBLE)
    problem.theta.copy_(torch.tensor([-1.0, 1.0, 0.0, 0.0]))
    curvature = SampleCurvature(problem, 2)
    assert curvature.refresh(problem.theta.clone())
    v = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=DOUBLE)
    wanted = 0.0
    for example in (0.1, -0.2):
        p = 1 / (1 + math.exp(-2 * example))
        wanted += p * (1 - p) * example**2 / 5
    assert float(product(curvature, v)[0]) == pytest.approx(wanted)


def test_layers_that_are_shared_or_unknown_have_no_part():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(60))
            self.last = nn.Linear(5, 3)

        def forward(self, x):
            return self.last(x) * self.scale.sum()

    assert not SampleCurvature(Problem(Scaled(), blobs())).refresh(torch.ones(78))
    twice = nn.Linear(5, 5)
    problem = Problem(nn.Sequential(twice, nn.Tanh(), twice, nn.Linear(5, 3)), blobs())
    assert not SampleCurvature(problem).refresh(problem.theta.clone())


def test_products_are_counted_as_shares_of_a_gradient():
    problem = Problem(nn.Linear(5, 2), blobs(classes=2))
    curvature = SampleCurvature(problem)
    curvature.refresh(problem.theta.clone())
    before = problem.work
    for _ in range(30):
        curvature.times(torch.stack(vectors(problem, 1)))
    # One of the three matrix products that a gradient takes in each layer, but for the biases.
    assert problem.work - before == pytest.approx(30 / 3 * 10 / 12)


def pairs(b, count, seed=0):
    g = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, len(b), generator=g, dtype=DOUBLE)
    return [(s, b @ s) for s in steps]


def test_an_inverse_hessian_that_starts_from_it_is_that_of_the_dense_update():
    (_, problem), *_ = networks()
    theta, p = problem.theta.clone(), problem.p
    eye = torch.eye(p, dtype=DOUBLE)
    gauss_newton = torch.stack([problem.gauss_newton_vector(theta, row) for row in eye])
    rho, kappa = 0.3, 40.0
    b = rho * eye + kappa * gauss_newton
    curvature = SampleCurvature(problem)
    curvature.refresh(theta)
    inverse = InverseHessian(4, theta)
    inverse.model(curvature)
    inverse.weigh(kappa)
    t, g = vectors(problem)
    # Pairs of the very matrix that J and ρ describe: ρ is found, and H is its inverse.
    for s, y in pairs(b, 6):
        inverse.add(s, y)
        u, w = inverse.times([t, g])
        assert torch.allclose(u, torch.linalg.solve(b, t), rtol=1e-2, atol=1e-3)
        assert torch.allclose(w, torch.linalg.solve(b, g), rtol=1e-2, atol=1e-3)
    # Those of another matrix are taken in too, and stay when J is taken anew.
    other = pairs(b + torch.diag(torch.linspace(0.0, 2.0, p, dtype=DOUBLE)), 4, seed=1)
    for s, y in other:
        inverse.add(s, y)
    last, y = other[-1]
    assert torch.allclose(inverse.times([y])[0], last, rtol=1e-7, atol=1e-9)
    before = inverse.times([t])[0]
    inverse.model(curvature)
    assert torch.allclose(inverse.times([t])[0], before, rtol=1e-12)


class Called(nn.Module):
    """A layer that fits, and one that is used in a way that has no row an example."""

    def __init__(self, how, width=60):
        super().__init__()
        self.how, self.big, self.odd = how, nn.Linear(5, width), nn.Linear(5, 3)
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        out = self.last(torch.tanh(self.big(input=x) if self.how == "by name" else self.big(x)))
        if self.how == "rows of another number":
            return out + self.odd(x.repeat(2, 1)).view(2, len(x), 3).sum(0)
        if self.how == "without gradient":
            with torch.no_grad():
                side = self.odd(x)
            return out + side
        return out + self.odd(x) + self.odd(2 * x)


@pytest.mark.parametrize("how", ["by name", "rows of another number", "without gradient", "twice"])
def test_a_layer_used_in_another_way_is_left_out(how):
    problem = Problem(Called(how), blobs(), dtype=DOUBLE)
    curvature = SampleCurvature(problem)
    assert curvature.refresh(problem.theta.clone())
    (v,) = vectors(problem, 1)
    odd = [s for s in problem.slots if s.name.startswith("odd")]
    for slot in odd:
        v[slot.offset : slot.offset + slot.size] = 0.0
    moved = product(curvature, v)
    assert all(float(moved[s.offset : s.offset + s.size].abs().max()) == 0.0 for s in odd)
    assert float(moved.abs().max()) > 0.0


def test_a_network_of_layers_made_of_others_has_none():
    pruned = nn.Linear(5, 3)
    torch.nn.utils.parametrizations.weight_norm(pruned)
    problem = Problem(nn.Sequential(pruned), blobs())
    assert not SampleCurvature(problem).refresh(problem.theta.clone())


def test_the_leading_eigenpair_of_the_outputs_curvature_is_found():
    problem = Problem(nn.Linear(5, 6), blobs(classes=6), dtype=DOUBLE)
    outputs = 4 * torch.randn(13, 6, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    roots = SampleCurvature(problem)._roots(outputs)
    q = outputs.softmax(1)
    values = torch.linalg.eigvalsh(torch.diag_embed(q) - q[:, :, None] * q[:, None, :])[:, -1]
    assert torch.allclose(roots.square().sum(1) * 13, values, rtol=1e-2)
