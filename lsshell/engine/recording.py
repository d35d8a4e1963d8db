"""From a position in parameter space to the numbers that are written down about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from lsshell.engine.convergence import Convergence
from lsshell.engine.errors import EngineError
from lsshell.engine.levelset import LevelSet, Split
from lsshell.engine.path import Kind, Path, Point
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers import REGULARIZERS, Regularizer, make_regularizer
from lsshell.engine.vectors import norm

LOCATED = "-best"


@dataclass
class Recorder:
    """Makes the points of one traversal: distances from its start, gradients since then, the
    session's seed at that time.

    `observed` are the cheap regularisers with their default options, seen at every measured
    point whether switched on or not.
    """

    problem: Problem
    path: Path
    start: Tensor
    observed: Mapping[str, Regularizer]
    gradients_before: int
    seed: int
    last: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.start

    def point(
        self,
        theta: Tensor,
        loss: float,
        *,
        kind: Kind,
        level_set: LevelSet | None,
        switched: Mapping[str, Regularizer],
        known: Mapping[str, float],
        split: Split | None,
        descending: bool,
        measure: bool,
        rate: float | None = None,
        corrections: int = 0,
        convergence: Convergence | None = None,
        distance: float | None = None,
        stride: float | None = None,
    ) -> Point:
        """A point at θ, child of the path's `here`.

        `known` are regulariser values already had; so may be `distance` (from the start) and
        `stride` (from the last point).
        """
        parent = self.path.here
        same = kind == "step" and parent is not None
        if stride is None:
            stride = norm(theta - self.last) if same else 0.0
        point = Point(
            index=self.path.next_index,
            seed=self.seed,
            parent=parent.index if parent else None,
            branch=self.path.branch_for_next(),
            kind=kind,
            step=parent.step + 1 if same and parent else 0,
            loss=loss,
            level=level_set.level if level_set else None,
            tolerance=level_set.tolerance if level_set else None,
            test_loss=None,
            test_accuracy=None,
            test_rmse=None,
            regularizers=dict(known),
            angle_deg=_angle(split, descending),
            implied_weight_decay=_implied(split, descending),
            gradients=self.problem.gradients - self.gradients_before,
            distance=norm(theta - self.start) if distance is None else distance,
            length=parent.length + stride if same and parent else 0.0,
            rate=rate,
            corrections=corrections,
            convergence=convergence,
        )
        return self.measured(point, theta, switched, known) if measure else point

    def measured(
        self,
        point: Point,
        theta: Tensor,
        switched: Mapping[str, Regularizer],
        known: Mapping[str, float],
    ) -> Point:
        """The point at θ with its test metrics and regularisers."""
        metrics = self.problem.test(theta)
        return replace(
            point,
            test_loss=metrics.loss,
            test_accuracy=metrics.accuracy,
            test_rmse=metrics.rmse,
            validation_loss=metrics.validation_loss,
            regularizers=self.values(theta, switched, known),
        )

    def located(self, point: Point, theta: Tensor, before: Point, start: Tensor) -> Point:
        """The point made a `located` one, after the recorded point `before` at θ = `start`, on a
        branch of its own: BRANCH-best.
        """
        branch = before.branch.partition(LOCATED)[0] + LOCATED
        return replace(
            point,
            kind="located",
            parent=before.index,
            branch=branch if branch not in self.path.branches() else self.path.free_name(branch),
            step=before.step + 1,
            length=before.length + norm(theta - start),
        )

    def values(
        self, theta: Tensor, switched: Mapping[str, Regularizer], known: Mapping[str, float]
    ) -> dict[str, float]:
        """Unweighted regulariser values: those switched on and all the cheap ones (that are defined
        at θ).
        """
        spent, values = self.problem.work, dict[str, float]()
        for name, regularizer in {**self.observed, **switched}.items():
            try:
                values[name] = known[name] if name in known else regularizer.value(theta)
            except EngineError:  # log of a layer that is zero, say
                if name in switched:
                    raise
        self.problem.work = spent  # measuring is not walking
        return {name: values[name] for name in REGULARIZERS if name in values}


def observe_cheap(problem: Problem, theta: Tensor, seed: int) -> dict[str, Regularizer]:
    """Every cheap regulariser that this network admits, with default options, referred to θ."""
    observed = {}
    for name, kind in REGULARIZERS.items():
        if kind.cheap:
            try:
                observed[name] = make_regularizer(name, problem, theta, seed=seed)
            except Exception:  # not defined for this network: it is refused when switched on
                continue
    return observed


def _angle(split: Split | None, descending: bool) -> float | None:
    angle = math.nan if split is None else split.angle(1.0 if descending else -1.0)
    return None if math.isnan(angle) else angle  # ∇L or ∇R is zero


def _implied(split: Split | None, descending: bool) -> float | None:
    """1/ν; negative where lowering R would lower L too."""
    if split is None or split.multiplier == 0.0 or not math.isfinite(split.multiplier):
        return None
    return (1.0 if descending else -1.0) / split.multiplier
