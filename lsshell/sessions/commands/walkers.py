"""`walk --runs` and `walk --each`: many walkers from one point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lsshell.sessions.errors import CommandError
from lsshell.sessions.points import point_values
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table

if TYPE_CHECKING:
    from lsshell.engine.engine import WalkRequest
    from lsshell.engine.walkers import WalkerEnd


def walk_many(
    session: Any,
    request: WalkRequest,
    runs: int | None,
    each: str | None,
    spread: float | None,
    seed: int | None,
    batched: str,
) -> Reply:
    """The reply of `walk` with --runs or --each; see `lsshell.engine.walkers.walk_many`.

    "steps" are all points recorded, the displaced starts among them.
    """
    from lsshell.engine.walk import INTERRUPTED, PAUSED
    from lsshell.engine.walkers import DEFAULT_SPREAD, WalkersRequest, walk_many

    names = tuple(filter(None, (name.strip() for name in (each or "").split(","))))
    if each is not None and not names:
        raise CommandError("--each takes names of regularisers, as in l2,l1,group")
    if (spread is not None or seed is not None) and runs is None:
        raise CommandError("--spread and --seed belong to --runs")
    asked = WalkersRequest(
        walk=request,
        runs=1 if runs is None else runs,
        each=names,
        spread=DEFAULT_SPREAD if spread is None else spread,
        seed=seed,
        batched={"auto": None, "yes": True, "no": False}[batched],
    )
    result = walk_many(session.engine, asked)
    values = {
        "walkers": {w.branch: _walker_values(w) for w in result.walkers},
        "steps": result.recorded,
        "reason": result.reason,
        "batched": result.batched,
        "execution": result.execution,
    }
    # Why a single walker ended is not the same where all are cut as one was on record.
    ends = {w.branch: {"end": point_values(w.end), "theta": w.theta} for w in result.walkers}
    check = {k: v for k, v in values.items() if k != "execution"} | {"walkers": ends}
    stopped = result.reason in (INTERRUPTED, PAUSED)
    first = f"{result.reason}: {len(ends)} branches, {result.recorded} points; {result.execution}"
    text = f"{first}\n{_table(result.walkers)}"
    return Reply(values, text, check, interrupted=stopped)


def _walker_values(walker: WalkerEnd) -> dict[str, Any]:
    return {
        "descends": list(walker.descends),
        "start": point_values(walker.start),
        "end": point_values(walker.end),
        "steps": walker.steps,
        "refused": walker.refused,
        "reason": walker.reason,
        "theta": walker.theta,
    }


def _table(walkers: tuple[WalkerEnd, ...]) -> str:
    """A row each; every regulariser that is descended has a column, and so has l2."""
    names = list(dict.fromkeys([n for w in walkers for n in w.descends] + ["l2"]))
    rows = [
        [
            w.branch,
            str(w.steps),
            *(number(w.end.regularizers.get(n), 5) for n in names),
            number(w.end.test_loss, 5),
            "–" if w.end.angle_deg is None else f"{w.end.angle_deg:.2f}°",
            str(w.end.gradients - w.start.gradients),
            w.reason,
        ]
        for w in walkers
    ]
    headers = ["branch", "steps", *names, "test loss", "angle", "gradients", "ended"]
    return table(headers, rows, left=(0, len(headers) - 1))
