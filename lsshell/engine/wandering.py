"""Tangent wandering: geodesics and uniform random walks on the level set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from lsshell.engine.errors import Cancelled, EngineError, NotFiniteError
from lsshell.engine.events import Corrected, Refused
from lsshell.engine.excursion import Excursion
from lsshell.engine.levelset import MAX_CORRECTIONS, LevelSet, newton_length
from lsshell.engine.path import Point
from lsshell.engine.problem import Problem
from lsshell.engine.seeds import generator
from lsshell.engine.steppers import Position, Stalled, Terrain
from lsshell.engine.vectors import dot, norm
from lsshell.engine.walk import INTERRUPTED, PAUSED, STEPS_TAKEN

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine

Kind = Literal["geodesic", "random"]
Direction = Literal["random", "away"]

DEFAULT_STEPS = 400
# Geodesic: wished turning of the tangent (radians) and contraction of the corrector in one step.
TURN, CONTRACTION = 0.1, 0.1
FIRST_STEP = 1e-3  # of ‖θ‖
FEWEST_STEPS = 20  # that a given length is walked in
MOST_HALVINGS = 30
# Random: the first proposal's length, of ‖θ‖; the share of the steps that adapt it.
FIRST_PROPOSAL, ADAPTING = 0.01, 0.1


@dataclass(frozen=True)
class WanderRequest:
    """What is asked of `wander`; None takes the default.

    steps: at most so many (400); length: of the path, in parameter units (geodesic: ends there,
    ‖θ‖ where neither it nor `steps` is given; random: `steps` proposals of length/steps each, by
    default adapted); seed: the session's; direction: of the geodesic, at random or away from the
    traversal's start; record, measure, stop_after as for a walk.
    """

    kind: Kind = "geodesic"
    steps: int | None = None
    length: float | None = None
    seed: int | None = None
    direction: Direction = "random"
    record: int | None = None
    measure: int | None = None
    stop_after: int | None = None


@dataclass(frozen=True)
class WanderResult:
    """Points at both ends, steps taken, trial steps or proposals refused, arc length, why it ended.

    step: length of the last step (geodesic) or root mean square of a proposal's (random).
    """

    start: Point
    end: Point
    steps: int
    refused: int
    length: float
    step: float
    reason: str
    theta: str


def wander(engine: Engine, request: WanderRequest) -> WanderResult:
    """Wanders from the current point on its level set; R plays no part, and none need be on.

    Every point recorded has |L − L*| ≤ tolerance. Raises EngineError on bad input, with nothing
    changed.
    """
    problem, theta = engine.ready(), engine.problem_theta()
    if request.kind not in ("geodesic", "random"):
        raise EngineError(f"no kind {request.kind}: geodesic or random")
    if request.length is not None and not 0.0 < request.length < math.inf:
        raise EngineError("--length must be above 0")
    if problem.p < 2:
        raise EngineError("one parameter: the level set has no tangent space to wander in")
    if request.direction == "away" and request.kind == "random":
        raise EngineError("--direction belongs to --kind geodesic: a random walk has none")
    steps = DEFAULT_STEPS if request.steps is None else request.steps
    seed = engine.seed if request.seed is None else request.seed
    away = _away(engine) if request.direction == "away" else None
    excursion = Excursion.begin(engine, "wander", steps, request.record, request.measure)
    here, terrain = excursion.here, excursion.terrain
    draws = generator(seed, f"wander {request.kind} from step {excursion.start.step}")
    scale = max(norm(theta), 1e-3)
    wanderer: Geodesic | RandomWalk
    if request.kind == "geodesic":
        length = request.length
        if length is None and request.steps is None:
            length = scale
        wanderer = Geodesic(terrain, here, draws, away, scale, length)
    else:
        fixed = None if request.length is None else request.length / steps
        wanderer = RandomWalk(terrain, draws, fixed or FIRST_PROPOSAL * scale, fixed, steps)
    reason = _go(engine, excursion, wanderer, steps, request.stop_after)
    last = excursion.end(reason)
    return WanderResult(
        excursion.start,
        last,
        excursion.taken,
        wanderer.refused,
        wanderer.length,
        wanderer.step_length,
        reason,
        engine.theta_hash(),
    )


@dataclass(frozen=True)
class Landing:
    """A point on the set: θ, L, ∇L, length of the tangent step and corrections after it."""

    theta: Tensor
    loss: float
    gradient: Tensor
    rate: float
    corrections: int


class Wanderer(Protocol):
    """Makes steps; `finished` says why there are no more, in words."""

    refused: int
    length: float

    def step(self, here: Position) -> Landing: ...

    def finished(self) -> str | None: ...


def _go(
    engine: Engine, excursion: Excursion, wanderer: Wanderer, steps: int, stop_after: int | None
) -> str:
    """Steps until there is a reason to end, and gives it."""
    problem = engine.ready()
    most = steps if stop_after is None else min(steps, stop_after)
    while True:
        whole = (wanderer.refused, wanderer.length, problem.work)
        reason = wanderer.finished()
        if reason is None and excursion.taken >= most:
            reason = f"{most}{STEPS_TAKEN}"
        if reason is None and engine.pause.is_set():
            reason = PAUSED
        if reason is not None:
            return reason
        try:
            there = wanderer.step(excursion.here)
        except (Cancelled, KeyboardInterrupt):
            # The step under way leaves no trace, so that wandering as many steps gives this again.
            wanderer.refused, wanderer.length, problem.work = whole
            return INTERRUPTED
        except Stalled as e:
            return str(e)
        position = excursion.position(
            there.theta, there.loss, there.gradient, there.rate, there.corrections
        )
        excursion.record(position, f"length {wanderer.length:.4g}")


def _away(engine: Engine) -> Tensor:
    """From the traversal's start to here."""
    recorder = engine._recorder
    found = None if recorder is None else engine.problem_theta() - recorder.start
    if found is None or norm(found) == 0.0:
        raise EngineError("--direction away: this is the start; there is no way away from it yet")
    return found


