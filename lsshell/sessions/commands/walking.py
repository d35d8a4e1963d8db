"""On the level set: level, reg, walk, undo, goto, branch, path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lsshell.engine.vocabulary import Method, RegularizerName
from lsshell.sessions.commands.walkers import walk_many
from lsshell.sessions.convergence import step_table, step_values
from lsshell.sessions.errors import CommandError
from lsshell.sessions.language import assignment
from lsshell.sessions.points import point_values, point_words, side_by_side
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, Flag, FromSession, Many

if TYPE_CHECKING:
    from lsshell.engine.path import Point


@VOCABULARY.command("work")
def level(
    value: float | None = None,
    /,
    *,
    tolerance: Annotated[float | None, Parameter(name=("--tolerance", "--tol"))] = None,
    session: FromSession,
) -> Reply:
    """Fix the level L* at the loss here, or move to a loss first.

    Parameters
    ----------
    value
        L*; the point moves along ∇L until its loss is this.
    tolerance
        A point is on the level set where |L − L*| is at most this (0.01·L*).
    """
    point = session.engine.fix_level(value, tolerance)
    values = {"point": point_values(point), "theta": session.engine.theta_hash()}
    text = f"L* = {point.level:.6g}, tolerance {point.tolerance:.3g}; {point_words(point)}"
    return Reply(values, text)


@VOCABULARY.command("setup")
def reg(
    name: RegularizerName | None = None,
    weight: str | None = None,
    /,
    *,
    ratio: float | None = None,
    eps: float | None = None,
    probes: int | None = None,
    projections: int | None = None,
    form: Literal["log", "square"] | None = None,
    reference: Path | None = None,
    session: FromSession,
) -> Reply:
    """Switch a regulariser on or off, set its weight, or show them all.

    `reg l2 on`, `reg l1 0.01` (on, with weight 0.01), `reg l2 off`, `reg` (shows all). What
    walks descend is the weighted sum of those that are on.

    Parameters
    ----------
    name
        The regulariser.
    weight
        on, off, or a weight.
    ratio
        elastic: the share of L1.
    eps
        l1, elastic, group: smoothing at zero.
    probes
        hessian-trace: Hutchinson probes.
    projections
        jacobian: random projections (0: exact).
    form
        spectral: Σ log σ or Σ σ².
    reference
        distance: from the parameters in this checkpoint rather than from the start.
    """
    engine = session.engine
    if name is None:
        return _all_regularizers(session)
    options: dict[str, Any] = {
        "ratio": ratio,
        "eps": eps,
        "probes": probes,
        "projections": projections,
        "form": form,
    }
    options = {k: v for k, v in options.items() if v is not None}
    if weight == "off":
        engine.switch_off(name)
        return Reply({"name": name, "on": False}, f"{name} is off")
    if reference is not None:
        options["reference"] = _read_reference(session, reference)
    number_given = None if weight in (None, "on") else _weight(weight)
    regularizer = engine.switch(name, number_given, options)
    value = regularizer.value(engine.problem_theta())
    values = {
        "name": name,
        "on": True,
        "weight": engine.sum.terms[name][1],
        "value": value,
        "options": dict(regularizer.options),
    }
    extra = "".join(
        f", {k} {number(v) if isinstance(v, float) else v}" for k, v in regularizer.options.items()
    )
    text = f"{name} is on: {value:.6g}, weight {values['weight']:g}{extra}  ({regularizer.formula})"
    return Reply(values, text)


def _weight(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError as e:
        raise CommandError(f"expected on, off or a weight, not {text}") from e


def _read_reference(session: FromSession, file: Path) -> object:
    from lsshell.engine.checkpoints import read_checkpoint
    from lsshell.engine.errors import EngineError

    problem = session.engine.ready()
    checkpoint = read_checkpoint(session.find(file))
    for slot in problem.slots:
        found = checkpoint.tensors.get(slot.name)
        if found is None or tuple(found.shape) != slot.shape:
            raise EngineError(f"{file} is not a checkpoint of this network: {slot.name} differs")
    return problem.flat(checkpoint.tensors).to(problem.device)


def _all_regularizers(session: FromSession) -> Reply:
    from lsshell.engine.regularizers import REGULARIZERS

    engine = session.engine
    values: dict[str, Any] = {}
    point = engine.measure() if engine.problem is not None else None
    start = engine.start_point() if engine.path.here is not None else None
    rows = []
    for name, kind in REGULARIZERS.items():
        regularizer, weight = engine.sum.terms.get(name, (kind, None))
        on = weight is not None
        now = point.regularizers.get(name) if point else None
        first = start.regularizers.get(name) if start else None
        change = "–" if now is None or first is None else _change(first, now)
        values[name] = {"on": on, "weight": weight, "value": now}
        rows.append(
            [name, "on" if on else "·", number(weight), number(now, 5), change, regularizer.formula]
        )
    text = table(["", "", "weight", "value", "since start", "formula"], rows, left=(0, 1, 5))
    return Reply({"regularizers": values}, text, {})


def _change(first: float, now: float) -> str:
    """In percent, or as a difference where the start is no measure of it."""
    return f"{100 * (now / first - 1):+.1f} %" if first > 0 else f"{now - first:+.3g}"


@VOCABULARY.command("work")
def walk(
    *,
    steps: int | None = None,
    method: Method = "quasi-newton",
    until_angle: float | None = None,
    until: Many = (),
    until_plateau: float | None = None,
    patience: int | None = None,
    seconds: float | None = None,
    ascend: Flag = False,
    record: int | None = None,
    measure: int | None = None,
    memory: int | None = None,
    rate_min: float | None = None,
    rate_max: float | None = None,
    corrector_rate: float | None = None,
    runs: int | None = None,
    spread: float | None = None,
    seed: int | None = None,
    each: str | None = None,
    batched: Literal["auto", "yes", "no"] = "auto",
    session: FromSession,
) -> Reply:
    """Walk along the level set, descending the regularisers that are on.

    Every point recorded has |L − L*| ≤ tolerance. Ctrl-C stops at a valid point. A walk that goes
    on where the last one ended, in the same way, keeps what that one learned.

    Parameters
    ----------
    steps
        At most this many (400; for `paper` the published number).
    method
        quasi-newton (L-BFGS on the Lagrangian, from the loss's curvature on its hardest
        examples), newton (conjugate gradients with Hessian products), auto (near the end
        whichever of the two pays), gradient, or paper (as published).
    until_angle
        Stop when the angle between ∇L and ∇R reaches this (with --ascend: falls to it); 180° is
        the constrained minimum.
    until
        Stop where a regulariser or the angle meets a value, located between two steps:
        --until l2=200, --until angle=150. May be repeated.
    until_plateau
        Stop where R falls by less than this share of itself a gradient (over ten steps).
    patience
        Stop where the validation loss (test loss where there are no validation examples) has not
        fallen for so many measures, and locate where it is least: `goto best` goes there.
    seconds
        Stop after this time.
    ascend
        Climb R instead of descending it.
    record
        Keep the parameters of every so manyth step (so that at most 500 are kept).
    measure
        Take test loss and all cheap regularisers every so many steps (at most 100 times).
    memory
        quasi-newton, newton, auto: secant pairs (20, newton 60; 100 where the network has no
        layers to take the loss's curvature from).
    rate_min
        paper: least predictor length (1e-4; iris-ff and mpg-ff 1e-5).
    rate_max
        paper: greatest predictor length (0.1).
    corrector_rate
        paper: corrector length (1e-4; iris-ff and mpg-ff 1e-6).
    runs
        So many walkers, each on a branch of its own (main-w1, main-w2, …): the first from here,
        the others from starts displaced at random along the level set.
    spread
        runs: length of the displacement, as a share of ‖θ‖ (0.05).
    seed
        runs: draws the displacements (the session's seed).
    each
        One walker for each of these regularisers, on a branch of its name: --each l2,l1,group.
    batched
        runs, each: all walkers as one computation; auto: where that is faster (`gradient` only).
    """
    from lsshell.engine.engine import WalkRequest
    from lsshell.engine.walk import INTERRUPTED, PAUSED

    targets = {}
    for text in until:
        try:
            name, value = assignment(text)
            targets[name] = float(value)
        except (CommandError, ValueError) as e:
            raise CommandError(f"--until {text}: expected NAME=NUMBER, as in l2=200") from e
    request = WalkRequest(
        method=method,
        steps=steps,
        until=targets,
        until_angle=until_angle,
        until_plateau=until_plateau,
        patience=patience,
        seconds=None if session.replaying else seconds,  # then by the steps that were taken
        ascend=ascend,
        record=record,
        measure=measure,
        memory=memory,
        rate_min=rate_min,
        rate_max=rate_max,
        corrector_rate=corrector_rate,
        stop_after=session.step_limit,
    )
    if runs is not None or each is not None:
        return walk_many(session, request, runs, each, spread, seed, batched)
    if spread is not None or seed is not None or batched != "auto":
        raise CommandError("--spread, --seed and --batched belong to --runs or --each")
    result = session.engine.walk(request)
    best = result.best
    values = {
        "start": point_values(result.start),
        "end": point_values(result.end),
        "steps": result.steps,
        "refused": result.refused,
        "reason": result.reason,
        "theta": result.theta,
        "best": {"at": best.name, _chosen_by(best): best.chosen_by},
        "events": [{"event": e.what, "at": e.at.name, "value": e.value} for e in result.noticed],
    }
    shown = [n for n in result.end.regularizers if n in session.engine.sum.terms]
    shown += [n for n in ("l2",) if n in result.end.regularizers and n not in shown]
    spent = result.end.gradients - result.start.gradients
    first = (
        f"{result.reason}: {result.steps} steps, {spent} gradients"
        f"{f', {result.refused} trial steps refused' if result.refused else ''}"
    )
    both = side_by_side([("start", result.start), ("now", result.end)], shown)
    stopped = result.reason in (INTERRUPTED, PAUSED)
    last = _best_words(session, best, asked=patience is not None)
    return Reply(values, f"{first}\n{both}{last}", interrupted=stopped)


def _chosen_by(point: Point) -> str:
    """The field that `best` goes by."""
    return "test_loss" if point.validation_loss is None else "validation_loss"


def _best_words(session: FromSession, best: Point, *, asked: bool) -> str:
    """Where a walk was best, and whether `goto best` goes there."""
    from lsshell.engine.path import best_of

    overall = best_of(session.engine.path.traversal())
    name = _chosen_by(best).replace("_", " ")
    words = f"\nleast {name} {number(best.chosen_by, 5)} at {best.name}"
    if overall is None or overall.index == best.index:
        words += ": `goto best` goes there"
    else:
        words += f"; `goto best` goes to {overall.name}, {number(overall.chosen_by, 5)}"
    if asked and best.validation_loss is None:
        words += "\nthere are no validation examples to choose by (`data … --validation N`)"
    return words


@VOCABULARY.command("move")
def undo(steps: int = 1, /, *, session: FromSession) -> Reply:
    """Go back so many steps; what was walked stays on its branch.

    Parameters
    ----------
    steps
        How many; the nearest point whose parameters are kept is taken, at least so far back.
    """
    return _moved(session, session.engine.undo(steps))


@VOCABULARY.command("move")
def goto(where: str, /, *, session: FromSession) -> Reply:
    """Go to a point: STEP, start, end, best, BRANCH or BRANCH:STEP.

    Parameters
    ----------
    where
        A step of this branch; the end of a branch; `best` has the least validation loss, or
        the least test loss where the data has no validation examples.
    """
    return _moved(session, session.engine.goto(where))


def _moved(session: FromSession, point: Any) -> Reply:
    values = {"branch": point.branch, "point": point_values(point)}
    values["theta"] = session.engine.theta_hash()
    return Reply(values, point_words(point))


@VOCABULARY.command("move")
def branch(name: str | None = None, /, *, session: FromSession) -> Reply:
    """Start a new branch here; the next walk goes on it.

    Parameters
    ----------
    name
        Its name; made up where none is given.
    """
    name = session.engine.new_branch(name)
    return Reply({"branch": name}, f"the next walk goes on branch {name}")


@VOCABULARY.command("view")
def path(
    what: Literal["list", "points", "convergence"] = "list", /, *, session: FromSession
) -> Reply:
    """Show the branches walked, the points of this one, or how its steps were made.

    Parameters
    ----------
    what
        list (branches), points, or convergence (predictor, corrections and refusals of each step).
    """
    engine = session.engine
    here = engine.path.here
    if here is None:
        raise CommandError("nothing has been walked yet")
    if what == "points":
        points = engine.path.lineage()
        rows = [_point_row(p, here.index) for p in points]
        headers = ["step", "L − L*", "test loss", "R", "angle", "gradients", "kept", ""]
        return Reply({"points": [point_values(p) for p in points]}, table(headers, rows), {})
    if what == "convergence":
        steps = [p for p in engine.path.lineage() if p.convergence is not None]
        if not steps:
            raise CommandError("no step of this branch says how it was made: `walk` first")
        return Reply({"steps": [step_values(p) for p in steps]}, step_table(steps), {})
    values, rows = {}, []
    for name, points in engine.path.branches().items():
        first, last = points[0], points[-1]
        parent = engine.path.points.get(first.parent) if first.parent is not None else None
        origin = "start" if parent is None else f"{parent.branch}:{parent.step}"
        values[name] = {"from": origin, "points": len(points), "end": point_values(last)}
        rows.append(
            [
                name + (" ← here" if here.branch == name else ""),
                origin,
                str(len(points)),
                str(last.step),
                number(last.level),
                number(last.test_loss),
                number(last.regularizers.get("l2")),
            ]
        )
    headers = ["branch", "from", "points", "last step", "L*", "test loss", "l2"]
    return Reply(
        {"branch": here.branch, "step": here.step, "branches": values},
        table(headers, rows, left=(0, 1)),
        {},
    )


def _point_row(point: Any, here: int) -> list[str]:
    first = next(iter(point.regularizers.items()), None)
    return [
        str(point.step),
        "–" if point.level is None else f"{point.loss - point.level:+.2e}",
        number(point.test_loss),
        "–" if first is None else f"{first[0]} {number(first[1])}",
        "–" if point.angle_deg is None else f"{point.angle_deg:.2f}°",
        str(point.gradients),
        "yes" if point.kept else "·",
        "← here" if point.index == here else "",
    ]
