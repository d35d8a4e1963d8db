"""Measures of the landscape beside other programs', on the same network and data, in one run.

    python benchmarks/landscape.py [--section hessian,slice] [--out results/landscape.json]

hessian: the five greatest eigenvalues, the trace (the same number of probes) and the spectral
density (the same Lanczos steps), by lsshell, PyHessian and curvlinops: of mnist-ff on mnist-5k, as
one batch of 1000 examples and as four, and of a small network on digits. Building what a program
needs is part of its time; medians of rounds taken in turns. PyHessian
0.1 calls torch.eig, which torch no longer has: it gets one by torch.linalg.eig.

slice: grids of losses beside loss-landscapes (benchmarks/grids.py).

The others are not needed for anything else:

    pip install pyhessian curvlinops-for-pytorch loss-landscapes
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lsshell
from lsshell.engine import Engine
from lsshell.engine.landscape.curvature_operator import CurvatureOperator
from lsshell.engine.landscape.lanczos import top_eigenvalues
from lsshell.engine.landscape.spectral_density import spectral_density
from lsshell.engine.landscape.trace import hessian_trace
from lsshell.engine.problem import Problem

K, PROBES, STEPS, PRODUCTS = 5, 50, 64, 20
BATCH = 1000
SECTIONS = ("hessian", "slice")
Measure = Callable[[], list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--section", default=",".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.device}, {options.threads} threads")
    found: dict[str, list[dict[str, Any]]] = {}
    for section in options.section.split(","):
        rows = {"hessian": hessian_rows, "slice": slice_rows}[section](options)
        found[section] = rows
        print(f"\n## {section}\n\n{as_table(rows)}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n")


def slice_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of benchmarks/grids.py, where it is there."""
    if importlib.util.find_spec("grids") is None:
        return []
    return list(importlib.import_module("grids").rows(options))


def hessian_rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each measure, number of examples and program."""
    missing = [name for name in ("pyhessian", "curvlinops") if not importlib.util.find_spec(name)]
    if missing:
        raise SystemExit(
            f"{' and '.join(missing)} missing: pip install pyhessian curvlinops-for-pytorch"
        )
    rows = []
    # One thread's processor time is not disturbed by what else runs on the machine.
    alone = options.device == "cpu" and options.threads == 1
    clock = time.process_time if alone else time.perf_counter
    for name, make in NETWORKS.items():
        problem = make(options.device)
        for what, measures in cases(problem).items():
            rows += compared(what, name, measures, options.rounds, clock)
    return rows


def mnist_ff(device: str, examples: int) -> Problem:
    """mnist-ff as it comes with lsshell, near zero loss on the first thousand examples."""
    engine = Engine()
    engine.use_device(device)
    engine.load_data("mnist-5k", "mnist-5k", BATCH, train=examples)
    engine.load(Path(lsshell.__file__).parent / "bundled" / "mnist-ff.safetensors")
    return at(engine)


def small(device: str) -> Problem:
    """A network of 1210 parameters after a short training."""
    engine = Engine()
    engine.use_device(device)
    engine.load_data("digits", "digits", None)
    engine.build_model(["mlp", "64-16-10"], None, {})
    engine.train(epochs=20)
    return at(engine)


def at(engine: Engine) -> Problem:
    """The engine's problem, its network at θ."""
    problem = engine.ready()
    problem.place(engine.problem_theta())
    return problem


NETWORKS: dict[str, Callable[[str], Problem]] = {
    "mnist-ff, 1000 examples": lambda device: mnist_ff(device, BATCH),
    "mnist-ff, 4 × 1000": lambda device: mnist_ff(device, 4 * BATCH),
    "digits 64-16-10": small,
}


def cases(problem: Problem) -> dict[str, dict[str, Measure]]:
    """What is measured, and how each program does it: the numbers that it finds."""
    v = torch.randn(problem.p, generator=torch.Generator().manual_seed(0)).to(problem.device)
    rivals = Rivals(problem)
    last: dict[str, Measure] = {
        "lsshell": lambda: product_of(CurvatureOperator(problem, problem.theta).times, v),
        "PyHessian": lambda: product_of(rivals.pyhessian_product(), v),
        "curvlinops": lambda: product_of(rivals.curvlinops().__matmul__, v),
    }
    return {
        f"{PRODUCTS} products": last,
        f"{K} greatest eigenvalues": {
            "lsshell": lambda: top_eigenvalues(
                CurvatureOperator(problem, problem.theta), K, "top"
            ).values.tolist(),
            "PyHessian": lambda: sorted(rivals.pyhessian().eigenvalues(top_n=K)[0], reverse=True),
            "curvlinops": lambda: rivals.eigsh(K),
        },
        f"trace, {PROBES} probes": {
            "lsshell": lambda: estimate(
                hessian_trace(CurvatureOperator(problem, problem.theta), PROBES)
            ),
            "PyHessian": lambda: mean(rivals.pyhessian().trace(maxIter=PROBES, tol=0.0)),
            "curvlinops": lambda: rivals.hutchinson(PROBES),
        },
        f"density, {STEPS} steps": {
            "lsshell": lambda: ends(
                spectral_density(CurvatureOperator(problem, problem.theta), STEPS, 1).nodes[0]
            ),
            "PyHessian": lambda: ends(rivals.pyhessian().density(iter=STEPS, n_v=1)[0][0]),
            "curvlinops": lambda: rivals.lanczos(STEPS),
        },
    }