@dataclass(frozen=True)
class Drop:
    """Where a line along a normal met the set: θ = trial − s·n, with the residuals on the way."""

    theta: Tensor
    loss: float
    gradient: Tensor
    s: float
    residuals: tuple[float, ...]

    @property
    def contraction(self) -> float:
        """The residual's ratio over the first Newton step; 0 where none was needed."""
        return abs(self.residuals[1] / self.residuals[0]) if len(self.residuals) > 1 else 0.0


def drop(
    problem: Problem, level_set: LevelSet, trial: Tensor, normal: Tensor, *, within: float
) -> Drop | None:
    """Newton in s for L(trial − s·n) = L*, n (p,) a fixed unit normal; None where it fails.

    The normal is that of the point which the trial step left: so the step can be taken back, which
    the shortest way to the set (`levelset.correct`) does not give.
    """
    theta, s, residuals = trial, 0.0, []
    for _ in range(MAX_CORRECTIONS + 1):
        try:
            loss, gradient = problem.loss_and_gradient(theta)
        except NotFiniteError:
            return None
        residual = level_set.residual(loss)
        residuals.append(residual)
        if abs(residual) <= within:
            return Drop(theta, loss, gradient, s, tuple(residuals))
        slope = dot(gradient, normal)
        # Beyond a fold of the set the line meets it elsewhere, or not at all.
        if not slope > 0.1 * norm(gradient) or abs(residual) > 2 * abs(residuals[0]):
            return None
        s += newton_length(loss, level_set.level) / slope
        theta = torch.sub(trial, normal, alpha=s)
    return None


class Geodesic:
    """The straightest line on the level set from a point in a unit tangent direction v (p,).

    θ' = θ + hv − s·n with L(θ') = L*, n = ∇L/‖∇L‖ at θ; v' = the part of v − (s/h)n tangent at θ',
    renormalised: RATTLE for a free particle (Andersen 1983; Leimkuhler & Reich 2004, §7),
    reversible, of second order in h; on a sphere the great circle itself. h is
    steered by the turning of v and the contraction of the corrector (Allgower & Georg 1990, §6.1):
    h ← h/f, f = max(√(contraction/0.1), turning/0.1) within [½, 2], a step of f > 2 in turning is
    refused. Arc length is summed over circular arcs, (α/2)/sin(α/2) times the chord.
    """

    def __init__(
        self,
        terrain: Terrain,
        here: Position,
        draws: torch.Generator,
        direction: Tensor | None,
        scale: float,
        reach: float | None,
    ) -> None:
        self.terrain, self.reach = terrain, reach
        self.refused, self.length = 0, 0.0
        self.v = _unit_tangent(here, draws if direction is None else direction)
        self.cap = math.inf if reach is None else reach / FEWEST_STEPS
        self.step_length = min(FIRST_STEP * scale, self.cap)

    def finished(self) -> str | None:
        if self.reach is not None and self.length >= (1.0 - 1e-9) * self.reach:
            return f"length {self.reach:.4g} reached"
        return None

    def step(self, here: Position) -> Landing:
        problem, level_set = self.terrain.problem, self.terrain.level_set
        normal = here.gradient / norm(here.gradient)
        left = math.inf if self.reach is None else self.reach - self.length
        wished = min(self.step_length, self.cap)
        for _ in range(MOST_HALVINGS):
            h = min(wished, left)
            trial = torch.add(here.theta, self.v, alpha=h)
            found = drop(problem, level_set, trial, normal, within=level_set.tolerance / 10)
            if found is not None:
                turned = torch.sub(self.v, normal, alpha=found.s / h)
                turned = _tangent_part(turned, found.gradient)
                turned.div_(norm(turned))
                turn = 2.0 * math.asin(min(1.0, norm(turned - self.v) / 2.0))
                if turn <= 2.0 * TURN:
                    return self._accept(found, h, turned, turn, last=h < wished)
            self.refused += 1
            self.terrain.listen(Refused(h, "the level set turns too much for this step"))
            wished = h / 2
        raise Stalled("no step is short enough: the level set turns too sharply here")

    def _accept(self, found: Drop, h: float, v: Tensor, turn: float, *, last: bool) -> Landing:
        arc = math.hypot(h, found.s) * _arc_over_chord(turn)
        self.v = v
        self.length += arc
        if self.reach is not None and last:
            # What the arc exceeds or misses h by is of third order; the length asked is met.
            self.length = self.reach
        else:
            factor = max(math.sqrt(found.contraction / CONTRACTION), turn / TURN, 0.5)
            self.step_length = h / min(2.0, factor)
        spent = len(found.residuals) - 1
        if spent:
            self.terrain.listen(Corrected(spent, abs(found.residuals[-1])))
        return Landing(found.theta, found.loss, found.gradient, h, spent)


