"""Many walkers: as one batch they go where they go alone, each on the level set, each downhill."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from lsshell.engine import Engine, EngineError, WalkRequest
from lsshell.engine.events import Stepped
from lsshell.engine.levelset import LevelSet
from lsshell.engine.networks import build_network
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers import REGULARIZERS, WeightedSum, make_regularizer
from lsshell.engine.stacked.gradient import centres, margins
from lsshell.engine.stacked.positions import Stack
from lsshell.engine.stacked.problem import StackedProblem, why_not_stacked
from lsshell.engine.steppers import Terrain
from lsshell.engine.steppers.tangent_descent import CORRECTED, Attempt, TangentDescent
from lsshell.engine.vectors import norm
from lsshell.engine.walkers import WalkersRequest, walk_many
from tests.engine.small import GivenLoss, blobs, images, regression

CHEAP = [name for name, kind in REGULARIZERS.items() if kind.cheap]


@pytest.fixture(scope="module")
def start():
    """A small network on the irises, trained once."""
    engine = Engine()
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-8-8-3"], None, {})
    engine.train(epochs=10, rate=1e-2, batch=32)
    return {k: v.clone() for k, v in engine.path.store.get(engine.path.here.index).items()}


def at_start(start, on="l2", dtype="float64"):
    engine = Engine()
    engine.use_dtype(dtype)
    engine.events = []
    engine.listen = engine.events.append
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-8-8-3"], None, {})
    engine.theta = engine.problem.restore(start).to(engine.problem.dtype)
    engine.fix_level(None, None)
    if on:
        engine.switch(on, None, {})
    return engine


def many(engine, runs=1, *, each=(), batched=True, method="gradient", seed=None, **walk):
    request = WalkRequest(method=method, **{"steps": 8, "record": 1, **walk})
    return walk_many(engine, WalkersRequest(request, runs, each, seed=seed, batched=batched))


def thetas(engine, branch):
    """θ of a branch's recorded points, in order."""
    points = engine.path.branches()[branch]
    return [engine.problem.flat(engine.path.store.get(p.index)) for p in points]


