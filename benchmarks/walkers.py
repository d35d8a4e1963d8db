"""Many walkers as one batch against one after the other: time per walker and step.

    python benchmarks/walkers.py [--device cpu] [--walkers 1,4,16,64] [--steps 10] [--json FILE]

`gradient` on R = Σ θ², from starts displaced by 5 % of ‖θ‖, nothing recorded. Both ways from the
same starts, in turns, in one run: the median of so many rounds. Where the batch is the faster is
what `walk --runs` goes by (`FASTER` in lsshell/engine/walkers.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsshell.engine import Engine
from lsshell.engine.levelset import LevelSet, move_to
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers import WeightedSum, make_regularizer
from lsshell.engine.seeds import generator
from lsshell.engine.stacked.positions import Stack, StackedTerrain
from lsshell.engine.stacked.problem import StackedProblem, numbers
from lsshell.engine.stacked.walk import stacked_walk
from lsshell.engine.steppers import Gradient, Terrain
from lsshell.engine.walk import walk

# Network, data, training: epochs and rate.
CASES = (
    ("mlp 4-8-8-3", "iris", {}, 60, 1e-2),
    ("mlp 4-30-30-3", "iris", {}, 60, 1e-2),
    ("iris-ff", "iris", {}, 60, 1e-3),
    ("mnist-ff", "mnist-5k", {"train": 1000}, 5, 1e-3),
)
SPREAD = 0.05


@dataclass(frozen=True)
class Result:
    """Milliseconds per walker and step, and `alone` over `batched`."""

    network: str
    p: int
    examples: int
    walkers: int
    alone: float
    batched: float
    ratio: float


def main() -> None:
    """Prints the table, and writes it as JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--walkers", default="1,4,16,64")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    counts = [int(word) for word in options.walkers.split(",")]
    print(f"{torch.__version__}, {options.device}, {torch.get_num_threads()} threads")
    print("| network | p | p·N | walkers | alone, ms | batched, ms | ratio |")
    print("|---|---|---|---|---|---|---|")
    results = []
    for network, data, settings, epochs, rate in CASES:
        engine = Engine()
        engine.use_device(options.device)
        engine.load_data(data, data, None, **settings)
        problem = engine.build_model(network.split(), None, {})
        engine.train(epochs=epochs, rate=rate, batch=32)
        level = engine.fix_level(None, None)
        level_set = LevelSet(level.level, level.tolerance)
        starts = displaced(problem, level_set, engine.problem_theta(), max(counts))
        for count in counts:
            r = measure(network, problem, level_set, starts[:count], options.steps, options.rounds)
            results.append(r)
            print(
                f"| {r.network} | {r.p} | {r.p * r.examples:.1e} | {r.walkers} | {r.alone:.2f} |"
                f" {r.batched:.2f} | {r.ratio:.2f} |",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")


def displaced(problem: Problem, level_set: LevelSet, theta: Tensor, count: int) -> list[Tensor]:
    """Starts on the level set, the first at θ."""
    starts = [theta]
    for k in range(1, count):
        drawn = torch.randn(problem.p, generator=generator(0, f"walker {k}")).to(theta)
        start = theta + drawn * (SPREAD * theta.norm() / drawn.norm())
        starts.append(move_to(problem, level_set, start)[0])
    return starts


def measure(
    network: str,
    problem: Problem,
    level_set: LevelSet,
    starts: Sequence[Tensor],
    steps: int,
    rounds: int,
) -> Result:
    """Both ways from the same starts, in turns."""
    total = WeightedSum()
    total.terms["l2"] = (make_regularizer("l2", problem, starts[0]), 1.0)

    def alone() -> int:
        terrain = Terrain(problem, level_set, total, 1.0, lambda event: None)
        taken = 0
        for theta in starts:
            here = terrain.at(theta, *problem.loss_and_gradient(theta))
            end = walk(terrain, Gradient(), here, steps=steps, record=lambda position: None)
            taken += end.steps
        return taken

    def batched() -> int:
        stacked = StackedProblem(problem, len(starts))
        terrain = StackedTerrain(stacked, level_set, [total] * len(starts), 1.0)
        thetas = torch.stack(list(starts))
        losses, gradients = stacked.losses_and_gradients(thetas)
        values, slopes = terrain.values_and_slopes(np.arange(len(starts)), thetas)
        here = Stack.at(thetas, numbers(losses)[0], gradients, values, slopes)
        end = stacked_walk(terrain, here, steps=steps, record=lambda rows, *_: len(rows))
        return int(end.steps.sum())

    times: dict[Callable[[], int], list[float]] = {alone: [], batched: []}
    for _ in range(rounds):
        for way, found in times.items():
            found.append(clock(way, problem.device))
    one, many = (1e3 * statistics.median(found) for found in times.values())
    return Result(network, problem.p, len(problem.x_train), len(starts), one, many, one / many)


def clock(way: Callable[[], int], device: torch.device) -> float:
    """Seconds per step taken."""
    began = time.perf_counter()
    taken = way()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / taken


if __name__ == "__main__":
    main()
