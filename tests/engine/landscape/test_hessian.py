"""Spectra of curvature matrices against closed forms and dense eigenvalues."""

import numpy as np
import pytest
import torch
from torch import nn

from lsshell.engine.errors import Cancelled, EngineError, NotFiniteError
from lsshell.engine.landscape import curvature_operator
from lsshell.engine.landscape.curvature_operator import CurvatureOperator
from lsshell.engine.landscape.hessian import HessianRequest, measure_hessian
from lsshell.engine.landscape.lanczos import top_eigenvalues
from lsshell.engine.landscape.places import Place
from lsshell.engine.landscape.spectral_density import spectral_density
from lsshell.engine.landscape.trace import hessian_trace
from lsshell.engine.problem import Problem
from lsshell.engine.ranks import ALONE
from lsshell.engine.seeds import generator
from tests.engine.small import GivenLoss, blobs, dataset, images, regression
from tests.engine.thread_ranks import on_ranks

DOUBLE = torch.float64


def diagonal(values):
    """L = ½ Σ dᵢθᵢ²."""
    d = torch.as_tensor(values, dtype=DOUBLE)
    theta = torch.linspace(0.5, 1.5, len(d), dtype=DOUBLE)
    return GivenLoss(theta, lambda t: 0.5 * (d * t**2).sum())


def quadratic(p=30, seed=0):
    """L = ½ θᵀAθ, and A with eigenvalues of both signs."""
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(p, p, generator=g, dtype=DOUBLE)
    a = a + a.T
    return GivenLoss(torch.ones(p), lambda t: 0.5 * t @ a @ t), a


def operator_of(problem, kind="hessian", **options):
    return CurvatureOperator(problem, problem.theta, kind, **options)


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def tanh(data=None, *, dtype=DOUBLE, chunk=5, **options):
    data = blobs() if data is None else data
    return Problem(perceptron(), data, dtype=dtype, chunk=chunk, **options)


def convolution():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3)]
    return Problem(nn.Sequential(*layers), images(), dtype=DOUBLE, chunk=4)


def one_output():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1))
    return Problem(network, regression(), dtype=DOUBLE, chunk=5)


def dense(problem, kind="hessian"):
    """The matrix, a column at a time, by the problem's own products."""
    product = problem.hessian_vector if kind == "hessian" else problem.gauss_newton_vector
    theta = problem.theta.clone()
    return torch.stack([product(theta, row) for row in torch.eye(problem.p, dtype=problem.dtype)])


