"""Weighted-sum training over a range of λ, as the level-set walk's rival."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lsshell.engine.errors import Cancelled, DivergedError, NotFiniteError
from lsshell.engine.events import Listener, Progress
from lsshell.engine.problem import Problem
from lsshell.engine.training import train
from lsshell.engine.vectors import norm


@dataclass(frozen=True)
class Trained:
    """One weighted-sum training: unpenalised losses, accuracy in [0, 1] (or RMSE), ‖θ‖², and the
    gradients over the training set that it cost (an epoch is one).
    """

    penalty: float
    seed: int
    train_loss: float
    validation_loss: float | None
    test_loss: float
    test_accuracy: float | None
    test_rmse: float | None
    l2: float
    gradients: int


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
    """Runs trained at one penalty λ; None where something is not measured."""

    penalty: float
    runs: int
    train_loss: Spread
    validation_loss: Spread | None
    test_loss: Spread
    test_accuracy: Spread | None
    test_rmse: Spread | None
    l2: Spread


def weight_decay_sweep(
    begin: Callable[[int], tuple[Problem, Tensor]],
    penalties: Sequence[float],
    *,
    runs: int,
    epochs: int,
    rate: float,
    batch: int,
    biases: bool,
    seed: int,
    listen: Listener,
) -> list[Trained]:
    """Trains with loss + λ·Σ w² for each λ and run (Tahir & Katz 2020, §4).

    `begin(run)` gives the problem of a run and where it starts; run k has the same start and
    batches (of seed + k) at every λ. Losses are of the data alone, not penalised. Where the user
    asks to stop, what is finished so far is returned.
    """
    found: list[Trained] = []
    for penalty in penalties:
        for run in range(runs):
            try:
                problem, theta = begin(run)
                trained = train(
                    problem,
                    theta,
                    epochs=epochs,
                    rate=rate,
                    batch=batch,
                    penalty=penalty,
                    biases=biases,
                    seed=seed + run,
                )
                if trained.reason == "interrupted":
                    return found
                metrics = problem.test(trained.theta)
            except Cancelled:
                return found
            except (DivergedError, NotFiniteError):  # so it says, and the other λ are trained
                nan = math.nan
                found.append(Trained(penalty, seed + run, nan, None, nan, None, None, nan, epochs))
                continue
            found.append(
                Trained(
                    penalty,
                    seed + run,
                    trained.loss,
                    metrics.validation_loss,
                    metrics.loss,
                    metrics.accuracy,
                    metrics.rmse,
                    norm(trained.theta) ** 2,
                    trained.epochs,
                )
            )
            note = f"λ = {penalty:g}, run {run + 1} of {runs}"
            listen(Progress("compare", len(found), len(penalties) * runs, note))
    return found


def comparison_rows(found: Sequence[Trained]) -> list[ComparisonRow]:
    """A row a λ, ascending."""
    rows = []
    for penalty in sorted({t.penalty for t in found}):
        runs = [t for t in found if t.penalty == penalty]
        rows.append(
            ComparisonRow(
                penalty,
                len(runs),
                Spread.of([t.train_loss for t in runs]),
                _spread([t.validation_loss for t in runs]),
                Spread.of([t.test_loss for t in runs]),
                _spread([t.test_accuracy for t in runs]),
                _spread([t.test_rmse for t in runs]),
                Spread.of([t.l2 for t in runs]),
            )
        )
    return rows


def best_penalty(trained: Sequence[Trained], by: Literal["test", "validation"]) -> float | None:
    """The λ of least mean `test` or `validation` loss; None where that was not measured."""
    values = {}
    for row in comparison_rows(trained):
        found = row.test_loss if by == "test" else row.validation_loss
        if found is not None and math.isfinite(found.mean):
            values[row.penalty] = found.mean
    return min(values, key=lambda penalty: (values[penalty], penalty), default=None)


def _spread(values: Sequence[float | None]) -> Spread | None:
    measured = [v for v in values if v is not None]
    return Spread.of(measured) if measured else None
