"""Positions of many walkers as one stack, and the terrain that they walk on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsshell.engine.levelset import LevelSet, Split
from lsshell.engine.regularizers import WeightedSum
from lsshell.engine.stacked.problem import Numbers, StackedProblem, numbers
from lsshell.engine.steppers.stepper import Position
from lsshell.engine.vectors import dots, squares

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SplitPosition(Position):
    """A position whose split is known already."""

    known: Split | None = None

    @property
    def split(self) -> Split:  # type: ignore[override]
        assert self.known is not None
        return self.known


@dataclass
class Stack:
    """Positions of K walkers: thetas, gradients ∇L, slopes ∇R and tangents (K, p), the rest (K,).

    Row for row what a `Position` and its `Split` hold; `strides` are the lengths of the last
    steps, `distances` those from the traversal's start, `gradients_spent` each walker's own.
    """

    thetas: Tensor
    gradients: Tensor
    slopes: Tensor
    tangents: Tensor
    losses: Numbers
    values: Numbers
    multipliers: Numbers
    angles: Numbers
    tangent_norms: Numbers
    slope_norms: Numbers
    gradient_norms: Numbers
    rates: Numbers
    corrections: Rows
    strides: Numbers

    @classmethod
    def at(
        cls, thetas: Tensor, losses: Numbers, gradients: Tensor, values: Numbers, slopes: Tensor
    ) -> Stack:
        """Splits ∇R by ∇L in every row; see `levelset.split`."""
        g_squares, r_squares = squares(gradients), squares(slopes)
        units = gradients / g_squares.sqrt().to(gradients.dtype)[:, None]
        parallel = dots(slopes, units)
        tangents = slopes - parallel[:, None] * units
        again = dots(tangents, units)
        tangents -= again[:, None] * units
        lengths = squares(tangents)
        g, r, a, t = numbers(g_squares.sqrt(), r_squares.sqrt(), parallel + again, lengths.sqrt())
        with np.errstate(all="ignore"):  # ∇L = 0 has no angle, and `arrived` says so
            multipliers = -a / g
            angles = np.where((r > 0) & (g > 0), np.degrees(np.arctan2(t, a)), np.nan)
        k = len(thetas)
        return cls(
            thetas, gradients, slopes, tangents, losses, values, multipliers, angles, t, r, g,
            np.full(k, np.nan), np.zeros(k, dtype=np.int64), np.zeros(k),
        )  # fmt: skip

    def position(self, row: int) -> Position:
        """One walker's position; its tensors are views of the stack."""
        split = Split(
            self.tangents[row],
            float(self.multipliers[row]),
            float(self.angles[row]),
            float(self.tangent_norms[row]),
            float(self.slope_norms[row]),
        )
        rate = None if np.isnan(self.rates[row]) else float(self.rates[row])
        return SplitPosition(
            self.thetas[row],
            float(self.losses[row]),
            self.gradients[row],
            float(self.values[row]),
            self.slopes[row],
            rate,
            int(self.corrections[row]),
            split,
        )

    def take(self, rows: Rows) -> Stack:
        """These rows, in this order."""
        where = index(rows, self.thetas)
        columns = [v[where] if isinstance(v, Tensor) else v[rows] for v in vars(self).values()]
        return Stack(*columns)

    def put(self, rows: Rows, other: Stack) -> None:
        """Takes the rows of another stack for these."""
        where = index(rows, self.thetas)
        for name, mine in vars(self).items():
            if isinstance(mine, Tensor):
                mine[where] = getattr(other, name)
            else:
                mine[rows] = getattr(other, name)


@dataclass(frozen=True)
class StackedTerrain:
    """What K walkers walk on: min (sign −1: max) of each one's own R on one level set of L."""

    problem: StackedProblem
    level_set: LevelSet
    objectives: Sequence[WeightedSum]
    sign: float

    def values_and_slopes(self, rows: Rows, thetas: Tensor) -> tuple[Numbers, Tensor]:
        """R (k,) and ∇R (k, p) at θ (k, p) of these walkers, negated when ascending."""
        slopes = torch.empty_like(thetas)
        first = self.objectives[rows[0]]
        if all(self.objectives[row] is first for row in rows):
            values = first.values_and_gradients(thetas, slopes)
        else:
            parts = [
                self.objectives[row].values_and_gradients(thetas[k : k + 1], slopes[k : k + 1])
                for k, row in enumerate(rows)
            ]
            values = torch.cat(parts)
        if self.sign < 0:
            slopes.neg_()
        return self.sign * numbers(values)[0], slopes


def joined(stacks: Sequence[Stack]) -> Stack:
    """The rows of several stacks below each other."""
    if len(stacks) == 1:
        return stacks[0]
    columns = [
        torch.cat(values) if isinstance(values[0], Tensor) else np.concatenate(values)
        for values in zip(*(vars(stack).values() for stack in stacks), strict=True)
    ]
    return Stack(*columns)


def index(rows: Rows, like: Tensor) -> Tensor:
    """Row numbers where `like` is."""
    return torch.as_tensor(rows, device=like.device)


def column(values: Numbers, like: Tensor) -> Tensor:
    """Numbers (k,) as a column (k, 1) of `like`'s kind."""
    return torch.as_tensor(values, dtype=torch.float64).to(like.device, like.dtype)[:, None]
