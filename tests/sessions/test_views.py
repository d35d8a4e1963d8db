"""What a screen shows of a session: only values that can be compared with one another."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lsshell.engine.path import Path, Point
from lsshell.engine.projection import Projection
from lsshell.sessions.plots import Traversal, curve_figure, make_figure, outline, path_figure
from lsshell.sessions.resume import resume
from lsshell.sessions.session import Session
from lsshell.sessions.view import RegularizerView, View, look, objective
from tests.sessions.conversation import SETUP, results, talk

WALKED = SETUP + "walk --steps 6 --record 1 --measure 1\n"
WALK = "walk --steps 4 --record 1 --measure 1"


def seen(session: Session) -> View:
    return look(session, Traversal.of(session.engine.path))


def elastic(session: Session) -> RegularizerView:
    return next(r for r in seen(session).regularizers if r.name == "elastic")


def theta(session: Session, point: Point) -> torch.Tensor:
    """θ of a kept point, in float64."""
    engine = session.engine
    return engine.problem.flat(engine.path.store.get(point.index)).double()


def absolute(session: Session, point: Point) -> float:
    """Σ√(θ² + ε²): the elastic net whose share of L1 is all, with its present smoothing."""
    eps = session.engine.sum.terms["elastic"][0].eps
    return float((theta(session, point).square() + eps**2).sqrt().sum())


def net(session: Session, point: Point) -> float:
    """Half of Σ|θ| and half of Σθ²: the elastic net as it is unless said otherwise."""
    at = theta(session, point)
    return float(0.5 * at.abs().sum() + 0.5 * at.square().sum())


def relative(session: Session) -> dict[float, float]:
    """The curve of the elastic net by step, relative to its start."""
    found = make_figure(session.engine, "regularizers", "steps", "step")
    return next((dict(zip(s.x, s.y, strict=True)) for s in found.series if s.name == "elastic"), {})


def column(session: Session) -> list[float | None]:
    """R of every point from the start to here, as the table of steps has it."""
    view, path = seen(session), session.engine.path
    return [objective(p, view.weights, view.since) for p in path.lineage()]


# -- regularisers that are switched on on the way ------------------------------------------------


@pytest.fixture
def switched() -> Session:
    """Six steps were walked and recorded; then the elastic net was switched on as L1 alone."""
    return talk(None, f"{WALKED}reg elastic on --ratio 1.0", record=False)


def test_the_change_of_other_options_than_recorded_is_of_these_options_alone(switched):
    path = switched.engine.path
    start = absolute(switched, path.start())
    assert not math.isclose(start, path.start().regularizers["elastic"], rel_tol=0.05)
    for _ in range(2):
        found = elastic(switched)
        assert found.first == pytest.approx(start, rel=1e-5)
        assert found.value == pytest.approx(absolute(switched, path.here), rel=1e-5)
        assert found.change == pytest.approx(found.value / start - 1.0)
        results(switched, WALK)
    assert found.since == 7
    assert path.points[7].step == 6


def test_the_objective_is_shown_only_where_it_is_of_the_present_options(switched):
    assert column(switched) == [None] * 7
    results(switched, WALK)
    *before, a, b, c, d = column(switched)
    assert before == [None] * 7
    points = switched.engine.path.lineage()[-4:]
    expected = [float(theta(switched, p).square().sum()) + absolute(switched, p) for p in points]
    assert [a, b, c, d] == pytest.approx(expected, rel=1e-5)


def test_the_relative_curve_begins_where_its_options_do(switched):
    assert relative(switched) == {}
    results(switched, WALK)
    start = absolute(switched, switched.engine.path.start())
    points = switched.engine.path.lineage()[-4:]
    expected = {p.step: absolute(switched, p) / start for p in points}
    assert relative(switched) == pytest.approx(expected, rel=1e-5)
    assert list(expected) == [7, 8, 9, 10]


def test_the_curve_on_the_screen_is_that_of_the_command(switched):
    results(switched, WALK)
    view, traversal = seen(switched), Traversal.of(switched.engine.path)
    first = {"elastic": elastic(switched).first}
    (drawn,) = curve_figure(
        traversal, "regularizers", "steps", log=False, start=first, since=view.since
    ).series
    assert dict(zip(drawn.x, drawn.y, strict=True)) == pytest.approx(relative(switched))


@pytest.mark.parametrize(
    "line", ["reg elastic on", "reg elastic 0.3", "reg elastic on --ratio 0.5"]
)
def test_with_the_options_that_were_recorded_everything_recorded_is_used(line):
    session = talk(None, WALKED + line, record=False)
    path, weight = session.engine.path, 0.3 if "0.3" in line else 1.0
    points = path.lineage()
    found = elastic(session)
    assert seen(session).since == {}
    assert found.first == path.start().regularizers["elastic"]
    assert found.value == path.here.regularizers["elastic"]
    values = {p.step: net(session, p) for p in points}
    assert found.first == pytest.approx(values[0], rel=1e-3)
    assert relative(session) == pytest.approx(
        {step: value / values[0] for step, value in values.items()}, rel=1e-3
    )
    squares = [float(theta(session, p).square().sum()) for p in points]
    expected = [a + weight * b for a, b in zip(squares, values.values(), strict=True)]
    assert column(session) == pytest.approx(expected, rel=1e-3)


def test_before_the_point_of_switching_on_nothing_is_comparable(switched):
    results(switched, "goto 2")
    found = elastic(switched)
    assert found.on
    assert found.value is None is found.change
    assert column(switched) == [None] * 3
    results(switched, "walk --steps 2 --record 1 --measure 1")
    path = switched.engine.path
    start = absolute(switched, path.start())
    assert elastic(switched).change == pytest.approx(
        absolute(switched, path.here) / start - 1.0, rel=1e-4
    )
    assert relative(switched).keys() == {3, 4}


def test_a_new_start_forgets_where_options_were_changed(switched):
    results(switched, f"level\nreg elastic on --ratio 1.0\n{WALK}")
    assert elastic(switched).change is not None
    assert relative(switched).keys() >= {1, 2, 3, 4}


def test_switched_off_again_no_value_of_other_options_is_compared(switched):
    results(switched, f"{WALK}\nreg elastic off")
    path = switched.engine.path
    truth = net(switched, path.here) / net(switched, path.start()) - 1.0
    found = elastic(switched)
    assert not found.on
    assert found.change is None or found.change == pytest.approx(truth, rel=1e-2)
    curve = relative(switched)
    expected = {p.step: net(switched, p) / net(switched, path.start()) for p in path.lineage()}
    assert curve == pytest.approx({step: expected[step] for step in curve}, rel=1e-3)


def test_looking_at_a_regulariser_costs_no_gradient_of_the_walk(switched):
    spent = switched.engine.problem.gradients
    other = talk(None, WALKED, record=False)
    assert spent == other.engine.problem.gradients
    seen(switched)
    assert switched.engine.problem.gradients == spent


def test_a_resumed_session_shows_what_it_showed(tmp_path):
    session = talk(tmp_path / "s", f"{WALKED}reg elastic on --ratio 1.0\n{WALK}\nreg l1 on")
    before = seen(session).regularizers
    session.close()
    again, _ = resume(tmp_path / "s")
    assert seen(again).regularizers == before
    again.close()


# -- the path in a plane -----------------------------------------------------------------------


def point(index: int, parent: int | None, branch: str, step: int, test: float | None) -> Point:
    return Point(
        index=index, parent=parent, branch=branch, kind="step" if step else "level", step=step,
        loss=0.25, level=0.25, tolerance=0.01, test_loss=test, test_accuracy=None, test_rmse=None,
        regularizers={}, angle_deg=None, implied_weight_decay=None, gradients=step, distance=0.0,
        length=0.0, kept=True,
    )  # fmt: skip


def forked() -> Path:
    """main 0 … 4 and, from step 2 of it, two steps of main-2; not all tests were taken."""
    path = Path()
    tests = [0.9, None, 0.7, None, 0.8, None, 0.6]
    for k in range(5):
        path.restore(point(k, k - 1 if k else None, "main", k, tests[k]))
    path.restore(point(5, 2, "main-2", 3, tests[5]))
    path.restore(point(6, 5, "main-2", 4, tests[6]))
    return path


def projected(path: Path, *left_out: int) -> Projection:
    """Every point at (index, −index), but for those that the projection leaves out."""
    points = [p for p in path.points.values() if p.index not in left_out]
    coordinates = torch.tensor([[float(p.index), -float(p.index)] for p in points])
    return Projection(tuple(points), coordinates, torch.tensor([0.75, 0.25]))


def of_branch(path: Path, projection: Projection) -> dict[str, dict[float, float]]:
    """Shade by the index of the point, for each branch."""
    traversal = Traversal.of(path)
    figure = path_figure(traversal, projection, "test-loss")
    return {
        s.name: dict(zip(s.x, s.shade, strict=True)) for s in figure.series if s.style == "points"
    }


def test_points_that_were_not_tested_are_shaded_by_the_latest_test_before_them():
    path = forked()
    assert of_branch(path, projected(path)) == {
        "main": {0.0: 0.9, 1.0: 0.9, 2.0: 0.7, 3.0: 0.7, 4.0: 0.8},
        "main-2": {2.0: 0.7, 5.0: 0.7, 6.0: 0.6},
    }


def test_the_latest_test_counts_even_where_its_own_point_is_not_projected():
    path = forked()
    assert of_branch(path, projected(path, 2, 6)) == {
        "main": {0.0: 0.9, 1.0: 0.9, 3.0: 0.7, 4.0: 0.8},
        "main-2": {5.0: 0.7},
    }


def test_points_before_any_test_have_no_shade_and_no_place():
    path = forked()
    for k in (0, 2):
        path.points[k] = replace(path.points[k], test_loss=None)
    assert of_branch(path, projected(path)) == {"main": {4.0: 0.8}, "main-2": {6.0: 0.6}}


def marked(path: Path, projection: Projection) -> dict[str, float]:
    figure = path_figure(Traversal.of(path), projection, "step")
    return {s.name: s.x[0] for s in figure.series if s.style == "mark"}


def test_now_is_marked_at_the_latest_projected_point_on_the_way_to_here():
    path = forked()
    assert marked(path, projected(path))["now"] == 6.0
    assert marked(path, projected(path, 6))["now"] == 5.0
    assert marked(path, projected(path, 5, 6))["now"] == 2.0  # not 4: that is another branch
    path.here = path.points[3]
    assert marked(path, projected(path))["now"] == 3.0
    assert marked(path, projected(path, 3))["now"] == 2.0


# -- the best point ----------------------------------------------------------------------------


@st.composite
def trees(draw: st.DrawFn) -> Path:
    """Points of several branches, some tested and some kept, and a place among them."""
    path = Path()
    count = draw(st.integers(1, 12))
    losses = draw(st.permutations([k / 16 for k in range(count)]))
    for k in range(count):
        parent = draw(st.integers(0, k - 1)) if k else None
        above = path.points[parent] if parent is not None else None
        goes_on = above is not None and not any(p.parent == parent for p in path.points.values())
        branch = above.branch if goes_on and above else f"b{k}"
        made = point(k, parent, branch, above.step + 1 if above else 0, losses[k])
        tested, kept = draw(st.booleans()), k == 0 or draw(st.booleans())
        path.restore(replace(made, test_loss=losses[k] if tested else None, kept=kept))
    path.here = path.points[draw(st.integers(0, count - 1))]
    return path


@given(trees())
def test_the_best_point_is_where_goto_best_goes(path):
    best = Traversal.of(path).best
    if best is None:
        assert not any(p.kept and p.test_loss is not None for p in path.points.values())
    else:
        assert best is path.find("best")


def test_of_points_that_are_as_good_the_best_is_the_one_where_goto_best_goes():
    path = forked()
    path.restore(point(7, 4, "main", 5, 0.6))
    assert Traversal.of(path).best is path.find("best")


def test_the_best_point_of_a_walk_is_where_goto_best_goes():
    session = talk(None, f"{WALKED}goto 2\nreg l1 on\n{WALK}", record=False)
    best = Traversal.of(session.engine.path).best
    results(session, "goto best")
    assert session.engine.path.here is best


# -- outlines ----------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 400), st.integers(4, 60))
def test_an_outline_keeps_ends_extremes_and_the_order_of_the_path(seed, count, most):
    draw = Random(seed).uniform
    heights = [draw(-1.0, 1.0) for _ in range(count)]
    pairs = [(draw(-1.0, 1.0), y) for y in heights]  # x may rise and fall
    kept = list(outline(pairs, most))
    assert kept[0] == pairs[0]
    assert kept[-1] == pairs[-1]
    assert min(y for _, y in kept) == min(heights)
    assert max(y for _, y in kept) == max(heights)
    where = {id(pair): k for k, pair in enumerate(pairs)}
    places = [where[id(pair)] for pair in kept]
    assert places == sorted(places)
    assert len(kept) <= max(2 * most, most + 4)


def test_the_outline_of_a_curve_that_runs_back_runs_back():
    pairs = [(float(-k), float(k % 7)) for k in range(1000)]
    kept = outline(pairs, 100)
    assert 40 < len(kept) < 110
    assert [x for x, _ in kept] == sorted((x for x, _ in kept), reverse=True)
