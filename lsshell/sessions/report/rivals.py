"""Weighted-sum training beside the walks: per λ, paired by seed, at the implied weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from lsshell.engine.comparison import Spread, Trained, comparison_rows
from lsshell.engine.path import Point
from lsshell.sessions.report.layout import Table
from lsshell.sessions.report.runs import Run, Walked
from lsshell.sessions.report.statistics import paired
from lsshell.sessions.report.traversals import names_of, rate_of, spread, walks_of

BEGINS = {"scratch": "from scratch", "start": "from the walk's start"}


def trained_of(runs: Sequence[Run], begin: str, *, implied: bool = False) -> list[Trained]:
    """The trainings of the sweeps over λ, or those at the λ that walks imply."""
    sweeps = [s for run in runs for s in run.sweeps]
    return [t for s in sweeps if (s.begin, s.implied) == (begin, implied) for t in s.trained]


def begins_of(runs: Sequence[Run]) -> list[str]:
    return [b for b in BEGINS if trained_of(runs, b)]


def best_penalty(trained: Sequence[Trained], by: str) -> float | None:
    """The λ of least mean `test` or `validation` loss; None where that was not measured."""
    values = {}
    for row in comparison_rows(trained):
        found = row.test_loss if by == "test" else row.validation_loss
        if found is not None and not math.isnan(found.mean):
            values[row.penalty] = found.mean
    return min(values, key=lambda penalty: (values[penalty], penalty), default=None)


def penalties_table(runs: Sequence[Run], begin: str, stem: str) -> Table:
    """A row a λ: data losses, rate, ‖θ‖²; the walks' ends from the same seeds under them."""
    trained = trained_of(runs, begin)
    label, rate = rate_of(runs)
    by_test, by_validation = best_penalty(trained, "test"), best_penalty(trained, "validation")
    rows = []
    for row in comparison_rows(trained):
        mark = "*" * (row.penalty == by_test) + "v" * (row.penalty == by_validation)
        shown = row.test_rmse
        if row.test_accuracy is not None:
            shown = Spread(100.0 * row.test_accuracy.mean, 100.0 * row.test_accuracy.std)
        rows.append([f"λ = {row.penalty:g}", mark, row.runs, row.train_loss, row.validation_loss,
                     row.test_loss, shown, row.l2])  # fmt: skip
    for name in names_of(runs):
        walks = walks_of(runs, name)
        for where, points in (("end", [w.end for w in walks]), ("best", [w.chosen for w in walks])):
            rows.append(
                [
                    f"{name}, {where}",
                    "v" * (where == "best" and by_validation is not None),
                    len(points),
                    spread([p.loss for p in points]),
                    spread([p.validation_loss for p in points]),
                    spread([p.test_loss for p in points]),
                    spread([rate(p) for p in points]),
                    spread([p.regularizers.get("l2") for p in points]),
                ]
            )
    headers = ["", "chosen", "runs", "training loss", "validation loss", "test loss", label, "‖θ‖²"]
    caption = (
        f"Weighted-sum training {BEGINS[begin]}, losses without the penalty; chosen by test loss"
        " (*, as published) and by validation loss (v)"
    )
    return Table(f"{stem}-weight-decay-{begin}", caption, headers, rows)


