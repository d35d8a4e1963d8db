"""Every regulariser against finite differences, closed forms and torch's own linear algebra."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers import REGULARIZERS, WeightedSum, make_regularizer
from lsshell.engine.regularizers.spectral import top_singular
from lsshell.engine.vocabulary import REGULARIZERS as WORDS
from tests.engine.small import blobs, images, regression


def mlp(seed=0, sizes=(5, 7, 6, 3), activation=nn.Tanh):
    torch.manual_seed(seed)
    layers = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


def cnn():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 3)
    )


def dense_problem(**kwargs):
    return Problem(mlp(), blobs(), dtype=torch.float64, **kwargs)


def image_problem(**kwargs):
    return Problem(cnn(), images(), dtype=torch.float64, **kwargs)


OPTIONS = [(name, {}) for name in REGULARIZERS] + [
    ("elastic", {"ratio": 0.2, "eps": 0.01}),
    ("spectral", {"form": "square"}),
    ("jacobian", {"projections": 3}),
    ("hessian-trace", {"probes": 2}),
]


def test_vocabulary_names_every_regulariser():
    assert tuple(REGULARIZERS) == WORDS


@pytest.mark.parametrize("make", [dense_problem, image_problem], ids=["dense", "convolutional"])
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_gradient_equals_central_differences(make, name, options):
    problem = make(chunk=4)
    start = problem.theta.clone()
    generator = torch.Generator().manual_seed(3)
    theta = start + 0.1 * torch.randn(problem.p, generator=generator, dtype=torch.float64)
    regularizer = make_regularizer(name, problem, start, seed=5, **options)
    gradient = torch.full_like(theta, math.nan)
    value = regularizer.value_and_gradient(theta, gradient)
    assert value == pytest.approx(regularizer.value(theta), rel=1e-12)
    for _ in range(3):
        direction = torch.randn(problem.p, generator=generator, dtype=torch.float64)
        h = 1e-6 if name in ("l1", "elastic") else 1e-5
        up, down = (regularizer.value(theta + s * h * direction) for s in (1, -1))
        wanted = float(gradient @ direction)
        assert (up - down) / (2 * h) == pytest.approx(wanted, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", list(REGULARIZERS))
def test_float32_agrees_with_float64(name):
    wide = dense_problem()
    narrow = Problem(mlp(), blobs())
    found, gradients = [], []
    for problem in (wide, narrow):
        theta = problem.theta * 1.1
        r = make_regularizer(name, problem, problem.theta.clone(), seed=1)
        out = torch.empty_like(theta)
        found.append(r.value_and_gradient(theta, out))
        gradients.append(out.double())
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["jacobian", "gradient-norm", "hessian-trace"])
def test_chunks_do_not_change_values(name):
    whole, parts = dense_problem(), dense_problem(chunk=5)
    values = [
        make_regularizer(name, p, p.theta, seed=2).value(p.theta.clone()) for p in (whole, parts)
    ]
    assert values[1] == pytest.approx(values[0], rel=1e-12)


@pytest.mark.parametrize("name", ["jacobian", "gradient-norm", "hessian-trace"])
def test_costly_ones_count_their_work_and_can_be_stopped(name):
    stop = False
    problem = Problem(mlp(), blobs(), dtype=torch.float64, cancelled=lambda: stop)
    regularizer = make_regularizer(name, problem, problem.theta, seed=2)
    assert not regularizer.cheap
    regularizer.value_and_gradient(problem.theta.clone(), torch.empty_like(problem.theta))
    assert problem.gradients > 0
    stop = True
    with pytest.raises(Cancelled):
        regularizer.value(problem.theta.clone())


def flat(problem, *tensors):
    return torch.cat([t.reshape(-1) for t in tensors]).to(problem.dtype)


def two_weights(bias=False):
    """One dense layer 2 → 1."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=bias))
    return Problem(network, regression(features=2), dtype=torch.float64)


def test_compress_of_three_and_four_is_seven_fifths():
    problem = two_weights()
    w = torch.tensor([3.0, 4.0], dtype=torch.float64)
    regularizer = make_regularizer("compress", problem, w, eps=1e-9)
    gradient = torch.empty_like(w)
    assert regularizer.value_and_gradient(w, gradient) == pytest.approx(1.4, rel=1e-9)
    assert gradient.tolist() == pytest.approx([0.032, -0.024], rel=1e-8)
    assert float(gradient @ w) == pytest.approx(0.0, abs=1e-9)
    assert regularizer.value(7 * w) == pytest.approx(1.4, rel=1e-9)


