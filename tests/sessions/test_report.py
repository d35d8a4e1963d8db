"""Statistics over runs against values computed by hand, and a report of real sessions."""

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.decomposition import PCA

from lsshell.engine.comparison import Trained, best_penalty
from lsshell.engine.path import Point
from lsshell.engine.projection import gram_matrix, principal_axes
from lsshell.sessions.errors import SessionError
from lsshell.sessions.report.layout import Table, write_report
from lsshell.sessions.report.report import make_report, write_points
from lsshell.sessions.report.rivals import (
    matched_table,
    paired_table,
    penalties_table,
    settings_of,
)
from lsshell.sessions.report.runs import Run, Setting, Sweep, Walked, find_runs, read_runs
from lsshell.sessions.report.statistics import (
    band_at_steps,
    band_between,
    paired,
    pearson,
    random_walk_explained,
    relative_change,
    spearman,
)
from lsshell.sessions.report.traversals import (
    best_table,
    changes_table,
    correlations_table,
    ends_table,
    spread,
)
from lsshell.sessions.session import Session
from tests.sessions.conversation import results

# -- by hand -----------------------------------------------------------------------------------


def test_a_band_is_the_mean_and_population_deviation_at_the_steps_that_half_of_the_runs_have():
    curves = [([0, 1, 3], [1.0, 2.0, 9.0]), ([0, 1], [3.0, 4.0]), ([0], [5.0])]
    band = band_at_steps(curves)
    assert band.x.tolist() == [0, 1]
    assert band.mean.tolist() == [3.0, 3.0]
    assert band.std.tolist() == pytest.approx([math.sqrt(8 / 3), 1.0])


def test_a_band_between_interpolates_on_the_stretch_in_common():
    falling = ([4.0, 2.0, 0.0], [8.0, 4.0, 0.0])  # y = 2x, walked downwards
    short = ([3.0, 1.0], [3.0, 1.0])  # y = x
    band = band_between([falling, short], count=3)
    assert band.x.tolist() == [1.0, 2.0, 3.0]
    assert band.mean.tolist() == pytest.approx([1.5, 3.0, 4.5])
    assert band.std.tolist() == pytest.approx([0.5, 1.0, 1.5])


def test_curves_with_nothing_in_common_make_an_empty_band():
    assert band_between([([0.0, 1.0], [1.0, 1.0]), ([2.0, 3.0], [1.0, 1.0])]).x.size == 0
    assert band_at_steps([([0], [1.0]), ([1], [1.0]), ([2], [1.0])]).x.size == 0


def test_relative_change():
    assert relative_change(4.0, 1.0) == -0.75
    assert relative_change(0.0, 1.0) is None


