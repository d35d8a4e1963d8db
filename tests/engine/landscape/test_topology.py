"""Persistence, merge trees and cuts of fields on a grid, against answers known otherwise."""

import itertools
import json

import numpy as np
import pytest

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.landscape.merge_tree import connecting_level, loops, merge_tree
from lsshell.engine.landscape.topology import cut, topology


def diagram(values, **kwargs):
    """(birth, death) of all pairs, sorted."""
    return sorted((p.birth, p.death) for p in merge_tree(values, **kwargs).pairs)


def rugged(n, m=None, seed=0):
    """Distinct values in random order."""
    values = np.random.default_rng(seed).permutation(n * (m or 1)).astype(float)
    return values if m is None else values.reshape(n, m)


def axes(n, far=1.0):
    x = np.linspace(-far, far, n)
    return np.meshgrid(x, x, indexing="ij")


# -- answers on paper ----------------------------------------------------------------------------


def test_two_minima_and_a_saddle_on_a_line_are_paired_by_age():
    found = topology([3, 1, 2, 0, 4])
    assert diagram([3, 1, 2, 0, 4]) == [(0, 4), (1, 2)]
    assert (found.minima, found.smad, found.smad_elder) == (2, 1.5, 1.0)
    assert (found.total_persistence, found.most_persistence, found.range) == (1, 1, 4)
    first, second = found.tree.pairs
    assert (first.minimum, first.saddle) == ((3,), None)
    assert (second.minimum, second.saddle) == ((1,), (2,))
    assert found.smad_share == 0.375
    assert found.minima_inside == 2


def test_a_bowl_is_one_component_without_a_saddle():
    x, y = axes(9)
    found = topology(x**2 + y**2, with_loops=True)
    assert (found.minima, found.smad, found.smad_elder, found.total_persistence) == (1, 0, 0, 0)
    assert [n.kind for n in found.tree.nodes] == ["minimum", "maximum"]
    assert found.loops == ()


def test_a_double_well_has_two_minima_of_0_that_meet_at_1_in_the_middle():
    x, y = axes(41, far=2.0)
    found = topology((x**2 - 1) ** 2 + y**2)
    assert diagram((x**2 - 1) ** 2 + y**2)[0] == pytest.approx((0, 1), abs=1e-12)
    assert found.minima == 2
    assert found.tree.pairs[1].saddle == (20, 20)
    assert found.smad == pytest.approx(1.0)
    assert found.smad_elder == pytest.approx(1.0)


@pytest.mark.parametrize("q", [1, 2, 3])
def test_waves_have_as_many_minima_and_loops_as_they_have_troughs_and_crests_inside(q):
    x, y = axes(12 * q + 1, far=0.5)
    found = topology(np.cos(2 * np.pi * q * x) * np.cos(2 * np.pi * q * y), with_loops=True)
    # −1 at (k, l)/(2q), k + l odd, k and l from −q to q; 1 where it is even: loops inside.
    troughs = [(k + l) % 2 for k in range(-q, q + 1) for l in range(-q, q + 1)]  # noqa: E741
    crests = [(k + l) % 2 == 0 for k in range(1 - q, q) for l in range(1 - q, q)]  # noqa: E741
    assert found.minima == sum(troughs)
    assert found.minima_inside == (2 * q - 1) ** 2 - sum(crests)
    assert len(found.loops) == sum(crests)
    assert found.loops[0].death == pytest.approx(1.0)


def test_a_ring_with_a_peak_within_is_one_loop():
    x, y = axes(21)
    radius = np.hypot(x, y)
    (ring,) = loops((radius - 0.5) ** 2, threshold=0.01)
    assert ring.maximum == (10, 10)
    assert ring.death == pytest.approx(0.25)
    assert ring.birth < 0.01


def test_several_components_may_meet_at_one_saddle():
    field = [[0, 9, 1], [9, 5, 9], [2, 9, 9]]
    # The diagonal that goes from (0, 0) to (2, 2) joins 0 and 5; 1 and 2 are beside it.
    tree = merge_tree([[9, 0, 9], [1, 5, 9], [9, 9, 2]])
    assert sorted((p.birth, p.death) for p in tree.pairs) == [(0, 9), (1, 5), (2, 5)]
    (saddle,) = (k for k, n in enumerate(tree.nodes) if n.kind == "saddle")
    assert [n.parent for n in tree.nodes if n.kind == "minimum"] == [saddle] * 3
    assert [n.size for n in tree.nodes if n.kind == "minimum"] == [1, 1, 1]
    assert tree.nodes[saddle].size == 4
    assert len(merge_tree(field).pairs) == 3


