"""The tree of points, and PCA of a path by its Gram matrix (T8)."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from lsshell.engine import projection
from lsshell.engine.errors import EngineError
from lsshell.engine.path import Path, Point
from lsshell.engine.projection import (
    GrowingProjection,
    principal_coordinates,
)
from lsshell.engine.store import PointStore


def point(index, parent=None, *, kind="step", step=0, branch="main", test_loss=None):
    return Point(
        index=index, parent=parent, branch=branch, kind=kind, step=step, loss=0.1, level=0.1,
        tolerance=0.001, test_loss=test_loss, test_accuracy=None, test_rmse=None, regularizers={},
        angle_deg=None, implied_weight_decay=None, gradients=0, distance=0.0, length=0.0,
    )  # fmt: skip


def walked(thetas, store=None):
    path = Path(store)
    for k, theta in enumerate(thetas):
        kind = "level" if k == 0 else "step"
        path.add(point(k, k - 1 if k else None, kind=kind, step=k), {"w": theta}, keep=True)
    return path


@pytest.mark.parametrize(("steps", "columns"), [(2, 200), (5, 1), (40, 33), (131, 200)])
def test_principal_coordinates_equal_those_of_scikit_learn(monkeypatch, steps, columns):
    monkeypatch.setattr(projection, "BLOCK_BYTES", 8 * steps * columns)
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(size=(steps, 200)), 0)
    path = walked([torch.tensor(row) for row in walk])
    k = min(3, steps - 1)
    found = principal_coordinates(path, path.traversal(), ["w"], k)
    pca = PCA(k, svd_solver="full").fit(walk)
    theirs = pca.transform(walk)
    assert np.allclose(np.abs(found.coordinates.numpy()), np.abs(theirs), atol=1e-8)
    assert found.explained.numpy() == pytest.approx(pca.explained_variance_ratio_, rel=1e-9)
    assert float(found.explained.sum()) <= 1 + 1e-12


def test_a_random_walk_has_the_explained_variance_of_theory():
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.normal(size=(300, 20_000)).astype(np.float32), 0)
    path = walked([torch.tensor(row) for row in walk])
    found = principal_coordinates(path, path.traversal(), ["w"], 3)
    theory = [6 / np.pi**2 / k**2 for k in (1, 2, 3)]
    assert found.explained.tolist() == pytest.approx(theory, rel=0.05)


def test_small_moves_far_from_the_origin_keep_their_digits():
    rng = np.random.default_rng(2)
    moves = np.cumsum(rng.normal(size=(20, 50)), 0) * 1e-3
    path = walked([torch.tensor(1e3 + row) for row in moves])
    found = principal_coordinates(path, path.traversal(), ["w"], 2)
    theirs = PCA(2, svd_solver="full").fit_transform(moves)
    assert np.allclose(np.abs(found.coordinates.numpy()), np.abs(theirs), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("budget", [1 << 20, 1])
def test_any_span_of_a_point_is_read_from_memory_and_from_disk(budget):
    shapes = {"a": (3, 2, 4), "scale": (), "empty": (0, 3), "b": (7,), "left out": (2,)}
    store = PointStore(budget=budget)
    points = [{n: torch.randn(s) for n, s in shapes.items()} for _ in range(2)]
    for k, tensors in enumerate(points):
        store.keep(k, tensors)
    assert (0 in store._memory) == (budget > 1)
    names = ["a", "scale", "empty", "b"]
    theta = torch.cat([points[0][name].reshape(-1) for name in names])
    assert torch.equal(store.row(0, names), theta)
    for start in range(len(theta)):
        for stop in range(start + 1, len(theta) + 1):
            assert torch.equal(store.row(0, names, slice(start, stop)), theta[start:stop])


def test_a_point_whose_file_has_gone_is_an_error_that_names_it(tmp_path):
    store = PointStore(tmp_path, budget=1)
    for k in range(2):
        store.keep(k, {"w": torch.zeros(3)})
    store.path(0).unlink()
    with pytest.raises(EngineError, match="parameters of point 0 cannot be read"):
        store.row(0, ["w"])


def test_the_inner_products_of_a_path_read_every_point_once(monkeypatch):
    monkeypatch.setattr(projection, "BLOCK_BYTES", 8 * 6 * 10)  # six points, ten columns
    rows, read = torch.randn(6, 95, dtype=torch.float64), [0] * 6

    def row(index, span):
        part = rows[index, span]
        read[index] += len(part)
        return part

    gram = projection.gram_matrix(row, 6)
    moved = rows - rows[0]
    assert torch.allclose(gram, moved @ moved.T, rtol=1e-12)
    assert read == [95 + 95, *[95] * 5]  # the first one's length is taken too


def test_points_beyond_the_memory_budget_are_read_back_from_disk(tmp_path):
    thetas = [torch.randn(1000) for _ in range(30)]
    path = walked(thetas, PointStore(budget=5 * 4000))
    assert len(path.store._memory) <= 5
    assert all(torch.equal(path.store.get(k)["w"], t) for k, t in enumerate(thetas))


@pytest.fixture
def tree():
    """0-1-2-3 on main; from 1 a branch 4-5; another traversal 6-7."""
    path = Path()
    tensors = {"w": torch.zeros(1)}

    def add(index, parent, **kwargs):
        path.add(point(index, parent, **kwargs), tensors, keep=True)

    add(0, None, kind="level", test_loss=0.9)
    for k in (1, 2, 3):
        add(k, k - 1, step=k, test_loss=1.0 - 0.1 * k)
    add(4, 1, step=2, branch="other", test_loss=0.2)
    add(5, 4, step=3, branch="other")
    add(6, 5, kind="level", branch="other-2", test_loss=0.1)
    add(7, 6, step=1, branch="other-2")
    return path


def at(tree, index):
    tree.here, tree.branch = tree.points[index], tree.points[index].branch
    return tree


@pytest.mark.parametrize(
    ("here", "where", "found"),
    [
        (3, "start", 0), (3, "1", 1), (3, "main", 3), (1, "end", 3), (1, "3", 3), (3, "other", 5),
        (3, "other:2", 4), (3, "other:1", 1), (5, "best", 4), (7, "start", 6), (7, "best", 6),
        (5, "1", 1), (5, "2", 4),
    ],
)  # fmt: skip
def test_points_are_found_by_step_branch_and_name(tree, here, where, found):
    assert at(tree, here).find(where).index == found


@pytest.mark.parametrize("where", ["9", "nowhere", "main:9", "nowhere:1"])
def test_what_is_not_there_is_said(tree, where):
    with pytest.raises(EngineError):
        at(tree, 3).find(where)


def test_going_back_counts_steps_along_the_lineage(tree):
    assert at(tree, 5).back(2).index == 1
    with pytest.raises(EngineError, match="only 3 steps"):
        at(tree, 5).back(4)


def test_a_traversal_has_all_branches_from_its_start(tree):
    assert [p.index for p in at(tree, 5).traversal()] == [0, 1, 2, 3, 4, 5]
    assert [p.index for p in at(tree, 7).traversal()] == [6, 7]
    assert [p.index for p in at(tree, 5).lineage()] == [0, 1, 4, 5]


def test_a_step_from_the_middle_of_a_branch_starts_a_new_one(tree):
    assert at(tree, 3).branch_for_next() == "main"
    assert at(tree, 2).branch_for_next() == "main-2"


def test_pca_needs_two_points():
    path = walked([torch.zeros(3)])
    with pytest.raises(EngineError, match="walk first"):
        principal_coordinates(path, path.traversal(), ["w"])


@pytest.mark.parametrize("most", [200, 16])
def test_the_projection_of_a_growing_path_is_that_of_its_chosen_points(most):
    walk = np.cumsum(np.random.default_rng(3).normal(size=(75, 300)), 0)
    path, growing = walked([torch.tensor(row) for row in walk]), GrowingProjection()
    points = path.traversal()
    for k in (2, 3, 20, 21, 60, 75):
        found = growing.update(path.store, points[:k], ["w"], most=most)
        chosen = [p.index for p in found.points]
        assert chosen[0] == 0 and chosen[-1] == k - 1 and len(chosen) <= most + 1
        pca = PCA(min(2, k - 1), svd_solver="full").fit(walk[chosen])
        theirs = np.abs(pca.transform(walk[chosen]))
        assert np.allclose(np.abs(found.coordinates.numpy()), theirs, atol=1e-3)
        assert found.explained.numpy() == pytest.approx(pca.explained_variance_ratio_, rel=1e-4)


def test_the_projection_of_a_growing_path_has_where_one_stands():
    walk = np.cumsum(np.random.default_rng(3).normal(size=(40, 30)), 0)
    path, growing = walked([torch.tensor(row) for row in walk]), GrowingProjection()
    for here in (13, 7, 39):
        found = growing.update(path.store, path.traversal(), ["w"], path.points[here], 10)
        assert here in [p.index for p in found.points]
        assert len(found.points) <= 12


def test_the_projection_of_a_growing_path_does_not_flip():
    turn = np.linspace(0, 2 * np.pi, 60)
    circle = np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)  # the last point crosses each axis
    path, growing = walked([torch.tensor(row) for row in circle]), GrowingProjection()
    points, before = path.traversal(), None
    for k in range(30, 60):
        now = growing.update(path.store, points[:k], ["w"]).coordinates.numpy()
        if before is not None:
            assert ((before * now[: len(before)]).sum(0) > 0).all()
        before = now


def test_the_projection_of_another_traversal_starts_anew():
    growing = GrowingProjection()
    first = walked([torch.tensor([float(k), 0.0]) for k in range(5)])
    growing.update(first.store, first.traversal(), ["w"])
    path = Path(None, 5)
    for k in range(5, 9):
        kind, parent = ("level", None) if k == 5 else ("step", k - 1)
        path.add(
            point(k, parent, kind=kind, step=k), {"w": torch.tensor([0.0, 3.0 * k])}, keep=True
        )
    found = growing.update(path.store, path.traversal(), ["w"])
    assert [p.index for p in found.points] == [5, 6, 7, 8]
    assert found.explained[0] == pytest.approx(1.0)
    assert float(np.ptp(found.coordinates[:, 0].numpy())) == pytest.approx(9.0)
