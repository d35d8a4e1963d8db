"""Many walkers from one point: displaced starts, or one regulariser each; a branch for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lsshell.engine.engine import (
    PAPER_TOLERANCE,
    Engine,
    WalkRequest,
    fresh_level_set,
)
from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.events import Event, Measured, Progress, Stepped, Stopped
from lsshell.engine.excursion import schedule
from lsshell.engine.levelset import LevelNotReached, LevelSet, move_to
from lsshell.engine.path import Point
from lsshell.engine.problem import Problem
from lsshell.engine.recording import Recorder
from lsshell.engine.regularizers import WeightedSum, make_regularizer
from lsshell.engine.seeds import generator
from lsshell.engine.stacked.positions import Rows, Stack, StackedTerrain
from lsshell.engine.stacked.problem import StackedProblem, numbers, why_not_stacked
from lsshell.engine.stacked.walk import stacked_walk
from lsshell.engine.steppers import Position, Terrain
from lsshell.engine.vectors import dot, norm, squares
from lsshell.engine.walk import INTERRUPTED, PAUSED

DEFAULT_SPREAD = 0.05
MOST_WALKERS = 1000
# By device: where batching is faster (benchmarks/walkers.py): p·N at most this, where a
# loss-and-gradient is mostly overhead, and at least so many walkers. Devices that were not
# measured batch when asked.
FASTER = {"cpu": (300_000, 8)}


@dataclass(frozen=True)
class WalkersRequest:
    """K walkers from the current point, each asked for the same walk.

    Either `runs`: the first from exactly here, the others from starts displaced by a random
    tangent vector of length `spread`·‖θ‖, drawn from `seed` (the session's), and brought back onto
    the level set. Or `each`: one walker for each of these regularisers, alone. `batched`: whether
    to compute them as one; None takes the faster (see `execution`).
    """

    walk: WalkRequest
    runs: int = 1
    each: tuple[str, ...] = ()
    spread: float = DEFAULT_SPREAD
    seed: int | None = None
    batched: bool | None = None

    @property
    def walkers(self) -> int:
        return len(self.each) or self.runs


@dataclass(frozen=True)
class WalkerEnd:
    """One walker's branch, the regularisers that it descends, its first and last point, why it
    ended, and a hash of its last θ.
    """

    branch: str
    descends: tuple[str, ...]
    start: Point
    end: Point
    steps: int
    refused: int
    reason: str
    theta: str


@dataclass(frozen=True)
class WalkersResult:
    """The walkers that took a step or stand on a start of their own; points recorded in all.

    reason: why all ended, where the user said so; execution: how they were computed, in words.
    """

    walkers: tuple[WalkerEnd, ...]
    recorded: int
    reason: str
    batched: bool
    execution: str


@dataclass
class _Walker:
    """One walker before it sets out: `theta` and `position` where its start is displaced."""

    branch: str
    total: WeightedSum
    position: Position | None = None
    gradients: int = 0  # what its start cost
    start: Point | None = None
    end: Point | None = None


def walk_many(engine: Engine, request: WalkersRequest) -> WalkersResult:
    """Walks K walkers from the current point, each on a branch of its own.

    Every recorded point has |L − L*| ≤ tolerance, and along each branch R falls from its first
    point on (rises, when ascending). Afterwards the current point is again the one they all left.
    Raises EngineError, with nothing changed, for a request that cannot be met.
    """
    return _Walkers(engine, request).walk()


def execution(
    problem: Problem, theta: Tensor, request: WalkersRequest, sums: Sequence[WeightedSum]
) -> tuple[bool, str]:
    """Whether the walkers are computed as one batch, and why, in words.

    Asked for or not, that takes the method `gradient`, no --until, regularisers that cost no
    passes over the data, and a network that `torch.func.vmap` takes. Left open, it is done where
    it was measured to be faster. Raises EngineError where it is asked for and cannot be.
    """
    k, work = request.walkers, problem.p * len(problem.x_train)
    most_work, fewest = FASTER.get(problem.device.type, (0, 0))
    reason = None
    if request.walk.method != "gradient":
        reason = f"{request.walk.method} has no batched form (gradient has)"
    elif request.walk.until:
        reason = "--until shortens last steps one by one"
    elif not all(total.cheap for total in sums):
        reason = "a regulariser that is on costs passes over the data"
    elif request.batched is None and work > most_work:
        reason = f"a batch of this size was not measured to be faster on {problem.device.type}"
    elif request.batched is None and k < fewest:
        reason = f"fewer than {fewest} are not faster as one batch"
    elif request.batched is False:
        return False, "one after the other, as asked"
    else:
        why = why_not_stacked(problem, theta)
        if why is None:
            return True, "as one batch"
        reason = f"this network cannot be stacked: {why}"
    if request.batched:
        raise EngineError(f"--batched yes: {reason}")
    return False, f"one after the other: {reason}"


class _Walkers:
    def __init__(self, engine: Engine, request: WalkersRequest) -> None:
        self.engine, self.request = engine, request
        self.recorded, self.sign = 0, 1.0
        self._listen = engine.listen
        self.reason: str | None = None
        self.ends: list[WalkerEnd] = []

    def walk(self) -> WalkersResult:
        engine, request = self.engine, self.request
        problem, theta = engine.ready(), engine.problem_theta()
        self._check()
        before, listen = engine.sum, engine.listen
        sums = self._sums(theta)
        try:
            for total in sums:
                engine.sum = total
                engine._check(request.walk)
        finally:
            engine.sum = before
        batched, words = execution(problem, theta, request, sums)
        level_set = engine.level_set
        if level_set is None:
            tolerance = PAPER_TOLERANCE if request.walk.method == "paper" else None
            level_set = fresh_level_set(problem.loss(theta), tolerance)
        self.sign = -1.0 if request.walk.ascend else 1.0
        engine._position(Terrain(problem, level_set, sums[0], self.sign, listen), theta)
        starts = self._starts(problem, level_set, theta, sums[0])
        stack = self._stack(level_set, theta, sums, starts) if batched else None
        if engine.level_set is None:  # from here on nothing can fail before the first step
            engine._start_at(theta, "level", level_set)
        here = engine.path.here
        assert here is not None
        names = self._branches(engine.path.branch)
        self.fork = here
        self.walkers = [_Walker(n, s) for n, s in zip(names, sums, strict=True)]
        for walker, (position, spent) in zip(self.walkers[1:], starts, strict=False):
            walker.position, walker.gradients = position, spent
        try:
            engine.listen = self._hear
            if stack is not None:
                self._together(*stack)
            else:
                self._one_by_one()
        finally:
            engine.sum, engine.listen = before, listen
            engine.path.branch = here.branch
            engine.place_at(engine.path.points[here.index])
        reason = self.reason or "all walkers have ended"
        engine.listen(Stopped(reason))
        return WalkersResult(tuple(self.ends), self.recorded, reason, batched, words)

    # -- what is asked for -------------------------------------------------------------------

    def _check(self) -> None:
        request, limit = self.request, MOST_WALKERS
        if not 1 <= request.runs <= limit or len(request.each) > limit:
            raise EngineError(f"--runs must be at least 1 and at most {limit}")
        if request.each and request.runs != 1:
            raise EngineError("--runs and --each do not go together: one walker a regulariser")
        if len(set(request.each)) != len(request.each):
            raise EngineError("--each takes every regulariser once")
        if not 0.0 < request.spread < math.inf:
            raise EngineError("--spread must be above 0")
        if request.walk.seconds is not None:
            raise EngineError("--seconds is for one walker: say how many --steps")

    def _sums(self, theta: Tensor) -> list[WeightedSum]:
        """What each walker descends: all that is on, or one regulariser alone, as it is set."""
        engine = self.engine
        if not self.request.each:
            return [engine.sum] * self.request.runs
        sums = []
        for name in self.request.each:
            total = WeightedSum()
            term = engine.sum.terms.get(name)
            if term is None:
                recorder = engine._recorder
                at = recorder.start if name == "distance" and recorder is not None else theta
                term = (make_regularizer(name, engine.ready(), at, seed=engine.seed), 1.0)
            total.terms[name] = term
            sums.append(total)
        return sums

    def _branches(self, base: str) -> list[str]:
        """`main-w1`, `main-w2`, …, or the regularisers' names; the first that no branch has."""
        taken = set(self.engine.path.branches())
        if not self.request.each:
            first = 1
            while any(f"{base}-w{first + k}" in taken for k in range(self.request.runs)):
                first += 1
            return [f"{base}-w{first + k}" for k in range(self.request.runs)]
        names = []
        for name in self.request.each:
            found, k = name, 2
            while found in taken:
                found, k = f"{name}-{k}", k + 1
            names.append(found)
        return names

    def _starts(
        self, problem: Problem, level_set: LevelSet, theta: Tensor, total: WeightedSum
    ) -> list[tuple[Position, int]]:
        """Displaced positions for all walkers but the first, and the gradients that each cost."""
        engine, found = self.engine, []
        terrain = Terrain(problem, level_set, total, self.sign, engine.listen)
        if self.request.runs == 1:
            return []
        if problem.p == 1:
            raise EngineError("one parameter: the level set has no tangent space to displace in")
        seed = engine.seed if self.request.seed is None else self.request.seed
        length = self.request.spread * norm(theta)
        _, gradient = problem.loss_and_gradient(theta)
        normal = gradient / norm(gradient)
        for k in range(2, self.request.runs + 1):
            before = problem.gradients
            source = generator(seed, f"walker {k}")
            drawn = torch.randn(problem.p, generator=source, dtype=torch.float64)
            drawn = drawn.to(theta.device, theta.dtype)
            drawn.sub_(normal, alpha=dot(drawn, normal))
            try:
                start, _ = move_to(
                    problem, level_set, torch.add(theta, drawn, alpha=length / norm(drawn))
                )
            except LevelNotReached as e:
                raise EngineError(
                    f"walker {k}'s start did not come to the level (closest loss {e.closest:.4g}):"
                    " a smaller --spread helps"
                ) from e
            found.append((engine._position(terrain, start), problem.gradients - before))
        return found

    # -- one after the other -----------------------------------------------------------------

    def _left(self) -> int | None:
        """Points that may still be recorded, where a replay is cut."""
        limit = self.request.walk.stop_after
        return None if limit is None else limit - self.recorded

    def _one_by_one(self) -> None:
        engine = self.engine
        keep, measure = self._schedule()
        for k, walker in enumerate(self.walkers):
            if (k and self._left() == 0) or self.reason is not None:
                break
            if k and engine.cancel.is_set():
                self.reason = INTERRUPTED
                break
            self._set_out(walker)
            asked = replace(
                self.request.walk, record=keep, measure=measure, stop_after=self._left()
            )
            already = self.recorded
            try:
                result = engine.walk(asked)
            except Cancelled:  # before its first step: what a walk of no steps comes to
                with engine.ready().uncancelled():
                    result = engine.walk(replace(asked, stop_after=0))
                self.reason = INTERRUPTED
            if self.recorded > already or walker.start is not None:
                self._end(walker, result.end, result.steps, result.refused, result.reason)
            if result.reason in (INTERRUPTED, PAUSED):
                self.reason = result.reason

    def _set_out(self, walker: _Walker) -> None:
        """Back to the point that all leave from; a displaced start is the branch's first point."""
        engine = self.engine
        engine.path.branch = self.fork.branch
        engine.place_at(self.fork)
        engine.path.branch, engine.sum = walker.branch, walker.total
        position = walker.position
        if position is None:
            return
        recorder = engine._recorder
        assert recorder is not None
        recorder.gradients_before -= walker.gradients
        engine.theta = position.theta
        walker.start = walker.end = engine._record_step(
            position, keep=True, measure=True, descending=self.sign > 0
        )

    # -- as one batch ------------------------------------------------------------------------

    def _stack(
        self,
        level_set: LevelSet,
        theta: Tensor,
        sums: Sequence[WeightedSum],
        starts: Sequence[tuple[Position, int]],
    ) -> tuple[StackedTerrain, Stack]:
        """All walkers where they set out from."""
        displaced = [position.theta for position, _ in starts]
        thetas = torch.stack([theta] * (len(sums) - len(displaced)) + displaced)
        problem = StackedProblem(self.engine.ready(), len(sums))
        terrain = StackedTerrain(problem, level_set, sums, self.sign)
        losses, gradients = problem.losses_and_gradients(thetas)
        values, slopes = terrain.values_and_slopes(np.arange(len(sums)), thetas)
        return terrain, Stack.at(thetas, numbers(losses)[0], gradients, values, slopes)

    def _together(self, terrain: StackedTerrain, here: Stack) -> None:
        engine, walkers, steps = self.engine, self.walkers, self._steps()
        for walker in walkers[1:] if not self.request.each else ():
            if self._left() == 0:
                self.reason = INTERRUPTED
                return
            self._set_out(walker)
        engine.path.branch = self.fork.branch
        engine.place_at(self.fork)
        recorder = engine._recorder
        assert recorder is not None
        before = [(w.end or self.fork).gradients + 1 for w in walkers]  # 1: that of `_stack`
        keep, measure = self._schedule()
        taken = np.zeros(len(walkers), dtype=np.int64)

        def record(rows: Rows, there: Stack, spent: Rows) -> int:
            left = self._left()
            count = len(rows) if left is None else min(left, len(rows))
            distances = np.sqrt(numbers(squares(there.thetas - recorder.start))[0])
            for k, row in enumerate(rows[:count]):
                taken[row] += 1
                self._stand(row, recorder, before[row] + int(spent[row]))
                self._record(
                    walkers[row],
                    recorder,
                    there.position(k),
                    distance=float(distances[k]),
                    stride=float(there.strides[k]),
                    keep=taken[row] % keep == 0,
                    measure=taken[row] % measure == 0,
                )
            note = f"{len(rows)} of {len(walkers)} walkers on their way"
            self._listen(Progress("walk", int(taken.sum()), steps * len(walkers), note))
            return count

        found = stacked_walk(
            terrain,
            here,
            steps=steps,
            record=record,
            until_angle=self.request.walk.until_angle,
            paused=engine.pause.is_set,
        )
        for row, walker in enumerate(walkers):
            reason = found.reasons[row]
            if reason in (INTERRUPTED, PAUSED):
                self.reason = reason
            if walker.end is None and reason in (INTERRUPTED, PAUSED):
                continue
            self._stand(row, recorder, before[row] + int(found.gradients[row]))
            engine.theta = found.here.thetas[row]
            if walker.end is not None:
                walker.end = engine._finish(found.here.position(row), self.sign > 0)
            end, refused = walker.end or self.fork, int(found.refused[row])
            self._end(walker, end, int(found.steps[row]), refused, reason)

    def _stand(self, row: int, recorder: Recorder, gradients: int) -> None:
        """Path, sum and count of gradients are those of this walker."""
        engine, walker = self.engine, self.walkers[row]
        engine.path.here, engine.path.branch = walker.end or self.fork, walker.branch
        engine.sum = walker.total
        recorder.gradients_before = engine.ready().gradients - gradients

    def _record(
        self,
        walker: _Walker,
        recorder: Recorder,
        position: Position,
        *,
        distance: float,
        stride: float,
        keep: bool,
        measure: bool,
    ) -> None:
        """As the engine records a step; rolling files, which hold one walker's, are not written."""
        engine, problem = self.engine, self.engine.ready()
        terms = walker.total.terms
        known = {n: self.sign * position.value / w for n, (_, w) in terms.items()}
        with problem.uncancelled():
            point = recorder.point(
                position.theta,
                position.loss,
                kind="step",
                level_set=engine.level_set,
                switched=walker.total.regularizers,
                known=known if len(terms) == 1 else {},
                split=position.split,
                descending=self.sign > 0,
                measure=measure,
                rate=position.rate,
                corrections=position.corrections,
                distance=distance,
                stride=stride,
            )
        if keep:
            point = engine.path.add(point, problem.state(position.theta), keep=True)
        else:
            engine.path.restore(point)
        walker.end = point
        engine.listen(Stepped(point))
        if measure:
            engine.listen(Measured(point))

    # -- both --------------------------------------------------------------------------------

    def _end(self, walker: _Walker, end: Point, steps: int, refused: int, reason: str) -> None:
        walker.end = end
        start = walker.start or self.fork
        names = tuple(walker.total.terms)
        theta = self.engine.theta_hash()
        self.ends.append(WalkerEnd(walker.branch, names, start, end, steps, refused, reason, theta))

    def _schedule(self) -> tuple[int, int]:
        """Keep, and measure, every so many steps: as many of all walkers as one walk keeps."""
        asked = self.request.walk
        return schedule(self._steps() * len(self.walkers), asked.record, asked.measure)

    def _steps(self) -> int:
        return self.request.walk.steps or self.engine.default_steps(self.request.walk.method)

    def _hear(self, event: Event) -> None:
        """Counts what is recorded; the ends of single walkers are nobody's business."""
        if isinstance(event, Stopped):
            return
        if isinstance(event, Stepped):
            self.recorded += 1
        if isinstance(event, Progress):
            k, total = len(self.walkers), self._steps()
            done = len(self.ends) * total + event.done
            note = f"walker {len(self.ends) + 1} of {k}, {event.note}"
            event = Progress(event.task, done, k * total, note)
        self._listen(event)
