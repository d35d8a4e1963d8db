"""`gradient` for a stack of positions, row for row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsshell.engine.levelset import MAX_CORRECTIONS, LevelSet, newton_length
from lsshell.engine.stacked.positions import Rows, Stack, StackedTerrain, column, index, joined
from lsshell.engine.stacked.problem import Numbers, numbers
from lsshell.engine.steppers.gradient import Gradient
from lsshell.engine.steppers.tangent_descent import ARMIJO, FIRST_STEP, MAX_HALVINGS
from lsshell.engine.vectors import squares


@dataclass
class _Corrected:
    """Where the corrector left each row: θ, L, ∇L, the residual before it, and its steps."""

    thetas: Tensor
    losses: Numbers
    gradients: Tensor
    first: Numbers
    steps: Rows


class StackedGradient:
    """`gradient` (see `Gradient`, `TangentDescent`) for all rows of a stack in lockstep.

    Every walker has its own cap, halvings, aim and corrections; those that need no more of them
    drop out of what is evaluated. To rounding, each takes the steps that it takes alone.
    """

    def __init__(self, walkers: int) -> None:
        self.caps: Numbers | None = None
        self.refused = np.zeros(walkers, dtype=np.int64)
        self.gradients = np.zeros(walkers, dtype=np.int64)

    def step(self, terrain: StackedTerrain, here: Stack, rows: Rows) -> tuple[Rows, Stack | None]:
        """The rows (of `rows`) that found a next point, and their positions there; `here` stays."""
        if self.caps is None:
            norms = np.sqrt(numbers(squares(here.thetas))[0])
            self.caps = FIRST_STEP * np.maximum(norms, 1e-3)
        pending, alphas = rows, np.ones(len(rows))
        taken: list[tuple[Rows, Stack]] = []
        for halvings in range(MAX_HALVINGS):
            accepted, there = self._try(terrain, here, pending, alphas, halvings)
            if there is not None:
                taken.append((pending[accepted], there))
            pending, alphas = pending[~accepted], alphas[~accepted] / 2
            if not len(pending):
                break
            self.refused[pending] += 1
        if not taken:
            return rows[:0], None
        return np.concatenate([r for r, _ in taken]), joined([stack for _, stack in taken])

    def _try(
        self, terrain: StackedTerrain, here: Stack, rows: Rows, alphas: Numbers, halvings: int
    ) -> tuple[NDArray[np.bool_], Stack | None]:
        """Which rows accept a step of α·cap along −t/‖t‖, and their positions there."""
        level_set, device = terrain.level_set, here.thetas
        assert self.caps is not None
        lengths = alphas * self.caps[rows]
        decrease = lengths * here.tangent_norms[rows]
        aims = centres(level_set, here, rows, decrease)
        within = margins(level_set, here, rows, decrease)
        where = index(rows, device)
        at, gradients = here.thetas[where], here.gradients[where]
        recentre = (here.losses[rows] - aims) / here.gradient_norms[rows] ** 2
        trials = at - column(lengths / here.tangent_norms[rows], device) * here.tangents[where]
        trials -= column(recentre, device) * gradients
        corrected = self._correct(terrain, rows, trials, aims, within)
        contained = np.abs(corrected.losses - level_set.level) <= level_set.tolerance
        accepted, kept = contained, np.flatnonzero(contained)
        if not len(kept):
            return accepted, None
        chosen = index(kept, device)
        thetas = corrected.thetas[chosen]
        values, slopes = terrain.values_and_slopes(rows[kept], thetas)
        was = rows[kept]
        gain = values - here.values[was]
        lagrangian = gain + here.multipliers[was] * (corrected.losses[kept] - here.losses[was])
        falls = (lagrangian <= -ARMIJO * decrease[kept]) & (gain < 0.0)
        accepted = contained.copy()
        accepted[kept] = falls
        if not falls.any():
            return accepted, None
        final = index(np.flatnonzero(falls), device)
        kept = kept[falls]
        there = Stack.at(
            thetas[final],
            corrected.losses[kept],
            corrected.gradients[chosen][final],
            values[falls],
            slopes[final],
        )
        there.rates, there.corrections = lengths[kept], corrected.steps[kept]
        there.strides = np.sqrt(numbers(squares(there.thetas - at[chosen][final]))[0])
        rise = np.abs(corrected.first[kept]) / level_set.level
        factor = np.clip(np.sqrt(Gradient.rise / np.maximum(rise, 1e-9)), 0.5, 1.6)
        self.caps[rows[kept]] = np.minimum(factor, 0.7 if halvings else 1.6) * there.rates
        return accepted, there

    def _correct(
        self, terrain: StackedTerrain, rows: Rows, thetas: Tensor, aims: Numbers, within: Numbers
    ) -> _Corrected:
        """`levelset.correct` in every row; a row that is done is evaluated no more."""
        found = _Corrected(thetas, np.empty(0), thetas, np.empty(0), np.zeros_like(rows))
        found.losses, found.gradients, lengths = self._evaluate(terrain, rows, thetas)
        found.first = found.losses - aims
        moving = np.isfinite(found.losses)
        for _ in range(MAX_CORRECTIONS):
            residuals = found.losses - aims
            moving &= (np.abs(residuals) > within) & (lengths > 0.0) & np.isfinite(lengths)
            going = np.flatnonzero(moving)
            if not len(going):
                break
            lower = [newton_length(found.losses[k], aims[k]) / lengths[k] for k in going]
            where = index(going, thetas)
            trials = found.thetas[where] - column(np.array(lower), thetas) * found.gradients[where]
            losses, gradients, ahead = self._evaluate(terrain, rows[going], trials)
            found.thetas[where], found.gradients[where] = trials, gradients
            found.losses[going], lengths[going] = losses, ahead
            found.steps[going] += 1
            moving[going] = np.abs(losses - aims[going]) <= 2 * np.abs(residuals[going])
        return found

    def _evaluate(
        self, terrain: StackedTerrain, rows: Rows, thetas: Tensor
    ) -> tuple[Numbers, Tensor, Numbers]:
        """L (k,), ∇L (k, p) and ‖∇L‖² (k,) of these walkers at θ (k, p)."""
        losses, gradients = terrain.problem.losses_and_gradients(thetas)
        self.gradients[rows] += 1
        found, lengths = numbers(losses, squares(gradients))
        return found, gradients, lengths


def centres(level_set: LevelSet, here: Stack, rows: Rows, decrease: Numbers) -> Numbers:
    """`TangentDescent._aim` in every row."""
    residuals = here.losses[rows] - level_set.level
    cost = here.multipliers[rows] * residuals
    with np.errstate(all="ignore"):
        share = np.where(cost > 0.0, np.minimum(1.0, 0.5 * decrease / cost), 1.0)
    return level_set.level + (1.0 - share) * residuals


def margins(level_set: LevelSet, here: Stack, rows: Rows, decrease: Numbers) -> Numbers:
    """`TangentDescent._within` in every row, for CORRECTED."""
    floor = (1e-12 if here.thetas.dtype == torch.float64 else 1e-6) * level_set.level
    worth = np.abs(here.multipliers[rows])
    with np.errstate(all="ignore"):
        wanted = np.where(worth > 0.0, 0.1 * decrease / worth, level_set.tolerance)
    return np.minimum(level_set.tolerance / 10, np.maximum(wanted, floor))
