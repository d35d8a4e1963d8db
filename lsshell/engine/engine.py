"""The state that a session drives, and what can be done to it."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import torch
from torch import Tensor

from lsshell.engine.best import Best, locate_best
from lsshell.engine.bridging import BridgeRequest, BridgeResult, bridge
from lsshell.engine.checkpoints import (
    Checkpoint,
    apply_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from lsshell.engine.comparison import Trained, weight_decay_sweep
from lsshell.engine.continuation import (
    ContinuationRequest,
    ContinuationResult,
    regularization_path,
)
from lsshell.engine.convergence import Convergence, StepLog
from lsshell.engine.data import DataSet, load_data
from lsshell.engine.device_memory import device_memory
from lsshell.engine.errors import Cancelled, EngineError
from lsshell.engine.events import (
    Kept,
    Listener,
    Located,
    Measured,
    Noticed,
    Progress,
    Started,
    Stepped,
    Stopped,
    silent,
)
from lsshell.engine.excursion import MOST_MEASURED, MOST_RECORDED
from lsshell.engine.levelset import LevelNotReached, LevelSet, move_to
from lsshell.engine.location import Until, met
from lsshell.engine.networks import build_network
from lsshell.engine.path import Path, Point, best_of
from lsshell.engine.problem import Problem
from lsshell.engine.projection import Projection, principal_coordinates
from lsshell.engine.ranks import ALONE, Ranks
from lsshell.engine.recording import Recorder, observe_cheap
from lsshell.engine.regularizers import REGULARIZERS, Regularizer, WeightedSum, make_regularizer
from lsshell.engine.steppers import STEPPERS, PaperRates, Position, Stepper, Terrain
from lsshell.engine.steppers.paper import TABULAR, Paper
from lsshell.engine.steppers.quasi_newton import QuasiNewton
from lsshell.engine.store import PointStore
from lsshell.engine.training import TrainingResult, train
from lsshell.engine.vectors import norm
from lsshell.engine.vocabulary import NETWORKS
from lsshell.engine.walk import INTERRUPTED, NO_TANGENT_SPACE, PAUSED, walk
from lsshell.engine.wandering import WanderRequest, WanderResult, wander
from lsshell.engine.watching import Watch

MOST_WEIGHT = 1e12
DEVICES = ("cpu", "cuda", "mps", "xpu")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
DEFAULT_TOLERANCE = 0.01  # of L*
PAPER_TOLERANCE = 1e-5
# Predictor steps of the published runs (Tahir & Katz 2020, released configurations).
PAPER_STEPS = {
    "iris-ff": 20_000,
    "mpg-ff": 30_000,
    "mnist-conv": 5_000,
    "mnist-ff": 10_000,
    "cifar10-conv": 20_000,
}
DEFAULT_STEPS = 400
MOST_PROJECTED = 1000


@dataclass(frozen=True)
class WalkRequest:
    """What a walk is asked for; None takes the default that the engine documents.

    steps: 400, or the published number for `paper`; record: keep θ every so many steps (so that
    at most 500 are kept); measure: test loss every so many steps (at most 100 times, at points
    that are kept); until: regulariser name, or `angle`, → value that ends the walk, which is
    located; until_angle: in degrees, ends at the first step there or past it; patience: ends where
    the validation (else test) loss was not below its least for so many measures, and locates the
    least; until_plateau: ends where R falls by less than this share of itself a gradient; memory:
    secant pairs.
    """

    method: str = "quasi-newton"
    steps: int | None = None
    until: Mapping[str, float] = field(default_factory=dict)
    until_angle: float | None = None
    until_plateau: float | None = None
    patience: int | None = None
    seconds: float | None = None
    ascend: bool = False
    record: int | None = None
    measure: int | None = None
    memory: int | None = None
    rate_min: float | None = None
    rate_max: float | None = None
    corrector_rate: float | None = None
    stop_after: int | None = None  # end here, with records as for all of `steps`: for replay


@dataclass(frozen=True)
class WalkResult:
    """Points at both ends, steps taken and refused, why it ended, and a hash of the last θ.

    best: the kept point of least validation (else test) loss among the start, the steps and what
    was located; noticed: what there was on the way.
    """

    start: Point
    end: Point
    steps: int
    refused: int
    reason: str
    theta: str
    best: Point
    noticed: tuple[Noticed, ...] = ()


@dataclass(frozen=True)
class _UntilValue:
    name: str
    target: float
    value: Callable[[Position], float]


@dataclass(frozen=True)
class Switched:
    """A regulariser when it was switched, with the options that it has since: at which point, its
    value at the traversal's start and there. `mixed`: some recorded before are of other options.
    """

    at: int
    first: float
    now: float
    mixed: bool


class Engine:
    """Problem, θ, level set, regularisers and path, with one method for each verb.

    Every method checks before it changes anything: an EngineError leaves the state as it was.
    `cancel` may be set from any thread; the verb under way stops between gradients at a valid
    point. `pause` ends a walk after the step under way, with what its stepper has learned. Several
    `ranks` each have an engine, and call the same methods in the same order.
    """

    def __init__(
        self,
        store: PointStore | None = None,
        listen: Listener = silent,
        ranks: Ranks = ALONE,
    ) -> None:
        no_approximate_arithmetic()
        self.listen, self.ranks = listen, ranks
        self.cancel, self.pause = threading.Event(), threading.Event()
        self.seed = 0
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = "float32"
        self.chunk: int | None = None
        self.data: DataSet | None = None
        self.data_words = ""
        self.model_words = ""
        self.origin = ""  # where the traversal's parameters came from, in words
        self.problem: Problem | None = None
        self.theta: Tensor | None = None
        self.level_set: LevelSet | None = None
        self.sum = WeightedSum()
        self.switched: dict[str, Switched] = {}
        self.path = Path(store)
        self.activation: str | None = None
        self._rebuild: Callable[..., torch.nn.Module] | None = None
        self._recorder: Recorder | None = None
        self._walker: tuple[tuple[Any, ...], Stepper, Tensor] | None = None

    # -- what there is to walk on ------------------------------------------------------------

    def use_device(self, name: str) -> bool:
        """`cpu`, `cuda`, `cuda:1`, `mps`; true where the problem moved and the path starts anew."""
        try:
            device = torch.device(name)
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as e:
            reason = str(e).splitlines()[0][:120]
            raise EngineError(f"no device {name} on this machine: {reason}") from e
        if device.type == "mps" and self.dtype == "float64":
            raise EngineError("mps has no float64: say `dtype float32` first")
        if device.type not in DEVICES:
            raise EngineError(f"{name} is no place to compute: {', '.join(DEVICES)}")
        if self.ranks.count > 1 and name not in ("cpu", "cuda"):
            raise EngineError(f"{name}: each rank has a GPU of its own; say `device cuda` or cpu")
        return self._remake(device=name)

    def use_dtype(self, name: str) -> bool:
        """`float32` or `float64`; true where the path starts anew."""
        if name not in DTYPES:
            raise EngineError(f"no dtype {name}: float32 or float64")
        if name == "float64" and self.device.startswith("mps"):
            raise EngineError("mps has no float64: say `device cpu` first")
        return self._remake(dtype=name)

    def load_data(self, words: str, name: str, chunk: int | None, **options: Any) -> DataSet:
        """Reads a data set (see `load_data`); a network already built must take it."""
        data = load_data(name, seed=self.seed, **options)
        if self.problem is not None:
            self._adopt(self._instead(data, chunk), self.problem_theta())
        self.data, self.data_words, self.chunk = data, words, chunk
        return data

    def build_model(
        self,
        spec: Sequence[str],
        activation: str | None,
        options: Mapping[str, str],
        search: FilePath | None = None,
    ) -> Problem:
        """Builds and initialises a network under the session's seed, for the data loaded.

        `search` is where a MODULE:FACTORY is looked for (the working directory).
        """
        data = self._data()
        rebuild = partial(
            build_network,
            spec,
            activation=activation,
            factory_options=dict(options),
            search=search or FilePath.cwd(),
        )
        problem = self._problem(rebuild(data, seed=self.seed), data, self.chunk)
        self._rebuild, self.activation = rebuild, activation
        self.model_words = " ".join(spec)
        self._adopt(problem, problem.theta.clone())
        self.origin = f"initialised, seed {self.seed}"
        return problem

    def _problem(
        self,
        network: torch.nn.Module,
        data: DataSet,
        chunk: int | None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> Problem:
        return Problem(
            network,
            data,
            device=device or self.device,
            dtype=DTYPES[dtype or self.dtype],
            chunk=chunk,
            cancelled=self.cancel.is_set,
            ranks=self.ranks,
        )

    def _instead(
        self, data: DataSet, chunk: int | None, device: str | None = None, dtype: str | None = None
    ) -> Problem:
        """Another problem with the same network; where it cannot be made, the old one stands."""
        assert self.problem is not None
        try:
            return self._problem(self.problem.network, data, chunk, device, dtype)
        except BaseException:
            self.problem.attach()
            raise

    def _remake(self, device: str | None = None, dtype: str | None = None) -> bool:
        if (device or self.device) == self.device and (dtype or self.dtype) == self.dtype:
            return False
        if self.problem is not None:
            theta = self.problem_theta()
            problem = self._instead(self.problem.data, self.chunk, device, dtype)
            self._adopt(problem, theta.to(problem.device, problem.dtype))
        self.device = device or self.device
        self.dtype = dtype or self.dtype
        return self.problem is not None

    def _adopt(self, problem: Problem, theta: Tensor) -> None:
        """A new problem: points of another parameter space stay on disk but out of the path."""
        if self.problem is not None and self.path.points:
            self.path = Path(self.path.store, self.path.next_index)
        self.problem, self.theta = problem, theta
        self.level_set, self._recorder, self._walker = None, None, None
        self.sum = WeightedSum()

    def problem_theta(self) -> Tensor:
        """θ (p,) of the current point; raises EngineError before `model` or `load`."""
        self.ready()
        assert self.theta is not None
        return self.theta

    def ready(self) -> Problem:
        """The problem; raises EngineError that says which of data and model is missing."""
        self._data()
        if self.problem is None:
            raise EngineError("no network yet: say `model` (for example `model mnist-ff`) first")
        return self.problem

    def _data(self) -> DataSet:
        if self.data is None:
            raise EngineError("no data yet: say `data` (for example `data mnist-5k`) first")
        return self.data

    # -- where to start ----------------------------------------------------------------------

    def train(self, **settings: Any) -> TrainingResult:
        """Trains from θ; the point reached becomes the start of a new traversal."""
        problem, theta = self.ready(), self.problem_theta()
        total = settings["epochs"]
        result = train(
            problem,
            theta,
            seed=self.seed,
            on_epoch=lambda e, loss: self.listen(Progress("train", e, total, f"loss {loss:.3g}")),
            **settings,
        )
        self.origin = f"trained {result.epochs} epochs"
        self._start_at(result.theta, "start")
        return result

    def load(self, file: FilePath) -> tuple[str, ...]:
        """Reads a checkpoint; its point is the start of a new traversal. Notes for people."""
        notes = self.take_checkpoint(file)
        self._start_at(self.problem_theta(), "start")
        return notes

    def take_checkpoint(self, file: FilePath) -> tuple[str, ...]:
        """Reads a checkpoint into the network (its own, where it brings one), recording nothing."""
        checkpoint = read_checkpoint(file)
        data = self._data()
        notes = self._take(checkpoint, file, data)
        self.origin = file.name
        made_on = checkpoint.metadata.get("data_sha256", data.digest)
        if made_on != data.digest:
            words = checkpoint.metadata.get("data", "other data")
            notes = (*notes, f"it was saved on other data than is loaded ({words}): losses differ")
        return notes

    def _take(self, checkpoint: Checkpoint, file: FilePath, data: DataSet) -> tuple[str, ...]:
        notes: tuple[str, ...]
        if checkpoint.network is not None:
            problem = self._problem(checkpoint.network, data, self.chunk)
            problem.loss(problem.theta)
            self._rebuild, self.activation, self.model_words = None, None, file.name
            self._adopt(problem, problem.theta.clone())
            notes = (f"{file.name} brings its own network",)
        elif self.problem is None:
            notes = self._take_with_its_network(checkpoint, data)
        else:
            problem = self.problem
            before = {k: v.clone() for k, v in problem.network.state_dict().items()}
            problem.place(self.problem_theta())
            try:
                notes = apply_checkpoint(checkpoint, problem.network)
                problem.loss(problem.theta)
            except BaseException:
                problem.network.load_state_dict(before)
                raise
            self.theta, self._walker = problem.theta.clone(), None
        return notes

    def _take_with_its_network(self, checkpoint: Checkpoint, data: DataSet) -> tuple[str, ...]:
        """A checkpoint of lsshell's own says which network it is of.

        A file may name one of ours only: MODULE:FACTORY runs code, and is for the user to say.
        """
        words = checkpoint.metadata.get("model", "").split()
        if not words or words[0] not in NETWORKS:
            raise EngineError("no network yet: say `model` before `load`")
        activation = checkpoint.metadata.get("activation") or None
        rebuild = partial(build_network, words, activation=activation)
        network = rebuild(data, seed=self.seed)
        notes = apply_checkpoint(checkpoint, network)
        problem = self._problem(network, data, self.chunk)
        problem.loss(problem.theta)
        self._rebuild, self.activation, self.model_words = rebuild, activation, " ".join(words)
        self._adopt(problem, problem.theta.clone())
        return notes

    def fix_level(self, value: float | None, tolerance: float | None) -> Point:
        """Fixes L* here, or moves to loss `value` first; tolerance in units of L (0.01·L*)."""
        problem, theta = self.ready(), self.problem_theta()
        level_set = fresh_level_set(problem.loss(theta) if value is None else value, tolerance)
        if value is not None:
            try:
                theta, _ = move_to(problem, level_set, theta)
            except LevelNotReached as e:
                raise EngineError(
                    f"the level {value:g} was not reached from here: the closest loss was"
                    f" {e.closest:.4g}; `train` further, or ask for a level nearer to it"
                ) from e
        return self._start_at(theta, "level", level_set)

    def _start_at(self, theta: Tensor, kind: str, level_set: LevelSet | None = None) -> Point:
        """Records θ as the start of a traversal and makes it the current point.

        It goes on a branch of its own, but for a level fixed where a traversal has just started.
        """
        problem, here = self.ready(), self.path.here
        before = self.path.branch, self.theta, self._walker, self.level_set, self._recorder
        same = kind == "level" and theta is self.theta
        fresh = self.path.branch not in self.path.branches()  # named by `branch` just now
        if here is not None and not fresh and not (same and here.kind == "start"):
            self.path.branch = self.path.free_name(self.path.branch)
        self.theta, self._walker, self.level_set = theta, None, level_set
        observed = observe_cheap(problem, theta, self.seed)
        self._recorder = Recorder(problem, self.path, theta, observed, problem.gradients, self.seed)
        try:
            with problem.uncancelled():  # training that was stopped ends at a point like any other
                point = self._point(self._recorder, self._here(theta), kind, measure=True)
        except BaseException:  # no test loss here, say
            self.path.branch, self.theta, self._walker, self.level_set, self._recorder = before
            raise
        point = self.path.add(point, problem.state(theta), keep=True)
        self.listen(Started(point))
        return point

    # -- regularisers ------------------------------------------------------------------------

    def switch(self, name: str, weight: float | None, options: Mapping[str, Any]) -> Regularizer:
        """Switches a regulariser on with a weight (default 1, or the one it had)."""
        problem, theta = self.ready(), self.problem_theta()
        if self._recorder is not None and name == "distance" and "reference" not in options:
            theta = self._recorder.start
        regularizer = make_regularizer(name, problem, theta, seed=self.seed, **options)
        if weight is None:
            weight = self.sum.terms[name][1] if name in self.sum.terms else 1.0
        if weight == 0.0 or not abs(weight) < MOST_WEIGHT:
            raise EngineError(f"{name}: weight {weight:g}; to switch it off say `reg {name} off`")
        value = regularizer.value(theta)
        if not math.isfinite(value):
            raise EngineError(
                f"{name} is {value} here: the parameters are too large for it, or no numbers;"
                " `goto` another point or say `dtype float64`"
            )
        self._note_switched(name, regularizer)
        self.sum.terms[name] = (regularizer, weight)
        return regularizer

    def _note_switched(self, name: str, regularizer: Regularizer) -> None:
        """Takes down from where on recorded values are of these options."""
        problem, theta, here = self.ready(), self.problem_theta(), self.path.here
        if here is None or self._recorder is None:
            return
        spent = problem.work
        first, now = regularizer.value(self._recorder.start), regularizer.value(theta)
        problem.work = spent  # looking back is not walking
        recorded = self.path.start().regularizers.get(name)
        alike = recorded is not None and math.isclose(recorded, first, rel_tol=1e-3)
        before = self.switched.get(name)
        mixed = not alike or (before is not None and before.mixed)
        self.switched[name] = Switched(here.index, first, now, mixed)

    def switch_off(self, name: str) -> None:
        if name not in self.sum.terms:
            raise EngineError(f"{name} is not on")
        del self.sum.terms[name]
        seen = self._recorder.observed.get(name) if self._recorder is not None else None
        if seen is not None:  # which is what is recorded from here on
            self._note_switched(name, seen)

    # -- walking -----------------------------------------------------------------------------

    def walk(self, request: WalkRequest) -> WalkResult:
        """Walks from the current point; see `WalkRequest` and `walk.walk`."""
        problem, theta = self.ready(), self.problem_theta()
        self._check(request)
        sign = -1.0 if request.ascend else 1.0
        until = [self._until(name, target, sign) for name, target in request.until.items()]
        level_set = self.level_set
        if level_set is None:
            tolerance = PAPER_TOLERANCE if request.method == "paper" else None
            level_set = fresh_level_set(problem.loss(theta), tolerance)
        log = StepLog(self.listen, problem)
        terrain = Terrain(problem, level_set, self.sum, sign, log.hear)
        here = self._position(terrain, theta)
        self._refuse_wrong_way(until, here, sign)
        if self.level_set is None:  # from here on nothing can fail before the first step
            self._start_at(theta, "level", level_set)
        stepper = self._stepper(request, theta)
        steps = request.steps or self.default_steps(request.method)
        keep_every = request.record or -(-steps // MOST_RECORDED)
        # A multiple: what is measured is kept too, for `goto best`.
        measure_every = request.measure or keep_every * -(-steps // (MOST_MEASURED * keep_every))
        taken, noticed = 0, list[Noticed]()

        def notice(event: Noticed | None) -> None:
            if event is not None:
                noticed.append(event)
                self.listen(event)

        def record(position: Position) -> None:
            nonlocal taken
            taken += 1
            self.theta = position.theta
            measure = taken % measure_every == 0
            point = self._record_step(
                position,
                keep=taken % keep_every == 0,
                measure=measure,
                descending=sign > 0,
                convergence=log.step(position),
            )
            self.listen(Progress("walk", taken, steps, _note(position, sign)))
            notice(watch.stepped(point, position.value))
            notice(watch.measured(point) if measure else None)

        def stop() -> str | None:
            return PAUSED if problem.ranks.any(self.pause.is_set()) else watch.reason

        begun = self.path.next_index
        start = self.measure(position=here, descending=sign > 0)
        first = replace(start, kept=True)  # whether or not its measures are on record
        by = "test loss" if problem.validation is None else "validation loss"
        watch = Watch(by, request.patience, request.until_plateau)
        watch.stepped(first, here.value)
        watch.measured(first)
        log.begin(here)
        begins = [here]
        del here
        end = walk(
            terrain,
            stepper,
            begins.pop(),  # ∇L and ∇R of the start are not held while it walks
            steps=steps if request.stop_after is None else min(steps, request.stop_after),
            record=record,
            until=until,
            until_angle=request.until_angle,
            seconds=request.seconds,
            stop=stop,
        )
        if end.crossed is not None and end.steps:
            assert self.path.here is not None
            value = end.crossed.value(end.position)
            notice(Noticed(f"{end.crossed.name} = {end.crossed.target:g}", self.path.here, value))
        # A walk that is cut short where it was interrupted has not come to this.
        if watch.patient and end.reason == watch.reason and request.stop_after is None:
            spent = problem.work
            try:
                found = locate_best(terrain, self.path, first)
            except (Cancelled, KeyboardInterrupt):
                problem.work = spent
                end = replace(end, reason=INTERRUPTED)
            else:
                if found is not None:
                    with problem.uncancelled():
                        point = self._record_best(terrain, found)
                    notice(Noticed(f"least {by}", point, found.value))
        self._walker = (self._walker_key(request), stepper, end.position.theta)
        if end.reason == INTERRUPTED:  # the stepper stands in the middle of a step
            self.forget_walker()
        last = self._finish(end.position, sign > 0)
        self.listen(Stopped(end.reason))
        walked = (self.path.points[i] for i in range(begun, self.path.next_index))
        best = best_of((first, *walked))
        assert best is not None
        return WalkResult(
            start, last, end.steps, end.refused, end.reason, self.theta_hash(), best, tuple(noticed)
        )

    def _record_best(self, terrain: Terrain, best: Best) -> Point:
        """The point located, recorded aside; or the kept point that was best all along, measured
        if it was not.
        """
        problem, recorder, found = self.ready(), self._recorder, best.found
        assert recorder is not None
        if found is None:
            point = best.before
            if point.chosen_by is None:
                switched = self.sum.regularizers
                point = recorder.measured(point, best.theta, switched, point.regularizers)
                self.path.learn(point)
                self.listen(Measured(point))
            return point
        corrections = len(found.residuals) - 1
        position = terrain.at(found.theta, found.loss, found.gradient, None, corrections)
        point = self._point(recorder, position, "step", measure=True, descending=terrain.sign > 0)
        point = recorder.located(point, found.theta, best.before, best.theta)
        point = self.path.add_aside(point, problem.state(found.theta))
        self.listen(Located(point))
        return point

    def _refuse_wrong_way(self, until: Sequence[Until], here: Position, sign: float) -> None:
        """Raises EngineError for a value that this walk moves away from."""
        rising = {"angle": sign}
        if len(self.sum.terms) == 1:
            ((name, (_, weight)),) = self.sum.terms.items()
            rising[name] = -sign * math.copysign(1.0, weight)
        for u in until:
            if u.name not in rising:  # no telling; and asking may cost gradients
                continue
            now = u.value(here)
            if not met(u, now - u.target) and (u.target - now) * rising[u.name] < 0.0:
                way, other = ("raises", "lowers") if rising[u.name] > 0 else ("lowers", "raises")
                hint = f"--ascend {other} it" if sign > 0 else f"without --ascend it {other} it"
                raise EngineError(
                    f"--until {u.name}={u.target:g}: {u.name} is {now:.6g} here and this walk {way}"
                    f" it; {hint}"
                )

    def wander(self, request: WanderRequest) -> WanderResult:
        """A geodesic or a random walk from the current point; see `wandering.wander`."""
        return wander(self, request)

    def bridge(self, request: BridgeRequest) -> BridgeResult:
        """A path on the level set between two points of it; see `bridging.bridge`."""
        return bridge(self, request)

    def regularization_path(self, request: ContinuationRequest) -> ContinuationResult:
        """Follows the constrained minimum of R as L* varies; see `continuation`."""
        return regularization_path(self, request)

    def level_set_here(self) -> LevelSet:
        """The level set at hand; before one is fixed, that through here, within 0.01·L*."""
        if self.level_set is not None:
            return self.level_set
        return fresh_level_set(self.ready().loss(self.problem_theta()), None)

    def _check(self, request: WalkRequest) -> None:
        if request.method not in STEPPERS:
            raise EngineError(f"no method {request.method}: {', '.join(STEPPERS)}")
        if not self.sum.terms:
            raise EngineError("no regulariser is on: say `reg l2 on` first")
        for what in (
            "steps", "record", "measure", "memory", "seconds", "rate_min", "rate_max",
            "corrector_rate", "patience", "until_plateau",
        ):  # fmt: skip
            value = getattr(request, what)
            if value is not None and not 0 < value < math.inf:
                raise EngineError(f"--{what.replace('_', '-')} must be above 0")
        if request.until_angle is not None and not 0.0 < request.until_angle <= 180.0:
            raise EngineError("--until-angle must lie in (0, 180] degrees")
        rates = (request.rate_min, request.rate_max, request.corrector_rate)
        if request.method != "paper" and any(r is not None for r in rates):
            raise EngineError("--rate-min, --rate-max and --corrector-rate belong to paper")
        for name, target in request.until.items():
            if not math.isfinite(target):
                raise EngineError(f"--until {name}={target:g}: a number is needed")
            if name == "angle" and not 0.0 < target < 180.0:
                raise EngineError("--until angle must lie between 0 and 180 degrees")
            if name != "angle" and name not in REGULARIZERS:
                raise EngineError(
                    f"--until takes NAME=VALUE with angle or a regulariser's name, not {name}"
                    f" ({', '.join(REGULARIZERS)})"
                )

    def default_steps(self, method: str) -> int:
        """Steps of a walk that does not say: 400; for `paper` the published number."""
        return PAPER_STEPS.get(self.model_words, 10_000) if method == "paper" else DEFAULT_STEPS

    def _until(self, name: str, target: float, sign: float) -> Until:
        if name == "angle":
            return _UntilValue(name, target, lambda at: at.split.angle(sign))
        if name in self.sum.terms:
            regularizer, weight = self.sum.terms[name]
            if len(self.sum.terms) == 1:  # walked along: known at every position
                return _UntilValue(name, target, lambda at: sign / weight * at.value)
            return _UntilValue(name, target, lambda at: regularizer.value(at.theta))
        recorder = self._recorder
        found = recorder.observed.get(name) if recorder is not None else None
        if found is None:
            start = self.problem_theta() if recorder is None else recorder.start
            found = make_regularizer(name, self.ready(), start, seed=self.seed)
        return _UntilValue(name, target, lambda at: found.value(at.theta))

    def _walker_key(self, request: WalkRequest) -> tuple[Any, ...]:
        terms = tuple((n, r, w) for n, (r, w) in self.sum.terms.items())
        rates = (request.rate_min, request.rate_max, request.corrector_rate)
        return (request.method, request.ascend, request.memory, rates, terms, self.level_set)

    def _stepper(self, request: WalkRequest, theta: Tensor) -> Stepper:
        """The last walk's stepper where this walk goes on from its end in the same way."""
        if self._walker is not None:
            key, stepper, end = self._walker
            if key == self._walker_key(request) and end is theta:
                return stepper
        self._walker = None  # its memory makes room for the next one's
        problem = self.ready()
        problem.work = float(problem.gradients)  # so that a walk counts alike after `resume`
        if request.method == "paper":
            base = TABULAR if self.model_words in ("iris-ff", "mpg-ff") else PaperRates()
            asked = {
                "minimum": request.rate_min,
                "maximum": request.rate_max,
                "corrector": request.corrector_rate,
            }
            return Paper(replace(base, **{k: v for k, v in asked.items() if v is not None}))
        kind = STEPPERS[request.method]
        return kind(request.memory) if issubclass(kind, QuasiNewton) else kind()

    def forget_walker(self) -> None:
        """The next walk starts with no memory of the last (as it does after `resume`)."""
        self._walker = None

    def _position(self, terrain: Terrain, theta: Tensor) -> Position:
        loss, gradient = terrain.problem.loss_and_gradient(theta)
        if not terrain.level_set.contains(loss):  # read back from another machine, say
            raise EngineError(
                f"the loss here is {loss:.6g}, off the level set by"
                f" {abs(loss - terrain.level_set.level) / terrain.level_set.tolerance:.1f}"
                " tolerances: fix the level anew with `level`"
            )
        if norm(gradient) == 0.0:
            raise EngineError(NO_TANGENT_SPACE)
        return terrain.at(theta, loss, gradient)

    def _record_step(
        self,
        position: Position,
        *,
        keep: bool,
        measure: bool,
        descending: bool,
        convergence: Convergence | None = None,
    ) -> Point:
        problem, recorder = self.ready(), self._recorder
        assert recorder is not None
        with problem.uncancelled():  # a step that was accepted is recorded
            point = self._point(
                recorder,
                position,
                "step",
                measure=measure,
                descending=descending,
                convergence=convergence,
            )
        point = self.path.add(point, problem.state(position.theta), keep=keep)
        recorder.last = position.theta
        self.listen(Stepped(point))
        if measure:
            self.listen(Measured(point))
        return point

    def _finish(self, position: Position, descending: bool) -> Point:
        """The walk's last point is always kept and measured."""
        problem, here = self.ready(), self.path.here
        assert here is not None
        self.theta = position.theta
        assert self._recorder is not None
        spent = problem.gradients - self._recorder.gradients_before
        if here.test_loss is None or here.angle_deg is None or here.gradients != spent:
            full = self.measure(position=position, descending=descending)
            here = replace(
                here,
                test_loss=full.test_loss,
                test_accuracy=full.test_accuracy,
                test_rmse=full.test_rmse,
                validation_loss=full.validation_loss,
                regularizers=full.regularizers,
                angle_deg=full.angle_deg,
                implied_weight_decay=full.implied_weight_decay,
                gradients=spent,  # those of steps that came to nothing too
            )
            self.path.restore(here)
            self.listen(Measured(here))
        if self.path.keep_here(problem.state(position.theta)):
            assert self.path.here is not None
            self.listen(Kept(self.path.here))
        assert self.path.here is not None
        return self.path.here

    # -- measuring ---------------------------------------------------------------------------

    def _here(self, theta: Tensor) -> Position:
        """The position at θ under the regularisers that are on."""
        problem = self.ready()
        loss, gradient = problem.loss_and_gradient(theta)
        slope = torch.zeros_like(theta)
        value = self.sum.value_and_gradient(theta, slope) if self.sum.terms else 0.0
        return Position(theta, loss, gradient, value, slope)

    def measure(
        self, *, position: Position | None = None, descending: bool = True, everything: bool = False
    ) -> Point:
        """All measures at the current point, without recording a new one.

        `everything` adds the regularisers that cost gradients and are not on. A measure after
        the user asked to stop is still taken.
        """
        problem = self.ready()
        spent = problem.work
        try:
            with problem.uncancelled():
                if position is None:
                    position = self._here(self.problem_theta())
                return self._measured(position, descending, everything)
        finally:
            problem.work = spent

    def measure_on_record(self) -> Point | None:
        """Measures the current point where that is not on record yet, as a walk's last point is;
        None where it is.
        """
        problem, here = self.ready(), self.path.here
        if here is None or self._recorder is None or here.chosen_by is not None:
            return None
        theta, switched = self.problem_theta(), self.sum.regularizers
        with problem.uncancelled():
            here = self._recorder.measured(here, theta, switched, here.regularizers)
        self.path.restore(here)
        return here

    def _measured(self, position: Position, descending: bool, everything: bool) -> Point:
        problem, here = self.ready(), self.path.here
        if self._recorder is None:
            observed = observe_cheap(problem, position.theta, self.seed)
            recorder = Recorder(
                problem, self.path, position.theta, observed, problem.gradients, self.seed
            )
        else:
            recorder = self._recorder
        extra = {}
        if everything:
            for name in REGULARIZERS:
                if name not in recorder.observed and name not in self.sum.terms:
                    try:
                        extra[name] = make_regularizer(
                            name, problem, recorder.start, seed=self.seed
                        )
                    except EngineError:  # not defined for this network
                        continue
        metrics = problem.test(position.theta)
        values = recorder.values(position.theta, {**extra, **self.sum.regularizers}, {})
        point = self._point(recorder, position, "step", measure=False, descending=descending)
        return replace(
            point,
            index=here.index if here else 0,
            parent=here.parent if here else None,
            branch=here.branch if here else self.path.branch,
            kind=here.kind if here else "start",
            step=here.step if here else 0,
            gradients=here.gradients if here else 0,
            length=here.length if here else 0.0,
            test_loss=metrics.loss,
            test_accuracy=metrics.accuracy,
            test_rmse=metrics.rmse,
            validation_loss=metrics.validation_loss,
            regularizers=values,
            kept=here.kept if here else False,
        )

    def _point(
        self,
        recorder: Recorder,
        position: Position,
        kind: Any,
        *,
        measure: bool,
        descending: bool = True,
        convergence: Convergence | None = None,
    ) -> Point:
        known = {}
        if len(self.sum.terms) == 1:
            ((name, (_, weight)),) = self.sum.terms.items()
            known[name] = (1.0 if descending else -1.0) * position.value / weight
        return recorder.point(
            position.theta,
            position.loss,
            kind=kind,
            level_set=self.level_set,
            switched=self.sum.regularizers,
            known=known,
            split=position.split if self.sum.terms else None,
            descending=descending,
            measure=measure,
            rate=position.rate,
            corrections=position.corrections,
            convergence=convergence,
        )

    def start_point(self) -> Point:
        """The traversal's start, with the regularisers that are on as they are now set."""
        start, spent = self.path.start(), self.ready().work
        assert self._recorder is not None
        values = dict(start.regularizers)
        with self.ready().uncancelled():
            for name, regularizer in self.sum.regularizers.items():
                values[name] = regularizer.value(self._recorder.start)
        self.ready().work = spent
        return replace(start, regularizers=values)

    def theta_hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of θ's bytes."""
        data = self.problem_theta().detach().cpu().numpy().tobytes()
        return hashlib.sha256(data).hexdigest()[:16]

    def principal_coordinates(self, k: int = 2) -> Projection:
        """PCA of the kept points of this traversal (evenly thinned to MOST_PROJECTED), all
        branches in one plane.
        """
        points = [p for p in self.path.traversal() if p.kept]
        every = -(-len(points) // MOST_PROJECTED)
        here = self.path.here
        chosen = [p for i, p in enumerate(points) if i % every == 0 or p is here]
        return principal_coordinates(self.path, chosen, self.ready().tensor_names, k)

    def memory(self) -> tuple[int, int] | None:
        """Bytes in use and bytes there are where this engine computes; see `device_memory`."""
        return device_memory(self.device)

    # -- going back --------------------------------------------------------------------------

    def undo(self, steps: int) -> Point:
        """Back to the nearest kept point at least `steps` behind; later ones stay as they are."""
        if steps < 1:
            raise EngineError("undo takes a number of steps above 0")
        return self._go(self.path.back(steps))

    def goto(self, where: str) -> Point:
        """To a kept point: see `Path.find`."""
        return self._go(self.path.find(where))

    def _go(self, point: Point) -> Point:
        self.place_at(point)
        return point

    def place_at(self, point: Point) -> None:
        """Takes θ, level set and traversal of a recorded point."""
        problem, path = self.ready(), self.path
        start = path.lineage(point)[0]
        found, first = path.store.get(point.index), path.store.get(start.index)
        theta = problem.restore(found)
        origin = theta if start is point else problem.flat(first).to(theta.device)
        named = path.branch not in path.branches()  # by `branch`, for the walk to come
        path.here, path.branch = point, path.branch if named else point.branch
        self.theta, self._walker = theta, None
        self.level_set = (
            None
            if point.level is None or point.tolerance is None
            else LevelSet(point.level, point.tolerance)
        )
        observed = observe_cheap(problem, origin, start.seed)
        before = problem.gradients - point.gradients
        self._recorder = Recorder(problem, path, origin, observed, before, start.seed)
        self._recorder.last = theta

    def new_branch(self, name: str | None) -> str:
        """The next walk goes on a branch of this name, starting here."""
        if self.path.here is None:
            raise EngineError("nothing has been walked yet: `level` or `walk` first")
        name = name or self.path.free_name(self.path.branch)
        if name in self.path.branches() or name in ("start", "end", "best"):
            raise EngineError(f"there is a branch {name} already; choose another name")
        if not name.replace("-", "").replace("_", "").isalnum() or name.isdigit():
            raise EngineError(f"{name}: a branch's name is letters, digits, - and _, not a number")
        self.path.branch = name
        return name

    # -- comparing and saving ----------------------------------------------------------------

    def compare_weight_decay(
        self, penalties: Sequence[float], *, from_start: bool, **settings: Any
    ) -> list[Trained]:
        """Weighted-sum training for each λ; θ and path stay as they are.

        From fresh initialisations, run k under seed + k, or `from_start`: from the traversal's
        start, run k with the batches of seed + k. See `weight_decay_sweep` for the settings.
        """
        problem = self.ready()
        rebuild, data = self._rebuild, self._data()
        if from_start:
            start = self.path.store.get(self.path.start().index)

            def begin(run: int) -> tuple[Problem, Tensor]:
                return problem, problem.restore(start)
        elif rebuild is None:
            raise EngineError("compare needs a network it can initialise anew: say `model`")
        else:

            def begin(run: int) -> tuple[Problem, Tensor]:
                fresh = self._problem(rebuild(data, seed=self.seed + run), data, self.chunk)
                return fresh, fresh.theta.clone()

        spent = problem.work
        before = {n: t.clone() for n, t in problem.network.state_dict().items()}
        try:
            return weight_decay_sweep(
                begin, penalties, seed=self.seed, listen=self.listen, **settings
            )
        finally:
            problem.work = spent
            problem.network.load_state_dict(before)

    def save(self, file: FilePath) -> None:
        """Writes the network's tensors at θ as safetensors, with what it is and where."""
        problem, theta = self.ready(), self.problem_theta()
        metadata = {
            "format": "lsshell checkpoint 1",
            "model": self.model_words,
            "data": self.data_words,
            "data_sha256": problem.data.digest,
            "seed": str(self.seed),
            "loss": repr(problem.loss(theta)),
        }
        if self.activation:
            metadata["activation"] = self.activation
        if self.level_set is not None:
            metadata |= {
                "level": repr(self.level_set.level),
                "tolerance": repr(self.level_set.tolerance),
            }
        write_checkpoint(file, problem.state(theta), metadata)


def no_approximate_arithmetic() -> None:
    """On CUDA: float32 is float32, not TF32, and the same sum is the same number each time."""
    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True


def fresh_level_set(level: float, tolerance: float | None) -> LevelSet:
    """{L = level}, tolerance 0.01·level where None; raises EngineError where one is no use."""
    if not 0.0 < level < math.inf:
        raise EngineError(
            f"L* = {level:g}: a level set needs a level above 0; give one, `level 1e-4`"
        )
    tolerance = DEFAULT_TOLERANCE * level if tolerance is None else tolerance
    if not 0.0 < tolerance < level:
        raise EngineError(f"the tolerance must lie between 0 and L* = {level:g}")
    return LevelSet(level, tolerance)


def _note(position: Position, sign: float) -> str:
    angle = position.split.angle(sign)
    return f"R {sign * position.value:.5g}, angle {angle:.1f}°"
