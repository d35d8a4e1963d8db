"""Cells of a phase grid: networks, data and measures, each against what it should be."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from lsshell.engine.data import load_data
from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.landscape.curves import train_curve
from lsshell.engine.landscape.phase_grid import Recipe, build, measure_cell
from lsshell.engine.landscape.phase_grid import _training_set as training_set
from lsshell.engine.landscape.phases import MEASURES
from lsshell.engine.problem import Problem
from lsshell.engine.training import Descent, train
from tests.engine.small import blobs, images, regression

QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
SMALL = Recipe(
    network=("mlp", "w"), width=4, batch_size=8, lr=0.05, epochs=6, seeds=3, measured=20,
    probes=200, curve_epochs=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return load_data("iris", train=60)


@pytest.fixture(scope="module")
def found(data):
    return measure_cell(data, SMALL, "width", "batch_size", seed=3, dtype=torch.float64)


def trained(data, recipe, seed):
    """The networks of a cell, made by hand."""
    part = training_set(data, recipe, seed)
    problem = Problem(build(recipe, part, seed), part, dtype=torch.float64)
    thetas = []
    for k in range(recipe.seeds):
        own = Problem(build(recipe, part, seed + k), part, dtype=torch.float64)
        thetas.append(
            train(own, own.theta.clone(), epochs=recipe.epochs, rate=recipe.lr,
                  batch=recipe.batch_size, penalty=recipe.weight_decay / 2, biases=True,
                  seed=seed + k, descent=Descent()).theta
        )  # fmt: skip
    return problem, thetas


def test_a_cell_holds_the_means_over_its_networks(data, found):
    problem, thetas = trained(data, SMALL, 3)
    losses = [problem.loss(theta) for theta in thetas]
    accuracies = [100 * problem.metrics(theta, "test").accuracy for theta in thetas]
    distances = [float((a - b).norm()) for a, b in combinations(thetas, 2)]
    assert found.cell.train_loss == pytest.approx(sum(losses) / 3)
    assert found.cell.test_accuracy_pct == pytest.approx(sum(accuracies) / 3)
    assert found.cell.l2_distance == pytest.approx(sum(distances) / 3)
    assert [run.train_loss for run in found.runs] == pytest.approx(losses)
    assert [run.seed for run in found.runs] == [3, 4, 5]
    assert (found.cell.load, found.cell.temperature, found.note) == (4, 8, "")


def test_mode_connectivity_is_of_a_curve_between_the_first_two_networks(data, found):
    problem, (a, b, _) = trained(data, SMALL, 3)
    curve = train_curve(problem, a, b, epochs=2, weight_decay=5e-4, seed=3)
    errors = [100 * (1 - problem.metrics(curve.at(t), "train").accuracy) for t in QUARTERS]
    middle = (errors[0] + errors[-1]) / 2
    furthest = max(errors, key=lambda e: abs(e - middle))
    assert found.cell.mode_connectivity_pct == pytest.approx(middle - furthest)
    assert middle != furthest
    recipe = replace(SMALL, curve_init="random")
    other = measure_cell(data, recipe, "width", "batch_size", seed=3, dtype=torch.float64).cell
    assert other.mode_connectivity_pct != found.cell.mode_connectivity_pct


def test_top_eigenvalue_and_trace_are_those_of_the_dense_hessian(data, found):
    problem, thetas = trained(data, SMALL, 3)
    x, y = problem.x_train[:20], problem.y_train[:20]

    def loss(theta):
        outputs = torch.func.functional_call(problem.network, problem.tensors(theta), (x,))
        return problem.loss_sum(outputs, y) / 20

    for theta, run in zip(thetas, found.runs, strict=True):
        dense = torch.autograd.functional.hessian(loss, theta)
        eigenvalues = torch.linalg.eigvalsh(dense)
        assert run.hessian_top_eigenvalue == pytest.approx(float(eigenvalues[-1]), rel=1e-3)
        off = dense - torch.diag(dense.diagonal())
        error = math.sqrt(2 * float(off.square().sum()) / SMALL.probes)
        assert abs(run.hessian_trace - float(dense.trace())) < 4 * error


def test_a_cell_is_the_same_again_and_other_under_another_seed(data, found):
    again = measure_cell(data, SMALL, "width", "batch_size", seed=3, dtype=torch.float64)
    assert again == found
    other = measure_cell(data, SMALL, "width", "batch_size", seed=30, dtype=torch.float64)
    assert other.cell != found.cell


def test_measuring_leaves_the_state_of_random_numbers_and_the_data_alone(data):
    before, y = torch.get_rng_state(), data.y_train.clone()
    measure_cell(data, replace(SMALL, noise=0.5), "noise", "lr")
    assert torch.equal(torch.get_rng_state(), before) and torch.equal(data.y_train, y)


def test_fewer_examples_are_the_first_of_more_and_noise_grows_where_it_is(data):
    whole = training_set(data, SMALL, 0)
    part = training_set(data, replace(SMALL, examples=25), 0)
    assert torch.equal(whole.x_train[:25], part.x_train)
    assert torch.equal(whole.y_train[:25], part.y_train)
    changed = []
    for noise in (0.0, 0.3, 0.6, 1.0):
        y = training_set(data, replace(SMALL, noise=noise), 0).y_train
        changed.append(set((y != whole.y_train).nonzero().flatten().tolist()))
        drawn = round(noise * 60)
        assert len(changed[-1]) <= drawn and len(changed[-1]) >= drawn // 3
    assert changed[0] == set()
    assert changed[1] < changed[2] < changed[3]


def test_widths_scale_the_layers_that_name_them():
    data = images(n=9, size=10, classes=3)
    sizes = {
        ("mlp", "w-2w"): ["4x100", "8x4", "3x8"],
        ("mlp", "3w-7"): ["12x100", "7x12", "3x7"],
        ("cnn", "w-2w-d3w-d5"): ["4x1x3x3", "8x4x3x3", "12x8", "5x12", "3x5"],
    }
    for words, expected in sizes.items():
        network = build(Recipe(network=words, width=4), data, 0)
        shapes = ["x".join(map(str, q.shape)) for q in network.parameters() if q.ndim > 1]
        assert shapes == expected


def test_a_factory_is_called_with_the_width_and_may_normalise_by_batches(tmp_path):
    (tmp_path / "narrow.py").write_text(
        "from torch import nn\n"
        "def make(width):\n"
        "    return nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.ReLU(),"
        " nn.Linear(width, 3))\n"
    )
    recipe = replace(SMALL, network=("narrow:make",), measured=10, width=3)
    found = measure_cell(blobs(n=30), recipe, "width", "lr", search=tmp_path).cell
    assert found.load == 3
    assert all(math.isfinite(getattr(found, name)) for name in MEASURES)


def test_a_cell_whose_training_runs_away_is_unknown_and_says_so(data):
    found = measure_cell(data, replace(SMALL, lr=1e20), "width", "lr")
    assert "diverged" in found.note and found.runs == ()
    assert all(math.isnan(getattr(found.cell, name)) for name in MEASURES)


def test_a_stop_ends_it(data):
    asked = []

    def cancelled():
        asked.append(1)
        return len(asked) > 40

    with pytest.raises(Cancelled):
        measure_cell(data, SMALL, "width", "lr", cancelled=cancelled)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"width": 0}, "width 0"),
        ({"seeds": 1}, "seeds 1: 2 is the least"),
        ({"batch_size": 0}, "batch-size 0"),
        ({"epochs": -1}, "epochs -1"),
        ({"lr": 0.0}, "learning rate"),
        ({"lr": math.nan}, "learning rate"),
        ({"weight_decay": -1.0}, "weight decay"),
        ({"momentum": 1.0}, "momentum"),
        ({"noise": 1.1}, "noise"),
        ({"examples": 61}, "examples 61: iris has 60"),
        ({"examples": 10}, "measured 20: a cell trains on 10"),
        ({"network": ("mlp", "w-x")}, "w-x: x is no layer"),
        ({"network": ("mlp",)}, "a network of any width"),
        ({"network": ("iris-ff",)}, "a network of any width"),
        ({"network": ("cnn", "w")}, "takes images"),
    ],
)
def test_a_recipe_that_is_none_is_refused(data, wrong, says):
    with pytest.raises(EngineError, match=says):
        measure_cell(data, replace(SMALL, **wrong), "width", "lr")


def test_regression_and_fractions_are_refused(data):
    with pytest.raises(EngineError, match="classification"):
        SMALL.check(regression())
    with pytest.raises(EngineError, match="batch-size must be whole"):
        SMALL.at("width", 2, "batch_size", 1.5)
    assert SMALL.at("noise", 0.25, "weight_decay", 1) == replace(
        SMALL, noise=0.25, weight_decay=1.0
    )
