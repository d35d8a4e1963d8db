"""Several ranks give what one process gives, the same bits on each, and end together."""

import pytest
import torch
from torch import nn

from lsshell.engine.engine import Engine, WalkRequest
from lsshell.engine.errors import Cancelled, EngineError, RanksError
from lsshell.engine.events import silent
from lsshell.engine.problem import Problem
from lsshell.engine.ranks import ALONE, Ranks
from lsshell.engine.regularizers import make_regularizer
from lsshell.engine.shared_points import SharedPointStore
from tests.engine.small import blobs, images, regression
from tests.engine.thread_ranks import on_ranks


def perceptron(features, outputs):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(features, 7), nn.Tanh(), nn.Linear(7, outputs))


def convolution():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3))


# Networks are built before the threads start: torch's random numbers are the process's.
PROBLEMS = {
    "classes": lambda: (perceptron(5, 3), blobs(n=13)),
    "images": lambda: (convolution(), images(n=5)),
    "numbers": lambda: (perceptron(3, 1), regression(n=12)),
}


def everything(network, data, ranks):
    """Every sum over examples, at one θ and along one v, by its name."""
    problem = Problem(network, data, dtype=torch.float64, chunk=3, ranks=ranks)
    theta = problem.theta.clone()
    v = torch.linspace(-1, 1, problem.p, dtype=torch.float64)
    loss, gradient = problem.loss_and_gradient(theta)
    metrics = problem.test(theta)
    found = {
        "loss": torch.tensor([loss, problem.loss(theta)]),
        "gradient": gradient,
        "hessian": problem.hessian_vector(theta, v),
        "gauss-newton": problem.gauss_newton_vector(theta, v),
        "test": torch.tensor([metrics.loss, metrics.accuracy or metrics.rmse]),
    }
    for name, options in REGULARIZERS:
        regularizer = make_regularizer(name, problem, theta, seed=0, **options)
        slope = torch.empty_like(theta)
        value = regularizer.value_and_gradient(theta, slope)
        key = f"{name} {options}"
        found[key] = torch.tensor([value, regularizer.value(theta)])
        found[f"{key} gradient"] = slope
    found["gradients spent"] = torch.tensor(problem.gradients)
    return found


REGULARIZERS = (
    ("jacobian", {}),
    ("jacobian", {"projections": 2}),
    ("gradient-norm", {}),
    ("hessian-trace", {"probes": 2}),
)