def test_plateaus_make_no_minima():
    assert diagram(np.zeros((5, 4))) == [(0, 0)]
    assert diagram([1, 1, 0, 1, 1, 0, 0, 2]) == [(0, 1), (0, 2)]
    snake = np.ones((5, 5))
    snake[0], snake[1, 4], snake[2], snake[3, 0], snake[4] = 0, 0, 0, 0, 0
    assert diagram(snake) == [(0, 1)]
    assert topology(np.full((3, 3), 2.5)).smad_share == 0


def test_what_persists_less_than_asked_leaves_tree_and_measures():
    field = [0, 3, 2.9, 5, 1, 9]  # a dip of 0.1 on the way up
    assert topology(field, eps=0).minima == 3
    found = topology(field, eps=0.05)
    assert (found.minima, found.total_persistence, found.smad) == (2, 4, (5 + 4) / 2)
    assert sum(n.kind == "saddle" for n in found.tree.nodes) == 1


# -- against other programs ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_on_a_line_gudhi_finds_the_same_diagram(seed):
    gudhi = pytest.importorskip("gudhi")
    field = rugged(80, seed=seed)
    cubes = gudhi.CubicalComplex(vertices=field)
    cubes.compute_persistence(min_persistence=0)
    found = [tuple(pair) for pair in cubes.persistence_intervals_in_dimension(0)]
    assert diagram(field) == sorted((b, min(d, field.max())) for b, d in found)


@pytest.mark.parametrize("seed", range(3))
def test_in_the_plane_gudhi_finds_the_same_components_and_loops(seed):
    gudhi = pytest.importorskip("gudhi")
    field = rugged(13, 17, seed)
    simplices = gudhi.SimplexTree()
    at = {cell: k for k, cell in enumerate(np.ndindex(field.shape))}
    for i, j in itertools.product(range(12), range(16)):
        for corner in ((i + 1, j), (i, j + 1)):  # two triangles on one diagonal
            simplices.insert([at[i, j], at[corner], at[i + 1, j + 1]])
    for cell, k in at.items():
        simplices.assign_filtration([k], field[cell])
    for simplex, _ in simplices.get_filtration():
        simplices.assign_filtration(simplex, max(field.flat[k] for k in simplex))
    simplices.compute_persistence(min_persistence=0, persistence_dim_max=True)
    components = simplices.persistence_intervals_in_dimension(0)
    rings = simplices.persistence_intervals_in_dimension(1)
    assert diagram(field) == sorted((b, min(d, field.max())) for b, d in components)
    assert sorted((p.birth, p.death) for p in loops(field)) == sorted(map(tuple, rings))


def test_where_no_diagonal_matters_the_cubical_complex_of_gudhi_agrees():
    gudhi = pytest.importorskip("gudhi")
    x, y = axes(31, far=1.4)
    field = (x**2 - 1) ** 2 + (y**2 - 1) ** 2 + 0.1 * x + 0.2 * y
    cubes = gudhi.CubicalComplex(vertices=field)
    cubes.compute_persistence(min_persistence=1e-9)
    found = sorted((b, min(d, field.max())) for b, d in cubes.persistence_intervals_in_dimension(0))
    assert np.array(diagram(field)) == pytest.approx(np.array(found))
    assert len(found) == 4


def test_persistence_is_stable():
    """The bottleneck distance of two diagrams is at most max |f − g|."""
    gudhi = pytest.importorskip("gudhi")
    draw = np.random.default_rng(1)
    field = rugged(15, 15, 3) / 100
    for size in (0.01, 0.3, 2.0):
        other = field + draw.uniform(-size, size, field.shape)
        apart = gudhi.bottleneck_distance(diagram(field), diagram(other))
        assert 0 < apart <= np.abs(field - other).max()
        apart = gudhi.bottleneck_distance(
            [(p.birth, p.death) for p in loops(field)], [(p.birth, p.death) for p in loops(other)]
        )
        assert apart <= np.abs(field - other).max()


# -- invariances ---------------------------------------------------------------------------------


def test_scaling_and_shifting_the_field_scales_persistence():
    field = rugged(12, 9)
    a, b = topology(field), topology(2 * field + 3)
    assert b.total_persistence == 2 * a.total_persistence
    assert (b.smad, b.minima, b.smad_share) == (2 * a.smad, a.minima, a.smad_share)


@pytest.mark.parametrize("turn", [np.transpose, lambda f: f[::-1, ::-1], lambda f: f.T[::-1, ::-1]])
def test_transposing_and_turning_the_grid_by_half_changes_nothing(turn):
    field = rugged(11, 14)
    assert diagram(turn(field)) == diagram(field)
    a, b = topology(field, with_loops=True), topology(turn(field), with_loops=True)
    assert b.smad == pytest.approx(a.smad, rel=1e-12)
    assert [(p.birth, p.death) for p in a.loops] == [(p.birth, p.death) for p in b.loops]