# -- products ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 1 << 30], ids=["built anew", "kept"])
@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("make", [tanh, convolution, one_output])
def test_products_are_the_problems_singly_and_many_at_once(monkeypatch, make, kind, kept):
    monkeypatch.setattr(curvature_operator, "KEPT", kept)
    problem = make()
    product = problem.hessian_vector if kind == "hessian" else problem.gauss_newton_vector
    rows = torch.randn(5, problem.p, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    wanted = torch.stack([product(problem.theta, row) for row in rows])
    operator = operator_of(problem, kind)
    assert torch.allclose(operator.times(rows), wanted, atol=1e-12)
    assert operator._batched
    assert operator._at_once > 1
    assert bool(operator._kept) == bool(kept)
    operator._batched = False
    assert torch.allclose(operator.times(rows), wanted, atol=1e-12)
    assert torch.allclose(operator.times(rows[3]), wanted[3], atol=1e-12)


def test_of_many_chunks_as_many_are_kept_as_the_budget_takes(monkeypatch):
    problem = tanh(chunk=2)
    operator = operator_of(problem)
    operator.times(problem.theta)
    example = operator._bytes(problem.x_train[:2], problem.y_train[:2])
    monkeypatch.setattr(curvature_operator, "KEPT", 3 * (example + 8 * problem.p) + 8)
    again = operator_of(problem)
    assert torch.allclose(again.times(problem.theta), operator.times(problem.theta), atol=1e-12)
    assert len(operator._kept) == 6
    assert len(again._kept) == 3


def test_a_network_that_takes_no_batch_of_vectors_takes_them_singly():
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            assert g.detach().numpy() is not None  # a batch of vectors has no array
            return 3 * x**2 * g

    class Cubed(nn.Linear):
        def forward(self, x):
            return Own.apply(super().forward(x))

    problem = Problem(Cubed(5, 3), blobs(), dtype=DOUBLE)
    operator = operator_of(problem)
    eye = torch.eye(problem.p, dtype=DOUBLE)
    assert torch.allclose(operator.times(eye), dense(problem), atol=1e-12)
    assert not operator._batched


def test_evaluations_elsewhere_between_two_products_change_nothing():
    problem = tanh()
    theta = problem.theta.clone()
    operator = CurvatureOperator(problem, problem.theta)
    before = operator.times(theta)
    problem.loss_and_gradient(theta + 1.0)
    assert torch.equal(operator.times(theta), before)


def test_products_count_two_gradients_each_and_the_graph_one():
    problem = tanh()
    operator = operator_of(problem)
    operator.times(torch.ones(10, problem.p, dtype=DOUBLE))
    assert (problem.gradients, operator.products) == (21, 10)
    part = operator_of(problem, examples=4)
    part.times(torch.ones(10, problem.p, dtype=DOUBLE))
    assert problem.gradients - 21 == int(21 * 4 / 13)


def test_a_part_of_the_examples_is_the_same_at_every_place_and_for_every_chunk():
    problem = tanh()
    eye = torch.eye(problem.p, dtype=DOUBLE)
    matrix = operator_of(problem, examples=6, seed=2).times(eye)
    assert torch.allclose(matrix, matrix.T, atol=1e-12)
    other = tanh(chunk=50)
    again = CurvatureOperator(other, problem.theta, examples=6, seed=2).times(eye)
    assert torch.allclose(matrix, again, atol=1e-12)
    assert not torch.allclose(matrix, operator_of(problem, examples=6, seed=3).times(eye))
    # The mean over all parts of one example each is that of all.
    chosen = torch.randperm(13, generator=generator(2, "curvature examples"))
    data = problem.data
    few = tanh(dataset(data.x_train[chosen[:6]], data.y_train[chosen[:6]], outputs=3))
    few.theta.copy_(problem.theta)
    assert torch.allclose(matrix, dense(few), atol=1e-12)
    assert operator_of(problem, examples=99).examples == 13


@pytest.mark.parametrize("count", [2, 15])  # 15: more ranks than examples
@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
def test_ranks_give_the_products_of_one_process(kind, count):
    networks = [perceptron() for _ in range(count)]  # before there are threads

    def products(ranks):
        problem = Problem(networks[ranks.rank], blobs(), dtype=DOUBLE, chunk=2, ranks=ranks)
        v = torch.linspace(-1, 1, 3 * problem.p, dtype=DOUBLE).view(3, -1)
        whole = operator_of(problem, kind).times(v)
        return whole, operator_of(problem, kind, examples=8).times(v)

    given = products(ALONE)
    for found in on_ranks(count, products):
        for a, b in zip(found, given, strict=True):
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def test_products_can_be_stopped():
    asked = [False]
    problem = tanh(cancelled=lambda: asked[0])
    operator = operator_of(problem)
    operator.times(problem.theta)
    asked[0] = True
    with pytest.raises(Cancelled):
        operator.times(problem.theta)


def test_where_the_curvature_is_not_finite_it_says_so():
    problem = tanh()
    problem.theta.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="not finite"):
        operator_of(problem).times(torch.ones(problem.p, dtype=DOUBLE))


# -- eigenvalues -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_both_ends_are_those_of_the_dense_matrix(kind, dtype):
    problem = tanh(dtype=dtype)
    matrix = dense(problem, kind).double()
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    found = top_eigenvalues(operator_of(problem, kind), 4, "both")
    wanted = torch.cat([values.flip(0)[:4], values[:4].flip(0)])
    scale = float(values.abs().max())
    rounding = 100 * torch.finfo(dtype).eps
    assert torch.allclose(found.values, wanted, rtol=1e-5, atol=rounding * scale)
    assert all(found.converged)
    assert torch.allclose(
        found.eigenvectors @ found.eigenvectors.T, torch.eye(8, dtype=dtype), atol=1e-4
    )
    aligned = (found.eigenvectors[:2].double() @ vectors.flip(1)[:, :2]).abs()
    assert torch.allclose(aligned, torch.eye(2, dtype=DOUBLE), atol=1e-3)
    for value, vector, residual in zip(
        found.values, found.eigenvectors, found.residuals, strict=True
    ):
        true = float((matrix @ vector.double() - value * vector.double()).norm())
        assert float(residual) == pytest.approx(true, rel=0.1, abs=1e-6 * scale)


