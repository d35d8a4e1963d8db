"""Loss and accuracy at many points: against one network after the other, and closed forms."""

import math

import pytest
import torch
from torch import nn

from lsshell.engine.errors import Cancelled
from lsshell.engine.landscape.batch_norm import recompute_statistics
from lsshell.engine.landscape.grid import _Head, evaluate, grid
from lsshell.engine.landscape.places import visit
from lsshell.engine.problem import Problem
from tests.engine.small import blobs, dataset, images, regression


class Own(nn.Module):
    """A user's network: not sequential, with a weight used twice."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


def _problem(kind, **kwargs):
    torch.manual_seed(2)
    if kind == "dense":
        network, data = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)), blobs()
    elif kind == "convolution":
        network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3))
        data = images()
    elif kind == "batch-norm":
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
        )
        data = images(40)
    elif kind == "one layer":
        network, data = nn.Linear(3, 1), regression()
    else:
        network, data = Own(), blobs()
    g = torch.Generator().manual_seed(9)
    x, y = data.x_train, data.y_train
    keep = torch.randperm(len(x), generator=g)[: len(x) // 2]
    data = dataset(x, y, x[keep], y[keep], outputs=data.outputs)
    return Problem(network, data, dtype=torch.float64, **kwargs)


KINDS = ("dense", "convolution", "batch-norm", "one layer", "own")


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_point_of_a_grid_is_what_the_network_there_gives(kind, stacked):
    problem = _problem(kind, chunk=7)
    origin = problem.theta.clone()
    directions = torch.randn(2, problem.p, dtype=torch.float64)
    steps = grid([-0.7, 0.0, 0.4], [-1.0, 0.0, 0.3, 2.0])
    with visit(problem):
        found = evaluate(problem, origin, directions, steps, stacked=stacked)
    for split in ("train", "test"):
        for k, row in enumerate(steps):
            there = problem.metrics(origin + row @ directions, split)
            assert float(found[split].loss[k]) == pytest.approx(there.loss, rel=1e-12)
            if problem.classification:
                assert float(found[split].accuracy[k]) == there.accuracy
            else:
                assert found[split].accuracy is None
    centre = float(found["train"].loss.view(3, 4)[1, 1])
    assert centre == pytest.approx(problem.loss(origin), rel=1e-14)


def test_a_first_layer_is_taken_apart_only_where_it_is_linear_in_weights_of_its_own():
    assert _Head.of(_problem("dense")) is not None
    assert _Head.of(_problem("convolution")) is not None
    assert _Head.of(_problem("batch-norm")) is not None
    assert _Head.of(_problem("own")) is None
    layer = nn.Linear(5, 5)
    tied = nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(5, 3))
    assert _Head.of(Problem(tied, blobs())) is None
    frozen = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    frozen[0].weight.requires_grad_(False)
    assert _Head.of(Problem(frozen, blobs())) is None
    hooked = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    hooked[0].register_forward_hook(lambda module, given, output: output.square())
    assert _Head.of(Problem(hooked, blobs())) is None


def test_a_frozen_first_layer_and_a_tied_one_are_evaluated_as_they_are():
    layer = nn.Linear(5, 5)
    tied = nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(5, 3))
    frozen = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    frozen[0].bias.requires_grad_(False)
    for network in (tied, frozen):
        problem = Problem(network, blobs(), dtype=torch.float64)
        origin = problem.theta.clone()
        direction = torch.randn(1, problem.p, dtype=torch.float64)
        with visit(problem):
            found = evaluate(problem, origin, direction, grid([0.5]), splits=("train",))
        assert float(found["train"].loss) == pytest.approx(
            problem.loss(origin + 0.5 * direction[0]), rel=1e-12
        )


def test_a_quadratic_loss_is_a_paraboloid_with_its_mixed_term():
    problem = _problem("one layer")
    origin = problem.theta.clone()
    u, v = torch.randn(2, problem.p, dtype=torch.float64)
    a, b = (-2.0, -0.5, 1.0), (-1.0, 0.0, 3.0, 4.0)
    with visit(problem):
        found = evaluate(problem, origin, torch.stack([u, v]), grid(a, b))["train"].loss.view(3, 4)
    loss, gradient = problem.loss_and_gradient(origin)
    hu, hv = problem.hessian_vector(origin, u), problem.hessian_vector(origin, v)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            step = x * u + y * v
            model = loss + float(gradient @ step) + float(step @ (x * hu + y * hv)) / 2
            assert float(found[i, j]) == pytest.approx(model, rel=1e-10)


def test_batch_norm_statistics_are_recomputed_at_every_point_on_request():
    problem = _problem("batch-norm", chunk=11)
    origin = problem.theta.clone()
    direction = torch.randn(1, problem.p, dtype=torch.float64)
    steps = grid([-0.5, 0.0, 1.0])
    with visit(problem):
        anew = evaluate(problem, origin, direction, steps, batch_norm="recomputed")
        wanted = []
        for (a,) in steps.tolist():
            recompute_statistics(problem, origin + a * direction[0])
            wanted.append(problem.metrics(origin + a * direction[0], "test").loss)
    with visit(problem):
        frozen = evaluate(problem, origin, direction, steps)
    assert anew["test"].loss.tolist() == pytest.approx(wanted, rel=1e-12)
    assert not torch.allclose(anew["test"].loss, frozen["test"].loss, rtol=1e-3)


def test_where_the_loss_overflows_the_grid_has_a_hole_and_the_rest_stands():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    problem = Problem(network, blobs())
    origin, direction = problem.theta.clone(), torch.ones(1, problem.p)
    with visit(problem):
        found = evaluate(problem, origin, direction, grid([0.0, 1e25]))["train"]
    assert math.isfinite(found.loss[0])
    assert not math.isfinite(found.loss[1])


def test_a_grid_leaves_no_trace_and_can_be_stopped():
    problem = _problem("batch-norm")
    problem.loss_and_gradient(problem.theta)
    state = {k: v.clone() for k, v in problem.network.state_dict().items()}
    before = problem.theta.clone(), problem._gradient.clone(), problem.gradients
    direction = torch.ones(1, problem.p, dtype=torch.float64)
    for way in ("frozen", "recomputed"):
        with visit(problem):
            evaluate(problem, problem.theta, direction, grid([0.3, 2.0]), batch_norm=way)
        assert torch.equal(problem.theta, before[0]) and torch.equal(problem._gradient, before[1])
        assert problem.gradients == before[2] and not problem.network.training
        for name, tensor in problem.network.state_dict().items():
            assert torch.equal(tensor, state[name]), name
    asked = iter([False, False, True])
    problem.cancelled = lambda: next(asked)
    with pytest.raises(Cancelled), visit(problem):
        evaluate(problem, problem.theta, direction, grid([0.0, 1.0, 2.0]), stacked=False)
    assert torch.equal(problem.theta, before[0])


def test_progress_ends_where_the_work_does():
    problem, told = _problem("dense", chunk=5), []
    with visit(problem):
        evaluate(
            problem, problem.theta, torch.ones(1, problem.p, dtype=torch.float64),
            grid([k / 10 for k in range(70)]), listen=told.append, stacked=False,
        )  # fmt: skip
    assert (told[-1].done, told[-1].total) == (70 * 5, 70 * 5)
    assert [t.done for t in told] == sorted({t.done for t in told})
