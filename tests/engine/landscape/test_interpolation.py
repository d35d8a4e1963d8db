"""Straight lines: draw-ups, bumps, Gauss lengths, against closed forms."""

import math
import random

import pytest
import torch
from torch import nn

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.gauss_length import gauss_length, output_turning, turning
from lsshell.engine.landscape.interpolation import bumps, interpolate, largest_rise
from lsshell.engine.landscape.places import Place
from lsshell.engine.problem import Problem
from tests.engine.small import GivenLoss, blobs, images, regression

LIKE = torch.zeros((), dtype=torch.float64)


def place(problem, theta, name="somewhere"):
    buffers = {n: b.clone() for n, b in problem.network.named_buffers()}
    return Place(name, torch.as_tensor(theta, dtype=problem.dtype), buffers)


def test_the_largest_rise_is_that_of_all_pairs_and_of_the_sequence_alone():
    source = random.Random(1)
    for _ in range(300):
        values = [source.choice([source.gauss(0, 1), 0.5]) for _ in range(source.randint(1, 8))]
        pairs = [b - a for i, a in enumerate(values) for b in values[i:]]
        rise = largest_rise(values)
        assert rise == max(pairs)
        assert (rise == 0.0) == (values == sorted(values, reverse=True))
        assert largest_rise([v + 7 for v in values]) == pytest.approx(rise)
        assert largest_rise([3 * v for v in values]) == pytest.approx(3 * rise)
        found = bumps(range(len(values)), values)
        assert max((b.height for b in found), default=0.0) == rise


def test_bumps_are_told_apart_and_one_at_the_very_end_counts():
    alphas = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    first, last = bumps(alphas, [5.0, 6.0, 4.0, 3.0, 3.0, 3.5])
    assert (first.begins, first.ends, first.height) == (0.0, 0.2, 1.0)
    assert (last.begins, last.ends, last.height) == (0.4, 0.5, 0.5)
    assert bumps(alphas, [5.0, 6.0, 4.0, 3.0, 3.0, 3.5], 0.7) == (first,)


def test_a_cosine_between_its_maxima_rises_by_two():
    problem = GivenLoss([0.0], lambda t: torch.cos(4 * math.pi * t[0]))
    found = interpolate(problem, place(problem, [0.0]), place(problem, [1.0]), points=41)
    assert found.rise == pytest.approx(2.0, abs=1e-12)
    assert not found.monotone
    assert [(round(b.begins, 9), b.ends) for b in found.bumps] == [(0.25, 0.75), (0.75, 1.0)]
    assert found.distance == 1.0
    assert found.relative is None


def test_linear_regression_is_a_parabola_that_falls_all_the_way_to_its_minimiser():
    torch.manual_seed(0)
    problem = Problem(nn.Linear(3, 1), regression(), dtype=torch.float64)
    x = torch.cat([problem.x_train, torch.ones(len(problem.x_train), 1)], 1)
    best = torch.linalg.lstsq(x, problem.y_train[:, None]).solution[:, 0]
    start = problem.theta.clone()
    found = interpolate(problem, place(problem, start), place(problem, best))
    first, last = problem.loss(start), problem.loss(best)
    wanted = [last + (1 - a) ** 2 * (first - last) for a in found.alphas]
    assert found.values["train"].loss.tolist() == pytest.approx(wanted, rel=1e-12)
    assert found.rise == 0.0 and found.monotone and found.bumps == ()
    assert found.relative == pytest.approx(float((best - start).norm() / start.norm()))
    assert float(found.gauss.max()) < 1e-9  # one linear layer: outputs move straight
    assert found.barrier == pytest.approx(0.0, abs=1e-12)
    back = interpolate(problem, place(problem, best), place(problem, start))
    assert back.rise == pytest.approx(first - last)


def test_refinement_finds_the_height_of_a_bump_between_two_points():
    def narrow(t):
        return 1.0 - t[0] + 3.0 * torch.exp(-0.5 * ((t[0] - 0.47) / 0.01) ** 2)

    problem = GivenLoss([0.0], narrow)
    ends = place(problem, [0.0]), place(problem, [1.0])
    coarse = interpolate(problem, *ends, points=30)
    fine = interpolate(problem, *ends, points=30, refine=40)
    assert coarse.rise < 2.7
    assert fine.rise == pytest.approx(3.0, rel=0.02)
    assert len(coarse.alphas) == 30 and 30 < len(fine.alphas) <= 70
    near = sum(abs(a - 0.47) < 0.05 for a in fine.alphas)
    assert near > 0.6 * len(fine.alphas) - 20


