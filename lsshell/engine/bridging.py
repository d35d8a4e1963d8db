"""Level-set mode connection: a path between two points of a level set that stays on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lsshell.engine.errors import Cancelled, EngineError, NotFiniteError
from lsshell.engine.events import Progress
from lsshell.engine.excursion import Excursion
from lsshell.engine.landscape.places import find_place
from lsshell.engine.levelset import LevelNotReached, LevelSet, correct, move_to
from lsshell.engine.path import Point
from lsshell.engine.problem import Problem
from lsshell.engine.vectors import dot, norm
from lsshell.engine.walk import INTERRUPTED

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine

FIRST_SEGMENTS = 8
MOST_POINTS = 513
BUDGET = 20_000  # gradients
SWEEPS = 10  # at each number of segments
# A string is straight where a sweep shortens it by less than this share.
STRAIGHT = 1e-3
FOUND = "path found"


@dataclass(frozen=True)
class BridgeRequest:
    """a, b: points as in `goto`; b may be a checkpoint file. points: at most so many on the path
    (513); budget: gradients (20 000); sweeps: of straightening at each number of points (10);
    measure: test loss at every so manyth point (at most 100 times); stop_after sweeps and
    stop_points are where a replay ends as its record did.
    """

    a: str
    b: str | FilePath
    points: int = MOST_POINTS
    budget: int = BUDGET
    sweeps: int = SWEEPS
    measure: int | None = None
    stop_after: int | None = None
    stop_points: int | None = None


@dataclass(frozen=True)
class BridgeResult:
    """Points at both ends; sweeps made; points recorded after the first; length of the path against
    the straight distance; the greatest |L − L*|/tolerance at the points and at the middles between
    them; the longest segment over the shortest; gradients spent; why it ended.
    """

    start: Point
    end: Point
    sweeps: int
    steps: int
    length: float
    straight: float
    at_points: float
    between: float
    evenness: float
    gradients: int
    reason: str
    theta: str


class NoPath(Exception):  # noqa: N818 - an ending that `bridge` words
    """No path within the limits; the message says what stood against it."""


class String:
    """A chain of points on the level set, with ∇L at each; its ends stay where they are.

    θ_0 … θ_K (p,) with |L − L*| ≤ tolerance/10 in between. A sweep moves every inner point by the
    tangent part of ½(θ_{i−1} + θ_{i+1}) − θ_i, one after the other, and brings it back by Newton's
    method: curve shortening by Gauss and Seidel, whose limit is a geodesic with even spacing. It is
    the string method's idea (E, Ren & Vanden-Eijnden 2007) with the forces of an elastic band,
    projected on the tangent space, in the place of the potential's.
    """

    def __init__(
        self, problem: Problem, level_set: LevelSet, points: list[Tensor], most: int, budget: int
    ) -> None:
        self.problem, self.level_set = problem, level_set
        self.most, self.budget = most, budget
        self.before = problem.gradients
        self.points = [points[0]]
        self.gradients: list[Tensor | None] = [None]
        self.worst_at = 0.0
        for trial in points[1:-1]:
            self._append(*self._onto(trial))
        self._append(points[-1], None)

    @property
    def spent(self) -> int:
        return self.problem.gradients - self.before

    @property
    def spacings(self) -> list[float]:
        pairs = zip(self.points, self.points[1:], strict=False)
        return [norm(b - a) for a, b in pairs]

    @property
    def length(self) -> float:
        return math.fsum(self.spacings)

    def sweep(self) -> None:
        for i in range(1, len(self.points) - 1):
            here, g = self.points[i], self.gradients[i]
            assert g is not None
            pull = torch.lerp(self.points[i - 1], self.points[i + 1], 0.5).sub_(here)
            pull.sub_(g, alpha=dot(pull, g) / dot(g, g))
            self.points[i], self.gradients[i] = self._onto(here + pull)

    def refine(self) -> None:
        """A point brought onto the level set in the middle of each segment."""
        if 2 * len(self.points) - 1 > self.most:
            raise NoPath(f"{self.most} points are not enough")
        old, slopes = self.points, self.gradients
        self.points, self.gradients = [old[0]], [None]
        for k in range(1, len(old)):
            self._append(*self._onto(torch.lerp(old[k - 1], old[k], 0.5)))
            self._append(old[k], slopes[k])

    def between(self) -> float:
        """The greatest |L − L*| in the middle of a segment, over the tolerance."""
        worst = 0.0
        for k in range(1, len(self.points)):
            loss = self.problem.loss(torch.lerp(self.points[k - 1], self.points[k], 0.5))
            off = abs(self.level_set.residual(loss)) / self.level_set.tolerance
            if off > worst:
                worst, self.worst_at = off, (k - 0.5) / (len(self.points) - 1)
        return worst

    def _append(self, theta: Tensor, gradient: Tensor | None) -> None:
        self.points.append(theta)
        self.gradients.append(gradient)

    def _onto(self, trial: Tensor) -> tuple[Tensor, Tensor]:
        """The shortest way onto the level set, or down to it by L-BFGS where that is far."""
        left = self.budget - self.spent
        if left <= 0:
            raise NoPath(f"{self.budget} gradients are spent")
        tolerance = self.level_set.tolerance
        try:
            found = correct(self.problem, self.level_set, trial, within=tolerance / 10)
            if found.converged:
                return found.theta, found.gradient
            theta, _ = move_to(self.problem, self.level_set, trial, budget=min(1000, left))
        except (LevelNotReached, NotFiniteError) as e:
            raise NoPath("a point between could not be brought to the level") from e
        return theta, self.problem.loss_and_gradient(theta)[1]


def great_circle(a: Tensor, b: Tensor, segments: int) -> list[Tensor]:
    """Points (p,) from a to b at equal angles about the origin, with norms in even steps.

    The straight line between two networks passes through smaller norms, where the loss is far
    higher. It is taken where a and b are nearly parallel or opposite.
    """
    lengths = norm(a), norm(b)
    cosine = dot(a, b) / (lengths[0] * lengths[1]) if min(lengths) > 0.0 else 1.0
    if abs(cosine) > 0.9999:
        return [torch.lerp(a, b, k / segments) for k in range(segments)] + [b]
    angle = math.acos(cosine)
    found = [a]
    for k in range(1, segments):
        t = k / segments
        radius = (1.0 - t) * lengths[0] + t * lengths[1]
        left = radius * math.sin((1.0 - t) * angle) / (math.sin(angle) * lengths[0])
        right = radius * math.sin(t * angle) / (math.sin(angle) * lengths[1])
        found.append(left * a + right * b)
    return [*found, b]


@dataclass(frozen=True)
class Found:
    """A chain that is a path, after so many sweeps, with what `BridgeResult` says of it."""

    points: list[Tensor]
    sweeps: int
    between: float
    evenness: float
    length: float
    spent: int
    reason: str


def connect(
    problem: Problem,
    level_set: LevelSet,
    a: Tensor,
    b: Tensor,
    *,
    points: int = MOST_POINTS,
    budget: int = BUDGET,
    sweeps: int = SWEEPS,
    stop_after: int | None = None,
    told: Callable[[Progress], None] = lambda event: None,
) -> Found:
    """A path on the level set between two of its points (p,).

    From the great circle between them, brought onto the set in FIRST_SEGMENTS segments: the string
    is straightened, twice as many segments are made of it, and so on until the loss in the middle
    of every segment is within the tolerance too. Raises NoPath where the limits are met first, and
    Cancelled where the user asked to stop before there was a path; later the path as it is then is
    given, with `reason` "interrupted".
    """
    segments = min(FIRST_SEGMENTS, points - 1)
    path: Found | None = None
    made, off = 0, math.inf
    string = None
    try:
        string = String(problem, level_set, great_circle(a, b, segments), points, budget)
        off = string.between()
        while True:
            for _ in range(sweeps):
                if off <= 1.0:
                    path = _found(string, made, off)
                if stop_after is not None and made >= stop_after and path is not None:
                    return path
                length = string.length
                string.sweep()
                made += 1
                # The middles matter once there is a path, or the points may be too few.
                off = string.between() if path is not None else math.inf
                told(Progress("bridge", string.spent, budget, _note(string, off)))
                if string.length > (1.0 - STRAIGHT) * length:
                    break
            off = string.between()
            if off <= 1.0:
                return _found(string, made, off)
            path = None
            string.refine()
            off = string.between()
            told(Progress("bridge", string.spent, budget, _note(string, off)))
    except (Cancelled, KeyboardInterrupt):
        if path is None:
            raise
        return replace(path, reason=INTERRUPTED)
    except NoPath as e:
        if path is not None:
            return path
        if string is None:
            raise
        off = off if math.isfinite(off) else string.between()
        count = len(string.points)
        raise NoPath(
            f"{e}; of {count} points, the loss between two neighbours {100 * string.worst_at:.0f} %"
            f" of the way is {off:.3g} tolerances off the level"
        ) from e


def _found(string: String, made: int, off: float) -> Found:
    spacings = string.spacings
    evenness = max(spacings) / max(min(spacings), 1e-300)
    return Found(list(string.points), made, off, evenness, sum(spacings), string.spent, FOUND)


def _note(string: String, off: float) -> str:
    between = f", between them {off:.3g} tolerances off" if math.isfinite(off) else ""
    return f"{len(string.points)} points, length {string.length:.4g}{between}"


def bridge(engine: Engine, request: BridgeRequest) -> BridgeResult:
    """Connects two points and records the path from a to b, on a branch of its own.

    Every recorded point has |L − L*| ≤ tolerance, and so have the middles between them. Raises
    EngineError, with nothing changed, where the two are not on one level set or no path is found.
    """
    problem = engine.ready()
    for name in ("points", "budget", "sweeps", "measure"):
        value = getattr(request, name)
        if value is not None and not 0 < value < math.inf:
            raise EngineError(f"--{name} must be above 0")
    if request.points < 3:
        raise EngineError("--points: a path has at least 3")
    first = engine.path.find(request.a)
    begin = engine.path.store.get(first.index)
    a = problem.flat(begin).to(problem.device)
    b = _far_end(engine, request.b, begin)
    if first.level is None or first.tolerance is None:
        raise EngineError(f"{request.a} is on no level set: `goto {request.a}`, then `level`")
    level_set = LevelSet(first.level, first.tolerance)
    before = problem.work
    try:
        _refuse_off(problem, level_set, b, str(request.b))
        if torch.equal(a, b):
            raise EngineError(f"{request.a} and {request.b} are the same point")
        found = connect(
            problem,
            level_set,
            a,
            b,
            points=request.points,
            budget=request.budget,
            sweeps=request.sweeps,
            stop_after=request.stop_after,
            told=engine.listen,
        )
    except NoPath as e:
        raise EngineError(
            f"no path was found on this level set: {e}; more --points or --budget, or a wider"
            " tolerance (`level --tol`), may find one"
        ) from e
    finally:
        problem.work = before  # what came to nothing leaves no trace
    return _record(engine, request, first, found, norm(b - a))


def _far_end(engine: Engine, where: str | FilePath, begin: Mapping[str, Tensor]) -> Tensor:
    """θ of the second point, from the path or a checkpoint of this network."""
    place = find_place(engine, where)
    for buffer in place.buffers:
        if not torch.equal(place.buffers[buffer].cpu(), begin[buffer].cpu()):
            raise EngineError(
                f"{place.name} has other batch-norm statistics ({buffer}): no path of parameters"
                " alone leads there"
            )
    return place.theta


def _refuse_off(problem: Problem, level_set: LevelSet, b: Tensor, name: str) -> None:
    loss = problem.loss(b)
    if not level_set.contains(loss):
        off = abs(level_set.residual(loss)) / level_set.tolerance
        raise EngineError(
            f"{name} has loss {loss:.6g}, {off:.3g} tolerances off L* = {level_set.level:.6g}:"
            f" bring it there first, `level {level_set.level:.6g}`"
        )


def _record(
    engine: Engine, request: BridgeRequest, first: Point, found: Found, straight: float
) -> BridgeResult:
    path, problem = engine.path, engine.ready()
    named = path.branch not in path.branches()
    engine.place_at(first)
    if not named:
        path.branch = "bridge" if "bridge" not in path.branches() else path.free_name("bridge")
    after = problem.work + found.spent
    most = request.stop_points
    with problem.uncancelled():  # the path is there: it is recorded whole
        excursion = Excursion.begin(engine, "bridge", len(found.points) - 1, 1, request.measure)
        worst = abs(excursion.start.residual or 0.0)
        for theta in found.points[1 : None if most is None else 1 + most]:
            rate = norm(theta - excursion.here.theta)
            loss, gradient = problem.loss_and_gradient(theta)
            problem.work = after  # evaluated before: what is recorded is what it cost
            position = excursion.position(theta, loss, gradient, rate, 0)
            point = excursion.record(position, f"loss {loss:.5g}")
            worst = max(worst, abs(point.residual or 0.0))
        last = excursion.end(found.reason)
    return BridgeResult(
        excursion.start,
        last,
        found.sweeps,
        excursion.taken,
        found.length,
        straight,
        worst,
        found.between,
        found.evenness,
        found.spent,
        found.reason,
        engine.theta_hash(),
    )
