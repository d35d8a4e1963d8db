"""Loss change allocation: which parameters brought a change of loss along a path, and which paid.

Lan et al. 2019, "LCA: Loss Change Allocation for Neural Network Training".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.batch_norm import batch_statistics
from lsshell.engine.landscape.places import Place, set_buffers, visit
from lsshell.engine.problem import Problem, Slot, chunk_sizes
from lsshell.engine.training import TrainingResult, count_batches, train
from lsshell.engine.vectors import float64

if TYPE_CHECKING:
    from lsshell.engine.regularizers import WeightedSum

Of = Literal["train", "test", "regularizer"]
By = Literal["layer", "neuron", "kind"]
Numbers = NDArray[np.float64]

LEAST_INTERVALS, MOST_INTERVALS = 2, 32
TOLERANCE = 1e-3  # of the quantity's value where the path begins
MOST_STATIONS = 500


@dataclass(frozen=True)
class Quantity:
    """A function of θ whose change is allocated, with its gradient: (value, (p,))."""

    name: str
    value_and_gradient: Callable[[Tensor], tuple[float, Tensor]]


@dataclass(frozen=True)
class Group:
    """Parameters that are counted together: a layer, a neuron (filter), or a kind."""

    name: str
    parameters: int


@dataclass(frozen=True)
class Segment:
    """LCA (p,) of one straight segment in float64, the true change of the quantity over it, and
    in how many sub-intervals the gradient was taken.
    """

    shares: Tensor
    change: float
    intervals: int

    @property
    def error(self) -> float:
        """The true change less the sum of the shares."""
        return self.change - float(self.shares.sum())


@dataclass(frozen=True)
class Allocated:
    """The allocation of one quantity, `of`, over G groups and S stations along the path.

    net (G,): Σ LCA, below 0 where the group lowered it; helped (G,): the share of its parameters
    with Σ LCA < 0 over the whole path; helping (G,): of those with LCA < 0 in a segment, the mean
    over segments; cumulative, helped_so_far (S, G): the first two up to each station; values (S,):
    the quantity there; total = Σ net, change: the true one, error = change − total; worst: the
    greatest |error| of one segment; helps: helping over all parameters; spread: its standard
    deviation over segments; tolerance: of a segment's error.
    """

    of: str
    net: Numbers
    helped: Numbers
    helping: Numbers
    cumulative: Numbers
    helped_so_far: Numbers
    values: Numbers
    change: float
    worst: float
    helps: float
    spread: float
    tolerance: float

    @property
    def total(self) -> float:
        return float(self.net.sum())

    @property
    def error(self) -> float:
        return self.change - self.total


@dataclass(frozen=True)
class Allocation:
    """What each group of parameters brought of a path of `segments` straight segments.

    stations (S,): where cumulative values were taken (steps of a walk, updates of a training);
    capped: segments whose error was above the tolerance at MOST_INTERVALS sub-intervals;
    intervals: sub-intervals of a segment, mean; gradients: spent; notes for people; training: how
    it went, where the path is one.
    """

    by: By
    groups: tuple[Group, ...]
    quantities: tuple[Allocated, ...]
    stations: tuple[int, ...]
    segments: int
    capped: int
    intervals: float
    gradients: int
    notes: tuple[str, ...] = ()
    training: TrainingResult | None = None


def allocate_walk(
    problem: Problem,
    places: Iterable[Place],
    *,
    of: Sequence[Of] = ("train", "test"),
    by: By = "layer",
    regularizers: WeightedSum | None = None,
    tolerance: float | None = None,
    segments: int = 0,
    listen: Listener = silent,
) -> Allocation:
    """The allocation along straight segments between places, as the kept points of a walk are.

    LCA_i of a segment is Δθ_i times the average of ∂L/∂θ_i over it, by composite Simpson with 2
    sub-intervals, doubled until the sum over parameters is within `tolerance` of the true change
    for every quantity, up to 32. The error is of the **sum**: those of single parameters may cancel
    in it. `tolerance`: of each segment (TOLERANCE of the value where the path begins). `segments`:
    how many there are, for progress. The batch-norm statistics are the first place's.
    Holds five float64 vectors (p,) and two gradients for each quantity, and what `Allocated` has of
    each group at about 500 stations at most. Raises EngineError for fewer than two places.
    """
    allocator: Allocator | None = None
    every = max(1, -(-segments // MOST_STATIONS))
    with visit(problem) as spent:
        for k, place in enumerate(places):
            step = place.point.step if place.point is not None else k
            if allocator is None:
                set_buffers(problem, place.buffers)
                quantities = make_quantities(problem, of, regularizers)
                allocator = Allocator(problem, quantities, by, tolerance, every)
                allocator.begin(place.theta, step)
            else:
                allocator.advance(place.theta, step)
            listen(Progress("allocation", k, segments, place.name))
    if allocator is None or not allocator.segments:
        raise EngineError("an allocation needs a path of two kept points at least: `walk` first")
    return allocator.result(spent.gradients)


def allocate_training(
    problem: Problem,
    place: Place,
    *,
    of: Sequence[Of] = ("train", "test"),
    by: By = "layer",
    regularizers: WeightedSum | None = None,
    tolerance: float | None = None,
    every: int = 1,
    epochs: int = 1,
    rate: float = 1e-3,
    batch: int = 32,
    seed: int = 0,
    listen: Listener = silent,
) -> Allocation:
    """The allocation of a training run from a place (Adam on mini-batches, see `train`), which is
    made for this alone: nothing of it stays.

    Segments are `every` updates long (1, as published). The trajectory is not stored: shares are
    added up as it goes. Losses are of all training and test examples, without dropout, and with
    batch norm by each chunk's own statistics, so that they are functions of θ alone.
    """
    if every < 1:
        raise EngineError("--every must be at least 1")
    _refuse_single_examples(problem)
    updates = epochs * count_batches(problem, len(problem.x_train), batch)
    segments = -(-updates // every)
    quantities = make_quantities(problem, of, regularizers)
    thin = max(1, -(-segments // MOST_STATIONS))
    allocator = Allocator(problem, quantities, by, tolerance, thin)
    done = 0

    def evaluated(what: Callable[[Tensor, int], None], theta: Tensor, station: int) -> None:
        with batch_statistics(problem):
            what(theta, station)

    def on_update() -> None:
        nonlocal done
        done += 1
        if done % every and done != updates:
            return
        theta = problem.theta.clone()
        problem.network.eval()
        try:
            evaluated(allocator.advance, theta, done)
        finally:
            problem.theta.copy_(theta)
            problem.network.train()
        listen(Progress("allocation", done, updates, f"loss {allocator.latest:.4g}"))

    with visit(problem, place) as spent:
        evaluated(allocator.begin, place.theta, 0)
        result = train(
            problem,
            place.theta,
            epochs=epochs,
            rate=rate,
            batch=batch,
            seed=seed,
            on_update=on_update,
        )
        if result.reason == "interrupted":
            raise Cancelled
    notes = list(problem.notices) if not problem.batch_norms else [
        "batch norm by the statistics of each chunk"
    ]  # fmt: skip
    return allocator.result(spent.gradients, tuple(notes), result)


def _refuse_single_examples(problem: Problem) -> None:
    """Batch norm by the statistics of one example alone means nothing, or fails."""
    parts = [size for n in (len(problem.x_train), len(problem.x_test))
             for size in chunk_sizes(n, problem.chunk)]  # fmt: skip
    if problem.batch_norms and min(parts) < 2:
        raise EngineError(
            "batch norm needs more than one example at a time: of the training set, of the test"
            " set and in `data … --chunk`"
        )


def make_quantities(
    problem: Problem, of: Sequence[Of], regularizers: WeightedSum | None = None
) -> tuple[Quantity, ...]:
    """What is to be allocated: the training loss, the test loss, the regularisers that are on.

    Raises EngineError where nothing is on.
    """
    found = []
    for name in dict.fromkeys(of):
        if name == "regularizer":
            found.append(Quantity(name, _of_regularizers(regularizers)))
        else:
            found.append(Quantity(name, _of_loss(problem, name)))
    if not found:
        raise EngineError("an allocation needs to know of what: train, test or regularizer")
    return tuple(found)


def _of_loss(problem: Problem, split: Literal["train", "test"]) -> Callable[..., tuple]:
    return lambda theta: problem.loss_and_gradient(theta, split=split)


def _of_regularizers(regularizers: WeightedSum | None) -> Callable[..., tuple]:
    if regularizers is None or not regularizers.terms:
        raise EngineError("no regulariser is on: say `reg` (for example `reg l2 on`) first")

    def value_and_gradient(theta: Tensor) -> tuple[float, Tensor]:
        gradient = torch.zeros_like(theta)
        return regularizers.value_and_gradient(theta, gradient), gradient

    return value_and_gradient


# -- one segment -----------------------------------------------------------------------------


@dataclass
class _Sums:
    """Gradients of one quantity over a segment, added up for Simpson's rule in float64."""

    start: float
    end: float
    ends: Tensor
    even: Tensor
    odd: Tensor

    def average(self, intervals: int) -> Tensor:
        return (self.ends + 4.0 * self.odd + 2.0 * self.even) / (3.0 * intervals)


