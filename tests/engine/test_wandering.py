"""Geodesics and random walks against level sets whose geometry is known."""

import math

import pytest
import torch

from lsshell.engine import Engine, EngineError, wandering
from lsshell.engine.events import Refused, Stepped
from lsshell.engine.levelset import LevelSet
from lsshell.engine.regularizers import WeightedSum
from lsshell.engine.seeds import generator
from lsshell.engine.steppers import Terrain
from lsshell.engine.wandering import Geodesic, RandomWalk, WanderRequest, drop

TOLERANCE = 1e-8


class Surface:
    """A loss in closed form: all of a problem that wandering needs, at a hundredth of its cost."""

    def __init__(self, loss, gradient):
        self.loss, self.gradient = loss, gradient

    def loss_and_gradient(self, theta):
        return float(self.loss(theta)), self.gradient(theta)


def quadric(*weights):
    """Σ a x²."""
    a = torch.tensor(weights, dtype=torch.float64)
    return Surface(lambda x: (a * x * x).sum(), lambda x: 2 * a * x)


def torus(big):
    """(R − √(x² + y²))² + z²: its level r² is the torus of radii R and r."""

    def gradient(x):
        rho = torch.hypot(x[0], x[1])
        across = -2 * (big - rho) / rho
        return torch.stack([across * x[0], across * x[1], 2 * x[2]])

    return Surface(lambda x: (big - torch.hypot(x[0], x[1])) ** 2 + x[2] ** 2, gradient)


def terrain_at(surface, x, level):
    terrain = Terrain(surface, LevelSet(level, TOLERANCE), WeightedSum(), 1.0, lambda event: None)
    theta = torch.tensor(x, dtype=torch.float64)
    return terrain, terrain.at(theta, *surface.loss_and_gradient(theta))


def geodesic(surface, x, level, length, direction=None):
    """Points (T, p), unit tangents (T, p) and arc lengths of a geodesic."""
    terrain, here = terrain_at(surface, x, level)
    direction = None if direction is None else torch.tensor(direction, dtype=torch.float64)
    wanderer = Geodesic(terrain, here, generator(0, "test"), direction, 1.0, length)
    points, tangents, lengths = [here.theta], [wanderer.v], [0.0]
    while wanderer.finished() is None:
        found = wanderer.step(here)
        here = terrain.at(found.theta, found.loss, found.gradient)
        assert abs(found.loss - level) <= TOLERANCE
        points.append(here.theta)
        tangents.append(wanderer.v)
        lengths.append(wanderer.length)
    return torch.stack(points), torch.stack(tangents), lengths


def random_walk(surface, x, level, steps, proposal):
    """Points (T, p) of a chain with proposals of a fixed size."""
    terrain, here = terrain_at(surface, x, level)
    wanderer = RandomWalk(terrain, generator(0, "test"), proposal, proposal, steps)
    points = []
    for _ in range(steps):
        found = wanderer.step(here)
        here = terrain.at(found.theta, found.loss, found.gradient)
        points.append(here.theta)
    assert 0 < wanderer.refused < 0.8 * steps
    return torch.stack(points)


