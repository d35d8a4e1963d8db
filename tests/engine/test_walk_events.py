"""What a walk notices and stops for: its least test loss, a value met, a plateau."""

import math

import pytest
import torch

from lsshell.engine import Engine, EngineError, WalkRequest
from lsshell.engine import problem as engine_problem
from lsshell.engine.errors import Cancelled
from lsshell.engine.events import Located, Measured, Noticed
from lsshell.engine.location import least
from tests.engine.small import GivenLoss

RADIUS, START, BEST = 2.0, 2.5, 1.0
START_POINT = RADIUS * torch.tensor([math.cos(START), math.sin(START)], dtype=torch.float64)


class OnACircle(GivenLoss):
    """{L = L*} is a circle; the test loss is least, 1, at one place on it."""

    def __init__(self, best, **kwargs):
        super().__init__(START_POINT, lambda t: t.square().sum() / 2, **kwargs)
        self.best, self.tested = best, 0

    def test(self, theta):
        if self.cancelled():
            raise Cancelled
        self.tested += 1
        return engine_problem.TestMetrics(1.0 + (around(theta) - self.best) ** 2, None, None)


def around(theta):
    """The place on the circle, as an angle from the point that the walk goes to."""
    return math.atan2(float(theta[1]), float(theta[0]))


def on_a_circle(best=BEST):
    """An engine at START on the circle, descending the distance to the point at 0."""
    engine = Engine()
    engine.events = []
    engine.listen = engine.events.append
    problem = OnACircle(best, cancelled=engine.cancel.is_set)
    engine.data = problem.data
    engine._adopt(problem, problem.theta.clone())
    engine.fix_level(None, 1e-6)
    engine.switch("distance", None, {"reference": torch.tensor([RADIUS, 0.0]).double()})
    return engine


REQUEST = WalkRequest(method="gradient", steps=500, record=1, measure=2, patience=3)


def test_the_least_test_loss_is_located_on_the_level_set_and_goto_best_goes_there():
    engine = on_a_circle()
    result = engine.walk(REQUEST)
    assert result.reason == "the test loss has not fallen for 3 measures"
    best = result.best
    assert (best.kind, best.branch, best.kept) == ("located", "main-best", True)
    assert best.test_loss == pytest.approx(1.0, abs=1e-3)
    measured = [p.test_loss for p in engine.path.lineage() if p.test_loss is not None]
    assert best.test_loss < min(measured)
    assert engine.goto("best") is best
    assert around(engine.theta) == pytest.approx(BEST, abs=0.03)
    assert engine.problem.loss(engine.theta) == best.loss
    assert abs(best.loss - best.level) <= best.tolerance
    before, after = (engine.path.find(f"main:{best.step + k}") for k in (-1, 0))
    assert before.length < best.length < after.length
    assert [e.point for e in engine.events if isinstance(e, Located)] == [best]
    told = [e for e in engine.events if isinstance(e, Noticed)]
    assert told == list(result.noticed)
    assert str(told[-1]) == f"least test loss {best.test_loss:.4g} at main-best:{best.step}"


def test_locating_takes_nothing_from_the_walk():
    engine = on_a_circle()
    stopped = engine.walk(REQUEST)
    assert engine.path.here.step == stopped.steps
    assert engine.path.here.branch == "main"
    rest = engine.walk(WalkRequest(method="gradient", steps=5, record=1))
    assert (rest.end.branch, rest.end.step) == ("main", stopped.steps + 5)
    whole = on_a_circle().walk(WalkRequest(method="gradient", steps=stopped.steps + 5, record=1))
    assert rest.theta == whole.theta


def test_locating_costs_the_correctors_gradients_only():
    engine = on_a_circle()
    tested = []

    def counts(event):
        if isinstance(event, Noticed):  # passed, located
            tested.append(engine.problem.tested)

    engine.listen = counts
    result = engine.walk(REQUEST)
    last = engine.path.find(f"main:{result.steps}")
    spent = last.gradients - sum(p.convergence.gradients for p in engine.path.lineage()[1:]) - 1
    assert 0 < spent <= 3 * 8 * 2  # three gradients at most for each of two points a halving
    assert tested[1] - tested[0] <= 8 * 2 + 1


def test_where_the_loss_only_rises_the_start_is_best():
    engine = on_a_circle(best=3.0)
    result = engine.walk(REQUEST)
    assert result.steps == 6
    assert result.best.kind == "level"
    assert result.noticed == ()
    assert list(engine.path.branches()) == ["main"]


def test_a_loss_that_falls_to_the_end_runs_out_of_nobodys_patience():
    engine = on_a_circle(best=-1.0)
    until = {"distance": 0.5}
    result = engine.walk(WalkRequest(method="gradient", measure=1, patience=1, until=until))
    assert result.reason == "distance = 0.5 reached"
    assert result.best.index == result.end.index
    assert engine.goto("best") is engine.goto("end")


def test_a_walk_that_is_not_asked_to_stop_says_where_it_was_best():
    engine = on_a_circle()
    result = engine.walk(WalkRequest(method="gradient", steps=500, measure=1))
    assert engine.goto("best").index == result.best.index
    (least_loss,) = result.noticed
    assert least_loss.at.index == result.best.index
    assert least_loss.value == result.best.test_loss
    assert around(engine.theta) == pytest.approx(BEST, abs=0.3)


def test_the_best_of_a_walk_is_of_its_own_points():
    engine = on_a_circle()
    first = engine.walk(WalkRequest(method="gradient", steps=500, measure=1)).best
    engine.goto("start")
    engine.walk(WalkRequest(method="gradient", steps=4, measure=1))
    assert engine.walk(WalkRequest(method="gradient", steps=1, measure=1)).best.step == 5
    assert engine.goto("best").index == first.index