@pytest.mark.parametrize(
    ("end", "wanted"), [("top", slice(0, 3)), ("bottom", slice(-3, None))], ids=["top", "bottom"]
)
def test_one_end_alone_is_found(end, wanted):
    problem, a = quadratic()
    values = torch.linalg.eigvalsh(a).flip(0)
    found = top_eigenvalues(operator_of(problem), 3, end)
    assert torch.allclose(found.values, values[wanted], rtol=1e-6)
    assert found.top == (3 if end == "top" else 0)


def test_the_negative_end_is_found_where_it_is_the_larger_in_magnitude():
    problem = diagonal([2.0, 1.0, *[0.1] * 40, -0.5, -9.0])
    found = top_eigenvalues(operator_of(problem), 1)
    assert found.values.tolist() == pytest.approx([2.0, -9.0])
    assert (found.greatest, found.least) == pytest.approx((2.0, -9.0))


def test_restarts_find_the_eigenvalues_of_a_long_spectrum_in_little_memory(monkeypatch):
    monkeypatch.setattr("lsshell.engine.landscape.lanczos.BASIS", 1)
    values = np.r_[np.geomspace(1e-3, 1.0, 300), -np.geomspace(1e-4, 0.1, 200)]
    found = top_eigenvalues(operator_of(diagonal(values)), 3, most_products=400)
    wanted = np.sort(values)[::-1][[0, 1, 2, -3, -2, -1]]
    assert found.products > 28  # the rows there are
    assert all(found.converged)
    assert np.allclose(found.values, wanted, rtol=1e-5)
    vectors = found.eigenvectors
    assert torch.allclose(vectors @ vectors.T, torch.eye(6, dtype=DOUBLE), atol=1e-6)


def test_eigenvalues_that_occur_several_times_are_found_as_often():
    values = [3.0] * 4 + [2.0] + [1.0] * 30 + [0.0] * 40 + [-1.0] * 2
    found = top_eigenvalues(operator_of(diagonal(values)), 5)
    assert np.allclose(found.values, [3, 3, 3, 3, 2, 0, 0, 0, -1, -1], atol=1e-9)


def test_eigenvalues_of_several_alike_outputs_are_found_as_often_in_float32():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 40, generator=g) * torch.linspace(0.2, 2.0, 40)
    problem = Problem(nn.Linear(40, 3, bias=False), dataset(x, torch.zeros(200, 3)))
    single = torch.linalg.eigvalsh(2 * x.double().T @ x.double() / 200 / 3).flip(0)
    found = top_eigenvalues(operator_of(problem), 5, "top")
    assert torch.allclose(found.values, single.repeat_interleave(3)[:5], rtol=1e-5)


def test_as_many_as_there_are_come_back():
    found = top_eigenvalues(operator_of(diagonal([3.0, -1.0, 2.0])), 5)
    assert found.values.tolist() == pytest.approx([3.0, 2.0, -1.0])
    one = top_eigenvalues(operator_of(diagonal([-4.0])), 2)
    assert one.values.tolist() == pytest.approx([-4.0])
    assert one.eigenvectors.tolist() == [[1.0]]


def test_a_matrix_of_zeros_has_eigenvalues_zero():
    problem = GivenLoss(torch.ones(20), lambda t: t.sum())
    operator = operator_of(problem)
    found = top_eigenvalues(operator, 2)
    assert found.values.tolist() == [0.0] * 4
    assert hessian_trace(operator, 4).value == 0.0
    density = spectral_density(operator, 5, 2)
    assert (density.moment(1), density.negative_share) == (0.0, 0.0)


