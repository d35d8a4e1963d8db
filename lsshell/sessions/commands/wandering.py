"""On and across level sets: wander, bridge, regularization-path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from lsshell.engine.vocabulary import Method
from lsshell.sessions.places import as_file
from lsshell.sessions.points import point_values, side_by_side, test_rate
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, FromSession

if TYPE_CHECKING:
    from lsshell.engine.path import Point


@VOCABULARY.command("work")
def wander(
    *,
    kind: Literal["geodesic", "random"] = "geodesic",
    steps: int | None = None,
    length: float | None = None,
    seed: int | None = None,
    direction: Literal["random", "away"] = "random",
    record: int | None = None,
    measure: int | None = None,
    session: FromSession,
) -> Reply:
    """Wander on the level set: straight on (a geodesic), or at random and uniformly.

    Regularisers play no part; those that are on are recorded. Every point recorded has
    |L − L*| ≤ tolerance. Ctrl-C stops at a valid point. A random walk leaves the surface measure
    of the level set unchanged (Metropolis; where a proposal is refused, the step stays where it
    is).

    Parameters
    ----------
    kind
        geodesic or random.
    steps
        At most this many (400).
    length
        Geodesic: how far to go, in arc length (‖θ‖ where --steps is not given either). Random: of
        all proposals together; without it their size is adapted over the first tenth of the steps.
    seed
        For the direction or the proposals (the session's).
    direction
        Of a geodesic: random, or away from the start.
    record
        Keep the parameters of every so manyth step (so that at most 500 are kept).
    measure
        Take test loss and all cheap regularisers every so many steps (at most 100 times).
    """
    from lsshell.engine.walk import INTERRUPTED, PAUSED
    from lsshell.engine.wandering import WanderRequest

    result = session.engine.wander(
        WanderRequest(
            kind=kind,
            steps=steps,
            length=length,
            seed=seed,
            direction=direction,
            record=record,
            measure=measure,
            stop_after=session.step_limit,
        )
    )
    values = {
        "start": point_values(result.start),
        "end": point_values(result.end),
        "steps": result.steps,
        "refused": result.refused,
        "length": result.length,
        "step_length": result.step,
        "reason": result.reason,
        "theta": result.theta,
    }
    spent = result.end.gradients - result.start.gradients
    refused = "proposals refused" if kind == "random" else "trial steps refused"
    first = (
        f"{result.reason}: {result.steps} steps, length {number(result.length)},"
        f" {spent} gradients{f', {result.refused} {refused}' if result.refused else ''}"
    )
    both = side_by_side([("start", result.start), ("now", result.end)], _shown(session, result.end))
    return Reply(values, f"{first}\n{both}", interrupted=result.reason in (INTERRUPTED, PAUSED))


@VOCABULARY.command("work")
def bridge(
    a: str,
    b: str,
    /,
    *,
    points: int = 513,
    budget: int = 20_000,
    sweeps: int = 10,
    measure: int | None = None,
    session: FromSession,
) -> Reply:
    """Find a path between two points of a level set that stays on it, and go along it.

    All its points, and the middles between them, have |L − L*| ≤ tolerance. It is recorded on a
    branch of its own, from A to B; where none is found nothing changes. Ctrl-C ends it with the
    path as it is then, once there is one.

    Parameters
    ----------
    a
        Where it begins: a point as in `goto`.
    b
        Where it ends: a point as in `goto`, or a checkpoint file.
    points
        At most so many on the path.
    budget
        Give up after so many gradients.
    sweeps
        Straighten so many times at each number of points.
    measure
        Take test loss and all cheap regularisers at every so manyth point (at most 100 times).
    """
    from lsshell.engine.bridging import BridgeRequest
    from lsshell.engine.walk import INTERRUPTED

    # A path that was cut while it was being recorded is found again, and recorded as far.
    recorded = session.step_limit if session.cut_reason not in (None, INTERRUPTED) else None
    result = session.engine.bridge(
        BridgeRequest(
            a,
            as_file(session, b) or b,
            points=points,
            budget=budget,
            sweeps=sweeps,
            measure=measure,
            stop_after=session.step_limit if recorded is None else None,
            stop_points=recorded,
        )
    )
    values: dict[str, Any] = {
        "start": point_values(result.start),
        "end": point_values(result.end),
        "steps": result.steps,
        "sweeps": result.sweeps,
        "length": result.length,
        "straight": result.straight,
        "at_points": result.at_points,
        "between": result.between,
        "evenness": result.evenness,
        "spent": result.gradients,
        "reason": result.reason if recorded is None else session.cut_reason,
        "theta": result.theta,
    }
    text = (
        f"{result.reason}: {result.steps + 1} points, {result.gradients} gradients; length"
        f" {number(result.length)}, {number(result.length / result.straight)} times the straight"
        f" distance {number(result.straight)}\ngreatest |L − L*|/tolerance: {result.at_points:.3f}"
        f" at the points, {result.between:.3f} in the middles between them; longest segment"
        f" {number(result.evenness)} times the shortest\n"
    )
    both = side_by_side([("A", result.start), ("B", result.end)], _shown(session, result.end))
    return Reply(values, text + both, interrupted=result.reason == INTERRUPTED)


@VOCABULARY.command("work", "regularization-path")
def regularization_path(
    *,
    to: float,
    points: int = 10,
    method: Method = "quasi-newton",
    until_angle: float = 179.0,
    steps: int | None = None,
    session: FromSession,
) -> Reply:
    """Follow the constrained minimum of the regularisers that are on as L* varies.

    Walks to the minimum at this level, then goes on to levels geometrically spaced to another. Each
    is a point with its own L*. At a minimum θ is also a stationary point of L + λR with λ = 1/ν.
    `plot test-loss --x level` (or `--x weight-decay`) draws it. Ctrl-C stops at the last minimum.

    Parameters
    ----------
    to
        The last level L*, above or below this one.
    points
        How many levels.
    method
        Of the walk to the first minimum.
    until_angle
        The angle between ∇L and ∇R at which a minimum counts as reached, in degrees.
    steps
        At most so many steps at each level (400).
    """
    from lsshell.engine.continuation import ContinuationRequest
    from lsshell.engine.walk import INTERRUPTED, PAUSED

    engine = session.engine
    result = engine.regularization_path(
        ContinuationRequest(
            to=to,
            points=points,
            method=method,
            until_angle=until_angle,
            steps=steps,
            stop_after=session.step_limit,
        )
    )
    weights = {name: weight for name, (_, weight) in engine.sum.terms.items()}
    rows = [_minimum(point, weights) for point in result.minima]
    values = {
        "start": point_values(result.start),
        "minima": rows,
        "steps": result.steps,
        "gradients": result.gradients,
        "reason": result.reason,
        "theta": result.theta,
    }
    text = f"{result.reason}: {len(rows)} minima, {result.gradients} gradients"
    angles = [row["angle_deg"] for row in rows]  # none at R's own minimum, where ∇R is zero
    short = sum(angle is not None and angle < until_angle for angle in angles)
    if short:
        text += f"; {short} of them short of {until_angle:g}°"
    if rows:
        text += f"\n{_minima_table(rows)}"
    return Reply(values, text, interrupted=result.reason in (INTERRUPTED, PAUSED))


def _minimum(point: Point, weights: dict[str, float]) -> dict[str, Any]:
    """What `regularization-path` says of a minimum."""
    decay = point.implied_weight_decay
    return {
        "step": point.step,
        "level": point.level,
        "loss": point.loss,
        "value": sum(weight * point.regularizers[n] for n, weight in weights.items()),
        "multiplier": 1.0 / decay if decay else None,
        "implied_weight_decay": decay,
        "angle_deg": point.angle_deg,
        "test_loss": point.test_loss,
        **test_rate(point),
        "gradients": point.gradients,
    }


def _minima_table(rows: list[dict[str, Any]]) -> str:
    accuracy = "test_accuracy" in rows[0]
    cells = [
        [
            number(row["level"]),
            number(row["value"], 5),
            number(row["multiplier"]),
            number(row["implied_weight_decay"]),
            "–" if row["angle_deg"] is None else f"{row['angle_deg']:.2f}°",
            number(row["test_loss"], 5),
            number(100 * row["test_accuracy"]) if accuracy else number(row["test_rmse"]),
            str(row["step"]),
            str(row["gradients"]),
        ]
        for row in rows
    ]
    headers = ["L*", "R", "ν", "λ = 1/ν", "angle", "test loss",
               "accuracy %" if accuracy else "RMSE", "step", "gradients"]  # fmt: skip
    return table(headers, cells, left=())


def _shown(session: FromSession, point: Point) -> list[str]:
    """The regularisers that are on, and ‖θ‖²."""
    shown = [n for n in point.regularizers if n in session.engine.sum.terms]
    return shown + [n for n in ("l2",) if n in point.regularizers and n not in shown]
