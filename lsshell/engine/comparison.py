"""Weighted-sum training over a range of λ, as the level-set walk's rival."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lsshell.engine.errors import Cancelled
from lsshell.engine.events import Listener, Progress
from lsshell.engine.problem import Problem
from lsshell.engine.training import train
from lsshell.engine.vectors import norm


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (ddof 1; 0 for a single run)."""

    mean: float
    std: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        finite = all(math.isfinite(v) for v in values)
        std = statistics.stdev(values) if len(values) > 1 and finite else 0.0
        return cls(statistics.fmean(values), std)


@dataclass(frozen=True)
class ComparisonRow:
    """Runs trained at one penalty λ: unpenalised losses, accuracy in [0, 1] (or RMSE), ‖θ‖²."""

    penalty: float
    runs: int
    train_loss: Spread
    test_loss: Spread
    test_accuracy: Spread | None
    test_rmse: Spread | None
    l2: Spread


def weight_decay_sweep(
    fresh: Callable[[int], Problem],
    penalties: Sequence[float],
    *,
    runs: int,
    epochs: int,
    rate: float,
    batch: int,
    seed: int,
    listen: Listener,
) -> list[ComparisonRow]:
    """Trains `fresh(run)` with loss + λ·Σ_kernels w² for each λ and run (Tahir & Katz 2020, §4).

    Losses reported are of the data alone, not penalised. Run k has the same initial parameters
    and batches at every λ. Where the user asks to stop, the rows finished so far are returned.
    """
    rows, done, total = [], 0, len(penalties) * runs
    for penalty in penalties:
        results = []
        for run in range(runs):
            problem = fresh(run)
            try:
                trained = train(
                    problem,
                    problem.theta.clone(),
                    epochs=epochs,
                    rate=rate,
                    batch=batch,
                    penalty=penalty,
                    seed=seed + run,
                )
                if trained.reason == "interrupted":
                    return rows
                results.append((trained.loss, problem.test(trained.theta), norm(trained.theta)))
            except Cancelled:
                return rows
            done += 1
            listen(Progress("compare", done, total, f"λ = {penalty:g}, run {run + 1} of {runs}"))
        rows.append(_row(penalty, results, problem.classification))
    return rows


def _row(penalty: float, results: list, classification: bool) -> ComparisonRow:
    tests = [test for _, test, _ in results]
    return ComparisonRow(
        penalty=penalty,
        runs=len(results),
        train_loss=Spread.of([loss for loss, _, _ in results]),
        test_loss=Spread.of([t.loss for t in tests]),
        test_accuracy=Spread.of([t.accuracy for t in tests]) if classification else None,
        test_rmse=None if classification else Spread.of([t.rmse for t in tests]),
        l2=Spread.of([length**2 for _, _, length in results]),
    )