def test_correlations_are_those_of_scipy_ties_and_all():
    x, y = [1.0, 2.0, 2.0, 3.0, 9.0, 4.0], [2.0, 1.0, 4.0, 4.0, 7.0, 4.0]
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert spearman([1, 2, 3], [1, 8, 27]) == pytest.approx(1.0)
    assert pearson([1.0, 2.0], [1.0, 2.0]) is None
    assert pearson([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


def test_the_bootstrap_of_paired_differences_is_that_of_scipy():
    values = np.random.default_rng(5).normal(0.3, 1.0, 12)
    found = paired(values)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert found == paired(values)  # seeded


def test_an_interval_that_leaves_zero_out_is_sure_only_with_enough_pairs():
    assert paired([1.0, 1.1, 1.2, 1.0, 0.9] * 2).sure
    assert not paired([1.0, 1.1, 1.2, 1.0, 0.9]).sure
    assert not paired([1.0, -1.0, 1.2, -1.1, 0.1] * 2).sure
    alone = paired([2.0])
    assert (alone.low, alone.high, alone.pairs) == (2.0, 2.0, 1)


def test_a_random_walk_explains_what_a_real_one_does():
    expected = random_walk_explained(200, 3)
    assert expected == pytest.approx(6 / np.pi**2 / np.arange(1, 4) ** 2, rel=0.02)
    walk = np.random.default_rng(0).normal(size=(200, 20_000)).cumsum(0)
    assert PCA(3).fit(walk).explained_variance_ratio_ == pytest.approx(expected, rel=0.05)


def test_points_beyond_are_projected_as_scikit_learn_does():
    import torch

    rng = np.random.default_rng(2)
    inside, beyond = rng.normal(size=(30, 12)), rng.normal(size=(4, 12))
    rows = torch.tensor(np.concatenate([inside, beyond]))
    gram = gram_matrix(lambda i, span: rows[i, span], len(rows)).numpy()
    coordinates, shares = principal_axes(gram, 30, 5)
    pca = PCA(5, svd_solver="full").fit(inside)
    assert shares == pytest.approx(pca.explained_variance_ratio_)
    theirs = pca.transform(rows.numpy())
    signs = np.sign((coordinates * theirs).sum(0))
    assert coordinates * signs == pytest.approx(theirs, abs=1e-9)


# -- runs made by hand -------------------------------------------------------------------------


def at(index, step, test, *, l2, gradients, validation=None, angle=None, implied=None, acc=0.5):
    return Point(
        index, index - 1 if step else None, "walk", "step" if step else "level", step, 0.1, 0.1,
        0.01, test, acc, None, {"l2": l2, "l1": 2.0 * l2}, angle, implied, gradients, 0.0, 0.0,
        True, 0, validation,
    )  # fmt: skip


SCRATCH = Setting("scratch", True, 20, 1e-3, 32)


def run(seed, tests, *, penalties=(), validations=None, implied=0.1, epochs=10):
    """A walk whose ‖θ‖² halves at each step, and weighted-sum trainings from scratch."""
    points = [
        at(k, k, t, l2=8.0 / 2**k, gradients=10 * k, implied=implied, angle=90.0 + k,
           validation=None if validations is None else validations[k])
        for k, t in enumerate(tests)
    ]  # fmt: skip
    walked = Walked("walk", "quasi-newton", {"l2": 1.0}, points)
    trained = [
        Trained(penalty, seed, 0.2, validation, test, 0.6, None, 5.0, 20)
        for penalty, validation, test in penalties
    ]
    sweeps = (Sweep(SCRATCH, False, trained),) if trained else ()
    folder = Path(f"seed={seed}")
    return Run(folder, "data", "", "model", seed, epochs, {"walk": walked}, sweeps, ())


def cells(table, row):
    return dict(zip(table.headers, table.rows[row], strict=True))


def test_the_ends_are_means_and_sample_deviations():
    table = ends_table([run(0, [4.0, 2.0]), run(1, [6.0, 4.0])], "x")
    row = cells(table, 0)
    assert (row["test loss, start"].mean, row["test loss, end"].mean) == (5.0, 3.0)
    assert row["test loss, end"].std == pytest.approx(math.sqrt(2.0))
    assert row["‖θ‖², end"].mean == 4.0 and row["‖θ‖², end"].std == 0.0
    assert (row["runs"], row["worst |L−L*|/tol"]) == (2, 0.0)


def test_changes_are_per_run_and_in_percent():
    row = cells(changes_table([run(0, [4.0, 2.0]), run(1, [8.0, 6.0])], "x"), 0)
    assert row["Δ test loss"].mean == -2.0
    assert row["Δ test loss, %"].mean == pytest.approx((-50.0 - 25.0) / 2)
    assert row["Δ l2, %"].mean == -50.0


def test_a_single_run_has_no_deviation():
    assert cells(ends_table([run(0, [4.0, 2.0])], "x"), 0)["test loss, end"] == 2.0
    assert spread([None, None]) is None


def test_the_best_point_is_chosen_by_test_and_by_validation():
    table = best_table([run(0, [4.0, 2.0, 3.0], validations=[3.0, 2.0, 1.0])], "x")
    by_test, by_validation = cells(table, 0), cells(table, 1)
    assert (by_test["at step"], by_test["test loss"]) == (1.0, 2.0)
    assert (by_validation["at step"], by_validation["test loss"]) == (2.0, 3.0)


def test_correlation_along_the_walk():
    table = correlations_table([run(0, [8.0, 4.0, 2.0]), run(1, [1.0, 2.0, 4.0])], "x")
    assert cells(table, 0)["l2"].mean == pytest.approx(0.5 * (1.0 + np.corrcoef(
        [8.0, 4.0, 2.0], [1.0, 2.0, 4.0])[0, 1]))  # fmt: skip
    assert cells(table, 1)["l1"].mean == pytest.approx(0.0)  # ranks: 1 and −1


PENALTIES = ((0.0, 5.0, 3.0), (0.1, 4.0, 2.5), (1.0, 6.0, 2.0))


def test_the_penalty_is_chosen_by_test_or_by_validation():
    trained = run(0, [4.0], penalties=PENALTIES).sweeps[0].trained
    assert best_penalty(trained, "test") == 1.0
    assert best_penalty(trained, "validation") == 0.1
    unvalidated = [Trained(0.0, 0, 1.0, None, 1.0, None, None, 1.0, 1)]
    assert best_penalty(unvalidated, "validation") is None


def test_pairs_are_of_the_same_seed_and_at_equal_gradients():
    runs = [
        run(0, [4.0, 2.0, 1.5], penalties=PENALTIES, validations=[3.0, 1.0, 2.0]),
        run(1, [6.0, 4.0, 3.0], penalties=PENALTIES, validations=[3.0, 1.0, 2.0]),
        run(2, [9.0, 9.0, 9.0], validations=[1.0, 1.0, 1.0]),  # no rival of its seed
    ]
    table = paired_table(runs, "x")
    rows = {(r[0], r[1]): dict(zip(table.headers, r, strict=True)) for r in table.rows}
    rival = "from scratch, λ by validation"
    end = rows["walk, end", rival]
    assert (end["pairs"], end["Δ test loss [95 %]"].mean) == (2, pytest.approx(2.25 - 2.5))
    # Epochs of the start are paid too: 10 of them and twice 10 gradients.
    assert end["gradients of the walk"].mean == 30.0
    assert end["of the sweep"].mean == 60.0
    best = rows["walk, best by validation", rival]
    assert best["gradients of the walk"].mean == 30.0  # known only once all was walked
    assert best["Δ test loss [95 %]"].mean == pytest.approx(3.0 - 2.5)
    # A training costs 20 gradients, so the walk has 10 after its start's 10 epochs: one step.
    equal = rows["walk, at equal gradients", rival]
    assert equal["Δ test loss [95 %]"].mean == pytest.approx(3.0 - 2.5)
    by_test = rows["walk, end", "from scratch, λ by test"]
    assert by_test["Δ test loss [95 %]"].mean == pytest.approx(2.25 - 2.0)


def test_a_walk_is_matched_with_the_nearest_penalty_on_a_logarithmic_scale():
    table = matched_table([run(0, [4.0, 2.0], penalties=PENALTIES, implied=0.4)], "x")
    assert cells(table, 0)["λ trained at"] == 1.0  # 0.4 lies nearer to 1 than to 0.1 in ratio
    assert matched_table([run(0, [4.0], penalties=PENALTIES, implied=-1.0)], "x") is None


def test_a_table_as_markdown_and_csv_keeps_what_is_in_it():
    table = Table("t", "c", ["a|b", "m", "Δ"], [["x", spread([1.0, 3.0]), paired([1.0])]])
    assert table.markdown().splitlines()[0] == "| a\\|b | m | Δ |"
    head, row = csv.reader(table.csv().splitlines())
    assert head == ["a|b", "m", "m std", "Δ", "Δ low", "Δ high"]
    assert [float(c) for c in row[1:]] == pytest.approx([2.0, math.sqrt(2.0), 1.0, 1.0, 1.0])


# -- real sessions -----------------------------------------------------------------------------

SCRIPT = """seed {seed}
data iris --validation 20
model mlp 4-10-3
train --epochs 20
level
reg l2 on
branch ours
walk --steps 30 --measure 1 --record 1
goto start
branch published
walk --method paper --steps 10 --measure 1 --record 2
compare weight-decay --lambda 1e-3,1e-1 --runs 1 --epochs 5 --biases
compare weight-decay --lambda 1e-3 --runs 1 --epochs 5 --biases --from start
goto ours
compare weight-decay --lambda implied --runs 2 --epochs 5 --biases
model mlp 4-10-3
train --epochs 5 --weight-decay 1e-2
"""


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in (3, 4):
        session = Session(folder / f"seed={seed}")
        results(session, SCRIPT.format(seed=seed))
        session.close()
    return folder


def test_a_session_is_read_back_as_a_run(sessions):
    (found,) = read_runs(sessions / "seed=3")
    assert (found.model, found.data, found.seed) == ("mlp 4-10-3", "iris --validation 20", 3)
    assert found.notes == "100 training, 30 test examples, 20 to choose by"
    assert found.epochs == 20
    assert list(found.walks) == ["ours", "published"]
    ours, published = found.walks.values()
    assert (ours.method, published.method) == ("quasi-newton", "paper")
    assert ours.regularizers == published.regularizers == {"l2": 1.0}
    assert ours.start == published.start and ours.start.kind == "level"
    assert [p.step for p in ours.points] == list(range(31))
    assert [p.rate > 0 for p in published.points[1:]] == [True] * 10
    scratch, start, implied = found.sweeps
    assert scratch.setting == Setting("scratch", True, 5, 1e-3, 32)
    assert start.setting == Setting("start", True, 5, 1e-3, 32)
    assert not scratch.implied and implied.implied and len(implied.trained) == 2
    assert [t.penalty for t in scratch.trained] == [0.0, 1e-3, 1e-1]
    assert all(t.seed == 3 and t.gradients == 5 for t in scratch.trained)
    assert len(found.decayed) == 1 and found.decayed[0].step == 0


def test_a_report_is_written_with_its_numbers_and_pictures(sessions, tmp_path):
    (section,) = make_report([sessions])
    assert section.text == (
        "Data: iris --validation 20 (100 training, 30 test examples, 20 to choose by)."
        " Walks of 2 sessions, seeds 3, 4."
    )
    text = write_report(tmp_path / "report", "R", [section]).read_text()
    names = {f.name for f in (tmp_path / "report").iterdir()}
    for part in section.tables:
        assert f"{part.name}.csv" in names and part.caption in text
    for picture in section.pictures:
        assert {f"{picture.name}.png", f"{picture.name}.svg"} <= names
        assert f"]({picture.name}.png)" in text
    stems = {p.name.removeprefix("mlp-4-10-3-iris-validation-20-") for p in section.pictures}
    assert {"ours", "ours-l2", "ours-kept", "ours-first", "ours-explained", "ours-components-3d",
            "branches"} <= stems  # fmt: skip
    found = find_runs([sessions])
    ends = next(t for t in section.tables if t.name.endswith("-ends"))
    by_hand = [r.walks["ours"].end.test_loss for r in found]
    assert cells(ends, 0)["test loss, end"].mean == pytest.approx(np.mean(by_hand))


def test_principal_components_of_a_run_are_those_of_its_points(sessions):
    from safetensors.torch import load_file

    (found,) = read_runs(sessions / "seed=3")
    rows = []
    for p in found.walks["ours"].points:
        tensors = load_file(found.folder / "points" / f"{p.index:06d}.safetensors")
        rows.append(np.concatenate([tensors[n].numpy().reshape(-1) for n in sorted(tensors)]))
    (section,) = make_report([sessions])
    table = next(t for t in section.tables if t.name.endswith("ours-components"))
    shares = PCA(6, svd_solver="full").fit(np.stack(rows)).explained_variance_ratio_
    assert table.rows[0][2:8] == pytest.approx(list(100 * shares), rel=1e-3, abs=1e-6)


def test_all_points_over_runs_are_written_with_the_mean_end(sessions, tmp_path):
    files = write_points([sessions], tmp_path)
    assert [f.name.removeprefix("mlp-4-10-3-iris-validation-20-") for f in files] == [
        "ours-points.npz", "published-points.npz",
    ]  # fmt: skip
    held = np.load(files[0])
    assert held["theta"].shape == (62, 4 * 10 + 10 + 10 * 3 + 3)
    assert held["seed"].tolist() == [3] * 31 + [4] * 31 and held["step"][30] == 30
    assert held["mean_end"] == pytest.approx(held["theta"][[30, 61]].mean(0), abs=1e-6)
    ends = [r.walks["ours"].end.regularizers["l2"] for r in find_runs([sessions])]
    assert (held["theta"][[30, 61]] ** 2).sum(1) == pytest.approx(ends, rel=1e-5)


def test_folders_with_nothing_to_report_are_refused(tmp_path):
    with pytest.raises(SessionError, match="no folder"):
        make_report([tmp_path / "none"])
    with pytest.raises(SessionError, match="something was walked or compared"):
        make_report([tmp_path])


def test_what_a_batch_moved_aside_is_left_out(sessions, tmp_path):
    shutil.copytree(sessions / "seed=3", tmp_path / "runs" / "seed=3.cut-off-1")
    shutil.copytree(sessions / "seed=4", tmp_path / "runs" / "seed=4")
    assert [r.seed for r in find_runs([tmp_path / "runs"])] == [4]


def test_a_branch_walked_under_two_regularisers_has_neither_name(tmp_path):
    session = Session(tmp_path / "s")
    results(session, """seed 1
data iris
model mlp 4-6-3
train --epochs=10
reg l2 on
level
walk --steps 3 --method=paper
reg l2 off
reg l1 on
walk --steps 3
level 0.8
walk --steps 2
""")  # fmt: skip
    session.close()
    (found,) = read_runs(tmp_path / "s")
    assert found.epochs == 10
    first, again = found.walks.values()
    assert (first.method, first.regularizers, first.end.step) == ("several", {}, 6)
    assert (again.method, again.regularizers, again.end.step) == ("quasi-newton", {"l1": 1.0}, 2)


def test_two_networks_in_one_session_are_two_runs_and_a_loaded_one_has_no_epochs(tmp_path):
    session = Session(tmp_path / "s")
    walk = "reg l2 on\nlevel\nwalk --steps 2\nmeasure\n"
    results(session, f"""seed 1
data iris
model mlp 4-6-3
train --epochs 3
save {tmp_path / "net"}
{walk}model mlp 4-5-3
train --epochs 2
{walk}model mlp 4-6-3
load {tmp_path / "net.safetensors"}
{walk}""")  # fmt: skip
    session.close()
    one, other = read_runs(tmp_path / "s")
    assert (one.model, other.model) == ("mlp 4-6-3", "mlp 4-5-3")
    assert (one.epochs, other.epochs) == (3, 2)
    assert list(one.walks) == ["main", "main (2)"]
    # What `measure` found beyond the cheap regularisers is known of the end.
    assert {"jacobian", "hessian-trace"} <= set(other.walks["main"].end.regularizers)


def test_a_walk_whose_end_was_not_measured_ends_where_it_was():
    points = [at(0, 0, 4.0, l2=4.0, gradients=0), at(1, 1, 2.0, l2=2.0, gradients=5),
              at(2, 2, None, l2=1.0, gradients=9)]  # fmt: skip
    assert Walked("walk", "paper", {}, points).end.step == 1


def test_weight_decay_of_other_settings_is_not_pooled():
    found = run(0, [4.0, 2.0], penalties=PENALTIES)
    free = Setting("scratch", False, 20, 1e-3, 32)
    both = Run(found.folder, "data", "", "model", 0, 10, found.walks,
               (*found.sweeps, Sweep(free, False, found.sweeps[0].trained)), ())  # fmt: skip
    assert settings_of([both]) == [free, SCRATCH]
    assert "weights alone" in penalties_table([both], free, "x").caption
    assert penalties_table([both], SCRATCH, "x").rows[0][2] == 1
    only_free = Run(found.folder, "data", "", "model", 0, 10, found.walks,
                    (Sweep(free, False, found.sweeps[0].trained),), ())  # fmt: skip
    assert matched_table([only_free], "x") is None  # the walk's ‖θ‖² counts the biases


def test_runs_beyond_the_first_are_no_rivals_of_another_sessions_walk():
    mine, other = run(0, [4.0, 2.0]), run(1, [4.0, 2.0])
    extra = Trained(0.1, 0, 0.2, 4.0, 9.0, 0.6, None, 5.0, 20)  # seed 0, on session 1's examples
    other = Run(other.folder, "data", "", "model", 1, 10, other.walks,
                (Sweep(SCRATCH, False, [extra]),), ())  # fmt: skip
    assert paired_table([mine, other], "x") is None
