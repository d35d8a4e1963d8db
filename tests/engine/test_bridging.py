"""Paths between two points of a level set: on known surfaces, and between trained networks."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lsshell.engine import Engine, EngineError
from lsshell.engine.bridging import BridgeRequest, NoPath, String, connect, great_circle
from lsshell.engine.checkpoints import read_checkpoint
from lsshell.engine.events import Stepped
from lsshell.engine.levelset import LevelSet
from lsshell.engine.vectors import norm
from tests.engine.small import GivenLoss


def sphere(x):
    return (x * x).sum()


def ovals(x):
    """Below level 1 two separate regions, around (−1, 0, 0) and (1, 0, 0)."""
    return (x[0] ** 2 - 1) ** 2 + x[1] ** 2 + x[2] ** 2


def at(*x):
    return torch.tensor(x, dtype=torch.float64)


def test_the_path_on_a_sphere_is_the_great_arc_in_even_steps():
    problem, level_set = GivenLoss([1.0, 0, 0], sphere), LevelSet(1.0, 1e-3)
    a, b = at(1, 0, 0), at(math.cos(2), math.sin(2), 0)
    found = connect(problem, level_set, a, b)
    assert found.length == pytest.approx(2.0, rel=1e-3)
    assert found.evenness < 1.01
    assert torch.equal(found.points[0], a)
    assert torch.equal(found.points[-1], b)
    assert all(level_set.contains(problem.loss(x)) for x in found.points)
    middles = [problem.loss((x + y) / 2) for x, y in pairwise(found.points)]
    assert max(abs(m - 1) / 1e-3 for m in middles) == pytest.approx(found.between)
    assert found.between <= 1.0


def test_a_crooked_string_is_straightened():
    problem, level_set = GivenLoss([1.0, 0, 0], sphere), LevelSet(1.0, 0.05)
    a, b = at(1, 0, 0), at(0, 1, 0)
    before = great_circle(a, b, 8)
    crooked = [a, *(x + at(0, 0, 0.3 * (-1) ** k) for k, x in enumerate(before[1:-1])), b]
    string = String(problem, level_set, crooked, 100, 10_000)
    lengths = [string.length]
    for _ in range(30):
        string.sweep()
        lengths.append(string.length)
    assert all(b <= a * (1 + 1e-3) for a, b in pairwise(lengths))
    assert lengths[0] > 1.5 * math.pi / 2
    assert lengths[-1] == pytest.approx(math.pi / 2, rel=0.02)


def test_between_two_components_there_is_no_path_and_it_says_where():
    problem, level_set = GivenLoss([1.0, 0, 0], ovals), LevelSet(0.25, 0.0025)
    a, b = at(-math.sqrt(1.5), 0, 0), at(1, 0.5, 0)
    with pytest.raises(NoPath, match=r"17 points are not enough; .* tolerances off"):
        connect(problem, level_set, a, b, points=17)
    with pytest.raises(NoPath, match="30 gradients are spent"):
        connect(problem, level_set, a, b, budget=30)


def test_the_great_circle_between_points_far_apart_keeps_their_length():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(50, generator=g), 2 * torch.randn(50, generator=g)
    points = great_circle(a, b, 10)
    for k, x in enumerate(points):
        assert norm(x) == pytest.approx((1 - k / 10) * norm(a) + k / 10 * norm(b), rel=1e-4)
    cosines = [float(x @ y) / norm(x) / norm(y) for x, y in pairwise(points)]
    assert max(cosines) == pytest.approx(min(cosines), abs=1e-5)
    line = great_circle(a, -a, 4)
    assert torch.allclose(line[1], a / 2)


LEVEL = 0.05


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """Two networks of different seeds on the irises, on one level: `first` and a checkpoint."""
    engine = Engine()
    engine.events = []
    engine.listen = engine.events.append
    engine.load_data("iris", "iris", None)
    engine.folder = tmp_path_factory.mktemp("bridging")
    for seed in (2, 1):
        engine.seed = seed
        engine.build_model(["mlp", "4-8-3"], None, {})
        engine.train(epochs=60, rate=1e-2, batch=32)
        engine.new_branch("first")
        engine.fix_level(LEVEL, None)
        if seed == 2:
            engine.save(engine.folder / "second.safetensors")
    return engine


def test_two_trained_networks_are_joined_by_a_path_on_their_level_set(engine):
    engine.events.clear()
    file = engine.folder / "second.safetensors"
    result = engine.bridge(BridgeRequest("first", file, measure=4))
    points = [e.point for e in engine.events if isinstance(e, Stepped)]
    assert len(points) == result.steps
    assert {p.branch for p in points} == {"bridge"}
    assert all(p.kept and abs(p.loss - LEVEL) <= p.tolerance == 0.01 * LEVEL for p in points)
    thetas = [engine.problem.flat(engine.path.store.get(p.index)) for p in (result.start, *points)]
    middles = [engine.problem.loss((x + y) / 2) for x, y in pairwise(thetas)]
    assert max(abs(m - LEVEL) for m in middles) <= 0.01 * LEVEL
    assert result.between == pytest.approx(max(abs(m - LEVEL) for m in middles) / (0.01 * LEVEL))
    assert result.at_points == max(abs(p.residual) for p in (result.start, *points))
    assert points[-1].length == pytest.approx(result.length)
    assert result.straight <= result.length < 1.3 * result.straight
    assert result.end.gradients - result.start.gradients == result.gradients
    assert torch.equal(engine.theta, engine.problem.flat(read_checkpoint(file).tensors))


def state(engine):
    return (
        engine.path.here,
        len(engine.path),
        engine.path.branch,
        engine.theta_hash(),
        engine.problem.gradients,
        engine.level_set,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"b": "first"}, "same point"),
        ({"a": "nowhere"}, "no branch"),
        ({"b": Path("nowhere.pt")}, "no file"),
        ({"points": 2}, "--points"),
        ({"budget": 0}, "--budget"),
        ({"budget": 20}, "no path was found"),
        ({"a": "main"}, "on no level set"),
    ],
)
def test_what_cannot_be_joined_is_said_and_changes_nothing(engine, changes, said):
    before = state(engine)
    asked = {"a": "first", "b": engine.folder / "second.safetensors", **changes}
    with pytest.raises(EngineError, match=said):
        engine.bridge(BridgeRequest(**asked))
    assert state(engine) == before


def test_a_point_of_another_level_is_refused_with_what_to_do(engine):
    engine.goto("first")
    engine.new_branch("other")
    engine.fix_level(2 * LEVEL, None)
    before = state(engine)
    with pytest.raises(EngineError, match=r"bring it there first, `level 0.05`"):
        engine.bridge(BridgeRequest("first", "other"))
    assert state(engine) == before