def integrate(
    quantities: Sequence[Quantity],
    start: Tensor,
    end: Tensor,
    at_start: Sequence[tuple[float, Tensor]],
    tolerances: Sequence[float],
    most: int = MOST_INTERVALS,
) -> tuple[list[Segment], list[tuple[float, Tensor]]]:
    """The shares of each quantity over a straight segment from θ (p,) to θ (p,), and value and
    gradient at its end, for the next to begin with (`at_start`).

    Composite Simpson, exact for loss functions of degree 4 along the segment; gradients are
    taken again at new nodes only.
    """
    begin = float64(start)
    step = float64(end) - begin
    at_end = [quantity.value_and_gradient(end) for quantity in quantities]
    sums = [
        _Sums(a, b, float64(f) + float64(g), torch.zeros_like(step), torch.zeros_like(step))
        for (a, f), (b, g) in zip(at_start, at_end, strict=True)
    ]
    intervals = LEAST_INTERVALS
    while True:
        for each in sums:
            each.even += each.odd
            each.odd.zero_()
        for j in range(1, intervals, 2):
            theta = (begin + (j / intervals) * step).to(start)
            for quantity, each in zip(quantities, sums, strict=True):
                each.odd += quantity.value_and_gradient(theta)[1].to(step)
        found = [Segment(step * s.average(intervals), s.end - s.start, intervals) for s in sums]
        close = all(abs(s.error) <= t for s, t in zip(found, tolerances, strict=True))
        if close or 2 * intervals > most:
            return found, at_end
        intervals *= 2