@pytest.mark.parametrize("nonzero", [1, 3, 8])
def test_compress_of_a_ternary_vector_is_root_of_its_nonzeros(nonzero):
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 1, bias=False))
    problem = Problem(network, regression(features=8), dtype=torch.float64)
    w = torch.zeros(8, dtype=torch.float64)
    w[:nonzero] = torch.tensor([0.7, -0.7] * 4, dtype=torch.float64)[:nonzero]
    gradient = torch.empty_like(w)
    value = make_regularizer("compress", problem, w, eps=1e-12).value_and_gradient(w, gradient)
    assert value == pytest.approx(math.sqrt(nonzero), rel=1e-9)
    assert gradient[:nonzero].abs().max() < 1e-9


def test_norms_have_their_closed_forms_and_leave_biases_alone_where_they_say_so():
    problem = two_weights(bias=True)
    theta = torch.tensor([3.0, -4.0, 5.0], dtype=torch.float64)
    value = {
        name: make_regularizer(name, problem, theta, **options).value(theta)
        for name, options in (
            ("l2", {}),
            ("l2-weights", {}),
            ("l1", {"eps": 1e-9}),
            ("elastic", {"eps": 1e-9, "ratio": 0.25}),
            ("group", {"eps": 1e-9}),
        )
    }
    assert value == pytest.approx(
        {
            "l2": 50.0,
            "l2-weights": 25.0,
            "l1": 12.0,
            "elastic": 0.25 * 12 + 0.75 * 50,
            "group": math.sqrt(2) * 5,
        }
    )


def test_spectral_equals_the_singular_values_of_the_layers():
    problem = image_problem()
    weights = [q.detach().reshape(len(q), -1) for q in problem.parameters if q.ndim > 1]
    sigma = [float(torch.linalg.matrix_norm(w, 2)) for w in weights]
    log = make_regularizer("spectral", problem, problem.theta).value(problem.theta)
    square = make_regularizer("spectral", problem, problem.theta, form="square")
    assert log == pytest.approx(sum(map(math.log, sigma)), rel=1e-12)
    assert square.value(problem.theta) == pytest.approx(sum(s**2 for s in sigma), rel=1e-12)


@pytest.mark.parametrize("gap", [1e-1, 1e-4, 1e-8])
@pytest.mark.parametrize("rows", [6, 600])
def test_top_singular_value_is_exact_whatever_the_gap(gap, rows):
    torch.manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(rows, 6, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(rows + 3, 6, dtype=torch.float64))
    values = torch.tensor([2.0, 2.0 - gap, 1.0, 0.5, 0.1, 0.0], dtype=torch.float64)
    w = u @ torch.diag(values) @ v.T
    sigma, left, right = top_singular(w)
    assert sigma == pytest.approx(2.0, rel=1e-12)
    assert float(left @ w @ right) == pytest.approx(2.0, rel=1e-12)


def test_top_singular_value_of_a_large_matrix_in_blocks_is_that_of_the_larger():
    w = 0.05 * torch.ones(700, 700, dtype=torch.float64)
    w[0, :], w[:, 0], w[0, 0] = 0.0, 0.0, 2.0
    assert top_singular(w)[0] == pytest.approx(0.05 * 699, rel=1e-12)
    assert top_singular(torch.zeros(600, 700, dtype=torch.float64))[0] == 0.0


def test_path_norm_sums_squared_products_over_every_path():
    problem = Problem(mlp(sizes=(5, 4, 3)), blobs(), dtype=torch.float64)
    w1, b1, w2, b2 = (q.detach() for q in problem.parameters)
    wanted = 0.0
    for k in range(3):
        wanted += float(b2[k] ** 2)
        for j in range(4):
            into = float(b1[j] ** 2) + sum(float(w1[j, i] ** 2) for i in range(5))
            wanted += float(w2[k, j] ** 2) * into
    found = make_regularizer("path-norm", problem, problem.theta).value(problem.theta)
    assert found == pytest.approx(wanted, rel=1e-12)


def test_path_norm_does_not_change_when_a_unit_is_rescaled():
    problem = Problem(mlp(sizes=(5, 4, 3), activation=nn.ReLU), blobs(), dtype=torch.float64)
    regularizer = make_regularizer("path-norm", problem, problem.theta)
    theta = problem.theta.clone()
    before = regularizer.value(theta)
    tensors = problem.tensors(theta)
    tensors["0.weight"][1] *= 3.0
    tensors["0.bias"][1] *= 3.0
    tensors["2.weight"][:, 1] /= 3.0
    assert regularizer.value(theta) == pytest.approx(before, rel=1e-12)


def test_path_norm_is_refused_where_it_is_not_defined():
    network = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    problem = Problem(network, blobs())
    with pytest.raises(EngineError, match="layer_norm"):
        make_regularizer("path-norm", problem, problem.theta)


