"""Patterns: a plane of networks whose losses draw a picture (multi-point optimisation)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.events import Listener, Pictured, Progress
from lsshell.engine.landscape.batch_norm import batch_statistics, recompute_statistics
from lsshell.engine.landscape.examples import drawn
from lsshell.engine.landscape.masks import Mask
from lsshell.engine.landscape.places import visit
from lsshell.engine.landscape.plane import Axes, Plane, clip_norm
from lsshell.engine.problem import Problem, Split
from lsshell.engine.seeds import generator
from lsshell.engine.training import batches, count_batches
from lsshell.engine.walk import INTERRUPTED

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine

Kind = Literal["light", "dark"]
Numbers = NDArray[np.float64]
KINDS: dict[Kind, int] = {"light": 1, "dark": -1}
CLIP, CELLS = 2.5, 50
GRADIENT_CLIP = 100.0
# No contrast: a difference of accuracies under 0.01 after 30 epochs, as published, of some length.
FIRST_JUDGED, FEWEST_JUDGED, LEAST_DIFFERENCE = 30, 500, 0.01


@dataclass(frozen=True)
class PatternRequest:
    """What is asked of `pattern`.

    cells: at most so many of each kind in one update; clip: of a dark cell's loss, past which it
    is driven no further; until_difference: ends when accuracy on light cells, in the mini-batches
    of an epoch, exceeds that on dark ones by so much (None: after `epochs`); padding: cells around
    the picture that are scored too; examples: training and test examples that the cells are scored
    on (None: all); seed: of networks, batches and cells (the session's); stop_after: updates.
    """

    mask: Mask
    epochs: int = 100
    batch: int = 256
    rate: float = 5e-3
    cells: int = CELLS
    clip: float = CLIP
    until_difference: float | None = None
    padding: int = 3
    examples: int | None = 1000
    seed: int | None = None
    stop_after: int | None = None


@dataclass(frozen=True)
class Scored:
    """Loss and accuracy at every cell (h', w'), padding included, on one set of examples."""

    loss: Numbers
    accuracy: Numbers


@dataclass(frozen=True)
class PatternResult:
    """The plane learned, and what its cells score.

    up, right: i and j of the grid's rows (the first on top) and columns, in cells from the middle;
    train, test: scores on examples of either set, batch-norm statistics taken anew at each cell
    from the training set; difference: of accuracies in the last epoch's mini-batches; gradients:
    of mini-batches that were taken (a cell at the clip needs none).
    """

    mask: Mask
    plane: Plane
    up: tuple[float, ...]
    right: tuple[float, ...]
    padding: int
    train: Scored
    test: Scored
    steps: int
    epochs: int
    gradients: int
    difference: float
    reason: str
    examples: tuple[int, int]

    def mean(self, split: Split, kind: Kind) -> tuple[float, float]:
        """Mean loss and mean accuracy over the cells of a kind."""
        scored = self.train if split == "train" else self.test
        inside = slice(self.padding, -self.padding or None)
        chosen = self.mask.cells == KINDS[kind]
        return (
            float(scored.loss[inside, inside][chosen].mean()),
            float(scored.accuracy[inside, inside][chosen].mean()),
        )

    @property
    def spacing(self) -> float:
        """How far neighbouring cells lie apart in parameter space."""
        return self.plane.spacing(self.plane.axes())

    @property
    def theta(self) -> str:
        """The first 16 hex digits of the SHA-256 of o, ũ, ṽ and s."""
        digest = hashlib.sha256()
        for part in self.plane.parts:
            digest.update(part.detach().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def pattern(engine: Engine, request: PatternRequest) -> PatternResult:
    """Learns a plane on which the training loss is low at the mask's light cells, high at the dark.

    Multi-point optimisation (Skorokhodov & Burtsev 2019, "Loss Landscape Sightseeing with
    Multi-Point Optimization"). The plane (`Plane`) goes through three networks initialised under
    seed, seed + 1 and seed + 2. An update takes one mini-batch and at most `cells` cells of each
    kind at random, and a step of Adam, its gradient cut to norm 100, down

        mean over light cells of L(θ(i, j)) − mean over dark cells of min(L(θ(i, j)), clip).

    Cells are done one after another, and their gradients summed: what is in memory are the plane's
    three vectors, their gradients, moments and two axes, however many cells there are. Batch-norm
    layers normalise by the mini-batch. θ, path and network of the engine stay as they are.

    Where the user asks to stop, the plane is that of the last whole update, and is scored. Raises
    EngineError for bad settings, for regression, and for a network that cannot be initialised anew;
    Cancelled where there was no update yet.
    """
    problem = engine.ready()
    _check(problem, request)
    seed = engine.seed if request.seed is None else request.seed
    plane = _initial(engine, problem, seed)
    fit = _Fit(problem, plane, request, seed, engine.listen)
    with visit(problem):
        with batch_statistics(problem):
            reason = fit.run()
        if reason == INTERRUPTED:
            if not fit.steps:
                raise Cancelled
            with problem.uncancelled():
                scored = _score(problem, fit.plane, request, seed, engine.listen)
        else:
            scored = _score(problem, fit.plane, request, seed, engine.listen)
    up, right = _grid(request.mask, request.padding)
    train, test, examples = scored
    result = PatternResult(
        request.mask,
        fit.plane,
        up,
        right,
        request.padding,
        train,
        test,
        fit.steps,
        fit.epochs,
        fit.gradients,
        fit.difference,
        reason,
        examples,
    )
    loss, _ = result.mean("train", "light")
    if not math.isfinite(loss):  # after the last update, which nothing saw
        raise EngineError(f"diverged at update {fit.steps} (loss {loss}): lower --rate")
    return result


def _check(problem: Problem, request: PatternRequest) -> None:
    if not problem.classification:
        raise EngineError("pattern needs classes: it is accuracy that tells light from dark cells")
    whole = {"epochs": request.epochs, "batch": request.batch, "cells": request.cells}
    if request.examples is not None:
        whole["examples"] = request.examples
    for name, value in whole.items():
        if value < 1:
            raise EngineError(f"--{name} must be at least 1")
    for name, number in {"rate": request.rate, "clip": request.clip}.items():
        if not 0.0 < number < math.inf:
            raise EngineError(f"--{name} must be a number above 0")
    if not 0 <= request.padding <= 100:
        raise EngineError("--padding must be from 0 to 100 cells")
    if request.until_difference is not None and not 0.0 < request.until_difference <= 1.0:
        raise EngineError("--until-difference must be above 0 and at most 1")
    count_batches(problem, len(problem.x_train), request.batch)  # refuses single examples
    for kind, value in KINDS.items():
        if not (request.mask.cells == value).any():
            raise EngineError(
                f"{request.mask.name} has no {kind} cells: a pattern needs both kinds"
            )


def _initial(engine: Engine, problem: Problem, seed: int) -> Plane:
    """Through three networks of the session's kind, each initialised from its own seed."""
    rebuild = engine._rebuild
    if rebuild is None:
        raise EngineError("pattern needs a network it can initialise anew: say `model`")
    return Plane.through(*(_parameters(rebuild(problem.data, seed=seed + k), problem)
                           for k in range(3)))  # fmt: skip


def _parameters(network: torch.nn.Module, problem: Problem) -> Tensor:
    parts = [q.detach().reshape(-1) for q in network.parameters() if q.requires_grad]
    return torch.cat(parts).to(problem.device, problem.dtype)


def _grid(mask: Mask, padding: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """i of the rows, from the top, and j of the columns: 0 is the picture's middle."""
    h, w = mask.cells.shape
    up = tuple((h - 1) / 2 - row for row in range(-padding, h + padding))
    return up, tuple(column - (w - 1) / 2 for column in range(-padding, w + padding))


@dataclass
class _Tally:
    """Sums over an epoch's cells of one kind."""

    losses: float = 0.0
    right: float = 0.0
    count: int = 0

    @property
    def loss(self) -> float:
        return self.losses / max(self.count, 1)

    @property
    def accuracy(self) -> float:
        return self.right / max(self.count, 1)


@dataclass
class _Fit:
    """The plane while it is learned, and how far it has come."""

    problem: Problem
    plane: Plane
    request: PatternRequest
    seed: int
    listen: Listener
    steps: int = 0
    epochs: int = 0
    gradients: int = 0
    difference: float = 0.0
    _picture: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        mask = self.request.mask
        self.offsets = {kind: mask.offsets(value) for kind, value in KINDS.items()}
        self._picture = [[math.nan] * mask.cells.shape[1] for _ in range(mask.cells.shape[0])]
        self.sums = [torch.zeros_like(self.plane.o) for _ in range(3)]
        self.learned = [torch.nn.Parameter(part) for part in self.plane.parts]
        self.plane = Plane(*(q.data for q in self.learned))  # what the optimiser moves
        self.optimizer = torch.optim.Adam(self.learned, lr=self.request.rate)

    def run(self) -> str:
        """Updates until there is a reason to end, and gives it."""
        problem, request = self.problem, self.request
        shuffle = generator(self.seed, "pattern batches")
        draws = generator(self.seed, "pattern cells")
        n = len(problem.x_train)
        total = count_batches(problem, n, request.batch) * request.epochs
        try:
            for _ in range(request.epochs):
                tallies = {kind: _Tally() for kind in KINDS}
                for x, y in batches(problem, n, request.batch, shuffle):
                    if request.stop_after is not None and self.steps >= request.stop_after:
                        return f"{self.steps} updates"
                    self._update(x, y, draws, tallies)
                    light, dark = tallies["light"], tallies["dark"]
                    self.difference = light.accuracy - dark.accuracy
                    note = (
                        f"accuracy light {light.accuracy:.3f}, dark {dark.accuracy:.3f};"
                        f" loss {light.loss:.3f}, {dark.loss:.3f}"
                    )
                    self.listen(Progress("pattern", self.steps, total, note))
                self.epochs += 1
                self._show()
                problem.ranks.share(*self.plane.parts)
                found = self.difference
                found = problem.ranks.from_first(lambda found=found: found)
                reason = self._finished(found)
                if reason is not None:
                    return reason
        except (Cancelled, KeyboardInterrupt):
            return INTERRUPTED
        return f"{request.epochs} epoch{'s' * (request.epochs != 1)}"

    def _finished(self, difference: float) -> str | None:
        wanted = self.request.until_difference
        if wanted is not None and difference >= wanted:
            return f"accuracies differ by {wanted:g}"
        judged = self.epochs >= FIRST_JUDGED and self.steps >= FEWEST_JUDGED
        if judged and difference < LEAST_DIFFERENCE:
            return f"no contrast after {self.epochs} epochs; another --rate may help"
        return None

    def _update(
        self, x: Tensor, y: Tensor, draws: torch.Generator, tallies: dict[Kind, _Tally]
    ) -> None:
        """One step of Adam on one mini-batch and cells of both kinds; whole, or not at all."""
        axes, began = self.plane.axes(), self.problem.gradients
        seen: list[tuple[Kind, Numbers, float, float]] = []
        for total in self.sums:
            total.zero_()
        for kind in KINDS:
            offsets = self.offsets[kind]
            chosen = torch.randperm(len(offsets), generator=draws)[: self.request.cells]
            for k in chosen.tolist():
                loss, right = self._cell(axes, offsets[k], kind, 1.0 / len(chosen), x, y)
                seen.append((kind, offsets[k], loss, right))
        gradients = self.plane.pull_back(axes, self.sums)
        clip_norm(gradients, GRADIENT_CLIP)
        for q, gradient in zip(self.learned, gradients, strict=True):
            q.grad = gradient
        self.optimizer.step()
        self.steps += 1
        self.gradients += self.problem.gradients - began  # none of an update that was cut short
        for kind, at, loss, right in seen:
            tally = tallies[kind]
            tally.losses += loss
            tally.right += right
            tally.count += 1
            self._picture[self._row(at)][self._column(at)] = right

    def _cell(
        self, axes: Axes, at: Numbers, kind: Kind, weight: float, x: Tensor, y: Tensor
    ) -> tuple[float, float]:
        """Adds a cell's gradient to the sums; its loss and accuracy on the mini-batch."""
        problem, (i, j) = self.problem, (float(at[0]), float(at[1]))
        gradient = problem.begin_gradient()
        self.plane.theta(axes, i, j, out=problem.theta)
        outputs = problem.network(x)
        mean = problem.loss_sum(outputs, y) / len(x)
        loss = float(mean.detach())
        if math.isnan(loss) or (kind == "light" and math.isinf(loss)):
            raise EngineError(f"diverged at update {self.steps + 1} (loss {loss}): lower --rate")
        right = float((outputs.detach().argmax(1) == y).double().mean())
        if kind == "dark" and loss >= self.request.clip:
            return loss, right  # flat: no gradient
        mean.backward()
        problem.work += 1
        signed = KINDS[kind] * weight
        for total, factor in zip(self.sums, (1.0, i, j), strict=True):
            total.add_(gradient, alpha=signed * factor)
        return loss, right

    def _row(self, at: Numbers) -> int:
        return round((len(self._picture) - 1) / 2 - float(at[0]))

    def _column(self, at: Numbers) -> int:
        return round((len(self._picture[0]) - 1) / 2 + float(at[1]))

    def _show(self) -> None:
        """The accuracy that each cell had when it was last drawn."""
        rows = tuple(tuple(row) for row in self._picture)
        self.listen(Pictured("pattern", rows, "accuracy", (0.0, 1.0)))


def _score(
    problem: Problem, plane: Plane, request: PatternRequest, seed: int, listen: Listener
) -> tuple[Scored, Scored, tuple[int, int]]:
    """Loss and accuracy of every cell on training and on test examples."""
    up, right = _grid(request.mask, request.padding)
    chosen = {split: _sample(problem, split, request.examples, seed) for split in _SPLITS}
    grids = {s: np.empty((2, len(up), len(right))) for s in _SPLITS}
    axes, theta = plane.axes(), torch.empty_like(plane.o)
    total = len(up) * len(right)
    for row, i in enumerate(up):
        for column, j in enumerate(right):
            plane.theta(axes, i, j, out=theta)
            recompute_statistics(problem, theta)
            for split, (x, y) in chosen.items():
                outputs = problem.outputs(theta, x)
                grids[split][0, row, column] = float(problem.loss_sum(outputs, y)) / len(y)
                grids[split][1, row, column] = float((outputs.argmax(1) == y).double().mean())
        listen(Progress("score", (row + 1) * len(right), total))
    train, test = (Scored(*grids[split]) for split in _SPLITS)
    return train, test, (len(chosen["train"][1]), len(chosen["test"][1]))


_SPLITS: Sequence[Split] = ("train", "test")


def _sample(problem: Problem, split: Split, most: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """All examples of a set, or so many of them at random."""
    x, y = problem.examples(split)
    if most is None or most >= len(y):
        return x, y
    chosen = drawn(len(y), most, seed, f"pattern scores {split}").to(x.device)
    return x[chosen], y[chosen]