class RandomWalk:
    """A Markov chain on the level set that leaves its surface measure unchanged: uniform at last.

    Zappa, Holmes-Cerf & Goodman 2018 ("Monte Carlo on manifolds"): propose y = x + v − s·n(x), v
    Gaussian in the tangent space with standard deviation σ in each direction, L(y) = L*; with v'
    the tangent part at y of x − y, accept with probability min(1, exp((‖v‖² − ‖v'‖²)/2σ²)), and
    only where the step back from y by v' lands on x. Where the proposal is refused the chain stays,
    and the same point is its next step: means over steps are means over the level set (the
    (p−1)-dimensional Hausdorff measure, no weight 1/‖∇L‖). That needs σ fixed: it is as asked, or
    adapted over the first tenth of the steps (towards every second proposal taken), which are to
    be left out of means. |L − L*| ≤ tolerance/10 stands for L = L*.
    """

    def __init__(
        self,
        terrain: Terrain,
        draws: torch.Generator,
        proposal: float,
        fixed: float | None,
        steps: int,
    ) -> None:
        self.terrain, self.draws = terrain, draws
        self.step_length = proposal
        self.adapting = 0 if fixed is not None else max(10, round(ADAPTING * steps))
        self.refused, self.length, self.made = 0, 0.0, 0

    def finished(self) -> str | None:
        return None

    def step(self, here: Position) -> Landing:
        found = self._propose(here)
        self.made += 1
        if self.made <= self.adapting:
            self.step_length *= math.exp((1 if found else -1) / math.sqrt(self.made))
        if found is None:
            self.refused += 1
            self.terrain.listen(Refused(self.step_length, "the chain stays where it is"))
            return Landing(here.theta, here.loss, here.gradient, 0.0, 0)
        self.length += norm(found.theta - here.theta)
        return found

    def _propose(self, here: Position) -> Landing | None:
        problem, level_set = self.terrain.problem, self.terrain.level_set
        theta, within = here.theta, level_set.tolerance / 10
        sigma = self.step_length / math.sqrt(theta.numel() - 1)
        noise = torch.randn(theta.numel(), generator=self.draws, dtype=theta.dtype)
        threshold = float(torch.rand((), generator=self.draws, dtype=torch.float64))
        normal = here.gradient / norm(here.gradient)
        v = _tangent_part(noise.to(theta.device).mul_(sigma), here.gradient)
        there = drop(problem, level_set, theta + v, normal, within=within)
        if there is None:
            return None
        back = torch.sub(normal.mul(there.s), v)  # x − y
        v_back = _tangent_part(back, there.gradient)
        ratio = (norm(v) ** 2 - norm(v_back) ** 2) / (2.0 * sigma**2)
        if threshold >= math.exp(min(0.0, ratio)):
            return None
        normal_there = there.gradient / norm(there.gradient)
        again = drop(problem, level_set, there.theta + v_back, normal_there, within=within)
        if again is None:
            return None
        slack = 10 * within / norm(here.gradient) + 1e-4 * norm(v)
        if norm(again.theta - theta) > slack:
            return None
        spent = len(there.residuals) - 1
        return Landing(there.theta, there.loss, there.gradient, norm(v), spent)


def _tangent_part(v: Tensor, gradient: Tensor) -> Tensor:
    """v less its part along g, twice: once leaves rounding."""
    unit = gradient / norm(gradient)
    v = torch.sub(v, unit, alpha=dot(v, unit))
    return v.sub_(unit, alpha=dot(v, unit))


def _unit_tangent(here: Position, direction: torch.Generator | Tensor) -> Tensor:
    theta = here.theta
    if isinstance(direction, torch.Generator):
        direction = torch.randn(theta.numel(), generator=direction, dtype=theta.dtype)
    v = _tangent_part(direction.to(theta.device), here.gradient)
    return v / norm(v)


def _arc_over_chord(turn: float) -> float:
    half = turn / 2.0
    return half / math.sin(half) if half > 1e-6 else 1.0