def test_half_a_circle_turns_by_pi_and_a_straight_line_not_at_all():
    alphas = [k / 199 for k in range(200)]

    def circle(a):
        return torch.stack([torch.cos(math.pi * a**2), torch.sin(math.pi * a**2)])[None]

    def line(a):
        return torch.stack([3 * a + 1, a**3 + a, a])[None]

    rates = [turning(circle, a, LIKE) for a in alphas]
    assert float(gauss_length(alphas, rates)) == pytest.approx(math.pi, abs=1e-4)
    straight = [turning(lambda a: torch.stack([2 * a**2, a**2])[None], a, LIKE) for a in (0.3, 1.0)]
    assert float(gauss_length([0.3, 1.0], straight)) == pytest.approx(0.0, abs=1e-12)
    assert float(turning(line, 0.5, LIKE)) > 0.1
    still = turning(lambda a: torch.stack([0 * a, 0 * a + 1])[None], 0.5, LIKE)
    assert still.tolist() == [0.0]


@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.ELU, nn.Softplus])
def test_the_turning_of_a_network_is_that_of_finite_differences(activation):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(5, 6), activation(), nn.Linear(6, 3))
    problem = Problem(network, blobs(), dtype=torch.float64, chunk=4)
    origin = problem.theta.clone()
    direction = torch.randn(problem.p, dtype=torch.float64)
    found = output_turning(problem, origin, direction, 0.4, problem.x_test)
    h = 1e-4
    a, b, c = (
        problem.outputs(origin + (0.4 + t) * direction, problem.x_test) for t in (-h, 0.0, h)
    )
    before, after = (b - a) / h, (c - b) / h
    cosines = nn.functional.cosine_similarity(before, after).clamp(max=1.0)
    assert torch.allclose(found, torch.acos(cosines) / h, rtol=1e-2)


def test_convolutions_and_pooling_are_differentiated_twice_too():
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(18, 3),
    )  # fmt: skip
    problem = Problem(network, images(), dtype=torch.float64)
    start, state = problem.theta.clone(), {k: v.clone() for k, v in network.state_dict().items()}
    end = start + 0.5 * torch.randn(problem.p, dtype=torch.float64)
    found = interpolate(problem, place(problem, start), place(problem, end), points=5)
    assert found.gauss is not None and float(found.gauss.min()) > 0.0
    frozen = interpolate(
        problem, place(problem, start), place(problem, end), points=5, batch_norm="frozen"
    )
    assert float(frozen.values["train"].loss[0]) == pytest.approx(problem.loss(start), rel=1e-12)
    assert float(frozen.values["train"].loss[0]) != float(found.values["train"].loss[0])
    assert torch.equal(problem.theta, start) and problem.gradients == 0
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


class Opaque(torch.autograd.Function):
    """Something with no forward-mode derivative."""

    @staticmethod
    def forward(ctx, x):
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return Opaque.apply(self.layer(x))


def test_a_network_without_forward_derivatives_has_no_gauss_length_and_all_the_rest():
    problem = Problem(Unknown(), blobs(), dtype=torch.float64)
    found = interpolate(problem, place(problem, problem.theta), place(problem, problem.theta + 1))
    assert found.gauss is None and found.why
    assert found.values["test"].loss.isfinite().all()


def test_weights_in_two_places_are_interpolated_and_left_as_they_were():
    layer = nn.Linear(5, 5)
    problem = Problem(nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(5, 3)), blobs())
    start = problem.theta.clone()
    found = interpolate(problem, place(problem, start), place(problem, start + 1), points=3)
    assert found.gauss is None and "two places" in found.why
    assert float(found.values["train"].loss[-1]) == pytest.approx(problem.loss(start + 1), rel=1e-6)
    problem.place(start)
    assert layer.weight.data_ptr() == problem.tensors(problem.theta)["0.weight"].data_ptr()


def test_no_line_from_a_point_to_itself_and_none_of_a_single_point():
    problem = GivenLoss([1.0], lambda t: t[0])
    here = place(problem, [1.0])
    with pytest.raises(EngineError, match="itself"):
        interpolate(problem, here, here)
    with pytest.raises(EngineError, match="--points"):
        interpolate(problem, here, place(problem, [2.0]), points=1)
    with pytest.raises(EngineError, match="not finite"):
        interpolate(GivenLoss([1.0], lambda t: 1 / t[0]), here, place(problem, [0.0]))