class Rivals:
    """The other programs on a problem's network and data."""

    def __init__(self, problem: Problem) -> None:
        self.network = copy.deepcopy(problem.network)
        for q in self.network.parameters():
            q.grad = None
        self.device = problem.device
        self.batches = [(x, y) for x, y in problem.chunks(problem.x_train, problem.y_train)]
        self.parameters = [q for q in self.network.parameters() if q.requires_grad]

    def pyhessian(self) -> Any:
        from pyhessian import hessian

        torch.eig = eig
        torch.manual_seed(0)
        self.network.zero_grad()
        loss, cuda = nn.CrossEntropyLoss(), self.device.type == "cuda"
        if len(self.batches) == 1:
            return hessian(self.network, loss, data=self.batches[0], cuda=cuda)
        return hessian(self.network, loss, dataloader=self.batches, cuda=cuda)

    def pyhessian_product(self) -> Callable[[Tensor], Tensor]:
        from pyhessian.utils import hessian_vector_product

        made = self.pyhessian()

        def product(v: Tensor) -> Tensor:
            sizes = [q.numel() for q in self.parameters]
            parts = zip(v.split(sizes), self.parameters, strict=True)
            parted = [part.view_as(q) for part, q in parts]
            if made.full_dataset:
                found = made.dataloader_hv_product(parted)[1]
            else:
                found = hessian_vector_product(made.gradsH, made.params, parted)
            return torch.cat([part.reshape(-1) for part in found])

        return product

    def curvlinops(self) -> Any:
        from curvlinops import HessianLinearOperator

        torch.manual_seed(0)
        loss = nn.CrossEntropyLoss()
        return HessianLinearOperator(
            self.network, loss, self.parameters, self.batches, check_deterministic=False
        )

    def eigsh(self, k: int) -> list[float]:
        from scipy.sparse.linalg import eigsh

        found = eigsh(self.curvlinops().to_scipy(), k=k, which="LA", tol=1e-3)[0]
        return sorted(map(float, found), reverse=True)

    def hutchinson(self, probes: int) -> list[float]:
        from curvlinops import hutchinson_trace

        return [float(hutchinson_trace(self.curvlinops(), probes))]

    def lanczos(self, steps: int) -> list[float]:
        from curvlinops.papyan2020traces.spectrum import fast_lanczos

        return ends(fast_lanczos(self.curvlinops(), steps)[0].tolist())


def eig(matrix: Tensor, eigenvectors: bool = False) -> tuple[Tensor, Tensor]:
    """What torch.eig gave for real eigenvalues: (real, imaginary) rows, and eigenvectors."""
    values, vectors = torch.linalg.eig(matrix)
    return torch.view_as_real(values), vectors.real


def product_of(times: Callable[[Tensor], Tensor], v: Tensor) -> list[float]:
    """‖Hv‖, and v·Hv, after so many products one after another."""
    for _ in range(PRODUCTS):
        found = times(v)
    return [float(found.norm()), float(torch.dot(found, v))]


def estimate(found: Any) -> list[float]:
    return [found.value, found.error]


def mean(forms: list[float]) -> list[float]:
    return [float(np.mean(forms)), float(np.std(forms, ddof=1) / len(forms) ** 0.5)]


def ends(nodes: Any) -> list[float]:
    """The greatest node and the least."""
    return [float(max(nodes)), float(min(nodes))]


def compared(
    what: str,
    network: str,
    measures: dict[str, Measure],
    rounds: int,
    clock: Callable[[], float],
) -> list[dict[str, Any]]:
    """Rows of one measure: what each program found, and its time over ours."""
    times: dict[str, list[float]] = {name: [] for name in measures}
    found = {}
    for _ in range(rounds):
        for name, measure in measures.items():
            began = clock()
            found[name] = measure()
            times[name].append(clock() - began)
    ours = statistics.median(times["lsshell"])
    rows = []
    for name in measures:
        seconds = statistics.median(times[name])
        rows.append(
            {
                "network": network,
                "measure": what,
                "program": name,
                "found": found[name],
                "seconds": seconds,
                "over ours": seconds / ours,
            }
        )
    return rows


def as_table(rows: list[dict[str, Any]]) -> str:
    """Rows in Markdown."""
    if not rows:
        return "(nothing)"
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(map(word, row.values())) + " |" for row in rows]
    return "\n".join(lines)


def word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(f"{v:.5g}" for v in value)
    return str(value)


if __name__ == "__main__":
    main()
