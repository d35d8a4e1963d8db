"""Curves between two points: their geometry, how they are trained, and what is left untouched."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.events import Progress
from lsshell.engine.landscape.curves import Curve, _schedule, line, train_curve
from lsshell.engine.problem import Problem
from lsshell.engine.seeds import generator
from tests.engine.small import GivenLoss, blobs


def ring(theta):
    """L = (‖θ‖² − 1)²: zero on the unit circle."""
    return (theta.square().sum() - 1.0).square()


def normalised():
    network = nn.Sequential(
        nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)
    )
    return Problem(network, blobs(n=17))


def two(problem, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(problem.p, generator=g).to(problem.theta) for _ in range(2)]


def state(problem):
    """Everything that a measure must leave alone."""
    tensors = [problem.theta, problem._gradient, *problem.network.buffers()]
    modes = [m.training for m in problem.network.modules()]
    return [t.clone() for t in tensors], modes, problem.gradients


def unchanged(problem, before):
    tensors, modes, gradients = state(problem)
    same = all(torch.equal(a, b) for a, b in zip(tensors, before[0], strict=True))
    return same and (modes, gradients) == before[1:]


@pytest.mark.parametrize("kind", ["bezier", "chain", "line"])
def test_the_ends_of_a_curve_are_the_two_points_to_the_last_bit(kind):
    a = torch.tensor([0.1, -0.0, 1e-38, 3e7])
    b = torch.tensor([-0.3, 0.0, 7.0, 1.1])
    bends = () if kind == "line" else (torch.full((4,), torch.nan), torch.ones(4))
    curve = Curve(kind, (a, *bends, b))
    for t, end in ((0.0, a), (1.0, b)):
        assert curve.at(t).numpy().tobytes() == end.numpy().tobytes()
        assert curve.at(t).data_ptr() != end.data_ptr()


def test_a_bezier_curve_with_its_bend_in_the_middle_is_the_straight_line():
    a, b = torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    curve, straight = Curve("bezier", (a, (a + b) / 2, b)), line(a, b)
    for t in (0.1, 0.25, 0.5, 0.83):
        torch.testing.assert_close(curve.at(t), straight.at(t))
        torch.testing.assert_close(curve.at(t), a + t * (b - a))


def test_a_quadratic_curve_is_the_published_one_and_a_chain_goes_through_its_bends():
    a, c, d, b = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = 0.3
    published = (1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b
    torch.testing.assert_close(Curve("bezier", (a, c, b)).at(t), published)
    chain = Curve("chain", (a, c, d, b))
    torch.testing.assert_close(chain.at(1 / 3), c)
    torch.testing.assert_close(chain.at(2 / 3), d)
    torch.testing.assert_close(chain.at(0.5), (c + d) / 2)
    torch.testing.assert_close(chain.at(0.1), a + 0.3 * (c - a))


@pytest.mark.parametrize(("kind", "bends"), [("bezier", 2), ("chain", 2)])
def test_an_update_is_a_step_along_the_gradient_by_the_bends_with_the_penalty(kind, bends):
    problem = GivenLoss([0.0, 0.0], ring)
    a = torch.tensor([1.0, 0.2], dtype=torch.float64)
    b = torch.tensor([-0.7, 0.9], dtype=torch.float64)
    trained = train_curve(
        problem, a, b, kind=kind, bends=bends, epochs=1, rate=0.5, weight_decay=0.3,
        perturbation=0.0, seed=4,
    )  # fmt: skip
    source = generator(4, "curve")
    torch.randperm(2, generator=source)
    t = float(torch.rand((), generator=source, dtype=torch.float64))
    points = [torch.lerp(a, b, k / 3).requires_grad_() for k in range(4)]
    theta = _at(kind, points, t)
    (ring(theta) + 0.15 * theta.square().sum()).backward()
    for k in (1, 2):
        slope = torch.zeros(2) if points[k].grad is None else points[k].grad
        expected = points[k].detach() - 0.5 * 0.01 * slope
        torch.testing.assert_close(trained.points[k], expected)
    assert torch.equal(trained.points[0], a)
    assert torch.equal(trained.points[3], b)


def _at(kind, points, t):
    """A cubic Bézier curve by de Casteljau's algorithm; a chain of three by its piece."""
    if kind == "chain":
        piece = min(2, int(3 * t))
        return torch.lerp(points[piece], points[piece + 1], 3 * t - piece)
    while len(points) > 1:
        points = [torch.lerp(p, q, t) for p, q in pairwise(points)]
    return points[0]


