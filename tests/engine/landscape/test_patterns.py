"""Multi-point optimisation: the plane, its derivative, and what can and cannot be drawn."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

from lsshell.engine.engine import Engine
from lsshell.engine.errors import EngineError
from lsshell.engine.events import Pictured, Progress
from lsshell.engine.landscape import patterns
from lsshell.engine.landscape.batch_norm import recompute_statistics
from lsshell.engine.landscape.masks import Mask, shape_mask
from lsshell.engine.landscape.patterns import PatternRequest, pattern
from lsshell.engine.landscape.plane import Plane, clip_norm
from tests.engine.small import GivenLoss, blobs, images, regression


def vectors(p, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(p, generator=g, dtype=torch.float64).to(dtype) for _ in range(3)]


def mask(*rows):
    return Mask("test", np.array(rows, dtype=np.int8))


def engine_on(data, *model, seed=0):
    engine = Engine()
    engine.data, engine.data_words, engine.seed = data, data.name, seed
    engine.build_model(model, None, {})
    return engine


def fit_of(problem, plane, picture, **request):
    return patterns._Fit(problem, plane, PatternRequest(picture, **request), 0, lambda event: None)


# -- the plane -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_axes_are_orthogonal_and_of_equal_length_and_the_right_one_points_at_its_network(dtype):
    o, up, right = vectors(50, dtype=dtype)
    plane = Plane.through(o.clone(), up, right)
    axes = plane.axes()
    u, v = axes.u.double(), axes.v.double()
    assert abs(float(u @ v)) <= 1e-6 * float(v @ v)
    assert float(u.norm()) == pytest.approx(float(v.norm()), rel=1e-6)
    torch.testing.assert_close(plane.theta(axes, 0.0, 10.0), right)  # s is 0.1
    assert float(plane.s) == pytest.approx(0.1)


def test_u_lies_in_the_plane_of_the_vectors_given_on_the_side_of_the_second():
    o, up, right = vectors(7)
    u = Plane.through(o, up, right).axes().u
    basis = torch.stack([up, right - o], dim=1)
    solved = torch.linalg.lstsq(basis, u[:, None]).solution
    torch.testing.assert_close((basis @ solved)[:, 0], u)
    assert float(solved[0]) > 0.0


def test_the_plane_is_affine_in_its_coordinates_and_its_middle_is_o():
    plane = Plane.through(*vectors(20))
    axes = plane.axes()
    theta = {(i, j): plane.theta(axes, i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    for a, b in (((-1, 0), (1, 0)), ((0, -1), (0, 1)), ((-1, -1), (1, 1)), ((1, -1), (-1, 1))):
        torch.testing.assert_close(theta[a] + theta[b], 2 * theta[0, 0])
    torch.testing.assert_close(theta[0, 0], plane.o, rtol=0, atol=0)


@pytest.mark.parametrize(("h", "w"), [(5, 7), (4, 6), (5, 6), (1, 2)])
def test_cells_lie_about_the_middle_of_the_picture_upward_and_to_the_right(h, w):
    cells = mask(*[[1] * w] * h)
    offsets = cells.offsets(1)
    assert np.allclose(offsets.mean(axis=0), 0.0)
    assert offsets[0].tolist() == [(h - 1) / 2, -(w - 1) / 2]  # the first row is on top
    assert offsets[-1].tolist() == [-(h - 1) / 2, (w - 1) / 2]
    up, right = patterns._grid(cells, 2)
    assert (up[2], right[2]) == tuple(offsets[0])
    assert (len(up), len(right)) == (h + 4, w + 4)


def test_vectors_that_span_no_plane_are_refused():
    o, up, right = vectors(5)
    with pytest.raises(EngineError, match="span no plane"):
        Plane.through(o, up, o.clone())
    with pytest.raises(EngineError, match="collapsed to a line"):
        Plane.through(o, 3.0 * (right - o), right)
    with pytest.raises(EngineError, match="one parameter"):
        Plane.through(*vectors(1))


# -- its derivative ------------------------------------------------------------------------------


def wavy(theta):
    """Not quadratic, of some 0 to 4."""
    return (1.0 + torch.sin(3.0 * theta) * theta.cos().roll(1)).square().mean()


CELLS = mask([1, -1, 1], [-1, -1, 0])


def objective(problem, parts, clip):
    plane = Plane(*parts)
    axes = plane.axes()

    def losses(kind):
        return [problem.loss(plane.theta(axes, i, j)) for i, j in CELLS.offsets(kind)]

    return np.mean(losses(1)) - np.mean(np.minimum(losses(-1), clip))


@pytest.mark.parametrize("clip", [100.0, 1.05])  # below every dark loss, and between them
def test_the_gradient_of_every_vector_and_of_s_is_that_of_finite_differences(clip):
    problem = GivenLoss(torch.zeros(6, dtype=torch.float64), wavy)
    parts = [t.clone() for t in Plane.through(*vectors(6, seed=5)).parts]
    parts[3].fill_(0.4)
    dark = [problem.loss(Plane(*parts).theta(Plane(*parts).axes(), i, j))
            for i, j in CELLS.offsets(-1)]  # fmt: skip
    assert min(dark) < 1.05 < max(dark)
    fit = fit_of(problem, Plane(*(t.clone() for t in parts)), CELLS, clip=clip, rate=1e-9)
    draws = torch.Generator().manual_seed(0)
    fit._update(
        problem.x_train, problem.y_train, draws, {k: patterns._Tally() for k in patterns.KINDS}
    )
    h = 1e-6
    for k, learned in enumerate(fit.learned):
        for n in range(len(parts[k])):
            ends = []
            for way in (h, -h):
                moved = [t.clone() for t in parts]
                moved[k][n] += way
                ends.append(objective(problem, moved, clip))
            found = float(learned.grad[n])
            assert found == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-8)


def test_a_dark_cell_past_the_clip_adds_no_gradient_and_costs_none():
    problem = GivenLoss(torch.zeros(3, dtype=torch.float64), lambda theta: theta.square().sum())
    plane = Plane.through(*vectors(3))
    loss = problem.loss(plane.o)
    for clip, backward in ((0.9 * loss, 0), (1.1 * loss, 1)):
        fit = fit_of(problem, plane, mask([1, -1]), clip=clip)
        before = problem.gradients
        fit._cell(plane.axes(), np.zeros(2), "dark", 1.0, problem.x_train, problem.y_train)
        assert problem.gradients - before == backward
        expected = -2.0 * backward * plane.o
        torch.testing.assert_close(fit.sums[0], expected)


def test_gradients_are_cut_to_a_joint_norm():
    long = [torch.full((4,), 300.0), torch.full((1,), 800.0)]
    assert clip_norm(long, 100.0) == pytest.approx(1000.0)
    assert sum(float(g.square().sum()) for g in long) ** 0.5 == pytest.approx(100.0)
    assert float(long[0][0]) == pytest.approx(30.0)
    short = [torch.full((4,), 3.0)]
    assert clip_norm(short, 100.0) == pytest.approx(6.0)
    assert float(short[0][0]) == 3.0


# -- what a quadratic cannot do ------------------------------------------------------------------


def fitted_losses(cells, updates, clip=2.5):
    target = torch.arange(1.0, 7.0, dtype=torch.float64)
    problem = GivenLoss(
        torch.zeros(6, dtype=torch.float64), lambda theta: (theta - target).square().sum()
    )
    fit = fit_of(problem, Plane.through(*vectors(6)), cells, epochs=updates, rate=0.1, clip=clip)
    fit.run()
    axes = fit.plane.axes()
    return {
        kind: [problem.loss(fit.plane.theta(axes, i, j)) for i, j in fit.offsets[kind]]
        for kind in patterns.KINDS
    }


def test_a_quadratic_fits_one_light_cell_beside_a_dark_one():
    found = fitted_losses(mask([1, -1]), 200)
    assert found["light"][0] < 0.05
    assert found["dark"][0] > 2.0


def test_a_quadratic_has_no_two_minima_with_a_dark_cell_between():
    found = fitted_losses(mask([1, -1, 1]), 150, clip=1e6)
    assert found["dark"][0] <= np.mean(found["light"]) + 1e-9


def test_a_quadratic_draws_no_checkerboard():
    # On orthogonal axes of equal length the two diagonals of a square sum to the same.
    found = fitted_losses(mask([1, -1], [-1, 1]), 50, clip=1e6)
    assert np.mean(found["light"]) == pytest.approx(np.mean(found["dark"]))


# -- networks ------------------------------------------------------------------------------------


def test_memory_is_the_same_however_many_cells_there_are():
    engine = engine_on(blobs(n=10, features=30), "mlp", "30-40-3")
    problem = engine.ready()  # p is more than the numbers of any batch or layer

    def most_vectors(picture, each):
        """How many vectors (p,) or larger there are when the last cells of an update are done."""
        held, done = [], 0

        def count(*_):
            nonlocal done
            done += 1
            if done % (2 * each) in (0, each + 1):
                found = [
                    t for t in gc.get_objects() if type(t) in (torch.Tensor, torch.nn.Parameter)
                ]
                large = {t.untyped_storage().data_ptr() for t in found if t.numel() >= problem.p}
                held.append(len(large))

        hook = problem.network[1].register_forward_hook(count)
        try:
            plane = Plane.through(*(v.float() for v in vectors(problem.p)))
            fit = fit_of(problem, plane, picture, cells=each)
            tallies = {k: patterns._Tally() for k in patterns.KINDS}
            draws = torch.Generator().manual_seed(0)
            for _ in range(2):  # the second has Adam's moments
                fit._update(problem.x_train, problem.y_train, draws, tallies)
        finally:
            hook.remove()
        return max(held)

    few = most_vectors(mask([1, -1]), 1)
    assert most_vectors(shape_mask("heart", 30), 40) == few


def test_a_plane_of_networks_draws_light_and_dark():
    engine = engine_on(blobs(n=60, features=8), "mlp", "8-16-3")
    heard = []
    engine.listen = heard.append
    cells = mask([1, -1, 1], [-1, 1, -1], [1, -1, 1])
    request = PatternRequest(cells, epochs=100, batch=60, rate=0.03, padding=1)
    found = pattern(engine, request)
    light, dark = found.mean("train", "light"), found.mean("train", "dark")
    assert light[1] - dark[1] > 0.4
    assert light[0] < 0.7 and dark[0] > 1.5
    assert found.train.loss.shape == (5, 5)
    pictures = [e for e in heard if isinstance(e, Pictured)]
    assert len(pictures) == found.epochs
    assert np.shape(pictures[-1].values) == (3, 3)
    shown = np.array(pictures[-1].values)
    assert shown[cells.cells > 0].mean() - shown[cells.cells < 0].mean() > 0.4
    assert [e.done for e in heard if isinstance(e, Progress)][99] == 100


def test_scores_are_those_of_the_networks_on_their_own_sets():
    data = blobs(n=30, features=4)
    other = blobs(n=21, features=4, seed=7)
    data = replace(data, x_test=other.x_train, y_test=other.y_train)
    engine = engine_on(data, "mlp", "4-5-3")
    problem = engine.ready()
    found = pattern(engine, PatternRequest(mask([1, -1], [-1, -1]), epochs=2, padding=1))
    axes = found.plane.axes()
    for row, i in enumerate(found.up):
        for column, j in enumerate(found.right):
            theta = found.plane.theta(axes, i, j)
            for split, scored in (("train", found.train), ("test", found.test)):
                metrics = problem.metrics(theta, split)
                assert scored.loss[row, column] == pytest.approx(metrics.loss)
                assert scored.accuracy[row, column] == pytest.approx(metrics.accuracy)
    assert found.mean("test", "light")[0] == pytest.approx(found.test.loss[1, 1])
    dark = found.train.accuracy[[1, 2, 2], [2, 1, 2]]
    assert found.mean("train", "dark")[1] == pytest.approx(dark.mean())


def test_with_batch_norm_cells_are_scored_with_statistics_of_their_own():
    engine = engine_on(images(n=24), "cnn-bn", "4-d6")
    problem = engine.ready()
    found = pattern(engine, PatternRequest(mask([1, -1]), epochs=3, batch=8, padding=0))
    theta = found.plane.theta(found.plane.axes(), 0.0, 0.5)
    stale = problem.metrics(theta, "train").loss
    recompute_statistics(problem, theta)
    assert found.train.loss[0, 1] == pytest.approx(problem.metrics(theta, "train").loss)
    assert abs(found.train.loss[0, 1] - stale) > 1e-3


@pytest.mark.parametrize("model", [("mlp", "5-4-3"), ("mlp-bn", "5-4-3")])
def test_the_engine_is_as_it_was(model):
    engine = engine_on(blobs(), *model)
    problem = engine.ready()
    problem.loss_and_gradient(engine.problem_theta())
    before = [t.clone() for t in (engine.theta, problem.theta, problem._gradient)]
    buffers = {n: b.clone() for n, b in problem.network.named_buffers()}
    pattern(engine, PatternRequest(mask([1, -1]), epochs=2))
    assert problem.gradients == 1
    for was, now in zip(before, (engine.theta, problem.theta, problem._gradient), strict=True):
        assert torch.equal(was, now)
    for name, buffer in problem.network.named_buffers():
        assert torch.equal(buffer, buffers[name])
    assert all(getattr(m, "track_running_stats", True) for m in problem.network.modules())
    assert not any(m.training for m in problem.network.modules())


def test_it_ends_where_the_accuracies_differ_as_asked():
    engine = engine_on(blobs(n=60, features=8), "mlp", "8-16-3")
    request = PatternRequest(mask([1, -1]), epochs=500, rate=0.02, until_difference=0.4)
    found = pattern(engine, request)
    assert found.reason == "accuracies differ by 0.4"
    assert found.difference >= 0.4
    assert found.epochs < 500


def test_it_gives_up_where_there_is_no_contrast(monkeypatch):
    monkeypatch.setattr(patterns, "FEWEST_JUDGED", 30)
    engine = engine_on(blobs(), "mlp", "5-4-3")
    found = pattern(engine, PatternRequest(mask([1, -1]), epochs=99, rate=1e-12, clip=1e-3))
    assert found.epochs == 30
    assert found.reason.startswith("no contrast after 30 epochs")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"batch": -1}, "--batch must be at least 1"),
        ({"cells": 0}, "--cells must be at least 1"),
        ({"examples": 0}, "--examples must be at least 1"),
        ({"rate": float("nan")}, "--rate must be a number above 0"),
        ({"clip": float("inf")}, "--clip must be a number above 0"),
        ({"padding": -1}, "--padding must be from 0"),
        ({"until_difference": 1.5}, "at most 1"),
        ({"mask": mask([1, 1])}, "no dark cells"),
        ({"rate": 1e30}, "lower --rate|collapsed"),
    ],
)
def test_what_cannot_be_is_refused_in_words(options, message):
    engine = engine_on(blobs(), "mlp", "5-4-3")
    with pytest.raises(EngineError, match=message):
        pattern(engine, PatternRequest(**{"mask": mask([1, -1]), **options}))


def test_regression_and_networks_that_cannot_be_made_anew_are_refused():
    engine = engine_on(regression(), "mlp", "3-4-1")
    with pytest.raises(EngineError, match="needs classes"):
        pattern(engine, PatternRequest(mask([1, -1])))
    engine = engine_on(blobs(), "mlp", "5-4-3")
    engine._rebuild = None
    with pytest.raises(EngineError, match="say `model`"):
        pattern(engine, PatternRequest(mask([1, -1])))
    engine = engine_on(blobs(), "mlp-bn", "5-4-3")
    with pytest.raises(EngineError, match="at least two examples"):
        pattern(engine, PatternRequest(mask([1, -1]), batch=1))