def test_tiny_curvature_is_found_to_the_same_relative_accuracy():
    # Where ‖Hv‖ ≈ 1e-9, a norm with 1e-6 added to it would shorten the vector a thousandfold.
    problem = diagonal(1e-9 * np.array([5.0, *[1.0] * 20, -2.0]))
    found = top_eigenvalues(operator_of(problem), 1)
    assert found.values.tolist() == pytest.approx([5e-9, -2e-9], rel=1e-6)
    density = spectral_density(operator_of(problem), 10, 2)
    assert density.range == pytest.approx((-2e-9, 5e-9), rel=1e-6)
    assert density.width == pytest.approx(0.005 * 7e-9, rel=1e-6)


def test_what_has_not_converged_says_so():
    problem = diagonal(np.linspace(0.0, 1.0, 400))
    found = top_eigenvalues(operator_of(problem), 3, most_products=20)
    assert not any(found.converged)
    assert found.products == 20
    for value, residual in zip(found.values, found.residuals, strict=True):
        assert 0.0 <= float(value) <= 1.0
        assert float(residual) > 1e-3


def test_linear_regression_has_the_eigenvalues_of_its_inputs():
    data = regression()
    problem = Problem(nn.Linear(3, 1, bias=False), data, dtype=DOUBLE)
    x = data.x_train.double()
    matrix = 2 * x.T @ x / len(x)
    for kind in ("hessian", "gauss-newton"):
        found = top_eigenvalues(operator_of(problem, kind), 3, "top")
        assert torch.allclose(found.values, torch.linalg.eigvalsh(matrix).flip(0), rtol=1e-9)
        trace = hessian_trace(operator_of(problem, kind), 800, "hutchinson")
        exact = 2 * float(x.square().sum()) / len(x)
        assert abs(trace.value - exact) < 4 * trace.error
        assert trace.error < 0.05 * exact


def test_softmax_regression_has_the_eigenvalues_of_its_closed_form():
    data = blobs()
    torch.manual_seed(1)
    problem = Problem(nn.Linear(5, 3, bias=False), data, dtype=DOUBLE)
    x = data.x_train.double()
    q = (x @ problem.theta.view(3, 5).T).softmax(1)
    outer = torch.diag_embed(q) - q[:, :, None] * q[:, None, :]
    matrix = sum(torch.kron(a, torch.outer(row, row)) for a, row in zip(outer, x, strict=True)) / 13
    values = torch.linalg.eigvalsh(matrix).flip(0)
    for kind in ("hessian", "gauss-newton"):
        found = top_eigenvalues(operator_of(problem, kind), 4, "top")
        assert torch.allclose(found.values, values[:4], rtol=1e-6)


# -- trace -------------------------------------------------------------------------------------


def test_the_trace_of_a_diagonal_matrix_is_exact_from_any_probe():
    values = np.linspace(-1.0, 3.0, 50)
    found = hessian_trace(operator_of(diagonal(values)), 3)
    assert found.value == pytest.approx(values.sum(), rel=1e-12)
    assert found.error < 1e-12
    assert (found.probes, found.products) == (3, 3)


def test_the_standard_error_is_the_spread_of_the_estimates():
    problem, a = quadratic(12)
    operator = operator_of(problem)
    found = [hessian_trace(operator, 50, seed=seed) for seed in range(60)]
    apart = np.array([(f.value - float(a.trace())) / f.error for f in found])
    assert 0.7 < apart.std() < 1.4
    off = a - a.diag().diag()
    theory = float((2 * off.square().sum() / 50) ** 0.5)
    assert np.mean([f.error for f in found]) == pytest.approx(theory, rel=0.1)


def test_a_trace_ends_at_the_error_that_was_asked_for():
    problem = diagonal(np.ones(40))
    assert hessian_trace(operator_of(problem), 200, until=0.01).probes == 10
    problem, _ = quadratic(12)
    loose = hessian_trace(operator_of(problem), 400, until=0.5)
    assert loose.probes < 400
    assert loose.error <= 0.5 * abs(loose.value)
    assert hessian_trace(operator_of(problem), 30, until=1e-9).probes == 30


