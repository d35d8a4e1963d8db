"""Training by SGD with momentum: against the recursion itself."""

import pytest
import torch

from lsshell.engine.errors import DivergedError, EngineError
from lsshell.engine.landscape.batch_norm import recompute_statistics
from lsshell.engine.networks import build_network
from lsshell.engine.problem import Problem, chunk_sizes
from lsshell.engine.training import Descent, count_batches, train
from tests.engine.small import blobs


def problem(dtype=torch.float64):
    data = blobs(n=13)
    network = build_network(("mlp", "5-4-3"), data, seed=1)
    return Problem(network, data, dtype=dtype)


def descend(p, theta, **settings):
    return train(p, theta, biases=True, seed=0, **settings)


def test_a_full_batch_follows_the_recursion_with_its_drop_and_decay():
    p = problem()
    start = p.theta.clone()
    found = descend(p, start, epochs=8, rate=0.1, batch=100, penalty=0.01, descent=Descent(0.8))
    theta, velocity, reached = start.clone(), torch.zeros_like(start), []
    for epoch in range(8):
        loss, gradient = p.loss_and_gradient(theta)
        velocity = 0.8 * velocity + gradient + 2 * 0.01 * theta
        theta = theta - (0.1 if epoch < 6 else 0.01) * velocity
        reached.append((loss, theta))
    # The loss of an epoch is that before its step.
    best = min(reached, key=lambda pair: pair[0])[1]
    assert torch.allclose(found.theta, best, rtol=1e-10, atol=1e-12)


def test_a_batch_that_is_not_whole_is_left_out_unless_it_is_the_only_one():
    p = problem()
    steps = []
    begin = p.begin_gradient
    p.begin_gradient = lambda: steps.append(1) or begin()
    for batch, count in ((5, 2), (13, 1), (100, 1), (6, 2)):
        steps.clear()
        descend(p, p.theta.clone(), epochs=3, rate=0.01, batch=batch, descent=Descent())
        assert len(steps) == 3 * count
    steps.clear()
    descend(p, p.theta.clone(), epochs=1, rate=0.01, batch=5)
    assert len(steps) == 3


def test_the_epoch_of_least_loss_is_what_training_gives():
    p = problem()
    start, losses = p.theta.clone(), []
    settings = {"rate": 3.0, "batch": 4, "descent": Descent(0.9, drop_at=1.0)}
    found = descend(p, start, epochs=12, on_epoch=lambda e, loss: losses.append(loss), **settings)
    best = losses.index(min(losses)) + 1
    assert best < 12
    shorter = descend(p, start, epochs=best, **settings)
    assert torch.equal(found.theta, shorter.theta)


def test_training_that_runs_away_says_so_and_leaves_the_parameters():
    p = problem(torch.float32)
    before = p.theta.clone()
    with pytest.raises(DivergedError, match="diverged at epoch"):
        descend(p, before, epochs=50, rate=1e30, batch=4, penalty=1.0, descent=Descent())
    assert torch.equal(p.theta, before)


# -- batch norm can normalise no single example ----------------------------------------------------


def with_batch_norm(chunk=None):
    data = blobs(n=13)
    network = build_network(("mlp-bn", "5-4-3"), data, seed=1)
    return Problem(network, data, dtype=torch.float64, chunk=chunk)


def test_a_single_example_left_over_is_left_out_with_batch_norm_alone():
    counted = {}
    for p in (problem(), with_batch_norm()):
        steps = []
        train(p, p.theta.clone(), epochs=2, batch=6, seed=0, on_update=lambda s=steps: s.append(1))
        counted[p.network] = len(steps)
        assert len(steps) == 2 * count_batches(p, 13, 6)
    assert list(counted.values()) == [6, 4]


def test_batches_of_one_example_are_refused_with_batch_norm():
    p = with_batch_norm()
    start = p.theta.clone()
    with pytest.raises(EngineError, match="at least two examples in a batch, not 1"):
        train(p, start, epochs=1, batch=1)
    assert torch.equal(p.theta, start)
    assert not p.network.training


@pytest.mark.parametrize(
    ("n", "chunk", "sizes"),
    [(0, 4, []), (1, 4, [1]), (4, 4, [4]), (5, 4, [5]), (6, 4, [4, 2]), (9, 4, [4, 5]),
     (3, 1, [1, 1, 1])],
)  # fmt: skip
def test_no_chunk_is_a_single_example_that_is_left_over(n, chunk, sizes):
    assert chunk_sizes(n, chunk) == sizes


@pytest.mark.parametrize("chunk", [12, 1])
def test_statistics_are_taken_of_all_examples_in_chunks_that_would_leave_one_alone(chunk):
    p = with_batch_norm(chunk)
    recompute_statistics(p, p.theta)
    flatten, linear, layer = list(p.network)[:3]
    parts = linear(flatten(p.x_train)).split(chunk_sizes(13, max(chunk, 2)))
    mean = torch.stack([part.mean(0) for part in parts]).mean(0)
    assert torch.allclose(layer.running_mean, mean, rtol=1e-10)
