"""The same plane of the loss by lsshell and by the loss-landscapes package: values and seconds.

    python benchmarks/grids.py [NETWORK…] [--points 31] [--repeats 3] [--json FILE]

The plane goes through three points of parameter space (two random directions, filter-normalised),
the grid is points × points. The package (`planar_interpolation`, with its `Loss` on the whole
training set in one batch) evaluates the odd rows one cell to the side of the even ones; each of its
values is compared with ours at the place where it was really taken, and ours are timed on a
regular grid of as many points. Times are medians of runs that take turns. One thread each.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lsshell.engine import Engine
from lsshell.engine.landscape.directions import random_directions
from lsshell.engine.landscape.grid import evaluate, grid
from lsshell.engine.landscape.places import visit
from lsshell.engine.problem import Problem

NETWORKS = {
    "mnist-ff": ("mnist-5k", {"train": 1000}, ["mnist-ff"]),
    "small conv": ("mnist-5k", {"train": 500}, ["cnn", "8-8-d20"]),
    "digits mlp": ("digits", {}, ["mlp", "64-32-10"]),
}
COLUMNS = ("network", "p", "examples", "grid", "lsshell s", "loss-landscapes s", "times as fast",
           "greatest difference")  # fmt: skip
REACH = 1.0


def main() -> None:
    """Prints a row a network, and writes them as JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--points", type=int, default=31)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    found = rows(options)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in found:
        print(f"| {' | '.join(_cell(row[name]) for name in COLUMNS)} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a network. Options that are read, where there are: networks, points, repeats."""
    points, repeats = getattr(options, "points", 31), getattr(options, "repeats", 3)
    names = getattr(options, "networks", None) or list(NETWORKS)
    return [_row(name, points, repeats) for name in names]


def _row(name: str, points: int, repeats: int) -> dict[str, Any]:
    problem = _problem(name)
    origin = problem.theta.clone()
    directions = 2.0 * REACH / points * random_directions(problem, origin, 2, seed=0)
    corner = origin - points / 2 * directions.sum(0)
    axis = [float(k) for k in range(points)]
    # Even rows: 1 … points steps along the second direction; odd ones: 0 … points − 1.
    places = [(i, j + 1.0 - i % 2) for i in axis for j in axis]

    def ours(steps: torch.Tensor) -> torch.Tensor:
        with visit(problem):
            return evaluate(problem, corner, directions, steps, splits=("train",))["train"].loss

    theirs = _theirs(problem, corner, directions, points)
    peer = torch.from_numpy(theirs()).double().flatten()
    found = ours(torch.tensor(places, dtype=torch.float64))
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(repeats):
        seconds["ours"].append(_seconds(lambda: ours(grid(axis, axis))))
        seconds["theirs"].append(_seconds(theirs))
    mine, others = (statistics.median(times) for times in seconds.values())
    return {
        "network": name,
        "p": problem.p,
        "examples": len(problem.x_train),
        "grid": f"{points}×{points}",
        "lsshell s": mine,
        "loss-landscapes s": others,
        "times as fast": others / mine,
        "greatest difference": float(((found - peer).abs() / peer).max()),
    }


def _problem(name: str) -> Problem:
    data, options, model = NETWORKS[name]
    engine = Engine()
    engine.use_device("cpu")
    engine.load_data(data, data, None, **options)
    engine.build_model(model, None, {})
    engine.train(epochs=5)
    return engine.ready()


def _theirs(
    problem: Problem, corner: torch.Tensor, directions: torch.Tensor, points: int
) -> Callable[[], Any]:
    """The package on the same plane: its steps are (end − start)/points."""
    from loss_landscapes import planar_interpolation
    from loss_landscapes.metrics import Loss

    networks = [_at(problem, corner + points * d) for d in (torch.zeros_like(corner), *directions)]
    metric = Loss(nn.CrossEntropyLoss(), problem.x_train, problem.y_train)

    def run() -> Any:
        return planar_interpolation(*networks, metric, steps=points, deepcopy_model=True)

    return run


def _at(problem: Problem, theta: torch.Tensor) -> nn.Module:
    """A network of its own with these parameters."""
    network = copy.deepcopy(problem.network)
    for parameter, value in zip(network.parameters(), problem.tensors(theta).values(), strict=True):
        parameter.data = value.clone()
    return network


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
