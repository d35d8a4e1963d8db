"""A cell of a phase table: networks of several seeds, trained at one load and temperature, and
what their landscape is like.

Source: Yang et al., "Taxonomizing local versus global structure in neural network loss
landscapes", NeurIPS 2021, and its released code, whose settings are the defaults.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from lsshell.engine.data import DataSet
from lsshell.engine.data.dataset import digest_of
from lsshell.engine.errors import Cancelled, DivergedError, EngineError, NotFiniteError
from lsshell.engine.landscape.connectivity import mode_connectivity
from lsshell.engine.landscape.curvature_operator import CurvatureOperator
from lsshell.engine.landscape.curves import Init, train_curve
from lsshell.engine.landscape.lanczos import top_eigenvalues
from lsshell.engine.landscape.phases import MEASURES, Cell
from lsshell.engine.landscape.places import Place, visit
from lsshell.engine.landscape.similarity import SOFTMAX, similarity
from lsshell.engine.landscape.trace import hessian_trace
from lsshell.engine.networks import build_network
from lsshell.engine.problem import Problem
from lsshell.engine.seeds import generator
from lsshell.engine.training import Descent, train

CURVE_POINTS = 5  # t = 0, ¼, ½, ¾, 1, as published
_LAYERS = re.compile(r"(d?)(?:(\d*)w|(\d+))")


@dataclass(frozen=True)
class Recipe:
    """How the networks of a cell are made and measured; two of the fields are the cell's place.

    network: words as of `build_network`, with `w`, `2w`, … for the width and its multiples and
    without the data's own sizes: `mlp w-w`, `cnn w-d4w`; MODULE:FACTORY is called with `width`.
    activation: None is relu, or what a factory has of its own.
    examples: how many train (None: all), the first of a random order, so that a smaller choice is
    part of a larger one; noise: the share of them whose label is drawn anew, uniformly.
    batch_size, lr, weight_decay, momentum, epochs: of SGD on the mean loss + ½·weight_decay·‖θ‖²,
    the rate a tenth after three quarters of the epochs (see `training.Descent`).
    seeds: networks in a cell. measured: so many training examples, the same in all cells (but for
    noise in their labels), are what Hessian and CKA are of; probes: of the trace, the same
    everywhere. curve_epochs, curve_init: of the curve between the first two networks (see
    `train_curve`; the published ones began at random).
    """

    network: tuple[str, ...] = ("mlp", "w-w")
    activation: str | None = None
    width: int = 32
    examples: int | None = None
    noise: float = 0.0
    batch_size: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    epochs: int = 100
    seeds: int = 5
    measured: int = 200
    probes: int = 100
    curve_epochs: int = 50
    curve_init: Init = "linear"

    def check(self, data: DataSet) -> None:
        """Raises EngineError for what no network can be trained with on this data."""
        if data.task != "classification":
            raise EngineError(f"phases are of classification: {data.name} is regression")
        least = {"width": 1, "batch_size": 1, "epochs": 1, "seeds": 2, "measured": 2, "probes": 2,
                 "curve_epochs": 1}  # fmt: skip
        for name, most in least.items():
            if getattr(self, name) < most:
                raise EngineError(f"{_spoken(name)} {getattr(self, name)}: {most} is the least")
        if not 0.0 < self.lr < math.inf:
            raise EngineError(f"the learning rate must be above 0, not {self.lr:g}")
        if not 0.0 <= self.weight_decay < math.inf:
            raise EngineError(f"weight decay must be 0 or above, not {self.weight_decay:g}")
        if not 0.0 <= self.momentum < 1.0:
            raise EngineError(f"momentum must be from 0 to below 1, not {self.momentum:g}")
        if not 0.0 <= self.noise <= 1.0:
            raise EngineError(f"noise is a share of the labels, 0 to 1, not {self.noise:g}")
        n = len(data.x_train)
        if self.examples is not None and not 1 <= self.examples <= n:
            raise EngineError(f"examples {self.examples}: {data.name} has {n} to train on")
        if self.measured > (self.examples or n):
            raise EngineError(
                f"measured {self.measured}: a cell trains on {self.examples or n} examples, and"
                " all cells are measured on the same ones; measure on fewer"
            )

    def at(self, load: str, x: float, temperature: str, t: float) -> Recipe:
        """The recipe of a cell. Raises EngineError for a fraction where a number is whole."""
        place = {}
        for name, value in ((load, x), (temperature, t)):
            whole = name in ("width", "examples", "batch_size")
            if whole and value != int(value):
                raise EngineError(f"{_spoken(name)} must be whole, not {value:g}")
            place[name] = int(value) if whole else float(value)
        return replace(self, **place)


@dataclass(frozen=True)
class Run:
    """One network of a cell: accuracies in per cent, the rest as in `Cell`."""

    seed: int
    test_accuracy_pct: float
    train_loss: float
    train_accuracy_pct: float
    hessian_top_eigenvalue: float
    hessian_trace: float


@dataclass(frozen=True)
class CellResult:
    """A cell, its networks, and what went wrong (its measures are then NaN), if anything."""

    cell: Cell
    runs: tuple[Run, ...]
    note: str = ""


def measure_cell(
    data: DataSet,
    recipe: Recipe,
    load: str,
    temperature: str,
    *,
    seed: int = 0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    chunk: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    search: Path | None = None,
) -> CellResult:
    """Trains the networks of a cell from seeds `seed`, `seed` + 1, … and measures them.

    Means over the networks: test and training accuracy, training loss, the Hessian's top eigenvalue
    and trace (at `measured` training examples); over their pairs: linear CKA of the softmax on
    mixtures of these examples (mixup, α = 16), and ‖θ_i − θ_j‖. Mode connectivity is of the first
    two: mc = ē − e(t*) in per cent of training error, over 5 points of a trained quadratic Bézier
    curve. The result depends on the cell alone, not on the grid that it is of.

    Where training diverges the measures that need it are NaN, and `note` says so. Raises
    EngineError for a recipe that is none, Cancelled where the user asked to stop.
    """
    recipe.check(data)
    place = (float(getattr(recipe, load)), float(getattr(recipe, temperature)))
    trained_on = _training_set(data, recipe, seed)

    def problem_of(k: int, examples: DataSet) -> Problem:
        network = build(recipe, examples, seed + k, search)
        return Problem(
            network, examples, device=device, dtype=dtype, chunk=chunk, cancelled=cancelled
        )

    try:
        problem, places = _train(problem_of, trained_on, recipe, seed)
        measured = problem_of(0, _first(trained_on, recipe.measured))
        runs = [_measure(problem, measured, p, seed + k, recipe) for k, p in enumerate(places)]
    except (DivergedError, NotFiniteError) as e:
        return CellResult(Cell(*place, *[math.nan] * len(MEASURES)), (), str(e))
    note = ""
    try:
        curve = train_curve(
            problem, places[0].theta, places[1].theta,
            epochs=recipe.curve_epochs, weight_decay=recipe.weight_decay,
            init=recipe.curve_init, seed=seed,
        )  # fmt: skip
        connectivity = mode_connectivity(problem, curve, CURVE_POINTS).mc
    except Cancelled:
        raise
    except EngineError as e:  # the settings are checked: it diverged
        connectivity, note = math.nan, str(e)
    found = similarity(
        measured, places, split="train", examples=recipe.measured, mixup=True, seed=seed
    )
    alike = [pair.layer(SOFTMAX).linear for pair in found.pairs]
    known = [value for value in alike if value is not None]
    cell = Cell(
        *place,
        *(fmean(getattr(run, f.name) for run in runs) for f in fields(Run)[1:]),
        mode_connectivity_pct=connectivity,
        cka_softmax=fmean(known) if known else math.nan,
        l2_distance=fmean(pair.distance for pair in found.pairs),
    )
    return CellResult(cell, tuple(runs), note)


def build(recipe: Recipe, data: DataSet, seed: int, search: Path | None = None) -> nn.Module:
    """The recipe's network in its width, initialised from the seed.

    Raises EngineError for words that name none.
    """
    name, *words = recipe.network
    if ":" in name:
        return build_network(
            recipe.network, data, activation=recipe.activation, seed=seed,
            factory_options={"width": str(recipe.width)}, search=search,
        )  # fmt: skip
    if name not in ("mlp", "cnn") or len(words) != 1:
        raise EngineError(
            f"{' '.join(recipe.network)}: a network of any width is `mlp w-w`, `cnn w-d4w` or"
            " MODULE:FACTORY"
        )
    layers = "-".join(_layer(word, recipe.width, words[0]) for word in words[0].split("-"))
    if name == "mlp":
        layers = f"{math.prod(data.x_train.shape[1:])}-{layers}-{data.outputs}"
    return build_network((name, layers), data, activation=recipe.activation or "relu", seed=seed)


def _layer(word: str, width: int, words: str) -> str:
    found = _LAYERS.fullmatch(word)
    if found is None:
        raise EngineError(
            f"{words}: {word} is no layer; write w, 2w, … or a number, as in `mlp w-2w` or"
            " `cnn w-2w-d64`"
        )
    dense, times, size = found.groups()
    return f"{dense}{size or int(times or 1) * width}"


def _training_set(data: DataSet, recipe: Recipe, seed: int) -> DataSet:
    """The examples that train, in a random order, with their labels as noisy as they are to be.

    Noisier labels are noisy where less noisy ones are, with the same draws.
    """
    n = len(data.x_train)
    order = torch.randperm(n, generator=generator(seed, "phase examples"))
    chosen = order[: recipe.examples or n]
    y = data.y_train[chosen].clone()
    source = generator(seed, "label noise")
    drawn = torch.randint(data.outputs, (n,), generator=source)[: len(chosen)]
    rank = torch.rand(n, generator=source, dtype=torch.float64)[: len(chosen)].argsort()
    noisy = rank[: round(recipe.noise * len(chosen))]
    y[noisy] = drawn[noisy]
    return _with_training(data, data.x_train[chosen], y)


def _first(data: DataSet, count: int) -> DataSet:
    return _with_training(data, data.x_train[:count], data.y_train[:count])


def _with_training(data: DataSet, x: Tensor, y: Tensor) -> DataSet:
    return replace(data, x_train=x, y_train=y, digest=digest_of(x, y, data.x_test, data.y_test))


def _train(
    problem_of: Callable[[int, DataSet], Problem], data: DataSet, recipe: Recipe, seed: int
) -> tuple[Problem, list[Place]]:
    """The networks of all seeds, as places of one problem."""
    problem: Problem | None = None
    places = []
    for k in range(recipe.seeds):
        own = problem_of(k, data)
        trained = train(
            own,
            own.theta.clone(),
            epochs=recipe.epochs,
            rate=recipe.lr,
            batch=recipe.batch_size,
            penalty=0.5 * recipe.weight_decay,
            biases=True,
            seed=seed + k,
            descent=Descent(recipe.momentum),
        )
        if trained.reason == "interrupted":
            raise Cancelled
        buffers = {name: b.clone() for name, b in own.network.named_buffers()}
        places.append(Place(f"seed {seed + k}", trained.theta, buffers))
        problem = problem or own
    assert problem is not None
    return problem, places


def _measure(problem: Problem, measured: Problem, place: Place, seed: int, recipe: Recipe) -> Run:
    """One network: losses over all its examples, curvature over those measured on."""
    with visit(problem, place):
        train_set, test_set = (problem.metrics(place.theta, s) for s in ("train", "test"))
    top, trace = _curvature(measured, place, recipe.probes)
    accuracies = [100.0 * (m.accuracy or 0.0) for m in (test_set, train_set)]
    return Run(seed, accuracies[0], train_set.loss, accuracies[1], top, trace)


def _curvature(problem: Problem, place: Place, probes: int) -> tuple[float, float]:
    """λ_max and the trace of the Hessian; the probes are the same for every network of a size."""
    with visit(problem, place):
        operator = CurvatureOperator(problem, place.theta)
        top = top_eigenvalues(operator, 1, "top").greatest
        return top, hessian_trace(operator, probes).value


def _spoken(field: str) -> str:
    return field.replace("_", "-")