def test_what_is_measured_is_kept_unless_told_otherwise():
    engine = on_a_circle()
    engine.walk(WalkRequest(method="gradient", steps=650))  # 650/500 and 650/100 divide badly
    measured = [e.point for e in engine.events if isinstance(e, Measured)]
    assert [p.step for p in measured[:3]] == [8, 16, 24]
    assert all(p.kept for p in measured[:3])


def test_stopping_while_it_is_located_records_nothing_of_it():
    engine = on_a_circle()

    def stop(event):
        if isinstance(event, Noticed):  # the last step has been taken
            engine.cancel.set()

    engine.listen = stop
    whole = on_a_circle().walk(REQUEST)
    result = engine.walk(REQUEST)
    assert (result.reason, result.steps) == ("interrupted", whole.steps)
    assert list(engine.path.branches()) == ["main"]
    assert result.theta == whole.theta


def test_a_walk_stops_where_r_no_longer_falls():
    engine = on_a_circle()
    far = torch.tensor([10.0, 0.0]).double()
    engine.switch("distance", None, {"reference": far})
    engine.walk(WalkRequest(method="gradient", steps=8))
    result = engine.walk(WalkRequest(method="gradient", steps=500, until_plateau=8e-3))
    assert result.reason.startswith("R changes by ")
    (plateau,) = [e for e in result.noticed if e.what == "R plateau"]
    assert plateau.at.step == 8 + result.steps
    line = engine.path.lineage()[8:]
    fall = [(p.regularizers["distance"], p.gradients) for p in line]
    rates = [(a - b) / a / (n - m) for (a, m), (b, n) in zip(fall, fall[10:], strict=False)]
    assert plateau.value == pytest.approx(rates[-1])
    assert rates[-1] < 8e-3 <= min(rates[:-1])


@pytest.mark.parametrize(("ascend", "target"), [(False, 40.0), (True, 170.0)])
def test_a_walk_lands_on_the_angle_that_it_is_asked_for(ascend, target):
    # ∇L lies along θ and ∇R along θ − a: between them is (π − φ)/2, φ the place on the circle.
    engine = on_a_circle()
    now = engine.measure().angle_deg
    assert now == pytest.approx(math.degrees((math.pi - START) / 2), abs=1e-3)
    if ascend:
        target = now / 2
    request = WalkRequest(method="gradient", steps=500, ascend=ascend, until={"angle": target})
    result = engine.walk(request)
    assert result.reason == f"angle = {target:g} reached"
    assert result.end.angle_deg == pytest.approx(target, rel=1e-4)
    assert result.noticed[-1].what == f"angle = {target:g}"
    assert around(engine.theta) == pytest.approx(math.pi - 2 * math.radians(target), abs=1e-3)


@pytest.mark.parametrize(
    ("weight", "ascend", "until", "words"),
    [
        (1.0, False, {"distance": 20.0}, "distance is 14.4.* lowers it; --ascend raises it"),
        (1.0, True, {"distance": 1.0}, "raises it; without --ascend it lowers it"),
        (-1.0, False, {"distance": 1.0}, "raises it; --ascend lowers it"),
        (1.0, False, {"angle": 10.0}, "angle is 18.3.* raises it"),
        (1.0, True, {"angle": 30.0}, "angle is 18.3.* lowers it"),
    ],
)
def test_a_value_that_lies_the_other_way_is_refused(weight, ascend, until, words):
    engine = on_a_circle()
    reference = {"reference": torch.tensor([RADIUS, 0.0]).double()}
    engine.switch("distance", weight, reference)
    before = engine.theta.clone()
    with pytest.raises(EngineError, match=words):
        engine.walk(WalkRequest(until=until, ascend=ascend))
    assert torch.equal(engine.theta, before)
    assert len(engine.path) == 1


def test_a_value_that_is_met_already_takes_no_step():
    engine = on_a_circle()
    request = WalkRequest(method="gradient", until={"distance": 5.0})
    assert engine.walk(request).steps > 0
    again = engine.walk(request)
    assert (again.steps, again.reason) == (0, "distance = 5 reached")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (WalkRequest(patience=0), "--patience must be above 0"),
        (WalkRequest(until_plateau=-1.0), "--until-plateau must be above 0"),
        (WalkRequest(until={"angle": 180.0}), "between 0 and 180"),
        (WalkRequest(until={"angles": 100.0}), "angle or a regulariser"),
    ],
)
def test_requests_out_of_range_are_refused(request_, words):
    with pytest.raises(EngineError, match=words):
        on_a_circle().walk(request_)


@pytest.mark.parametrize("place", [0.3, 2.0, 2.5, 6.99])
def test_halving_finds_the_least_of_a_valley_and_tries_points_at_hand_first(place):
    tried = []

    def value(s):
        tried.append(s)
        return 1.0 + (s - place) ** 2

    known = {float(k): value(float(k)) for k in (0, 4, 8)}
    tried.clear()
    middle = min((4.0,), key=known.__getitem__)
    if not known[0.0] >= known[4.0] <= known[8.0]:
        known |= {-4.0: value(-4.0), 12.0: value(12.0)}
        middle = min(known, key=known.__getitem__)
    found = least(known, value, middle)
    assert known[found] == min(known.values())
    assert found == pytest.approx(place, abs=0.06)
    halves = [s for s in tried if s != round(s)]
    assert tried.index(halves[0]) > 1 if halves else True


def test_halving_ends_where_there_is_no_point():
    assert least({0.0: 2.0, 1.0: 1.0, 2.0: 2.0}, lambda s: None, 1.0) == 1.0