def test_of_a_matrix_of_low_rank_hutch_plus_plus_has_the_trace_exactly():
    g = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(60, 4, generator=g, dtype=DOUBLE))[0]
    a = (u * torch.tensor([9.0, 3.0, -2.0, 1.0], dtype=DOUBLE)) @ u.T
    operator = operator_of(GivenLoss(torch.ones(60), lambda t: 0.5 * t @ a @ t))
    found = hessian_trace(operator, 20, "hutch++")
    assert found.value == pytest.approx(11.0, rel=1e-9)
    assert found.error < 1e-9
    assert found.products == 20
    assert hessian_trace(operator, 20).error > 0.1


def test_hutch_plus_plus_is_right_within_its_error_where_the_spectrum_falls():
    values = 1.0 / np.arange(1, 41) ** 2
    g = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(40, 40, generator=g, dtype=DOUBLE))[0]
    a = (u * torch.from_numpy(values)) @ u.T
    operator = operator_of(GivenLoss(torch.ones(40), lambda t: 0.5 * t @ a @ t))
    plain = hessian_trace(operator, 60)
    found = hessian_trace(operator, 60, "hutch++")
    assert abs(found.value - values.sum()) < 4 * found.error
    assert found.error < 0.2 * plain.error
    assert hessian_trace(operator, 200, "hutch++").value == pytest.approx(values.sum(), rel=1e-9)


# -- density -----------------------------------------------------------------------------------


def test_quadrature_has_the_moments_of_the_probes_exactly():
    problem, a = quadratic(25)
    density = spectral_density(operator_of(problem), 8, 200)
    m1, m2 = float(a.trace()) / 25, float(a.square().sum()) / 25
    assert density.moment(1) == pytest.approx(m1, abs=4 * density.moment_error(1))
    assert density.moment(2) == pytest.approx(m2, abs=4 * density.moment_error(2))
    assert np.allclose(density.weights.sum(1), 1.0)
    # Of a diagonal matrix every probe has them without error.
    values = np.linspace(-1.0, 2.0, 40)
    exact = spectral_density(operator_of(diagonal(values)), 6, 2)
    for order in (1, 2, 5, 11):  # up to 2·steps − 1
        assert exact.moment(order) == pytest.approx((values**order).mean(), rel=1e-9)


def in_float32():
    """Linear regression with H = diag(values)."""
    values = [0.08] * 10 + [0.02] * 30 + [0.005] * 60
    x = (torch.tensor(values) * 50).sqrt().diag()  # H = 2XᵀX/N, N = 100
    return Problem(nn.Linear(100, 1, bias=False), dataset(x, torch.zeros(100))), values


def in_float64():
    values = [4.0] * 10 + [1.0] * 30 + [-2.0] * 60
    return diagonal(values), values


@pytest.mark.parametrize("make", [in_float32, in_float64])
def test_three_eigenvalues_have_their_places_and_weights(make):
    problem, values = make()
    density = spectral_density(operator_of(problem), 20, 3)
    for value in set(values):
        near = np.isclose(density.nodes, value, rtol=1e-4)
        share = values.count(value) / 100
        assert np.allclose((density.weights * near).sum(1), share, rtol=1e-4)
    if problem.dtype == DOUBLE:  # the rest, once the space is closed, has none
        assert ((density.weights > 0.0).sum(1) == 3).all()
    margin = 8 * density.width
    x = np.linspace(min(values) - margin, max(values) + margin, 20_001)
    assert density.at(x).sum() * (x[1] - x[0]) == pytest.approx(1.0, rel=1e-3)


def test_eigenvalues_far_out_have_one_node_each_however_many_steps():
    # Without reorthogonalisation their nodes come again and again.
    values = np.r_[np.linspace(0.0, 1.0, 300), 40.0, 100.0]
    density = spectral_density(operator_of(diagonal(values)), 90, 2)
    far = (density.nodes > 2.0) & (density.weights > 0.0)
    assert (far.sum(1) == 2).all()
    assert np.allclose(density.nodes[far], [40.0, 100.0] * 2, rtol=1e-9)
    assert np.allclose(density.weights[far], 1 / 302, rtol=1e-6)