def test_equal_values_make_the_same_diagram_whichever_way_the_grid_lies():
    field = np.random.default_rng(5).integers(0, 4, (14, 14)).astype(float)
    assert diagram(field.T) == diagram(field)
    assert diagram(field[::-1, ::-1]) == diagram(field)
    assert len(diagram(field)) > 3


def test_a_finer_grid_converges():
    def depth(n):
        x, y = axes(n, far=1.6)
        return topology((x**2 - 1) ** 2 + y**2 + 0.2 * x).most_persistence

    x = np.roots([4, 0, -4, 0.2]).real  # the critical points of the well along y = 0
    values = sorted((x**2 - 1) ** 2 + 0.2 * x)
    exact = values[2] - values[1]
    errors = [abs(depth(n) - exact) for n in (11, 41, 161)]
    assert errors[2] < 1e-3
    assert errors[0] > errors[1] > errors[2]


# -- level sets ----------------------------------------------------------------------------------


def test_two_wells_are_connected_from_the_level_of_their_saddle_on():
    x, y = axes(21, far=2.0)
    field = (x**2 - 1) ** 2 + y**2
    wells = ((5, 10), (15, 10))
    assert connecting_level(field, *wells) == pytest.approx(1.0)
    below, above = cut(field, 0.99, wells), cut(field, 1.0, wells)
    assert (below.components, below.connected()) == (2, False)
    assert (above.components, above.connected()) == (1, True)
    assert cut(field, -1.0, wells).components == 0
    assert not cut(field, -1.0, wells).connected()
    assert cut(field, 100.0).share == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_components_are_those_that_scipy_labels(seed):
    ndimage = pytest.importorskip("scipy.ndimage")
    field = rugged(12, 15, seed)
    near = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]])
    pairs = merge_tree(field).pairs
    for level in (10.0, 60.0, 100.0, 170.0):
        found = cut(field, level)
        assert found.components == ndimage.label(field <= level, near)[1]
        # As many as were born and have not died.
        alive = sum(p.birth <= level and (p.death > level or p.saddle is None) for p in pairs)
        assert found.components == alive


def test_the_connecting_level_is_where_a_cut_first_connects():
    field = rugged(9, 9, 2)
    cells = ((0, 0), (8, 3))
    level = connecting_level(field, *cells)
    assert cut(field, level, cells).connected()
    assert not cut(field, level - 0.5, cells).connected()
    assert connecting_level(field, (2, 2), (2, 2)) == field[2, 2]


# -- as files, and what is refused ---------------------------------------------------------------


def test_a_tree_is_json_with_one_root():
    tree = merge_tree(rugged(6, 6))
    read = json.loads(json.dumps(tree.as_json()))
    assert sum(node["parent"] is None for node in read["nodes"]) == 1
    for node in read["nodes"]:
        if node["parent"] is not None:
            assert read["nodes"][node["parent"]]["value"] >= node["value"]
    assert len(read["pairs"]) == sum(n["kind"] == "minimum" for n in read["nodes"])


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ([1, float("nan"), 2], r"1 of 3 cells are NaN or infinite, the first at \(1\)"),
        ([[1, 2], [float("inf"), 0]], r"the first at \(1, 0\)"),
        (np.zeros((2, 2, 2)), "1-D or 2-D grid"),
        (3.0, "1-D or 2-D grid"),
        ([], "1-D or 2-D grid"),
        ([[1, 2], [3]], "all rows of one length"),
        (["a"], "numbers"),
        ([-1.7e308, 1.7e308], "span more"),
    ],
)
def test_a_field_with_which_nothing_can_be_done_is_refused(field, message):
    with pytest.raises(EngineError, match=message):
        topology(field)


def test_other_bad_input_is_refused():
    for eps in (-0.1, 1.0, float("nan")):
        with pytest.raises(EngineError, match="--eps"):
            topology([1, 2, 3], eps)
    with pytest.raises(EngineError, match="2-D"):
        loops([1, 2, 3])
    with pytest.raises(EngineError, match="not on the grid"):
        connecting_level([1, 2, 3], (0,), (3,))
    with pytest.raises(EngineError, match="not on the grid"):
        cut([1, 2, 3], 2, ((-1,),))
    with pytest.raises(EngineError, match="no number"):
        cut([1, 2, 3], float("nan"))


def test_it_stops_when_asked_to():
    with pytest.raises(Cancelled):
        topology([1, 2, 3], cancelled=lambda: True)
