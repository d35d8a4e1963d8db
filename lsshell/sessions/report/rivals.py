"""Weighted-sum training beside the walks: per λ, paired by seed, at the implied weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from lsshell.engine.comparison import Trained, best_penalty
from lsshell.engine.path import Point
from lsshell.sessions.report.layout import Table
from lsshell.sessions.report.runs import Run, Setting, Walked
from lsshell.sessions.report.statistics import ENOUGH, paired
from lsshell.sessions.report.traversals import names_of, rate_of, spread, walks_of

BY: tuple[Literal["validation", "test"], ...] = ("validation", "test")
BEGINS = {"scratch": "from scratch", "start": "from the walk's start"}


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """The ways in which the sweeps over λ were trained, those from scratch first."""
    found = dict.fromkeys(s.setting for run in runs for s in run.sweeps if not s.implied)
    return sorted(found, key=lambda s: (s.begin, s.epochs, s.biases))


def trained_of(run: Run, setting: Setting, *, implied: bool = False) -> list[Trained]:
    """One session's trainings over λ, or those at the λ that its walks imply."""
    sweeps = [s for s in run.sweeps if (s.setting, s.implied) == (setting, implied)]
    return [t for s in sweeps for t in s.trained if math.isfinite(t.test_loss)]


def rivals_of(run: Run, runs: Sequence[Run], setting: Setting) -> list[Trained]:
    """What a session's walks may be paired with: trained on the very same examples.

    From scratch, another session of the same seed will do, but its first run only: later ones
    have other seeds, and this one's data. From the start, the session's own.
    """
    if setting.begin == "start":
        return trained_of(run, setting)
    alike = [r for r in runs if r.seed == run.seed]
    found = {t.penalty: t for r in alike for t in trained_of(r, setting) if t.seed == run.seed}
    return list(found.values())


def _words(setting: Setting) -> str:
    penalised = "weights and biases" if setting.biases else "weights alone"
    return f"{BEGINS[setting.begin]}, {setting.epochs} epochs, penalty on {penalised}"