def test_the_rate_falls_as_published():
    found = [_schedule(done) for done in (0.02, 0.5, 0.7, 0.9, 1.0)]
    assert found == pytest.approx([1.0, 1.0, 0.505, 0.01, 0.01])


def test_epochs_make_a_thousand_updates_on_small_data_unless_given():
    problem = GivenLoss([1.0], lambda theta: theta.square().sum())
    a, b = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    assert train_curve(problem, a, b, rate=1e-3).epochs == 1000
    assert train_curve(problem, a, b, rate=1e-3, batch=1).epochs == 500
    events = []
    curve = train_curve(problem, a, b, epochs=3, listen=events.append)
    assert curve.epochs == curve.gradients == 3
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]


def test_the_same_seed_gives_the_same_curve_and_another_seed_another():
    problem = normalised()
    a, b = two(problem)
    bends = [train_curve(problem, a, b, epochs=3, batch=5, seed=s).points[1] for s in (1, 1, 2)]
    assert torch.equal(bends[0], bends[1])
    assert not torch.equal(bends[0], bends[2])


def test_random_bends_are_new_networks_and_linear_ones_lie_near_the_line():
    problem = normalised()
    a, b = two(problem)
    settings = {"epochs": 1, "rate": 1e-12, "bends": 1}
    linear = train_curve(problem, a, b, **settings).points[1]
    distance = torch.linalg.norm(linear - (a + b) / 2) / torch.linalg.norm(b - a)
    assert float(distance) == pytest.approx(1e-3, rel=1e-3)
    fresh = problem.tensors(train_curve(problem, a, b, init="random", **settings).points[1])
    assert float(fresh["0.bias"].abs().max()) < 1e-6
    assert 0.0 <= float(fresh["1.weight"].min()) < float(fresh["1.weight"].max()) < 1.0
    assert float(fresh["0.weight"].std()) == pytest.approx((2 / 11) ** 0.5, rel=0.4)


def test_training_leaves_network_statistics_mode_and_count_as_they_were():
    problem = normalised()
    a, b = two(problem)
    before = state(problem)
    curve = train_curve(problem, a, b, epochs=2, batch=8)  # 17 examples: the last batch has one
    assert unchanged(problem, before)
    assert curve.gradients == 2
    assert torch.isfinite(curve.points[1]).all()


def test_a_training_that_diverges_says_so_and_leaves_no_trace():
    problem = GivenLoss([1.0], lambda theta: theta.pow(4).sum())
    a, b = torch.tensor([[-1.0], [2.0]], dtype=torch.float64)
    before = state(problem)
    with pytest.raises(EngineError, match=r"diverged at epoch \d+ .* lower --rate"):
        train_curve(problem, a, b, rate=1e3, epochs=50)
    assert unchanged(problem, before)


def test_a_training_that_is_cancelled_leaves_no_trace():
    problem = normalised()
    asked = iter([False] * 7 + [True])
    problem.cancelled = lambda: next(asked)
    before = state(problem)
    with pytest.raises(Cancelled):
        train_curve(problem, *two(problem), epochs=50, batch=5)
    assert unchanged(problem, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bends": 0}, "1 to 20 bends"),
        ({"bends": 21}, "1 to 20 bends"),
        ({"epochs": 0}, "1 epoch"),
        ({"batch": 0}, "batches of 1"),
        ({"rate": 0.0}, "rate must be above 0"),
        ({"rate": float("nan")}, "rate must be above 0"),
        ({"weight_decay": -1.0}, "0 or more"),
        ({"weight_decay": float("nan")}, "0 or more"),
        ({"kind": "arc"}, "bezier or chain"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    problem = GivenLoss([1.0, 2.0], ring)
    with pytest.raises(EngineError, match=message):
        train_curve(problem, problem.theta, -problem.theta, **settings)
