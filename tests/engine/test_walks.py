"""Walks of an engine on small networks: invariants at every recorded point, and every ending."""

import math
from itertools import pairwise

import pytest
import torch

from lsshell.engine import Engine, EngineError, WalkRequest
from lsshell.engine.comparison import comparison_rows
from lsshell.engine.events import Kept, Measured, Progress, Refused, Started, Stepped, Stopped
from lsshell.engine.regularizers import REGULARIZERS
from lsshell.engine.walkers import WalkersRequest, walk_many
from lsshell.engine.wandering import WanderRequest
from tests.engine.small import dataset

SMOOTH = [n for n in REGULARIZERS if n != "distance"]


def trained(seed=0, *, dtype="float32", epochs=60, level=None, on="l2", network="mlp 4-8-8-3"):
    """A small network on the irises, at a small training loss."""
    engine = Engine()
    events = []
    engine.listen = events.append
    engine.events = events
    engine.seed = seed
    engine.use_dtype(dtype)
    engine.load_data("iris", "iris", None)
    engine.build_model(network.split(), None, {})
    engine.train(epochs=epochs, rate=1e-2, batch=32)
    engine.fix_level(level, None)
    if on:
        engine.switch(on, None, {})
    return engine


@pytest.fixture(scope="module")
def start():
    """The point from which most walks below leave: trained once."""
    engine = trained()
    return {k: v.clone() for k, v in engine.path.store.get(engine.path.here.index).items()}


@pytest.fixture
def engine(start):
    engine = Engine()
    engine.events = []
    engine.listen = engine.events.append
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-8-8-3"], None, {})
    engine.theta = engine.problem.restore(start)
    engine.fix_level(None, None)
    engine.switch("l2", None, {})
    return engine


def steps_of(engine):
    """The recorded points of all steps, as first told."""
    return [e.point for e in engine.events if isinstance(e, Stepped)]


