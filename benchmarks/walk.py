"""Gradients and seconds to the ‖θ‖² that `paper` has after 10 000 steps on MNIST_FF.

    python benchmarks/walk.py [--steps 10000] [--json FILE]

For each stepper, from the bundled mnist-ff.safetensors at its own loss, R = Σ θ², test loss not
measured: gradients and seconds to the target, and the ratio of a step's time to that of the
loss-and-gradients it spends, timed bare in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import lsshell
from lsshell.engine.checkpoints import apply_checkpoint, read_checkpoint
from lsshell.engine.data import load_data
from lsshell.engine.levelset import LevelSet
from lsshell.engine.networks import build_network
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers import WeightedSum, make_regularizer
from lsshell.engine.steppers import Gradient, Paper, Position, QuasiNewton, Stepper, Terrain
from lsshell.engine.walk import walk

CHECKPOINT = Path(lsshell.__file__).parent / "bundled" / "mnist-ff.safetensors"


@dataclass(frozen=True)
class Result:
    """One stepper's way to the target; None where it did not come there."""

    stepper: str
    tolerance: float
    steps: int
    gradients: int
    seconds: float
    gradients_to_target: int | None
    seconds_to_target: float | None
    l2: float
    angle_deg: float
    worst_residual: float
    overhead: float


def main() -> None:
    """Prints the table, and writes it as JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000, help="steps of paper")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    problem, theta = prepare()
    bare = time_bare(problem, theta)
    print(f"{torch.__version__}, {torch.get_num_threads()} threads, p = {problem.p}")
    print(f"bare loss-and-gradient: {1e3 * bare:.2f} ms (median)")
    level = problem.loss(theta)
    paper = run(problem, theta, Paper(), LevelSet(level, 1e-5), options.steps, None)
    target = paper.l2
    print(f"target: ‖θ‖² = {target:.2f}, of paper after {paper.steps} steps")
    tight = LevelSet(level, 0.01 * level)
    results = [
        paper,
        run(problem, theta, Gradient(), tight, 20_000, target),
        run(problem, theta, QuasiNewton(), tight, 2_000, target),
    ]
    for line in table(results):
        print(line)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")


def prepare() -> tuple[Problem, torch.Tensor]:
    """The problem of the quickstart, at its checkpoint."""
    data = load_data("mnist-5k", train=1000, seed=0)
    problem = Problem(build_network(["mnist-ff"], data, seed=0), data)
    apply_checkpoint(read_checkpoint(CHECKPOINT), problem.network)
    return problem, problem.theta.clone()


def time_bare(problem: Problem, theta: torch.Tensor, repeats: int = 50) -> float:
    """Seconds of one loss-and-gradient, median."""
    out = torch.empty_like(theta)
    times = []
    for _ in range(repeats + 5):
        began = time.perf_counter()
        problem.loss_and_gradient(theta, out)
        times.append(time.perf_counter() - began)
    return statistics.median(times[5:])


def run(
    problem: Problem,
    theta: torch.Tensor,
    stepper: Stepper,
    level_set: LevelSet,
    steps: int,
    target: float | None,
) -> Result:
    """Walks until R is at the target, or for all `steps`."""
    total = WeightedSum()
    total.terms["l2"] = (make_regularizer("l2", problem, theta), 1.0)
    terrain = Terrain(problem, level_set, total, 1.0, lambda event: None)
    worst = 0.0

    def record(position: Position) -> None:
        nonlocal worst
        worst = max(worst, abs(level_set.residual(position.loss)) / level_set.tolerance)

    bare = [time_bare(problem, theta)]
    here = terrain.at(theta, *problem.loss_and_gradient(theta))
    problem.work, began = 0.0, time.perf_counter()
    end = walk(
        terrain, stepper, here, steps=steps, record=record,
        until=[Until("l2", target)] if target is not None else [],
    )  # fmt: skip
    seconds, spent = time.perf_counter() - began, problem.gradients
    bare.append(time_bare(problem, theta))
    arrived = target is None or end.position.value <= target * (1 + 1e-3)
    return Result(
        stepper.name,
        level_set.tolerance,
        end.steps,
        spent,
        seconds,
        spent if arrived else None,
        seconds if arrived else None,
        end.position.value,
        end.position.split.angle_deg,
        worst,
        seconds / (spent * statistics.mean(bare)),
    )


@dataclass(frozen=True)
class Until:
    """Ends the walk where R meets the target."""

    name: str
    target: float

    def value(self, position: Position) -> float:
        return position.value


def table(results: list[Result]) -> list[str]:
    """Markdown."""
    lines = [
        "| stepper | tolerance | steps | gradients | seconds | ‖θ‖² | angle | worst \\|L−L*\\|/tol"
        " | step time / its gradients |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        lines.append(
            f"| {r.stepper} | {r.tolerance:.2g} | {r.steps} | {r.gradients} | {r.seconds:.1f} |"
            f" {r.l2:.2f} | {r.angle_deg:.1f}° | {r.worst_residual:.3f} | {r.overhead:.2f} |"
        )
    return lines


if __name__ == "__main__":
    main()