def test_path_norm_counts_average_pooling_and_batch_norm_as_linear_maps():
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 3)
    ).double()
    norm = network[1]
    norm.running_mean.copy_(torch.tensor([0.3, -0.2]))
    norm.running_var.copy_(torch.tensor([1.5, 0.7]))
    problem = Problem(network, images(), dtype=torch.float64)
    found = make_regularizer("path-norm", problem, problem.theta).value(problem.theta)
    # Σ over paths of squared coefficients = Σ of squares of each linear map's matrix entries, for
    # one linear layer after another with no cancellation: squares multiplied along the way.
    w, b, gamma, beta, v, c = (q.detach() for q in problem.parameters)
    deviation = (norm.running_var + norm.eps).sqrt().double()
    total = float(c.square().sum())
    for channel in range(2):
        into = float(w[channel].square().sum() + b[channel] ** 2)
        scale = float(gamma[channel] / deviation[channel]) ** 2
        unit = into * scale + float(beta[channel] ** 2)
        unit += scale * float(norm.running_mean[channel]) ** 2
        pooled = 4 * (1 / 16) * unit
        total += pooled * float(v[:, 9 * channel : 9 * channel + 9].square().sum())
    assert found == pytest.approx(total, rel=1e-9)


def test_jacobian_equals_the_mean_squared_jacobian_of_torch():
    problem = dense_problem()
    rows = [
        torch.autograd.functional.jacobian(problem.network, x[None]).square().sum()
        for x in problem.x_train
    ]
    found = make_regularizer("jacobian", problem, problem.theta).value(problem.theta)
    assert found == pytest.approx(float(torch.stack(rows).mean()), rel=1e-12)


def test_jacobian_projections_are_unbiased():
    problem = dense_problem()
    exact = make_regularizer("jacobian", problem, problem.theta).value(problem.theta)
    many = make_regularizer("jacobian", problem, problem.theta, projections=400)
    assert many.value(problem.theta) == pytest.approx(exact, rel=0.05)


def test_hessian_trace_is_exact_for_a_diagonal_hessian_and_near_it_otherwise():
    problem = Problem(mlp(sizes=(5, 4, 3)), blobs(), dtype=torch.float64)
    eye = torch.eye(problem.p, dtype=torch.float64)
    trace = sum(float(problem.hessian_vector(problem.theta, e) @ e) for e in eye)
    many = make_regularizer("hessian-trace", problem, problem.theta, probes=300)
    assert many.value(problem.theta) == pytest.approx(trace, rel=0.1)


def test_random_potential_is_a_unit_direction_of_its_seed():
    problem = dense_problem()
    out = [torch.empty_like(problem.theta) for _ in range(3)]
    for seed, gradient in zip((0, 0, 1), out, strict=True):
        make_regularizer("random", problem, problem.theta, seed=seed).value_and_gradient(
            problem.theta, gradient
        )
    assert torch.equal(out[0], out[1])
    assert float(out[0] @ out[0]) == pytest.approx(1.0)
    assert abs(float(out[0] @ out[2])) < 0.9


def test_distance_is_measured_from_the_start_or_from_a_reference():
    problem = dense_problem()
    start = problem.theta.clone()
    assert make_regularizer("distance", problem, start).value(start + 0.5) == pytest.approx(
        0.25 * problem.p
    )
    reference = make_regularizer("distance", problem, start, reference=torch.zeros_like(start))
    assert reference.value(start) == pytest.approx(float(start @ start))


def test_a_sum_weighs_its_terms_and_their_gradients():
    problem = dense_problem()
    theta = problem.theta.clone()
    total = WeightedSum()
    total.terms["l2"] = (make_regularizer("l2", problem, theta), 2.0)
    total.terms["random"] = (make_regularizer("random", problem, theta, seed=4), -3.0)
    gradients = {name: torch.empty_like(theta) for name in ("l2", "random", "sum")}
    values = {
        name: r.value_and_gradient(theta, gradients[name]) for name, (r, _) in total.terms.items()
    }
    value = total.value_and_gradient(theta, gradients["sum"])
    assert value == pytest.approx(2 * values["l2"] - 3 * values["random"])
    wanted = 2 * gradients["l2"] - 3 * gradients["random"]
    assert torch.allclose(gradients["sum"], wanted, rtol=1e-12)
    assert total.cheap


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("jacobean", {}, "did you mean jacobian"),
        ("l2", {"ratio": 0.5}, "takes no options"),
        ("elastic", {"probes": 3}, "takes --ratio, --eps"),
        ("elastic", {"ratio": 1.5}, "between 0 and 1"),
        ("l1", {"eps": 0.0}, "above 0"),
        ("hessian-trace", {"probes": 0}, "at least 1"),
        ("jacobian", {"projections": -1}, "negative"),
    ],
)
def test_wrong_names_and_options_say_what_is_right(name, options, message):
    problem = dense_problem()
    with pytest.raises(EngineError, match=message):
        make_regularizer(name, problem, problem.theta, **options)
