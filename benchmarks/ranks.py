"""Time of one loss-and-gradient and of one step over 1, 2, … ranks, as ratios from one run.

    python benchmarks/ranks.py [--ranks 1 2] [--examples 20000] [--width 100] [--json FILE]

The network is that of MNIST_FF (784-WIDTH-WIDTH-WIDTH-10, tanh) on random images and labels, so
that there are as many examples as asked for. Each count of ranks is started by torchrun with one
thread each (gloo), or with one GPU each (NCCL) where there are that many; a step is quasi-newton's
along Σ θ². The counts are gone through twice, there and back, and the medians taken together.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from terrain import terrain_at

from lsshell.engine.data import DataSet
from lsshell.engine.networks import build_network
from lsshell.engine.problem import Problem
from lsshell.engine.ranks import ALONE, Ranks, join
from lsshell.engine.steppers import QuasiNewton

COLUMNS = (
    "ranks", "ms a loss-and-gradient", "times as fast", "ms a step", "gradients a step",
    "step time / its gradients",
)  # fmt: skip


def main() -> None:
    """Starts itself under torchrun for each count, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.out is not None:
        measure(options)
        return
    found: dict[int, list[dict[str, float]]] = {}
    for count in [*options.ranks, *reversed(options.ranks)]:
        found.setdefault(count, []).append(start(count, options))
    rows = [{k: statistics.mean(r[k] for r in found[n]) for k in found[n][0]} for n in found]
    print(f"torch {torch.__version__}, {options.examples} examples, p = {rows[0]['p']:.0f}")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for count, row in zip(found, rows, strict=True):
        faster = rows[0]["gradient"] / row["gradient"]
        overhead = row["step"] / (row["gradients"] * row["gradient"])
        print(
            f"| {count} | {1e3 * row['gradient']:.1f} | {faster:.2f} | {1e3 * row['step']:.1f} |"
            f" {row['gradients']:.2f} | {overhead:.2f} |"
        )
    if options.json:
        table = [{"ranks": n, **row} for n, row in zip(found, rows, strict=True)]
        options.json.write_text(json.dumps(table, indent=1) + "\n")


def start(count: int, options: argparse.Namespace) -> dict[str, float]:
    """One count of ranks, each in its process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        asked = [f"--{n}={getattr(options, n)}" for n in ("examples", "width", "repeats")]
        launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        subprocess.run(
            [sys.executable, "-m", *launch, __file__, *asked, f"--out={out}"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
        )
        return dict(json.loads(out.read_text()))


def measure(options: argparse.Namespace) -> None:
    """As one rank: medians in seconds, the first rank's, written to a file."""
    ranks: Ranks = join(600.0) if os.environ["WORLD_SIZE"] != "1" else ALONE
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = random_images(options.examples)
    width = options.width
    network = build_network(["mlp", f"784-{width}-{width}-{width}-10"], data, seed=0)
    problem = Problem(network, data, device=device, ranks=ranks)
    theta = problem.theta.clone()
    gradient = torch.empty_like(theta)
    seconds = timed(lambda: problem.loss_and_gradient(theta, gradient), options.repeats, device)

    stepper, (here, terrain) = QuasiNewton(), terrain_at(problem, theta)
    for _ in range(3):
        here = stepper.step(terrain, here)
    spent, began = problem.gradients, time.perf_counter()
    for _ in range(options.repeats):
        here = stepper.step(terrain, here)
    step = (time.perf_counter() - began) / options.repeats
    gradients = (problem.gradients - spent) / options.repeats
    if ranks.first:
        row = {"gradient": seconds, "step": step, "gradients": gradients, "p": problem.p}
        options.out.write_text(json.dumps(row))
    ranks.any(False)  # none leaves before the others are done
    os._exit(0)


def timed(call: Callable[[], object], repeats: int, device: str) -> float:
    """Seconds of a call, median."""
    times = []
    for _ in range(repeats + 3):
        began = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[3:])


def random_images(n: int) -> DataSet:
    """n images of 28×28 pixels and ten classes, at random."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(n, 1, 28, 28, generator=g), torch.randint(0, 10, (n,), generator=g)
    return DataSet(
        name="random", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100],
        task="classification", outputs=10, classes=tuple("0123456789"), notes=(), digest="0" * 64,
    )  # fmt: skip


if __name__ == "__main__":
    main()