@pytest.mark.parametrize("n", [0, 1, 7, 12, 13])
@pytest.mark.parametrize("count", [1, 2, 5, 13, 20])
def test_parts_are_neighbours_that_make_up_the_whole(n, count):
    parts = []
    for rank in range(count):
        ranks = Ranks()
        ranks.rank, ranks.count = rank, count
        parts.append(list(range(n))[ranks.part(n)])
    assert [k for part in parts for k in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("count", [2, 3, 15])  # 15: more ranks than examples
@pytest.mark.parametrize("kind", PROBLEMS)
def test_sums_over_ranks_are_those_of_one_process_and_the_same_bits_on_each(kind, count):
    whole = everything(*PROBLEMS[kind](), ALONE)
    given = [PROBLEMS[kind]() for _ in range(count)]
    found = on_ranks(count, lambda ranks: everything(*given[ranks.rank], ranks))
    for name, expected in whole.items():
        for one in found:
            assert torch.allclose(one[name].double(), expected.double(), rtol=1e-9, atol=1e-12)
            assert torch.equal(one[name], found[0][name]), name


def problem_of(ranks, **options):
    return Problem(nn.Linear(5, 3), blobs(), ranks=ranks, **options)


def test_who_is_asked_to_stop_stops_all():
    def evaluate(ranks):
        problem = problem_of(ranks, cancelled=lambda: ranks.rank == 1)
        return problem.loss_and_gradient(problem.theta)

    assert all(isinstance(e, Cancelled) for e in on_ranks(3, evaluate))


class Failing(nn.Linear):
    """Takes the data, but has no gradient where it `fails`."""

    fails = False

    def forward(self, x):
        if self.fails and torch.is_grad_enabled():
            raise ValueError("no such thing")
        return super().forward(x)


def failing_on(wanted, count):
    """The error of each rank, and why it cannot meet the others any more."""

    def evaluate(ranks):
        network = Failing(5, 3)
        network.fails = ranks.rank in wanted
        problem = Problem(network, blobs(), ranks=ranks)
        try:
            problem.loss_and_gradient(problem.theta)
        except Exception as e:
            return e, ranks.lost

    return on_ranks(count, evaluate)


def test_a_failure_on_one_rank_is_said_on_all_and_they_never_meet_again():
    first, failed, last = failing_on({1}, 3)
    assert isinstance(failed[0], ValueError)
    for error, lost in (first, last):
        assert isinstance(error, RanksError)
        assert str(error) == lost == "rank 1: no such thing"


def test_what_fails_everywhere_is_each_ranks_own_error_and_they_go_on():
    for error, lost in failing_on({0, 1}, 2):
        assert isinstance(error, ValueError)
        assert lost == ""


def test_ranks_that_hold_different_parameters_say_so():
    def evaluate(ranks):
        problem = problem_of(ranks)
        return problem.loss(problem.theta + (1e-7 if ranks.rank == 2 else 0.0))

    for error in on_ranks(3, evaluate):
        assert isinstance(error, RanksError)
        assert "no longer hold the same parameters" in str(error)


def test_ranks_in_different_places_say_so():
    def evaluate(ranks):
        problem = problem_of(ranks)
        what = problem.test if ranks.rank else problem.loss_and_gradient
        return what(problem.theta)

    for error in on_ranks(2, evaluate):
        assert isinstance(error, RanksError)
        assert "rank 0 is at loss and gradient" in str(error)


def test_a_network_starts_from_the_first_ranks_numbers_on_all():
    def parameters(ranks):
        network = nn.Linear(5, 3)
        with torch.no_grad():
            network.weight.fill_(float(ranks.rank))
        return Problem(network, blobs(), ranks=ranks).theta

    first, second = on_ranks(2, parameters)
    assert torch.equal(first, second)
    assert float(first[:15].abs().max()) == 0.0


def walked(ranks, steps=6, **request):
    engine = Engine(SharedPointStore(ranks), silent, ranks)
    engine.use_device("cpu")
    engine.use_dtype("float64")
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-6-3"], None, {})
    engine.train(epochs=30, rate=1e-2, batch=32)
    engine.fix_level(None, None)
    engine.switch("l2", None, {})
    result = engine.walk(WalkRequest(steps=steps, measure=2, **request))
    return engine, result


def test_a_walk_is_the_same_on_all_ranks_and_that_of_one_process():
    _, one = walked(ALONE)
    (_, first), (_, second) = on_ranks(2, walked)
    assert first.theta == second.theta
    assert first.steps == one.steps == 6
    assert first.end.loss == pytest.approx(one.end.loss, rel=1e-9)
    assert first.end.test_loss == pytest.approx(one.end.test_loss, rel=1e-6)
    assert first.end.regularizers["l2"] == pytest.approx(one.end.regularizers["l2"], rel=1e-6)
    assert abs(first.end.loss - first.end.level) <= first.end.tolerance


def test_only_the_first_rank_keeps_points_and_all_go_back_to_them():
    def back(ranks):
        engine, _ = walked(ranks)
        engine.undo(3)
        return engine.theta_hash(), len(engine.path.store._memory)

    (first, held), (second, nothing) = on_ranks(2, back)
    assert first == second
    assert held == 8  # the trained point, the level, six steps
    assert nothing == 0


def test_a_walk_ends_at_the_same_step_everywhere_when_one_clock_says_so():
    def limited(ranks):
        # Only the second rank's clock runs out.
        return walked(ranks, steps=50, seconds=1e-9 if ranks.rank else 1e9)[1]

    first, second = on_ranks(2, limited)
    assert first.steps == second.steps == 0
    assert first.theta == second.theta


def test_a_gpu_is_not_chosen_for_all_ranks_at_once(monkeypatch):
    ranks = Ranks()
    ranks.count = 2
    monkeypatch.setattr(torch, "zeros", lambda *size, **where: None)  # as if there were one
    with pytest.raises(EngineError, match="each rank has a GPU of its own"):
        Engine(ranks=ranks).use_device("cuda:1")


def commands_end(results, failures, asked):
    def end(ranks):
        r = ranks.rank
        try:
            return ranks.agree("walk", failures[r], asked[r], results[r])
        except RanksError as e:
            return str(e)

    return on_ranks(2, end)


def test_a_command_ends_on_all_ranks_together():
    assert commands_end("aa", [None, None], [False, False]) == [False, False]
    assert commands_end("aa", [None, None], [False, True]) == [True, True]
    assert commands_end("aa", ["wrong", "wrong"], [False, False]) == [False, False]
    assert commands_end("aa", [None, "no file"], [False, False]) == ["rank 1: no file", False]
    different = "the ranks have come to different results: walk"
    assert commands_end("ab", [None, None], [False, False]) == [different, different]
