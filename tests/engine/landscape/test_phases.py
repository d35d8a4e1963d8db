"""Phase tables: the published one, the rule that names regions, reading, rank correlation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.phases import (
    MEASURES,
    Cell,
    PhaseTable,
    Thresholds,
    read_phases,
    region_of,
)
from lsshell.engine.landscape.rank_correlation import spearman

DATA = Path(__file__).parents[3] / "examples/landscape/data"
PUBLISHED = DATA / "taxonomy-resnet18-cifar10.csv"
HEADER = "width,batch_size," + ",".join(MEASURES)
FLAT = Cell(8, 64, 90, 0.1, 99, hessian_top_eigenvalue=2.0, hessian_trace=20,
            mode_connectivity_pct=0.0, cka_softmax=0.9, l2_distance=10)  # fmt: skip


@pytest.fixture(scope="module")
def published():
    return read_phases(PUBLISHED)


def phase(**values):
    return region_of(replace(FLAT, **values)).phase


def table(tmp_path, text):
    file = tmp_path / "t.csv"
    file.write_text(text)
    return file


# -- the published table -----------------------------------------------------------------------


def test_the_published_table_has_13_by_13_cells_and_its_best_where_the_paper_has_it(published):
    assert len(published.cells) == 169
    assert len(published.loads) == len(published.temperatures) == 13
    assert (published.best.load, published.best.temperature) == (128, 44)
    assert published.best.test_accuracy_pct == pytest.approx(89.91, abs=0.005)


@pytest.mark.parametrize(
    ("at", "values"),
    [
        ((2, 16), (65.02, 0.93, 67.56, 167, 520, -6.2, 0.49, 34.6)),
        ((4, 64), (76.91, 0.316, 88.9, 177, 1366, -13.4, 0.47, 36.5)),
        ((4, 1024), (71.30, 0.026, 99.95, 194, 1771, -28.0, 0.31, 37.7)),
        ((8, 1024), (77.86, 0.002, 100, 17.7, 183, -11.6, 0.43, 36.7)),
        ((16, 1024), (80.62, 0.001, 100, 17.9, 155, -0.89, 0.50, 33.1)),
        ((64, 16), (82.23, 0.116, 96.3, 45.2, 504, 2.84, 0.51, 66.7)),
        ((64, 1024), (83.66, 0.001, 100, 11.7, 127, 0.0, 0.62, 40.0)),
        ((128, 44), (89.91, 0.0009, 100, 2.84, 33.5, 0.0, 0.755, 40.9)),
        ((128, 64), (89.75, 0.001, 100, 2.05, 41.9, 0.0, 0.788, 33.8)),
        ((128, 128), (88.74, 0.001, 100, 1.66, 33.5, 0.0, 0.763, 49.4)),
    ],
)
def test_cells_are_those_of_the_published_table(published, at, values):
    (cell,) = (c for c in published.cells if (c.load, c.temperature) == at)
    within = (0.006, 0.006, 0.06, 0.6, 0.6, 0.06, 0.006, 0.06)
    for name, value, tolerance in zip(MEASURES, values, within, strict=True):
        assert getattr(cell, name) == pytest.approx(value, abs=tolerance), name


def test_rows_run_from_cold_to_hot_and_hold_the_published_accuracies(published):
    rows = dict(
        zip(published.temperatures, published.rows(lambda c: c.test_accuracy_pct), strict=True)
    )
    assert (published.temperatures[0], published.temperatures[-1]) == (1024, 16)
    at = [published.loads.index(w) for w in (2, 4, 8, 16, 32, 64, 128)]
    expected = {
        16: (65.0, 73.8, 78.7, 81.5, 81.7, 82.2, 83.4),
        64: (69.7, 76.9, 81.4, 86.4, 88.4, 89.1, 89.8),
        256: (70.2, 76.5, 81.5, 84.6, 86.6, 86.9, 86.8),
        1024: (68.0, 71.3, 77.9, 80.6, 82.8, 83.7, 82.1),
    }
    for batch, accuracies in expected.items():
        assert [rows[batch][i] for i in at] == pytest.approx(accuracies, abs=0.06)


def test_rank_correlations_with_test_accuracy_are_the_known_ones(published):
    found = {c.measure: c for c in published.correlations()}
    everywhere = {
        "-|mode_connectivity|": 0.894,
        "cka_softmax": 0.886,
        "hessian_top_eigenvalue": -0.875,
        "hessian_trace": -0.870,
        "train_loss": -0.783,
        "mode_connectivity_pct": 0.609,
        "l2_distance": 0.418,
    }
    assert {n: round(found[n].everywhere, 3) for n in everywhere} == everywhere
    assert list(found) == list(everywhere)  # the strongest first
    assert len(published.connected) == 67
    assert round(found["cka_softmax"].connected, 3) == 0.875
    assert round(found["hessian_top_eigenvalue"].connected, 2) == -0.65
    assert round(found["l2_distance"].connected, 2) == 0.27
    pair = [[getattr(c, n) for c in published.cells] for n in MEASURES[3:5]]
    assert round(spearman(*pair), 3) == 0.986


def test_connected_cells_test_better_by_the_known_means(published):
    inside = [c.test_accuracy_pct for c in published.connected]
    others = [c.test_accuracy_pct for c in published.cells if c not in published.connected]
    assert np.mean(inside) == pytest.approx(86.4, abs=0.05)
    assert np.mean(others) == pytest.approx(78.1, abs=0.05)


def test_the_best_published_cell_is_of_phase_iv_b_and_the_worst_of_phase_i(published):
    assert region_of(published.best).phase == "IV-B"
    assert region_of(min(published.cells, key=lambda c: c.test_accuracy_pct)).phase == "I"
    corners = {(2, 1024): "I", (128, 16): "II", (8, 1024): "III", (128, 1024): "IV-A"}
    at = {(c.load, c.temperature): region_of(c).phase for c in published.cells}
    assert {k: at[k] for k in corners} == corners


# -- the rule ----------------------------------------------------------------------------------


def test_each_phase_has_its_own_signs():
    sharp = math.exp(3.1)
    assert phase(hessian_top_eigenvalue=sharp, mode_connectivity_pct=-5.0) == "I"
    assert phase(hessian_top_eigenvalue=sharp, mode_connectivity_pct=5.0) == "II"
    assert phase(hessian_top_eigenvalue=sharp) == "II"
    assert phase(mode_connectivity_pct=-5.0) == "III"
    assert phase(cka_softmax=0.3) == "IV-A"
    assert phase() == "IV-B"


def test_thresholds_part_cells_exactly_where_they_say():
    assert phase(mode_connectivity_pct=-1.0) == "IV-B"
    assert phase(mode_connectivity_pct=math.nextafter(-1.0, -2.0)) == "III"
    assert phase(cka_softmax=0.7) == "IV-B"
    assert phase(cka_softmax=math.nextafter(0.7, 0.0)) == "IV-A"
    exact = replace(FLAT, hessian_top_eigenvalue=math.e)
    assert not region_of(exact, Thresholds(sharp=1.0)).sharp
    assert region_of(exact, Thresholds(sharp=math.nextafter(1.0, 0.0))).sharp
    assert region_of(replace(FLAT, hessian_top_eigenvalue=-1e9)).sharp is False


@pytest.mark.parametrize(
    ("mc", "name"),
    [(-1.01, "poorly connected"), (-1, "well connected"), (1, "well connected"), (1.01, "rugged")],
)
def test_connectivity_is_named_by_the_sign_and_size_of_mc(mc, name):
    assert region_of(replace(FLAT, mode_connectivity_pct=mc)).connectivity == name


def test_a_cell_with_an_unknown_measure_has_no_name():
    for name in ("hessian_top_eigenvalue", "mode_connectivity_pct", "cka_softmax"):
        assert region_of(replace(FLAT, **{name: math.nan})) is None


def test_sensitivity_counts_the_cells_that_change_their_phase():
    cells = [replace(FLAT, load=k, cka_softmax=c) for k, c in enumerate((0.5, 0.6, 0.72, 0.8))]
    found = {
        (s.threshold, s.change): (s.value, s.changed)
        for s in PhaseTable("width", "batch_size", tuple(cells)).sensitivity()
    }
    assert len(found) == 12
    assert {k[1]: v[1] for k, v in found.items() if k[0] == "similar"} == {
        -0.2: 1,
        -0.1: 0,
        0.1: 1,
        0.2: 2,
    }
    assert found["similar", 0.1][0] == pytest.approx(0.77)
    assert not any(v[1] for k, v in found.items() if k[0] != "similar")


def test_thresholds_that_are_no_numbers_are_refused():
    with pytest.raises(EngineError, match="--similar"):
        Thresholds(similar=math.nan)
    with pytest.raises(EngineError, match="--barrier"):
        Thresholds(barrier=-1.0)


# -- reading -----------------------------------------------------------------------------------


def test_a_table_may_have_other_axes_orders_and_columns(tmp_path):
    columns = ["note", *reversed(MEASURES), "lr", "noise"]
    values = ["said", *map(str, reversed((90, 0.1, 99, 2, 20, 0, 0.9, 10))), "0.1", "0.2"]
    text = f"{','.join(columns)}\n\n{','.join(values)}\n"
    found = read_phases(table(tmp_path, text))
    assert (found.load, found.temperature) == ("noise", "lr")
    assert found.cells == (replace(FLAT, load=0.2, temperature=0.1),)


def test_hot_is_a_small_batch_but_a_large_rate():
    cells = tuple(replace(FLAT, temperature=t) for t in (1.0, 3.0, 2.0))
    assert PhaseTable("width", "batch_size", cells).temperatures == (3.0, 2.0, 1.0)
    assert PhaseTable("width", "lr", cells).temperatures == (1.0, 2.0, 3.0)


def test_a_grid_with_holes_has_nan_in_them(tmp_path):
    text = f"{HEADER}\n2,16,90,1,90,nan,,0,0.5,1\n4,32,91,1,90,1,1,0,0.5,1\n"
    found = read_phases(table(tmp_path, text))
    assert found.regions()[0] is None
    rows = found.rows(lambda c: c.test_accuracy_pct)
    assert np.array_equal(rows, [[math.nan, 91], [90, math.nan]], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "t.csv:1: has no column among width"),
        ("width,batch_size\n", "t.csv:1: columns are missing: test_accuracy_pct"),
        ("depth,batch_size\n", "among width, examples, noise"),
        (f"lr,{HEADER}\n", "t.csv:1: has 2 columns among batch_size, lr"),
        (f"{HEADER}\n", "holds no cells"),
        (f"{HEADER}\n2,16,90,1,90,1,1,0,0.5\n", "t.csv:2: 9 cells under 10 columns"),
        (f"{HEADER}\n2,16,90,1,90,1,1,0,0.5,1\n2,16,90,x,90,1,1,0,0.5,1\n",
         "t.csv:3: train_loss: 'x' is not a number"),
        (f"{HEADER}\n-2,16,90,1,90,1,1,0,0.5,1\n", "t.csv:2: width: -2"),
        (f"{HEADER}\n2,nan,90,1,90,1,1,0,0.5,1\n", "t.csv:2: batch_size: nan"),
        (f"{HEADER}\n2,16,90,inf,90,1,1,0,0.5,1\n", "t.csv:2: train_loss: inf is not finite"),
        (f"{HEADER}\n2,16,190,1,90,1,1,0,0.5,1\n", "t.csv:2: test_accuracy_pct: 190"),
        (f"{HEADER}\n2,16,90,1,90,1,1,0,0.5,1\n\n2,16,91,1,90,1,1,0,0.5,1\n",
         "t.csv:4: width 2, batch_size 16 is there twice (first in line 2)"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_table_is_said_with_its_line(tmp_path, text, says):
    with pytest.raises(EngineError) as e:
        read_phases(table(tmp_path, text))
    assert says in str(e.value)


def test_no_table_of_text_is_refused(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(EngineError, match="not a table of text"):
        read_phases(tmp_path / "b.csv")
    for nothing in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(EngineError, match=nothing.name):
            read_phases(nothing)


# -- rank correlation --------------------------------------------------------------------------


def test_spearman_is_scipys_with_and_without_ties():
    rng = np.random.default_rng(0)
    for n in (2, 3, 10, 60):
        for levels in (2, 4, 1000):
            x, y = rng.integers(levels, size=n), rng.normal(size=n)
            if len(set(x)) > 1:
                assert spearman(x, y) == pytest.approx(spearmanr(x, y)[0], abs=1e-12)


def test_spearman_leaves_out_what_is_unknown_and_knows_where_there_is_none():
    assert spearman([1, 2, math.nan, 4], [1, 4, -5, 16]) == 1.0
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([1], [1]))
    with pytest.raises(ValueError, match="zip"):
        spearman([1, 2], [1])
