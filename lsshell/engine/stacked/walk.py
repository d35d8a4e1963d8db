"""The loop of many walkers in lockstep: step, record, stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lsshell.engine.errors import Cancelled
from lsshell.engine.stacked.gradient import StackedGradient
from lsshell.engine.stacked.positions import Rows, Stack, StackedTerrain
from lsshell.engine.steppers.tangent_descent import NO_SHORTER_STEP
from lsshell.engine.walk import INTERRUPTED, PAUSED, STEPS_TAKEN, arrived


@dataclass
class StackedEnd:
    """How K walkers ended: positions, steps taken, steps refused and gradients spent (K,), why."""

    here: Stack
    steps: Rows
    refused: Rows
    gradients: Rows
    reasons: list[str]


def stacked_walk(
    terrain: StackedTerrain,
    here: Stack,
    *,
    steps: int,
    record: Callable[[Rows, Stack, Rows], int],
    until_angle: float | None = None,
    paused: Callable[[], bool] = lambda: False,
) -> StackedEnd:
    """Each row walks at most `steps` steps by `gradient`, all in lockstep; see `walk.walk`.

    After each round `record(rows, there, gradients)` gets the rows that took a step, in order,
    their new positions, and the gradients (K,) spent so far; it says how many of these it took.
    Where that is not all, the others stay where they were, and the walk ends. So do all where the
    user interrupts: a round under way leaves no trace.
    """
    walkers = len(here.thetas)
    stepper = StackedGradient(walkers)
    reasons: list[str | None] = [None] * walkers
    taken = np.zeros(walkers, dtype=np.int64)

    def end_all(reason: str) -> None:
        reasons[:] = [reason if r is None else r for r in reasons]

    while True:
        for row in range(walkers):
            if reasons[row] is None:
                reasons[row] = arrived(here.position(row), terrain.sign, until_angle)
                if reasons[row] is None and taken[row] >= steps:
                    reasons[row] = f"{steps}{STEPS_TAKEN}"
        rows = np.array([k for k, reason in enumerate(reasons) if reason is None], dtype=np.int64)
        if len(rows) and paused():
            end_all(PAUSED)
            rows = rows[:0]
        if not len(rows):
            break
        whole = stepper.refused.copy(), stepper.gradients.copy()
        try:
            found, there = stepper.step(terrain, here, rows)
        except (Cancelled, KeyboardInterrupt):
            stepper.refused, stepper.gradients = whole
            end_all(INTERRUPTED)
            break
        for row in set(rows.tolist()) - set(found.tolist()):
            reasons[row] = NO_SHORTER_STEP
        if there is None:
            continue
        order = np.argsort(found)
        found, there = found[order], there.take(order)
        count = record(found, there, stepper.gradients)
        here.put(found[:count], there.take(np.arange(count)))
        taken[found[:count]] += 1
        if count < len(found):
            end_all(INTERRUPTED)
            break
    ends = [reason or "" for reason in reasons]
    return StackedEnd(here, taken, stepper.refused, stepper.gradients, ends)