# -- a path ----------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What has been added up of one quantity."""

    tolerance: float
    shares: Tensor
    helping: Numbers
    first: float
    values: list[float] = field(default_factory=list)
    cumulative: list[Numbers] = field(default_factory=list)
    helped: list[Numbers] = field(default_factory=list)
    helps: list[float] = field(default_factory=list)
    worst: float = 0.0


class Allocator:
    """Adds up shares segment by segment; θ is held for the one under way only.

    `begin` at the first θ, `advance` to each next; cumulative values are taken at every
    `every`-th station and at the last.
    """

    def __init__(
        self,
        problem: Problem,
        quantities: Sequence[Quantity],
        by: By = "layer",
        tolerance: float | None = None,
        every: int = 1,
    ) -> None:
        if tolerance is not None and not 0.0 < tolerance < float("inf"):
            raise EngineError("the tolerance must be above 0")
        self.problem, self.quantities, self.by = problem, tuple(quantities), by
        self.groups, self._group_of = _grouping(problem.slots, by)
        self._sizes = np.array([g.parameters for g in self.groups], dtype=np.float64)
        self.tolerance, self.every = tolerance, every
        self.segments = self.capped = self._intervals = 0
        self.stations: list[int] = []
        self._tallies: list[_Tally] = []
        self._ends: list[tuple[float, Tensor]] = []
        self._theta, self._station = problem.theta, 0

    @property
    def latest(self) -> float:
        """The first quantity's value at the last θ."""
        return self._ends[0][0]

    def begin(self, theta: Tensor, station: int) -> None:
        """The path starts at θ (p,)."""
        self._theta, self._station = theta.clone(), station
        self._ends = [quantity.value_and_gradient(theta) for quantity in self.quantities]
        for value, _ in self._ends:
            within = TOLERANCE * abs(value) if self.tolerance is None else self.tolerance
            shares = torch.zeros_like(float64(theta))
            self._tallies.append(_Tally(within, shares, np.zeros(len(self.groups)), value))
        self._take()

    def advance(self, theta: Tensor, station: int) -> None:
        """The path goes on straight to θ (p,)."""
        tolerances = [tally.tolerance for tally in self._tallies]
        found, self._ends = integrate(self.quantities, self._theta, theta, self._ends, tolerances)
        self._theta, self._station = theta.clone(), station
        self.segments += 1
        self._intervals += found[0].intervals
        self.capped += any(abs(s.error) > t for s, t in zip(found, tolerances, strict=True))
        for tally, segment in zip(self._tallies, found, strict=True):
            tally.shares += segment.shares
            helping = self._summed(segment.shares < 0.0)
            tally.helping += helping / self._sizes
            tally.helps.append(float(helping.sum()) / self.problem.p)
            tally.worst = max(tally.worst, abs(segment.error))
        if self.segments % self.every == 0:
            self._take()

    def _take(self) -> None:
        """Cumulative values at this station."""
        self.stations.append(self._station)
        for tally, (value, _) in zip(self._tallies, self._ends, strict=True):
            tally.values.append(value)
            tally.cumulative.append(self._summed(tally.shares))
            tally.helped.append(self._summed(tally.shares < 0.0) / self._sizes)

    def _summed(self, flat: Tensor) -> Numbers:
        """Σ over each group (G,) of a vector (p,), in the same order each time."""
        rows = []
        for slot in self.problem.slots:
            part = flat[slot.offset : slot.offset + slot.size].view(_units(slot), -1)
            rows.append(part.sum(1, dtype=flat.dtype if flat.is_floating_point() else torch.int64))
        found = torch.cat(rows).double().cpu().numpy()
        return np.bincount(self._group_of, weights=found, minlength=len(self.groups))

    def result(
        self,
        gradients: int = 0,
        notes: tuple[str, ...] = (),
        training: TrainingResult | None = None,
    ) -> Allocation:
        """What has been added up so far; raises EngineError before the first segment."""
        if not self.segments:
            raise EngineError("an allocation needs a path of two points at least")
        if self.stations[-1] != self._station:
            self._take()
        found = tuple(
            Allocated(
                of=quantity.name,
                net=tally.cumulative[-1],
                helped=tally.helped[-1],
                helping=tally.helping / self.segments,
                cumulative=np.stack(tally.cumulative),
                helped_so_far=np.stack(tally.helped),
                values=np.array(tally.values),
                change=tally.values[-1] - tally.first,
                worst=tally.worst,
                helps=float(np.mean(tally.helps)),
                spread=float(np.std(tally.helps)),
                tolerance=tally.tolerance,
            )
            for quantity, tally in zip(self.quantities, self._tallies, strict=True)
        )
        return Allocation(
            self.by,
            self.groups,
            found,
            tuple(self.stations),
            self.segments,
            self.capped,
            self._intervals / self.segments,
            gradients,
            notes,
            training,
        )


def _units(slot: Slot) -> int:
    """Rows of a tensor: a neuron's or filter's weights each, its bias."""
    return slot.shape[0] if slot.shape else 1


def _grouping(slots: Sequence[Slot], by: By) -> tuple[tuple[Group, ...], NDArray[np.int64]]:
    """The groups, and which of them each row of each tensor belongs to."""
    numbers: dict[str, int] = {}
    sizes: list[int] = []
    rows: list[int] = []
    for slot in slots:
        units = _units(slot)
        for unit in range(units):
            name = _group_name(slot, unit, by)
            k = numbers.setdefault(name, len(numbers))
            if k == len(sizes):
                sizes.append(0)
            sizes[k] += slot.size // units
            rows.append(k)
    groups = tuple(Group(name, size) for name, size in zip(numbers, sizes, strict=True))
    return groups, np.array(rows, dtype=np.int64)


def _group_name(slot: Slot, unit: int, by: By) -> str:
    layer, _, own = slot.name.rpartition(".")
    if by == "kind":
        return "weights" if slot.is_weight else "biases" if own.startswith("bias") else "scales"
    return f"{layer or own}[{unit}]" if by == "neuron" else layer or own
