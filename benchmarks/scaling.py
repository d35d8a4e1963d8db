"""A step of quasi-newton over its gradients timed bare, as parameters and examples grow.

    python benchmarks/scaling.py [--widths 12,100,700,2800] [--examples 500,1000,2000,4000]

MLPs of two hidden layers on mnist-5k (p from 1e4 to 1e7 at 1000 examples; then the second width at
each number of examples), R = Σ θ², after a short training. Nothing is recorded and test loss not
measured. Gradients are equivalents: what is counted is the work of H₀ too. Walkers and ranks have
benchmarks of their own (walkers.py, ranks.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from terrain import terrain_at

from lsshell.engine import Engine
from lsshell.engine.problem import Problem
from lsshell.engine.steppers import Position, QuasiNewton, Terrain

STEPS, ROUNDS = 8, 4


@dataclass(frozen=True)
class Result:
    """Milliseconds of a bare gradient and of a step, gradients a step, and the step's share."""

    p: int
    examples: int
    bare: float
    step: float
    gradients: float
    overhead: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", default="12,100,700,2800")
    parser.add_argument("--examples", default="500,1000,2000,4000")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    widths = [int(word) for word in options.widths.split(",")]
    cases = [(width, 1000) for width in widths]
    cases += [(widths[min(1, len(widths) - 1)], int(n)) for n in options.examples.split(",")]
    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads")
    print("| p | examples | bare gradient, ms | step, ms | gradients a step | step / gradients |")
    print("|---|---|---|---|---|---|")
    results = []
    for width, examples in cases:
        r = measure(width, examples, options.device)
        results.append(r)
        print(
            f"| {r.p} | {r.examples} | {r.bare:.2f} | {r.step:.2f} | {r.gradients:.2f}"
            f" | {r.overhead:.2f} |",
            flush=True,
        )
        if options.json:
            options.json.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")


def measure(width: int, examples: int, device: str) -> Result:
    """Steps and bare gradients in turns; means over the rounds."""
    engine = Engine()
    engine.use_device(device)
    engine.load_data("mnist-5k", "mnist-5k", None, train=examples)
    problem = engine.build_model(["mlp", f"784-{width}-{width}-10"], None, {})
    engine.train(epochs=3)
    here, terrain = terrain_at(problem, engine.problem_theta())
    stepper = QuasiNewton()
    for _ in range(STEPS):
        here = stepper.step(terrain, here)
    bare, steps, spent = [], [], problem.work
    for _ in range(ROUNDS):
        bare.append(timed(problem, STEPS))
        began = time.perf_counter()
        here = walked(stepper, terrain, here)
        steps.append((time.perf_counter() - began) / STEPS)
    gradients = (problem.work - spent - ROUNDS * STEPS) / (ROUNDS * STEPS)
    one, step = statistics.mean(bare), statistics.mean(steps)  # a step in 25 takes H₀ anew
    return Result(problem.p, examples, 1e3 * one, 1e3 * step, gradients, step / (one * gradients))


def walked(stepper: QuasiNewton, terrain: Terrain, here: Position) -> Position:
    for _ in range(STEPS):
        here = stepper.step(terrain, here)
    return here


def timed(problem: Problem, repeats: int) -> float:
    """Seconds of one loss-and-gradient."""
    theta, out = problem.theta.clone(), torch.empty_like(problem.theta)
    began = time.perf_counter()
    for _ in range(repeats):
        problem.loss_and_gradient(theta, out)
    return (time.perf_counter() - began) / repeats


if __name__ == "__main__":
    main()
