"""Directions: lengths of filters, principal axes, projections by least squares."""

import pytest
import torch
from torch import nn

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.directions import (
    cosine,
    point_directions,
    principal_directions,
    project,
    random_direction,
    random_directions,
)
from lsshell.engine.landscape.grid import evaluate, grid
from lsshell.engine.landscape.places import visit
from lsshell.engine.path import Path
from lsshell.engine.problem import Problem
from tests.engine.small import blobs, images, regression


def convolutional():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )
    return Problem(network, images())


def test_every_filter_of_a_random_direction_is_as_long_as_the_weights_own():
    problem = convolutional()
    theta = problem.theta.clone()
    theta[problem.slots[0].offset :][:9] = 0.0  # the first filter
    found = random_directions(problem, theta, 2, seed=5)
    for direction in found:
        for name, tensor in problem.tensors(direction).items():
            own = problem.tensors(theta)[name]
            if own.ndim < 2:
                assert not tensor.any(), name
            else:
                lengths = [t.reshape(len(t), -1).norm(dim=1) for t in (tensor, own)]
                assert torch.allclose(*lengths, rtol=1e-6, atol=0.0)
    assert abs(cosine(found)) < 0.3


def test_a_direction_depends_on_its_number_and_seed_alone():
    problem = convolutional()
    theta = problem.theta.clone()
    three = random_directions(problem, theta, 3, seed=5)
    assert torch.equal(three[:2], random_directions(problem, theta, 2, seed=5))
    assert torch.equal(three[2], random_direction(problem, theta, 2, 5))
    assert not torch.equal(three, random_directions(problem, theta, 3, seed=6))
    with pytest.raises(EngineError, match="all of these are zero"):
        random_directions(problem, torch.zeros_like(theta), 1, seed=5)


def test_a_slice_does_not_see_how_relu_layers_share_their_scale():
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    problem = Problem(network, blobs(), dtype=torch.float64)
    theta = problem.theta.clone()
    scaled = theta.clone()
    problem.tensors(scaled)["0.weight"].mul_(7.0)
    problem.tensors(scaled)["0.bias"].mul_(7.0)
    problem.tensors(scaled)["2.weight"].div_(7.0)
    steps = grid([-1.0, -0.3, 0.0, 0.4, 1.0])
    losses = []
    for at in (theta, scaled):
        with visit(problem):
            direction = random_directions(problem, at, 1, seed=2)
            losses.append(evaluate(problem, at, direction, steps)["train"].loss)
    assert torch.allclose(*losses, rtol=1e-12)
    assert losses[0].max() > 1.1 * losses[0].min()


def planar_path(count=6, p=40):
    """Points o + x·u + y·v, and what turns their tensors into θ."""
    g = torch.Generator().manual_seed(3)
    u, v = torch.linalg.qr(torch.randn(p, 2, generator=g, dtype=torch.float64))[0].T
    origin = torch.randn(p, generator=g, dtype=torch.float64)
    path, places = Path(), [(0.5 * t**1.5, 0.2 * t * (5 - t)) for t in range(count)]
    rows = [origin + x * u + y * v for x, y in places]
    for index, row in enumerate(rows):
        path.store.keep(index, {"theta": row})
    return path, rows, torch.stack([u, v])


class Kept:
    """All that principal directions ask of a point."""

    kept = True

    def __init__(self, index):
        self.index = index


def test_principal_directions_span_the_plane_that_a_path_lies_in():
    path, rows, plane = planar_path()
    points = [Kept(i) for i in range(len(rows))]
    found, shares = principal_directions(path, points, ["theta"], 2)
    assert torch.allclose(found @ found.T, torch.eye(2, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(found @ plane.T @ plane, found, atol=1e-12)
    assert sum(shares) == pytest.approx(1.0)
    centred = torch.stack(rows) - torch.stack(rows).mean(0)
    greatest = torch.linalg.svdvals(centred)[0] ** 2
    assert float((centred @ found[0]).square().sum()) == pytest.approx(float(greatest))
    assert (centred[-1] @ found.T > 0).all()
    with pytest.raises(EngineError, match="--dimensions 1"):
        principal_directions(path, [Kept(0)] * 4 + [Kept(1)], ["theta"], 2)
    with pytest.raises(EngineError, match="walk first"):
        principal_directions(path, points[:2], ["theta"], 2)


def test_points_are_projected_by_least_squares_onto_oblique_directions_of_any_length():
    g = torch.Generator().manual_seed(4)
    directions = torch.randn(2, 9, generator=g, dtype=torch.float64)
    directions[1] = 3.0 * directions[0] + 0.5 * directions[1]
    outside = torch.randn(9, generator=g, dtype=torch.float64)
    outside -= torch.linalg.pinv(directions) @ (directions @ outside)
    origin = torch.randn(9, generator=g, dtype=torch.float64)
    wanted = torch.tensor([[0.0, 0.0], [2.0, -1.5], [-0.3, 0.8]], dtype=torch.float64)
    points = origin + wanted @ directions
    points[2] += outside
    found = project(origin, directions, points)
    assert torch.allclose(found.coordinates, wanted, atol=1e-9)
    assert found.residuals.tolist() == pytest.approx([0, 0, float(outside.norm())], abs=1e-6)
    assert found.farthest == pytest.approx(float((points - origin).norm(dim=1).max()))
    centred = points - points.mean(0)
    within = centred @ torch.linalg.pinv(directions) @ directions
    share = float(within.square().sum() / centred.square().sum())
    assert found.explained == pytest.approx(share)
    assert project(origin, directions, [origin]).explained is None


def test_no_line_through_one_point_and_no_plane_through_a_line_of_points():
    a, b = torch.zeros(4), torch.arange(4.0)
    assert torch.equal(point_directions(a, b), b[None])
    with pytest.raises(EngineError, match="itself"):
        point_directions(a, a)
    with pytest.raises(EngineError, match="one line"):
        point_directions(a, b, -2.0 * b)


def test_no_plane_in_random_directions_of_a_single_weight():
    problem = Problem(nn.Linear(1, 1), regression(4, 1), dtype=torch.float64)
    assert len(random_directions(problem, problem.theta, 1, 0)) == 1
    with pytest.raises(EngineError, match="parallel"):
        random_directions(problem, problem.theta, 2, 0)
