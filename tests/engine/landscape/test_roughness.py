"""The roughness index against slices whose total variation is known."""

import math

import pytest
import torch
from torch import nn

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.places import Place
from lsshell.engine.landscape.roughness import roughness, roughness_index
from lsshell.engine.problem import Problem
from tests.engine.small import GivenLoss, blobs, regression


def here(problem):
    buffers = {n: b.clone() for n, b in problem.network.named_buffers()}
    return Place("here", problem.theta.clone(), buffers)


def test_at_a_quadratics_minimiser_every_slice_varies_twice_its_height():
    torch.manual_seed(0)
    problem = Problem(nn.Linear(3, 1), regression(), dtype=torch.float64)
    x = torch.cat([problem.x_train, torch.ones(len(problem.x_train), 1)], 1)
    problem.theta.copy_(torch.linalg.lstsq(x, problem.y_train[:, None]).solution[:, 0])
    found = roughness(problem, here(problem), directions=6, spans=(0.01, 1.0))
    for row in found.rows:
        assert row.mean == pytest.approx(2.0, rel=1e-6)
        assert row.index == pytest.approx(0.0, abs=1e-6)
        assert row.normalised == pytest.approx([1.0 / row.span] * 6)
        assert row.monotone == row.flat == 0


def test_a_linear_loss_is_monotone_along_every_line():
    g = torch.Generator().manual_seed(1)
    slope = torch.randn(4, 3, generator=g, dtype=torch.float64)
    problem = GivenLoss(slope.flip(0), lambda t: (t * slope).sum())
    (row,) = roughness(problem, here(problem), directions=7, spans=(0.5,)).rows
    assert row.mean == pytest.approx(1.0)
    assert row.index == pytest.approx(0.0, abs=1e-12)
    assert row.monotone == 7


@pytest.mark.parametrize("q", [1, 2, 3])
def test_a_sine_of_q_periods_has_total_variation_q_over_l(q):
    span, points = 0.2, 12 * q
    s = torch.linspace(-span, span, points + 1, dtype=torch.float64)
    row = roughness_index(torch.sin(math.pi * q * s / span).repeat(3, 1), span)
    # 4q quarter waves of height 1 over a range of 2, in units of 1/(2l).
    assert row.mean == pytest.approx(2 * q)
    assert row.normalised[0] == pytest.approx(q / span)
    assert row.variation == pytest.approx(2 * q / span)


def test_the_index_does_not_see_the_losss_unit_or_the_order_of_directions():
    g = torch.Generator().manual_seed(2)
    f = torch.randn(20, 11, generator=g, dtype=torch.float64).cumsum(1)
    index = roughness_index(f, 0.1).index
    assert index > 0.05
    assert roughness_index(3.0 * f - 8.0, 0.1).index == pytest.approx(index, rel=1e-10)
    assert roughness_index(f.flip(0), 0.1).index == pytest.approx(index, rel=1e-12)
    shapes = f.diff(dim=1).abs().sum(1) / (f.amax(1) - f.amin(1))
    assert index == pytest.approx(float(shapes.std() / shapes.mean()))


def test_flat_slices_are_counted_and_left_out():
    f = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 2.0], [0.0, 1.0, 0.0], [1.0, 1.0 + 1e-9, 1.0]])
    row = roughness_index(f.double(), 1.0, rounding=1e-7)
    assert row.flat == 2 and row.monotone == 1
    assert row.mean == 1.5
    assert row.normalised[0] is None
    still = roughness_index(torch.ones(3, 5), 1.0)
    assert still.index is None and still.mean is None and still.variation == 0.0


def test_the_same_seed_gives_the_same_index_and_nothing_moves():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    problem = Problem(network, blobs())
    state = {k: v.clone() for k, v in network.state_dict().items()}
    spans = (0.01, 0.5)
    first = roughness(problem, here(problem), directions=8, spans=spans, seed=4)
    again = roughness(problem, here(problem), directions=8, spans=spans, seed=4)
    other = roughness(problem, here(problem), directions=8, spans=spans, seed=5)
    assert first.rows == again.rows != other.rows
    few = roughness(problem, here(problem), directions=3, spans=spans, seed=4)
    assert torch.equal(few.slices[1], first.slices[1][:3])
    assert problem.gradients == 0
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def test_numbers_that_make_no_sense_are_refused():
    problem = GivenLoss([[1.0]], lambda t: t.sum())
    for bad in ({"directions": 1}, {"points": 0}, {"spans": ()}, {"spans": (0.1, -1.0)},
                {"spans": (math.nan,)}):  # fmt: skip
        with pytest.raises(EngineError, match="takes"):
            roughness(problem, here(problem), **bad)
    with pytest.raises(EngineError, match="not finite"):
        roughness(GivenLoss([[1.0]], lambda t: torch.log(t).sum()), here(problem), spans=(3.0,))