def test_the_geodesic_of_a_sphere_is_a_great_circle_that_closes_after_two_pi():
    points, tangents, _ = geodesic(quadric(1, 1, 1, 1), [1.0, 0, 0, 0], 1.0, 2 * math.pi)
    assert torch.dist(points[-1], points[0]) < 1e-3
    plane = torch.stack([points[0], tangents[0]])
    assert (points - points @ plane.T @ plane).abs().max() < 1e-7
    across = points[len(points) // 2]
    assert across @ points[0] < -0.95


def test_the_geodesic_of_a_cylinder_is_a_helix():
    points, _, lengths = geodesic(quadric(1, 1, 0), [1.0, 0, 0], 1.0, 10.0, [0, 0.6, 0.8])
    lengths = torch.tensor(lengths, dtype=torch.float64)
    turned = torch.atan2(points[:, 1], points[:, 0])
    exact = torch.remainder(0.6 * lengths + math.pi, 2 * math.pi) - math.pi
    assert (points[:, 2] - 0.8 * lengths).abs().max() < 0.02
    assert torch.cos(turned - exact).min() > math.cos(0.03)


def joachimsthal(weights, points, tangents):
    """(v·Av)(x·A²x), constant along a geodesic of the ellipsoid x·Ax = 1."""
    a = torch.tensor(weights, dtype=torch.float64)
    return (a * tangents**2).sum(1) * (a**2 * points**2).sum(1)


def test_the_geodesic_of_an_ellipsoid_keeps_its_invariant_to_second_order(monkeypatch):
    drift = {}
    for turn in (0.1, 0.05):
        monkeypatch.setattr(wandering, "TURN", turn)
        points, tangents, _ = geodesic(quadric(1, 4, 9), [1.0, 0, 0], 1.0, 6.0)
        kept = joachimsthal((1, 4, 9), points, tangents)
        drift[turn] = float((kept / kept[0] - 1).abs().max())
    assert drift[0.1] < 0.02
    assert drift[0.05] < 0.4 * drift[0.1]


def test_steps_are_shorter_where_the_level_set_turns_more():
    points, _, _ = geodesic(quadric(1, 100), [1.0, 0.0], 1.0, 3.5, [0.0, 1.0])
    chords = (points[1:] - points[:-1]).norm(dim=1)
    blunt = points[1:, 0].abs() < 0.5
    assert chords[blunt].mean() > 3 * chords[~blunt].mean()


def test_the_random_walk_is_uniform_on_a_sphere():
    points = random_walk(quadric(1, 1, 1), [1.0, 0, 0], 1.0, 1500, 1.2)
    assert points.mean(0).abs().max() < 0.1
    # Archimedes: each coordinate is uniform on [−1, 1].
    ranks = points[:, 2].sort().values
    uniform = torch.linspace(-1, 1, len(ranks), dtype=torch.float64)
    assert (ranks - uniform).abs().max() < 0.15
    assert torch.allclose((points**2).mean(0), torch.full((3,), 1 / 3).double(), atol=0.04)


def test_the_random_walk_is_uniform_by_arc_length_on_an_ellipse():
    points = random_walk(quadric(1, 9), [1.0, 0.0], 1.0, 2500, 0.6)
    t = torch.linspace(0, 2 * math.pi, 10_001, dtype=torch.float64)[:-1]
    speed = torch.sqrt(torch.sin(t) ** 2 + torch.cos(t) ** 2 / 9)
    exact = float((speed * torch.cos(t) ** 2).sum() / speed.sum())
    # Under the weight 1/‖∇L‖ it would be 0.5.
    assert exact < 0.4
    assert float((points[:, 0] ** 2).mean()) == pytest.approx(exact, abs=0.03)


def test_the_random_walk_has_the_surface_measure_of_a_torus():
    points = random_walk(torus(1.0), [1.5, 0.0, 0.0], 0.25, 2500, 0.8)
    cosine = (torch.hypot(points[:, 0], points[:, 1]) - 1.0) / 0.5
    assert float(cosine.mean()) == pytest.approx(0.25, abs=0.08)  # r/(2R)


def test_a_line_that_misses_the_level_set_or_meets_its_far_side_is_no_step():
    sphere, level_set = quadric(1, 1), LevelSet(1.0, TOLERANCE)
    normal = torch.tensor([1.0, 0.0], dtype=torch.float64)
    beside = torch.tensor([1.0, 1.5], dtype=torch.float64)
    assert drop(sphere, level_set, beside, normal, within=TOLERANCE) is None
    behind = torch.tensor([-1.2, 0.3], dtype=torch.float64)
    assert drop(sphere, level_set, behind, normal, within=TOLERANCE) is None
    near = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = drop(sphere, level_set, near, normal, within=TOLERANCE)
    assert float(found.theta[0]) == pytest.approx(math.sqrt(0.75), abs=1e-7)


@pytest.fixture(scope="module")
def start():
    engine = Engine()
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-8-3"], None, {})
    engine.train(epochs=40, rate=1e-2, batch=32)
    engine.fix_level(None, None)
    return engine.problem_theta().clone()


@pytest.fixture
def engine(start):
    engine = Engine()
    engine.events = []
    engine.listen = engine.events.append
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-8-3"], None, {})
    engine.theta = start.clone()
    return engine


@pytest.mark.parametrize("kind", ["geodesic", "random"])
def test_every_point_recorded_is_on_the_level_set_and_the_path(engine, kind):
    result = engine.wander(WanderRequest(kind, steps=40, measure=10, record=5))
    points = [e.point for e in engine.events if isinstance(e, Stepped)]
    assert len(points) == result.steps == 40
    assert all(abs(p.loss - p.level) <= p.tolerance for p in points)
    assert all(p.kept == (p.step % 5 == 0) for p in points)
    assert all((p.test_loss is not None) == (p.step % 10 == 0) for p in points)
    assert all(p.angle_deg is None and p.implied_weight_decay is None for p in points)
    assert result.end.length == pytest.approx(result.length, rel=0.01)
    stored = engine.problem.flat(engine.path.store.get(result.end.index))
    assert torch.equal(stored, engine.theta)
    assert engine.principal_coordinates().coordinates.shape[0] > 2
    if kind == "random":
        refused = [e for e in engine.events if isinstance(e, Refused)]
        stayed = sum(p.rate == 0.0 for p in points)
        assert stayed == len(refused) == result.refused


@pytest.mark.parametrize("kind", ["geodesic", "random"])
def test_the_seed_decides_where_it_goes(engine, start, kind):
    ends = []
    for seed in (1, 1, 2):
        engine.theta = start.clone()
        engine.fix_level(None, None)
        ends.append(engine.wander(WanderRequest(kind, steps=15, seed=seed)).theta)
    assert ends[0] == ends[1] != ends[2]


def test_a_geodesic_away_from_the_start_leaves_it_behind(engine):
    engine.wander(WanderRequest(length=2.0))
    before = engine.path.here.distance
    end = engine.wander(WanderRequest(length=1.0, direction="away")).end
    assert end.distance > before + 0.8


def test_regularisers_that_are_on_are_recorded_and_cost_nothing(engine):
    plain = engine.wander(WanderRequest(steps=10, seed=3))
    engine.goto("start")
    engine.switch("l2", None, {})
    engine.switch("jacobian", None, {})
    seen = engine.wander(WanderRequest(steps=10, seed=3))
    assert seen.theta == plain.theta
    first, second = (line[-10:] for line in engine.path.branches().values())
    spent = [[p.gradients - line[0].gradients for p in line] for line in (first, second)]
    assert spent[0] == spent[1]
    assert seen.end.angle_deg is not None
    assert seen.end.regularizers["jacobian"] > 0


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (WanderRequest("straight"), "no kind"),
        (WanderRequest(steps=0), "--steps"),
        (WanderRequest(length=math.nan), "--length"),
        (WanderRequest(record=-1), "--record"),
        (WanderRequest(direction="away"), "start"),
        (WanderRequest("random", direction="away"), "--direction"),
    ],
)
def test_what_cannot_be_wandered_is_said_and_changes_nothing(engine, request_, said):
    with pytest.raises(EngineError, match=said):
        engine.wander(request_)
    assert engine.path.here is None
    assert engine.level_set is None
