"""Gradients and seconds to where `paper` ends: every method, five experiments, any regulariser.

    python benchmarks/methods.py [EXPERIMENT…] [--regularizers l2,group] [--share 1] [--json FILE]
    python benchmarks/methods.py --paper benchmarks/results/methods.json [EXPERIMENT…] …
    python benchmarks/methods.py --draw docs/methods.png benchmarks/results/methods.json

Each experiment is trained as published (seed 0) on bundled data, then walked by `paper` for its
published number of steps (times --share); its R is the target of the other methods. `gradient`
stops after twenty steps for each of quasi-newton's gradients. CIFAR10_CONV is its network for one
channel on 200 bundled digits. Test loss is not measured. With --paper, its runs are
read from an earlier one's file, their seconds too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from lsshell.engine import Engine, WalkRequest
from lsshell.engine.errors import EngineError

EXPERIMENTS = {
    "iris-ff": ("iris", {}, ["iris-ff"], 20_000),
    "mpg-ff": ("mpg", {}, ["mpg-ff"], 30_000),
    "mnist-ff": ("mnist-5k", {"train": 1000}, ["mnist-ff"], 10_000),
    "mnist-conv": ("mnist-5k", {"train": 1000}, ["mnist-conv"], 5_000),
    "cifar10-conv": ("mnist-5k", {"train": 200}, ["cnn", "60-60-d300"], 20_000),
}
TABULAR = {"rate_min": 1e-5, "corrector_rate": 1e-6}
METHODS = ("quasi-newton", "auto", "newton", "gradient")
MOST = 20
NEVER = 10**9


@dataclass(frozen=True)
class Run:
    """A method's way to the target; `arrived` false where it ended before."""

    experiment: str
    regularizer: str
    method: str
    steps: int
    gradients: int
    seconds: float
    value: float
    angle_deg: float | None
    worst: float
    arrived: bool
    reason: str


def main() -> None:
    """Prints a row a run, and writes them as JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT")
    parser.add_argument("--regularizers", default="l2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--share", type=float, default=1.0, help="of the published steps")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--paper", type=Path, help="a JSON file with runs of paper")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--draw", type=Path, help="a picture of the runs in the JSON files named")
    options = parser.parse_args()
    if options.paper and (options.share, options.epochs) != (1.0, 100):
        parser.error("--paper: its runs were of the published steps and epochs")
    if options.draw:
        found = [row for file in options.experiments for row in json.loads(Path(file).read_text())]
        draw([Run(**row) for row in found if row["regularizer"] == "l2"], options.draw)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(
        "| experiment | R | method | steps | gradients | of paper's | seconds | R | angle | worst |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    walked_before = json.loads(options.paper.read_text()) if options.paper else []
    before = {
        (r["experiment"], r["regularizer"]): Run(**r)
        for r in walked_before
        if r["method"] == "paper"
    }
    for experiment in options.experiments or EXPERIMENTS:
        engine = trained(experiment, options.epochs)
        for regularizer in options.regularizers.split(","):
            ways = options.methods.split(",")
            paper = None
            first = before.get((experiment, regularizer))
            for run in runs(engine, experiment, regularizer, ways, options.share, first):
                paper = paper or run
                rows.append(run)
                ratio = (
                    f"1/{paper.gradients / max(1, run.gradients):.0f}"
                    if run.arrived
                    else run.reason
                )
                angle = "–" if run.angle_deg is None else f"{run.angle_deg:.1f}°"
                print(
                    f"| {experiment} | {regularizer} | {run.method} | {run.steps} | {run.gradients}"
                    f" | {ratio} | {run.seconds:.1f} | {run.value:.6g} | {angle}"
                    f" | {run.worst:.3f} |",
                    flush=True,
                )
                if options.json:
                    options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")


def draw(rows: list[Run], file: Path) -> None:
    """Bars of gradients to the target, an experiment below the other."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    experiments = list(dict.fromkeys(r.experiment for r in rows))
    methods = ["paper", *reversed(METHODS)]
    figure, axes = pyplot.subplots(figsize=(8.0, 1.1 * len(experiments) + 1.0))
    shades = ("#9aa0a6", "#c9a227", "#7b5ea7", "#3a86a8", "#1b7f4d")
    colours = dict(zip(methods, shades, strict=True))
    height = 0.8 / len(methods)
    for at, experiment in enumerate(experiments):
        paper = next(r for r in rows if r.experiment == experiment and r.method == "paper")
        for run in (r for r in rows if r.experiment == experiment and r.arrived):
            place = at + (methods.index(run.method) - len(methods) / 2 + 0.5) * height
            first = at == 0
            axes.barh(
                place, run.gradients, 0.92 * height, color=colours[run.method],
                label=run.method if first else None,
            )  # fmt: skip
            share = "" if run is paper else f", 1/{paper.gradients / run.gradients:.0f}"
            axes.text(1.06 * run.gradients, place, f"{run.gradients}{share}", va="center", size=7)
    axes.set_xscale("log")
    axes.set_xlim(right=3 * max(r.gradients for r in rows))
    axes.set_yticks(range(len(experiments)), experiments)
    axes.invert_yaxis()
    axes.set_xlabel("gradients to the ‖θ‖² that paper has after its published number of steps")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=5, frameon=False, fontsize=8)
    figure.savefig(file, dpi=150, bbox_inches="tight")