def test_of_a_dense_matrix_the_share_of_negative_mass_is_found():
    problem, a = quadratic(40)
    values = torch.linalg.eigvalsh(a)
    exact = float(-values[values < 0].sum() / values.abs().sum())
    density = spectral_density(operator_of(problem), 40, 60)
    assert density.negative_share == pytest.approx(exact, abs=0.04)
    assert density.range == pytest.approx((float(values[0]), float(values[-1])), rel=1e-9)


def test_probes_together_and_alone_give_the_same_density(monkeypatch):
    problem = tanh()
    one = spectral_density(operator_of(problem), 12, 3)
    monkeypatch.setattr("lsshell.engine.landscape.spectral_density.TOGETHER", 1)
    again = spectral_density(operator_of(problem), 12, 3)
    assert np.allclose(one.nodes, again.nodes, atol=1e-9)
    assert np.allclose(one.weights, again.weights, atol=1e-9)


def test_one_eigenvalue_alone_has_a_width_of_its_own():
    density = spectral_density(operator_of(diagonal([3.0] * 30)), 10, 2)
    assert np.isclose((density.weights * np.isclose(density.nodes, 3.0)).sum(1), 1.0).all()
    assert density.width == pytest.approx(0.015)


# -- all together ------------------------------------------------------------------------------


def test_measuring_leaves_everything_as_it_was():
    problem = convolution()
    problem.loss_and_gradient(problem.theta)
    theta, gradient = problem.theta.clone(), problem._gradient.clone()
    buffers = {name: b.clone() for name, b in problem.network.named_buffers()}
    other = {name: b + 1 for name, b in buffers.items()}
    place = Place("elsewhere", theta + 0.3, other)
    events = []
    result = measure_hessian(
        problem, place, HessianRequest(trace_probes=4, density_steps=5), events.append
    )
    assert torch.equal(problem.theta, theta)
    assert torch.equal(problem._gradient, gradient)
    assert problem.gradients == 1
    assert result.gradients == 2 * result.products + 1
    for name, buffer in problem.network.named_buffers():
        assert torch.equal(buffer, buffers[name])
    assert {e.task for e in events} == {
        f"hessian: {what}" for what in ("eigenvalues", "trace", "density")
    }
    here = Place("here", theta + 0.3, buffers)
    same = measure_hessian(problem, here, HessianRequest(trace_probes=0, density_steps=0))
    assert same.eigenvalues.greatest != result.eigenvalues.greatest  # other statistics
    assert (same.trace, same.density) == (None, None)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda o: top_eigenvalues(o, 0), "at least 1"),
        (lambda o: top_eigenvalues(o, 1, "middle"), "no end"),
        (lambda o: top_eigenvalues(o, 1, tolerance=float("nan")), "above 0"),
        (lambda o: hessian_trace(o, 1), "at least 2"),
        (lambda o: hessian_trace(o, 5, "hutch++"), "at least 6"),
        (lambda o: hessian_trace(o, 9, "guess"), "no method"),
        (lambda o: hessian_trace(o, 9, until=0.0), "above 0"),
        (lambda o: spectral_density(o, 0), "at least 1"),
        (lambda o: spectral_density(o, 3, width=-1.0), "above 0"),
        (lambda o: operator_of(o.problem, examples=0), "at least 1"),
        (lambda o: operator_of(o.problem, "jacobian"), "no matrix"),
    ],
)
def test_what_makes_no_sense_is_refused(call, what):
    operator = operator_of(tanh())
    with pytest.raises(EngineError, match=what):
        call(operator)


def test_vectors_that_do_not_fit_into_memory_are_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(
        "lsshell.engine.landscape.curvature_operator.device_memory", lambda device: (5, 6)
    )
    operator = operator_of(tanh())
    for call in (top_eigenvalues, spectral_density, lambda o: hessian_trace(o, 9, "hutch++")):
        with pytest.raises(EngineError, match="do not fit"):
            call(operator)
    assert operator.products == 0