def paired_table(runs: Sequence[Run], stem: str) -> Table | None:
    """Walk minus weight decay in test loss, seed by seed, with bootstrap intervals.

    The walk at its end, where its validation loss is least, and after as many gradients as one
    weighted-sum training; beside training from scratch, the walk's gradients count the epochs of
    its own start. Weight decay at the λ chosen by validation, or by test (which flatters it).
    """
    rows = []
    for begin in begins_of(runs):
        trained = trained_of(runs, begin)
        for by in ("validation", "test"):
            penalty = best_penalty(trained, by)
            if penalty is None:
                continue
            rivals = {t.seed: t for t in trained if t.penalty == penalty}
            cost = max(t.gradients for t in rivals.values())
            sweep = sum(t.gradients for t in trained) / max(len({t.seed for t in trained}), 1)
            for name in names_of(runs):
                walked = [r for r in runs if name in r.walks]
                before = {r.seed: r.epochs if begin == "scratch" else 0 for r in walked}
                for where, pairs in _pairs(runs, name, rivals, cost, before):
                    if not pairs:
                        continue
                    spent = spread([float(p.gradients + before[t.seed]) for p, t in pairs])
                    rows.append(
                        [
                            f"{name}, {where}",
                            f"λ = {penalty:g} {BEGINS[begin]}, by {by}",
                            len(pairs),
                            paired([p.test_loss - t.test_loss for p, t in pairs
                                    if p.test_loss is not None]),
                            spent,
                            cost,
                            sweep,
                        ]
                    )  # fmt: skip
    if not rows:
        return None
    headers = ["walk", "weight decay", "pairs", "Δ test loss [95 %]", "gradients of the walk",
               "of one training", "of the sweep"]  # fmt: skip
    caption = (
        "Test loss of the walk minus that of weight decay from the same seed (negative: the walk is"
        " better; !: the interval leaves zero out)"
    )
    return Table(f"{stem}-paired", caption, headers, rows)


def _pairs(
    runs: Sequence[Run],
    name: str,
    rivals: Mapping[int, Trained],
    cost: int,
    before: Mapping[int, int],
) -> Iterator[tuple[str, list[tuple[Point, Trained]]]]:
    both = [(r.walks[name], rivals[r.seed]) for r in runs if name in r.walks and r.seed in rivals]
    yield "end", [(w.end, t) for w, t in both]
    if any(p.validation_loss is not None for w, _ in both for p in w.points):
        yield "best by validation", [(w.chosen, t) for w, t in both]
    if all(before[t.seed] < cost for _, t in both):
        yield f"at {cost} gradients", [(_within(w, cost - before[t.seed]), t) for w, t in both]


def _within(walked: Walked, gradients: int) -> Point:
    """The last tested point that cost no more than so many gradients."""
    affordable = [p for p in walked.tested if p.gradients <= gradients]
    return affordable[-1] if affordable else walked.tested[0]


def matched_table(runs: Sequence[Run], stem: str) -> Table | None:
    """Each walk's end along l2 beside weight decay at its implied λ = 1/ν, from the same seed.

    A constrained minimum of ‖θ‖² with multiplier ν is a stationary point of L + ‖θ‖²/ν. Where
    nothing was trained at just that λ, the nearest one of the sweep is taken.
    """
    rows = []
    for begin in BEGINS:
        trained = trained_of(runs, begin) + trained_of(runs, begin, implied=True)
        for name in names_of(runs):
            for run in runs:
                walked = run.walks.get(name)
                own = [t for t in trained if t.seed == run.seed and t.penalty > 0.0]
                if walked is None or not own or set(walked.regularizers) != {"l2"}:
                    continue
                end, implied = walked.end, walked.end.implied_weight_decay or 0.0
                if implied <= 0.0:
                    continue
                rival = min(own, key=lambda t: abs(math.log(t.penalty / implied)))
                rows.append(
                    [name, run.seed, implied, end.angle_deg, rival.penalty, BEGINS[begin],
                     end.loss, rival.train_loss, end.regularizers.get("l2"), rival.l2,
                     end.test_loss, rival.test_loss]
                )  # fmt: skip
    if not rows:
        return None
    headers = ["walk", "seed", "1/ν at its end", "angle °", "λ trained at", "trained",
               "training loss, walk", "training loss, weight decay", "‖θ‖², walk",
               "‖θ‖², weight decay", "test loss, walk", "test loss, weight decay"]  # fmt: skip
    caption = "Each walk's end beside weight decay at its implied λ, or the nearest one trained at"
    return Table(f"{stem}-matched", caption, headers, rows)
