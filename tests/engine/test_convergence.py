"""How each step was made, as it is put on record."""

import json
from itertools import pairwise

import pytest
import torch

from lsshell.engine import WalkRequest
from lsshell.engine.convergence import Convergence, turning
from lsshell.engine.events import Refused
from lsshell.engine.levelset import split
from lsshell.engine.path import Point
from tests.engine.test_walk_events import on_a_circle


@pytest.fixture(scope="module", params=["gradient", "quasi-newton", "paper"])
def walked(request):
    engine = on_a_circle()
    engine.fix_level(None, 1e-3)
    tensor = torch.tensor([2.0, 0.0]).double()
    engine.switch("distance", None, {"reference": tensor})
    engine.method = request.param
    engine.result = engine.walk(WalkRequest(method=request.param, steps=18, record=1))
    return engine


def steps(engine):
    return [p for p in engine.path.lineage() if p.kind == "step"]


def test_residuals_run_from_the_predictor_to_the_point(walked):
    for p in steps(walked):
        made = p.convergence
        assert made.residuals[-1] == pytest.approx(p.loss - p.level, abs=1e-15)
        if len(made.residuals) > 1:
            assert made.contraction == abs(made.residuals[1] / made.residuals[0])
        else:
            assert made.contraction is None
            assert p.corrections == 0


def test_on_a_circle_newton_residuals_are_the_known_ones(walked):
    for k, (before, p) in enumerate(pairwise([walked.path.start(), *steps(walked)])):
        first = p.convergence.residuals[0]
        # A tangent predictor of length h leaves h²/2 but for the re-centring of what was left;
        # an eager stepper knows of that from its second step.
        left = 2 * abs(before.loss - before.level) + 1e-9
        if walked.method != "quasi-newton" or k == 0:
            assert first == pytest.approx(p.rate**2 / 2, abs=left)
        else:
            assert abs(first) < 0.1 * p.rate**2 / 2 + left


def test_decreases_and_gradients_add_up_to_the_walks(walked):
    made = [p.convergence for p in steps(walked)]
    start = float((walked.problem.theta.new_tensor([2.0, 0.0]) - _theta(walked, 0)).square().sum())
    end = walked.result.end.regularizers["distance"]
    assert sum(m.decrease for m in made) == pytest.approx(start - end)
    spent = [p.gradients for p in (walked.path.start(), *steps(walked))]
    assert [m.gradients for m in made][1:-1] == [b - a for a, b in pairwise(spent)][1:-1]


def _theta(engine, index):
    start = engine.path.lineage()[index]
    return engine.problem.flat(engine.path.store.get(start.index))


def test_short_steps_fall_as_the_tangent_predicts(walked):
    made = [p.convergence for p in steps(walked)[:4]]
    if made[0].predicted is None:
        assert walked.result.steps  # paper has no model
        return
    assert [m.decrease for m in made] == pytest.approx([m.predicted for m in made], rel=0.05)


def test_refused_trials_are_on_record_with_their_reason():
    engine = on_a_circle()
    result = engine.walk(WalkRequest(method="gradient", steps=24))
    told = [(e.length, e.why) for e in engine.events if isinstance(e, Refused)]
    assert [r for p in steps(engine) for r in p.convergence.refused] == told
    # Close to the target a step as long as the last one leads past it.
    assert result.refused == len(told) > 0
    assert {why for _, why in told} == {"R did not come down"}


def test_turning_is_the_angle_between_tangents():
    g = torch.tensor([0.0, 0.0, 1.0])

    def along(x, y):
        return split(torch.tensor([x, y, 7.0]), g)

    assert turning(along(1.0, 0.0), along(1.0, 1.0)) == pytest.approx(45.0, abs=1e-4)
    assert turning(along(1.0, 0.0), along(-3.0, 0.0)) == 180.0
    assert turning(along(1.0, 0.0), along(0.0, 0.0)) is None


def test_a_point_comes_back_from_json_and_from_sessions_before_there_were_reports(walked):
    for p in steps(walked):
        fields = json.loads(json.dumps(p.as_dict()))
        assert Point.from_dict(fields) == p
        del fields["convergence"]
        assert Point.from_dict(fields).convergence is None
    assert isinstance(steps(walked)[0].convergence, Convergence)