def trained(experiment: str, epochs: int) -> Engine:
    """The experiment's network after training, at its own loss."""
    data, options, model, _ = EXPERIMENTS[experiment]
    engine = Engine()
    engine.load_data(data, data, None, **options)
    engine.build_model(model, None, {})
    engine.train(epochs=epochs)
    return engine


def runs(
    engine: Engine,
    experiment: str,
    regularizer: str,
    methods: list[str],
    share: float,
    first: Run | None,
) -> Iterator[Run]:
    """`paper` for its steps, unless it is given, then each method to its R."""
    if first is None:
        steps = round(EXPERIMENTS[experiment][3] * share)
        rates = TABULAR if experiment in ("iris-ff", "mpg-ff") else {}
        request = WalkRequest("paper", steps, **rates)
        try:
            first = walked(engine, experiment, regularizer, request, 1e-5)
        except EngineError as e:
            print(f"| {experiment} | {regularizer} | paper | {e} |")
            return
    yield first
    quick = first.gradients
    for method in methods:
        most = quick if method != "gradient" else min(first.gradients, MOST * quick)
        request = WalkRequest(method, most, until={regularizer: first.value})
        try:
            run = walked(engine, experiment, regularizer, request, None)
        except EngineError as e:
            print(f"| {experiment} | {regularizer} | {method} | {e} |")
            continue
        if method == "quasi-newton":
            quick = run.gradients
        yield run


def walked(
    engine: Engine,
    experiment: str,
    regularizer: str,
    request: WalkRequest,
    tolerance: float | None,
) -> Run:
    """One walk from the trained network, on a branch of its own."""
    engine.goto("main:0")
    engine.level_set = None
    engine.sum.terms.clear()
    engine.switch(regularizer, None, {})
    level = engine.problem.loss(engine.theta)
    engine.fix_level(None, tolerance if tolerance is None or tolerance < level else 0.1 * level)
    engine.path.branch = engine.path.free_name(request.method)
    kept = WalkRequest(**{**vars(request), "record": NEVER, "measure": NEVER})
    began = time.perf_counter()
    result = engine.walk(kept)
    seconds = time.perf_counter() - began
    points = engine.path.lineage()
    return Run(
        experiment,
        regularizer,
        request.method,
        result.steps,
        result.end.gradients - result.start.gradients,
        seconds,
        result.end.regularizers[regularizer],
        result.end.angle_deg,
        max(abs(p.residual) for p in points if p.residual is not None),
        request.method == "paper" or "reached" in result.reason,
        result.reason,
    )


if __name__ == "__main__":
    main()