@pytest.mark.parametrize("method", ["quasi-newton", "gradient", "paper"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_recorded_point_is_on_the_level_set(method, seed):
    engine = trained(seed)
    result = engine.walk(WalkRequest(method=method, steps=60))
    points = steps_of(engine)
    assert len(points) == result.steps > 0
    for p in points:
        theta = engine.problem.flat(engine.path.store.get(p.index)) if p.kept else None
        assert abs(p.loss - p.level) <= p.tolerance
        if theta is not None:
            assert engine.problem.loss(theta) == p.loss
    values = [p.regularizers["l2"] for p in points]
    assert values[-1] < result.start.regularizers["l2"]
    if method != "paper":
        assert all(b <= a for a, b in pairwise(values))


@pytest.mark.parametrize("name", SMOOTH)
def test_every_regulariser_falls_along_its_own_walk(engine, name):
    engine.switch_off("l2")
    engine.switch(name, None, {})
    result = engine.walk(WalkRequest(steps=12))
    assert result.steps > 0
    assert result.end.regularizers[name] < result.start.regularizers[name]
    assert all(abs(p.loss - p.level) <= p.tolerance for p in steps_of(engine))


def test_distance_brings_back_to_where_it_is_measured_from(engine):
    home = engine.theta
    engine.walk(WalkRequest(steps=15))
    away = engine.path.here.distance
    engine.switch_off("l2")
    engine.switch("distance", None, {"reference": home})
    result = engine.walk(WalkRequest(steps=100))
    assert result.end.distance < 0.2 * away


def test_several_regularisers_are_descended_as_their_weighted_sum(engine):
    engine.switch("l1", 0.5, {})
    result = engine.walk(WalkRequest(steps=20))

    def total(p):
        return p.regularizers["l2"] + 0.5 * p.regularizers["l1"]

    assert total(result.end) < total(result.start)


def test_quasi_newton_reaches_the_constrained_minimum_in_both_precisions():
    ends = []
    for dtype in ("float32", "float64"):
        engine = trained(dtype=dtype, level=1e-2)
        result = engine.walk(WalkRequest(steps=1000, until_angle=179.0))
        assert result.reason.startswith("angle 179"), result.reason
        assert result.end.angle_deg >= 179.0
        ends.append(result.end.regularizers["l2"])
    assert ends[0] == pytest.approx(ends[1], rel=0.05)


def test_the_multiplier_at_the_end_is_the_weight_decay_of_a_stationary_point():
    engine = trained(dtype="float64", level=1e-2)
    result = engine.walk(WalkRequest(steps=1500, until_angle=179.9))
    problem, theta = engine.problem, engine.theta
    _, g = problem.loss_and_gradient(theta)
    penalised = g + result.end.implied_weight_decay * 2 * theta
    assert float(penalised.norm() / g.norm()) < math.sin(math.radians(0.2))


# A step of `gradient` is accepted or halved, and corrected once more or not, on a comparison: in
# the end rounding decides one of them.
@pytest.mark.parametrize(("method", "steps"), [("paper", 50), ("gradient", 12)])
def test_first_order_walks_agree_in_both_precisions(method, steps):
    ends = []
    for dtype in ("float32", "float64"):
        engine = trained(dtype="float32", level=1e-2)
        if dtype == "float64":
            engine.use_dtype("float64")
            engine.fix_level(1e-2, None)
            engine.switch("l2", None, {})
        ends.append(engine.walk(WalkRequest(method=method, steps=steps)).end.regularizers["l2"])
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


def test_the_same_walk_gives_the_same_bits(engine, start):
    first = engine.walk(WalkRequest(steps=40)).theta
    engine.goto("start")
    second = engine.walk(WalkRequest(steps=40)).theta
    assert first == second


def test_a_walk_in_two_parts_is_the_walk_in_one(engine):
    whole = engine.walk(WalkRequest(steps=40, record=1)).theta
    engine.goto("start")
    engine.walk(WalkRequest(steps=25, record=1))
    assert engine.walk(WalkRequest(steps=15, record=1)).theta == whole


def test_walking_again_from_a_kept_point_gives_the_same_tail(engine):
    engine.walk(WalkRequest(steps=20))
    tails = []
    for _ in range(2):
        engine.goto("main:10")
        tails.append(engine.walk(WalkRequest(steps=10)).theta)
    assert tails[0] == tails[1]
    assert set(engine.path.branches()) == {"main", "main-2", "main-3"}


def test_climbing_raises_the_regulariser(engine):
    result = engine.walk(WalkRequest(steps=20, ascend=True))
    assert result.end.regularizers["l2"] > result.start.regularizers["l2"]
    assert all(abs(p.loss - p.level) <= p.tolerance for p in steps_of(engine))
    # The angle is that between ∇L and ∇R whichever way R is walked.
    _, g = engine.problem.loss_and_gradient(engine.theta)
    cosine = float((g @ engine.theta) / (g.norm() * engine.theta.norm()))
    assert result.end.angle_deg == pytest.approx(math.degrees(math.acos(cosine)), abs=0.05)


@pytest.mark.parametrize("name", ["l2", "l1", "path-norm"])
def test_a_walk_ends_where_a_regulariser_meets_its_target(engine, name):
    now = engine.measure().regularizers[name]
    target = 0.9 * now
    result = engine.walk(WalkRequest(steps=200, until={name: target}))
    assert result.reason == f"{name} = {target:g} reached"
    assert result.end.regularizers[name] == pytest.approx(target, rel=2e-4)
    assert abs(result.end.loss - result.end.level) <= result.end.tolerance


@pytest.mark.parametrize("method", ["quasi-newton", "gradient"])
def test_a_wide_tolerance_does_not_stop_a_walk(engine, method):
    loss = engine.path.here.loss
    engine.fix_level(1.5 * loss, 0.7 * loss)
    result = engine.walk(WalkRequest(method=method, steps=300, until_angle=175.0))
    assert result.reason.startswith("angle 175") or result.end.angle_deg > 170.0, result.reason
    assert all(abs(p.loss - p.level) <= p.tolerance for p in steps_of(engine))


def test_climbing_does_not_crawl(engine):
    target = 2 * engine.measure().regularizers["l2"]
    result = engine.walk(WalkRequest(steps=60, ascend=True, until={"l2": target}))
    assert result.reason == f"l2 = {target:g} reached"


def test_a_walk_ends_after_its_time(engine):
    result = engine.walk(WalkRequest(method="paper", steps=10**9, seconds=0.2))
    assert result.reason == "0.2 seconds are over"


def test_stopping_leaves_a_valid_point_and_all_steps(engine):
    def listen(event):
        engine.events.append(event)
        if isinstance(event, Progress) and event.task == "walk" and event.done == 7:
            engine.cancel.set()

    engine.listen = listen
    result = engine.walk(WalkRequest(steps=100))
    assert result.reason == "interrupted"
    assert result.steps == 7
    engine.cancel.clear()
    assert engine.problem.loss(engine.theta) == result.end.loss
    assert result.end.kept
    assert result.end.test_loss is not None


def test_a_walk_that_is_paused_goes_on_as_if_it_had_not_been(engine):
    start = engine.path.here.step, engine.theta

    def pause(event):
        engine.events.append(event)
        if isinstance(event, Progress) and event.task == "walk" and event.done == 7:
            engine.pause.set()

    engine.listen = pause
    result = engine.walk(WalkRequest(steps=20))
    assert (result.reason, result.steps) == ("paused", 7)
    engine.pause.clear()
    engine.listen = engine.events.append
    rest = engine.walk(WalkRequest(steps=13))
    paused = engine.theta.clone(), rest.end.gradients
    engine.goto("start")
    assert (engine.path.here.step, *engine.theta) == (start[0], *start[1])
    whole = engine.walk(WalkRequest(steps=20))
    assert torch.equal(engine.theta, paused[0])
    assert whole.end.gradients == paused[1] - 1  # a walk begins by looking where it stands


def test_a_walk_that_is_paused_before_it_begins_takes_no_step(engine):
    engine.pause.set()
    result = engine.walk(WalkRequest(steps=20))
    assert (result.reason, result.steps) == ("paused", 0)


def test_events_tell_everything_in_order(engine):
    engine.walk(WalkRequest(steps=10, record=5, measure=5))
    kinds = [type(e) for e in engine.events]
    assert kinds[0] is Started
    assert kinds.count(Stepped) == 10
    assert kinds.count(Measured) == 2
    assert isinstance(engine.events[-1], Stopped)
    assert not any(k is Kept for k in kinds)  # the tenth step was on the schedule
    assert [p.step for p in steps_of(engine) if p.kept] == [5, 10]


def test_the_last_point_is_always_kept_and_measured(engine):
    result = engine.walk(WalkRequest(steps=7, record=5, measure=5))
    assert result.end.step == 7
    assert result.end.kept
    assert result.end.test_loss is not None
    assert any(isinstance(e, Kept) for e in engine.events)


def test_a_level_is_reached_from_above_and_from_below(engine):
    loss = engine.path.here.loss
    for level in (3 * loss, 0.5 * loss):
        point = engine.fix_level(level, None)
        assert abs(point.loss - level) <= 0.01 * level / 10
        assert engine.problem.loss(engine.theta) == point.loss


def test_a_level_out_of_reach_changes_nothing():
    engine = trained(network="mlp 4-3")  # linear: the irises cannot be told apart perfectly
    before, level_set = engine.theta.clone(), engine.level_set
    with pytest.raises(EngineError, match=r"was not reached.*closest loss was 0\.0"):
        engine.fix_level(1e-6, None)
    assert torch.equal(engine.theta, before)
    assert engine.level_set is level_set


@pytest.mark.parametrize(
    ("level", "tolerance", "message"),
    [(0.0, None, "above 0"), (-1.0, None, "above 0"), (1e-2, 1.0, "tolerance"), (1e-2, 0.0, "tol")],
)
def test_levels_and_tolerances_out_of_range_are_refused(engine, level, tolerance, message):
    with pytest.raises(EngineError, match=message):
        engine.fix_level(level, tolerance)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (WalkRequest(steps=0), "--steps"),
        (WalkRequest(steps=-3), "--steps"),
        (WalkRequest(method="newtonian"), "no method"),
        (WalkRequest(until_angle=200.0), "until-angle"),
        (WalkRequest(until={"l3": 1.0}), "l3"),
        (WalkRequest(rate_min=1e-3), "belong to paper"),
        (WalkRequest(seconds=-1.0), "--seconds"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(engine, request_, message):
    points = len(engine.path)
    with pytest.raises(EngineError, match=message):
        engine.walk(request_)
    assert len(engine.path) == points


def test_verbs_before_their_time_say_what_comes_first():
    engine = Engine()
    with pytest.raises(EngineError, match="no data yet"):
        engine.walk(WalkRequest())
    engine.load_data("iris", "iris", None)
    with pytest.raises(EngineError, match="no network yet"):
        engine.fix_level(None, None)
    engine.build_model(["iris-ff"], None, {})
    with pytest.raises(EngineError, match="no regulariser is on"):
        engine.walk(WalkRequest())
    with pytest.raises(EngineError, match="nothing has been walked"):
        engine.undo(1)


def test_undo_and_new_branches_keep_what_was_walked(engine):
    engine.walk(WalkRequest(steps=10))
    point = engine.undo(4)
    assert point.step == 6
    assert engine.problem.loss(engine.theta) == point.loss
    assert engine.new_branch("other") == "other"
    engine.walk(WalkRequest(steps=3))
    branches = {name: len(points) for name, points in engine.path.branches().items()}
    assert branches == {"main": 11, "other": 3}
    assert engine.path.here.step == 9
    with pytest.raises(EngineError, match="is a branch other already"):
        engine.new_branch("other")


def test_a_second_level_starts_a_new_traversal(engine):
    engine.walk(WalkRequest(steps=5))
    point = engine.fix_level(2 * engine.path.here.loss, None)
    assert (point.kind, point.step, point.gradients) == ("level", 0, point.gradients)
    assert len(engine.path.traversal()) == 1


def test_refused_steps_are_counted_and_told(engine):
    result = engine.walk(WalkRequest(steps=150))
    assert result.refused == sum(isinstance(e, Refused) for e in engine.events)


def test_changing_device_or_precision_keeps_the_parameters(engine):
    before = engine.theta.clone()
    engine.use_dtype("float64")
    assert torch.equal(engine.theta.float(), before)
    assert engine.problem.dtype == torch.float64
    with pytest.raises(EngineError, match="no device"):
        engine.use_device("cuda:99")
    with pytest.raises(EngineError, match="no dtype"):
        engine.use_dtype("float16")


def test_data_of_another_shape_is_refused_and_the_old_kept(engine):
    with pytest.raises(EngineError, match="does not take the data"):
        engine.load_data("digits", "digits", None)
    assert engine.data.name == "iris"
    assert engine.problem.loss(engine.theta) > 0


def test_training_is_the_same_for_the_same_seed_and_stops_at_a_whole_epoch():
    hashes = []
    for stop_at in (None, 5):
        engine = Engine()
        engine.load_data("iris", "iris", None)
        engine.build_model(["mlp", "4-8-3"], None, {})

        def listen(event, engine=engine, stop_at=stop_at):
            if isinstance(event, Progress) and event.done == stop_at:
                engine.cancel.set()

        engine.listen = listen
        result = engine.train(epochs=5 if stop_at is None else 50, rate=1e-2, batch=32)
        assert result.epochs == 5
        assert result.reason == ("epochs" if stop_at is None else "interrupted")
        hashes.append(engine.theta_hash())
    assert hashes[0] == hashes[1]


def test_training_until_a_loss_stops_there():
    engine = Engine()
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-8-3"], None, {})
    result = engine.train(epochs=500, rate=1e-2, batch=32, until_loss=0.1)
    assert result.loss <= 0.1
    assert result.epochs < 500


def test_comparison_with_weight_decay_starts_from_the_same_seeds_and_reports_plain_losses():
    engine = Engine()
    engine.load_data("iris", "iris", None)
    engine.build_model(["mlp", "4-8-3"], None, {})
    before = engine.theta_hash()
    settings = {"runs": 2, "epochs": 30, "rate": 1e-2, "batch": 32, "biases": False}
    found = engine.compare_weight_decay([0.0, 1e-3, 10.0], from_start=False, **settings)
    assert [(t.penalty, t.seed) for t in found[:3]] == [(0.0, 0), (0.0, 1), (1e-3, 0)]
    assert all(t.gradients == 30 for t in found)
    rows = comparison_rows(found)
    assert [r.penalty for r in rows] == [0.0, 1e-3, 10.0]
    assert all(r.runs == 2 for r in rows)
    assert rows[2].l2.mean < rows[1].l2.mean < rows[0].l2.mean
    # λ = 10 drives the weights to zero: the data loss alone is that of guessing, log 3.
    assert rows[2].train_loss.mean == pytest.approx(math.log(3), abs=0.05)
    assert engine.theta_hash() == before


def test_comparison_names_what_keeps_it_from_training():
    engine = Engine()
    engine.load_data("iris", "iris", None, train=1)
    engine.build_model(["mlp-bn", "4-8-3"], None, {})
    settings = {"runs": 1, "epochs": 1, "rate": 1e-2, "batch": 32, "biases": False}
    with pytest.raises(EngineError, match="at least two examples"):
        engine.compare_weight_decay([0.0], from_start=False, **settings)


@pytest.mark.parametrize("way", ["walk", "wander", "walkers"])
def test_where_the_loss_has_no_gradient_nothing_is_recorded(way):
    engine = Engine()
    engine.data = dataset(torch.eye(2), torch.tensor([0, 1]))
    engine.build_model(["mlp", "2-3-2"], None, {})
    engine.theta = torch.zeros_like(engine.problem_theta())  # half of each class: a guess
    engine.switch("l1", None, {})
    with pytest.raises(EngineError, match="∇L is zero here"):
        if way == "wander":
            engine.wander(WanderRequest(steps=2))
        elif way == "walk":
            engine.walk(WalkRequest(steps=2))
        else:
            walk_many(engine, WalkersRequest(WalkRequest(steps=2), runs=2))
    assert engine.level_set is None
    assert not engine.path.points
    start = engine.fix_level(None, None)
    assert start.angle_deg is None
    assert start.regularizers["l1"] == pytest.approx(0.0, abs=1e-30)
    assert "spectral" not in start.regularizers  # the logarithm of a layer of zeros


def test_a_level_that_cannot_be_measured_leaves_everything_as_it_was(engine):
    level_set, branch, start = engine.level_set, engine.path.branch, engine._recorder
    theta, points = engine.theta, dict(engine.path.points)
    engine.problem.x_test[0] = math.nan
    with pytest.raises(EngineError, match="the loss is nan"):
        engine.fix_level(2 * level_set.level, None)
    assert engine.level_set is level_set
    assert engine.theta is theta
    assert engine._recorder is start
    assert (engine.path.branch, engine.path.points) == (branch, points)


def test_switching_tells_the_value_at_the_start_with_the_options_it_has_now(engine):
    engine.walk(WalkRequest(steps=3))
    before = engine.problem.gradients
    for ratio in (0.5, 1.0):
        regularizer = engine.switch("elastic", None, {"ratio": ratio})
        when = engine.switched["elastic"]
        assert when.at == engine.path.here.index
        assert when.first == regularizer.value(engine.problem.flat(engine.path.store.get(0)))
        assert when.now == regularizer.value(engine.theta)
    assert engine.problem.gradients == before