def penalties_table(runs: Sequence[Run], setting: Setting, name: str) -> Table:
    """A row a λ: data losses, rate, ‖θ‖²; the walks' ends and best points under them."""
    trained = [t for run in runs for t in trained_of(run, setting)]
    label, rate = rate_of(runs)
    by_test, by_validation = best_penalty(trained, "test"), best_penalty(trained, "validation")
    rows = []
    for penalty in sorted({t.penalty for t in trained}):
        found = [t for t in trained if t.penalty == penalty]
        mark = "*" * (penalty == by_test) + "v" * (penalty == by_validation)
        rates = [100.0 * t.test_accuracy if t.test_accuracy is not None else t.test_rmse
                 for t in found]  # fmt: skip
        rows.append(
            [
                f"λ = {penalty:g}",
                mark,
                len(found),
                spread([t.train_loss for t in found]),
                spread([t.validation_loss for t in found]),
                spread([t.test_loss for t in found]),
                spread(rates),
                spread([t.l2 for t in found]),
            ]
        )
    validated = "v" if by_validation is not None else "*"
    for walk in names_of(runs):
        walks = walks_of(runs, walk)
        picks = (
            ("end", "", [w.end for w in walks]),
            ("best", validated, [w.chosen for w in walks]),
        )
        for where, mark, points in picks:
            rows.append(
                [
                    f"{walk}, {where}",
                    mark,
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
        f"Weighted-sum training {_words(setting)}: losses without the penalty, mean ± sample"
        " deviation over runs; chosen by mean test loss (*, as published) or validation loss (v),"
        " the walks' best points run by run"
    )
    return Table(name, caption, headers, rows)


def paired_table(runs: Sequence[Run], stem: str) -> Table | None:
    """Walk minus weight decay in test loss, seed by seed, with bootstrap intervals.

    The walk at its end, where its validation loss is least, and after as many gradients as one
    weighted-sum training; beside training from scratch, the walk's gradients count the epochs of
    its own start. Weight decay at the λ of least validation loss, seed by seed as the walk's best
    point is chosen, and at that of least mean test loss (which flatters it).
    """
    rows = []
    for setting in settings_of(runs):
        everything = [t for run in runs for t in trained_of(run, setting)]
        for by in BY:
            for name in names_of(runs):
                both = []
                for run in runs:
                    rivals = rivals_of(run, runs, setting) if name in run.walks else []
                    chosen = best_penalty(rivals if by == "validation" else everything, by)
                    both += [(run, t) for t in rivals if t.penalty == chosen]
                if not both:
                    continue
                sweep = spread([float(sum(t.gradients for t in rivals_of(r, runs, setting)))
                                for r, _ in both])  # fmt: skip
                for where, pairs in _pairs(both, name, setting):
                    rows.append(
                        [
                            f"{name}, {where}",
                            f"{BEGINS[setting.begin]}, λ by {by}",
                            len(pairs),
                            paired([p.test_loss - t.test_loss for p, t, _ in pairs
                                    if p.test_loss is not None]),
                            spread([None if cost is None else float(cost) for _, _, cost in pairs]),
                            spread([float(t.gradients) for _, t, _ in pairs]),
                            sweep,
                        ]
                    )  # fmt: skip
    if not rows:
        return None
    headers = ["walk", "weight decay", "pairs", "Δ test loss [95 %]", "gradients of the walk",
               "of one training", "of the sweep"]  # fmt: skip
    caption = (
        "Test loss of the walk minus that of weight decay from the same seed and examples (below"
        " zero: the walk is better), with a 95 % percentile bootstrap over the pairs, which is too"
        f" narrow for few of them; ! where, of {ENOUGH} pairs or more, it leaves zero out."
        " Gradients are passes over the training set; measuring test and validation loss is not"
        " counted"
    )
    return Table(f"{stem}-paired", caption, headers, rows)


Pair = tuple[Point, Trained, int | None]


def _pairs(
    both: Sequence[tuple[Run, Trained]], name: str, setting: Setting
) -> Iterator[tuple[str, list[Pair]]]:
    """A walk's point, its rival, and the gradients that the point cost (None: not known)."""
    scratch = setting.begin == "scratch"
    found = [(r.walks[name], t, r.epochs if scratch else 0) for r, t in both]
    found = [(w, t, before) for w, t, before in found if w.tested]

    def paid(gradients: int, before: int | None) -> int | None:
        return None if before is None else before + gradients

    if found:
        yield "end", [(w.end, t, paid(w.end.gradients, before)) for w, t, before in found]
    if found and all(p.validation_loss is not None for w, _, _ in found for p in w.tested):
        # Which point is best is known only once all have been walked to.
        best = [(w.chosen, t, paid(w.end.gradients, before)) for w, t, before in found]
        yield "best by validation", best
    equal = [(w, t, b) for w, t, b in found if b is not None and b < t.gradients]
    if equal and len(equal) == len(found):
        points = [(_within(w, t.gradients - b), t, b) for w, t, b in equal]
        yield "at equal gradients", [(p, t, paid(p.gradients, b)) for p, t, b in points]


def _within(walked: Walked, gradients: int) -> Point:
    """The last tested point that cost no more than so many gradients."""
    affordable = [p for p in walked.tested if p.gradients <= gradients]
    return affordable[-1] if affordable else walked.tested[0]


def matched_table(runs: Sequence[Run], stem: str) -> Table | None:
    """Each walk's end along l2 beside weight decay at its implied λ = 1/ν, from the same seed.

    A constrained minimum of ‖θ‖² with multiplier ν is a stationary point of L + ‖θ‖²/ν, biases
    penalised as the rest. Where nothing was trained at just that λ, the nearest one is taken.
    """
    rows = []
    settings = {s.setting for run in runs for s in run.sweeps if s.setting.biases}
    for setting in sorted(settings, key=lambda s: (s.begin, s.epochs)):
        for name in names_of(runs):
            for run in runs:
                walked = run.walks.get(name)
                if walked is None or set(walked.regularizers) != {"l2"}:
                    continue
                implied = (walked.end.implied_weight_decay or 0.0) * walked.regularizers["l2"]
                own = [*rivals_of(run, runs, setting), *trained_of(run, setting, implied=True)]
                own = [t for t in own if t.penalty > 0.0]
                if implied <= 0.0 or not own:
                    continue
                rival = min(own, key=lambda t: abs(math.log(t.penalty / implied)))
                end = walked.end
                rows.append(
                    [name, run.seed, implied, end.angle_deg, rival.penalty, BEGINS[setting.begin],
                     end.loss, rival.train_loss, end.regularizers.get("l2"), rival.l2,
                     end.test_loss, rival.test_loss]
                )  # fmt: skip
    if not rows:
        return None
    headers = ["walk", "seed", "1/ν at its end", "angle °", "λ trained at", "trained",
               "training loss, walk", "training loss, weight decay", "‖θ‖², walk",
               "‖θ‖², weight decay", "test loss, walk", "test loss, weight decay"]  # fmt: skip
    caption = (
        "Each walk's end beside weight decay at its implied λ (or the nearest one trained at);"
        " 1/ν is a weight decay only near the constrained minimum, at 180°"
    )
    return Table(f"{stem}-matched", caption, headers, rows)