# -- stacked after -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "network"),
    [(blobs(), "mlp 5-6-3"), (regression(), "mlp 3-4-1"), (images(size=9), "cnn 2-d5")],
)
@pytest.mark.parametrize("chunk", [None, 4])
def test_a_stack_has_the_losses_and_gradients_of_its_rows(data, network, chunk):
    problem = Problem(
        build_network(network.split(), data, seed=1), data, dtype=torch.float64, chunk=chunk
    )
    generator = torch.Generator().manual_seed(0)
    stack = problem.theta + 0.3 * torch.randn(5, problem.p, generator=generator).double()
    losses, gradients = StackedProblem(problem, 5).losses_and_gradients(stack)
    assert problem.gradients == 5
    for theta, loss, gradient in zip(stack, losses, gradients, strict=True):
        expected, slope = problem.loss_and_gradient(theta)
        assert float(loss) == pytest.approx(expected, rel=1e-12)
        torch.testing.assert_close(gradient, slope, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("weight", [1.0, -0.3])
def test_a_stack_has_the_regularisers_of_its_rows(name, weight):
    data = blobs()
    problem = Problem(build_network(["mlp", "5-6-3"], data, seed=1), data, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    stack = problem.theta + 0.3 * torch.randn(3, problem.p, generator=generator).double()
    total = WeightedSum()
    total.terms["l2"] = (make_regularizer("l2", problem, problem.theta), 0.5)
    total.terms[f"other {name}"] = (make_regularizer(name, problem, problem.theta), weight)
    slopes, slope = torch.empty_like(stack), torch.empty_like(stack[0])
    values = total.values_and_gradients(stack, slopes)
    for k, theta in enumerate(stack):
        assert float(values[k]) == pytest.approx(total.value_and_gradient(theta, slope), rel=1e-12)
        torch.testing.assert_close(slopes[k], slope, rtol=1e-12, atol=1e-15)


class Deciding(nn.Module):
    """Its forward pass looks at the numbers, as no batched one can."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return self.layer(x) if float(self.layer.weight.sum()) < 1e9 else x


def test_networks_that_cannot_be_stacked_are_known():
    data = blobs()
    plain = Problem(build_network(["mlp", "5-6-3"], data, seed=1), data)
    assert why_not_stacked(plain, plain.theta) is None
    deciding = Problem(Deciding(), data)
    assert "vmap" in why_not_stacked(deciding, deciding.theta)
    assert deciding.gradients == 0


def test_where_and_how_well_rows_are_centred_is_as_for_one():
    values = torch.tensor([1e-9, 1e-4, 0.3], dtype=torch.float64)
    grid = torch.cartesian_prod(torch.tensor([-2.0, 0.0, 50.0]), values.float(), values.float())
    multipliers, decrease, shares = grid.double().numpy().T
    level_set = LevelSet(0.7, 0.1)
    losses = level_set.level + level_set.tolerance * np.where(shares > 0.1, -1, 1) * shares
    k, sides = len(grid), torch.eye(2, dtype=torch.float64)
    stack = Stack.at(
        sides[:1].repeat(k, 1), losses, sides[:1].repeat(k, 1), losses, sides[1:].repeat(k, 1)
    )
    stack.multipliers = multipliers
    terrain = Terrain(None, level_set, None, 1.0, None)
    aims = centres(level_set, stack, np.arange(k), decrease)
    within = margins(level_set, stack, np.arange(k), decrease)
    for row in range(k):
        here = stack.position(row)
        nu = here.split.multiplier
        aim = TangentDescent._aim(terrain, here, decrease[row], nu)
        assert aims[row] == pytest.approx(aim, rel=1e-14)
        attempt = Attempt(here, 1.0, decrease[row], aim, None, 1.0, nu)
        expected = TangentDescent._within(terrain, attempt, CORRECTED)
        assert within[row] == pytest.approx(expected, rel=1e-14)
    assert len(set(aims)) > 3
    assert len(set(within)) > 3


# -- walks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("walk", [{}, {"ascend": True}, {"until_angle": 115.0, "steps": 12}])
def test_as_one_batch_walkers_go_where_they_go_alone(start, walk):
    found = {}
    for batched in (True, False):
        engine = at_start(start)
        result = many(engine, 4, batched=batched, **walk)
        assert result.batched is batched
        found[batched] = engine, result
    (together, one), (alone, other) = found[True], found[False]
    assert [w.branch for w in one.walkers] == [f"main-w{k}" for k in range(1, 5)]
    for mine, theirs in zip(one.walkers, other.walkers, strict=True):
        assert (mine.branch, mine.steps, mine.refused) == (
            theirs.branch, theirs.steps, theirs.refused,
        )  # fmt: skip
        assert mine.end.gradients == theirs.end.gradients
        assert mine.end.angle_deg == pytest.approx(theirs.end.angle_deg, rel=1e-6)
        assert mine.end.length == pytest.approx(theirs.end.length, rel=1e-6)
        assert mine.end.distance == pytest.approx(theirs.end.distance, rel=1e-6)
        assert mine.end.test_loss == pytest.approx(theirs.end.test_loss, rel=1e-6)
        pairs = zip(thetas(together, mine.branch), thetas(alone, mine.branch), strict=True)
        for here, there in pairs:
            assert norm(here - there) <= 1e-6 * norm(there)


def test_walkers_of_one_regulariser_each_go_where_they_go_alone(start):
    each = ("l2", "l1", "group", "spectral")
    found = []
    for batched in (True, False):
        engine = at_start(start, on=None)
        result = many(engine, each=each, batched=batched, steps=4)
        assert not engine.sum.terms
        assert [(w.branch, w.descends) for w in result.walkers] == [(n, (n,)) for n in each]
        found.append([w.end for w in result.walkers])
    for name, mine, theirs in zip(each, *found, strict=True):
        assert mine.regularizers[name] == pytest.approx(theirs.regularizers[name], rel=1e-6)
        assert mine.regularizers[name] == min(e.regularizers[name] for e in found[0])


@pytest.mark.parametrize("method", ["gradient", "quasi-newton"])
def test_each_walker_stays_on_the_level_set_and_descends(start, method):
    engine = at_start(start, dtype="float32")
    fork = engine.path.here
    batched = None if method == "quasi-newton" else True
    result = many(engine, 4, batched=batched, method=method, steps=15, measure=5)
    assert engine.path.here is fork
    assert result.recorded == sum(w.steps for w in result.walkers) + 3
    for walker in result.walkers:
        points = engine.path.branches()[walker.branch]
        assert points[0].parent == fork.index
        assert all(abs(p.loss - p.level) <= p.tolerance for p in points)
        values = [p.regularizers["l2"] for p in points]
        assert len(values) >= 15
        assert all(after < before for before, after in pairwise(values))
        assert points[-1].kept
        assert points[-1].test_loss is not None
        assert points[-1].gradients > points[0].gradients > fork.gradients
        engine.goto(walker.branch)
        assert engine.problem.loss(engine.theta) == pytest.approx(points[-1].loss, rel=1e-6)
    assert {p.branch for p in engine.path.traversal()} >= {w.branch for w in result.walkers}


def test_the_first_sets_out_from_here_and_the_others_at_the_spread(start):
    engine = at_start(start)
    here = engine.theta.clone()
    request = WalkersRequest(WalkRequest("gradient", 2, record=1), 4, spread=0.1, batched=True)
    walk_many(engine, request)
    first = thetas(engine, "main-w1")[0]
    assert norm(first - here) <= 0.002 * norm(here)  # one step, of the first cap
    for k in (2, 3, 4):
        displaced = thetas(engine, f"main-w{k}")[0]
        assert norm(displaced - here) == pytest.approx(0.1 * norm(here), rel=0.3)
    assert norm(thetas(engine, "main-w2")[0] - thetas(engine, "main-w3")[0]) > 0.05 * norm(here)


def test_the_seed_alone_decides_the_displacements(start):
    found = []
    for seed in (None, 0, 7):
        engine = at_start(start)
        many(engine, 3, seed=seed)
        found.append(thetas(engine, "main-w3")[-1])
    assert torch.equal(found[0], found[1])  # the session's seed is 0
    assert not torch.allclose(found[0], found[2])


def test_branches_that_are_there_are_left_alone(start):
    engine = at_start(start)
    many(engine, 2, steps=2)
    many(engine, 2, steps=2)
    many(engine, each=("l2",), steps=2)
    many(engine, each=("l2",), steps=2)
    engine.new_branch("other")
    many(engine, 1, steps=2)
    engine.goto("main-w2")
    many(engine, 1, steps=2)
    names = ["main", "main-w1", "main-w2", "main-w3", "main-w4", "l2", "l2-2", "other-w1"]
    assert sorted(engine.path.branches()) == sorted([*names, "main-w2-w1"])


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("after", [0, 25])
def test_walkers_that_are_stopped_end_at_valid_points(start, batched, after):
    engine = at_start(start)
    left = after

    def stop(event):
        nonlocal left
        left -= isinstance(event, Stepped)
        if left <= 0:
            engine.cancel.set()

    engine.listen = stop
    result = many(engine, 4, batched=batched, steps=1000)
    assert result.reason == "interrupted"
    engine.cancel.clear()
    assert result.recorded >= 1
    recorded = [p for p in engine.path.traversal() if p.kind == "step"]
    assert len(recorded) == result.recorded
    for walker in result.walkers:
        assert walker.end.kept
        engine.goto(walker.branch)
        assert engine.level_set.contains(engine.problem.loss(engine.theta))
    engine.walk(WalkRequest("gradient", 1))


def test_a_walk_that_is_cut_records_the_same_points(start):
    for batched in (True, False):
        engines = []
        for cut in (None, 2, 11):
            engine = at_start(start)
            result = many(engine, 4, batched=batched, steps=3, stop_after=cut)
            assert result.recorded == (cut or 15)
            engines.append((cut, engine))
        _, whole = engines[0]
        for cut, engine in engines[1:]:
            same = [p for p in whole.path.points.values() if p.kind == "step"][:cut]
            found = [p for p in engine.path.points.values() if p.kind == "step"]
            assert [(p.branch, p.loss) for p in same] == [(p.branch, p.loss) for p in found]
            for point in found:
                mine, theirs = (e.path.store.get(point.index) for e in (engine, whole))
                assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_small_problems_of_many_walkers_are_batched_by_themselves(start):
    engine = at_start(start)
    assert many(engine, 8, batched=None, steps=1).batched
    few = many(engine, 2, batched=None, steps=1)
    assert not few.batched
    assert "fewer than" in few.execution
    other = many(engine, 8, batched=None, method="quasi-newton", steps=1)
    assert "no batched form" in other.execution


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"runs": 0}, "--runs"),
        ({"runs": 2, "each": ("l2", "l1")}, "do not go together"),
        ({"each": ("l2", "l2")}, "once"),
        ({"each": ("l3",)}, "no regulariser l3"),
        ({"runs": 2, "seconds": 3.0}, "--seconds"),
        ({"runs": 2, "steps": -1}, "--steps"),
        ({"runs": 2, "method": "quasi-newton"}, "--batched yes"),
        ({"runs": 2, "until": {"l2": 1.0}}, "--until"),
        ({"each": ("l2", "jacobian")}, "passes over the data"),
    ],
)
def test_a_request_that_cannot_be_met_changes_nothing(start, wrong, words):
    engine = at_start(start)
    before, here = len(engine.path), engine.path.here
    with pytest.raises(EngineError, match=words):
        many(engine, **wrong)
    assert (len(engine.path), engine.path.here) == (before, here)
    assert list(engine.sum.terms) == ["l2"]


def test_a_start_that_does_not_come_to_the_level_is_said(start):
    engine = at_start(start)
    before = len(engine.path)
    request = WalkersRequest(WalkRequest("gradient", 2), 2, spread=1e9)
    with pytest.raises(EngineError, match="smaller --spread"):
        walk_many(engine, request)
    assert len(engine.path) == before


def given(function, theta, tolerance):
    """An engine on a loss that is any function of θ, at a point of it."""
    problem = GivenLoss(theta, function)
    engine = Engine()
    engine.data, engine.dtype = problem.data, "float64"
    engine.problem, engine.theta = problem, problem.theta.clone()
    engine.fix_level(None, tolerance)
    return engine


@pytest.mark.parametrize("tolerance", [1e-3, 0.5])
def test_halvings_and_corrections_are_those_of_each_walker_alone(tolerance):
    # A bent valley, under a narrow and a wide tolerance: steps are refused, corrected, re-aimed.
    def loss(theta):
        x, y, z = theta
        return 1.0 + 10.0 * (y - x.square()).square() + (3.0 * z).cosh() + x.square()

    found = []
    for batched in (True, False):
        engine = given(loss, [1.5, 2.0, 0.7], tolerance)
        engine.switch("distance", None, {"reference": torch.tensor([-1.0, 3.0, -2.0]).double()})
        request = WalkRequest("gradient", 40, record=1)
        result = walk_many(engine, WalkersRequest(request, 4, spread=0.3, batched=batched))
        found.append((engine, result.walkers))
    (together, mine), (alone, theirs) = found
    assert sum(w.refused for w in theirs) > 0
    for one, other in zip(mine, theirs, strict=True):
        assert (one.steps, one.refused, one.reason) == (other.steps, other.refused, other.reason)
        assert one.end.gradients == other.end.gradients
        pairs = zip(thetas(together, one.branch), thetas(alone, one.branch), strict=True)
        assert all(norm(a - b) <= 1e-6 * norm(b) for a, b in pairs)


def test_on_a_sphere_all_walkers_come_to_the_same_pole():
    # L = ‖θ‖² = 1 and R = ‖θ − a‖²: the constrained minimum is a/‖a‖.
    a = torch.tensor([3.0, -1.0, 2.0, 0.5], dtype=torch.float64)
    engine = given(lambda theta: theta.square().sum(), [1.0, 0.0, 0.0, 0.0], 1e-6)
    engine.switch("distance", None, {"reference": a})
    result = many(engine, 6, steps=400, record=400)
    assert result.batched
    for walker in result.walkers:
        assert walker.steps < 400
        engine.goto(walker.branch)
        np.testing.assert_allclose(engine.theta, a / norm(a), atol=1e-3)


def test_of_one_parameter_no_start_can_be_displaced():
    problem = GivenLoss([3.0], lambda t: t.square().sum())
    engine = Engine()
    engine.data = problem.data
    engine._adopt(problem, problem.theta.clone())
    engine.switch("l2", None, {})
    with pytest.raises(EngineError, match="one parameter"):
        many(engine, 2, batched=False)
    assert not engine.path.points
