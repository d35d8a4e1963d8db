"""connect: loss and error along a trained curve between two points, and along the line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lsshell.figures.figure import Figure, Series, far_apart
from lsshell.sessions.outputs import check_files, with_files
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, Flag, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.connectivity import Connection, Connectivity, Profile


@VOCABULARY.command("landscape")
def connect(
    a: str,
    b: str = "here",
    /,
    *,
    kind: Literal["bezier", "chain"] = "bezier",
    bends: int = 1,
    epochs: int | None = None,
    rate: float = 0.01,
    batch: int = 128,
    weight_decay: float = 5e-4,
    init: Literal["linear", "random"] = "linear",
    align: Flag = False,
    points: int = 21,
    show: Literal["error", "loss"] = "error",
    seed: int | None = None,
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Mode connectivity: train a curve of low loss between two points, and measure along it.

    mc = ½(e(0) + e(1)) − e(t*), where the training error e (percent; regression: the loss) deviates
    most: under 0 there is a barrier, about 0 they are well connected, above 0 the curve is better
    than its ends. The straight line and its barrier are measured too. Batch-norm statistics are
    recomputed at every point. The walk stays where it is.

    Parameters
    ----------
    a
        A point as in `goto`, or a checkpoint file.
    b
        The other end.
    kind
        bezier, or chain (straight pieces).
    bends
        Points between the ends that are trained.
    epochs
        Of training the curve (50, or as many as make 1000 updates).
    rate
        Of its stochastic gradient descent (momentum 0.9; falls in the second half).
    batch
        Examples in a mini-batch, each at its own point of the curve.
    weight_decay
        Its penalty, ½ of this times ‖γ(t)‖².
    init
        The bends at first: on the line, or as new networks.
    align
        First permute the hidden units of B, and for tanh their signs, to be nearest to A.
    points
        Measure at so many, evenly from end to end (the paper's 5 is coarse).
    show
        Draw the error, or the loss.
    seed
        For batches, points on the curve and random numbers (the session's).
    out
        Write the figure to FILE.png, .svg, .pdf or .txt rather than draw it here.
    save
        Write what was measured at each point to FILE.csv or .json.
    """
    from lsshell.engine.landscape.connectivity import connect as connect_points

    check_files(session, out, save)
    engine = session.engine
    problem = engine.ready()
    first, second = named_place(session, a), named_place(session, b)
    found = connect_points(
        problem,
        first.theta,
        second.theta,
        kind=kind,
        bends=bends,
        epochs=epochs,
        rate=rate,
        batch=batch,
        weight_decay=weight_decay,
        init=init,
        points=points,
        permute=align,
        seed=engine.seed if seed is None else seed,
        listen=engine.listen,
    )
    values: dict[str, Any] = {
        "a": first.name,
        "b": second.name,
        "kind": kind,
        "epochs": found.trained.epochs,
        "distance": found.line.length,
        "alignment": _alignment(found),
        "line": _connectivity(found.line),
        "curve": _connectivity(found.curve),
        "gradients": found.line.gradients + found.curve.gradients,
    }
    text = _text(found, first.name, second.name)
    if problem.batch_norms:  # so the ends' losses are not those on record
        text += "\nbatch norm by statistics taken anew at each point, the ends too"
    reply = Reply(values, text, figure=_figure(found, first.name, second.name, show))
    return with_files(session, reply, out, save, lambda: _rows(found))


def _alignment(found: Connection) -> dict[str, Any] | None:
    made = found.alignment
    if made is None:
        return None
    return {
        "units": made.units,
        "moved": made.moved,
        "flipped": made.flipped if made.signs else None,
        "distance_before": made.before,
        "distance_after": made.after,
    }


def _connectivity(found: Connectivity) -> dict[str, Any]:
    profiles = {
        "train_error": found.train_error,
        "test_error": found.test_error,
        "train_loss": found.train_loss,
        "test_loss": found.test_loss,
    }
    base = {"length": found.length, "mc": found.mc, "reading": found.reading}
    return base | {name: _profile(p) for name, p in profiles.items() if p is not None}


def _profile(found: Profile) -> dict[str, float]:
    return {
        "start": found.ends[0],
        "end": found.ends[1],
        "mc": found.mc,
        "t_star": found.t_star,
        "barrier": found.barrier,
        "barrier_at": found.barrier_at,
        "greatest": found.greatest,
        "mean": found.mean,
        "weighted_mean": found.weighted_mean,
    }


def _text(found: Connection, a: str, b: str) -> str:
    ways, made = (found.line, found.curve), found.alignment
    lines = [f"A {a}, B {b}: distance {number(found.line.length)}"]
    if made is not None:
        signs = f", {made.flipped} of them turned in sign" if made.signs else ""
        lines = [
            f"A {a}, B {b} aligned: {made.moved} of {made.units} hidden units moved{signs};"
            f" distance {number(made.before)} → {number(made.after)}"
        ]
    rows = []
    for name in ("train error %", "test error %", "train loss", "test loss"):
        for way in ways:
            profile = getattr(way, name.removesuffix(" %").replace(" ", "_"))
            if profile is not None:
                rows.append([name if way is ways[0] else "", way.kind, *_cells(profile)])
    headers = ["", "along", "at A", "at B", "greatest", "mean", "mc", "at t", "barrier"]
    lines.append(table(headers, rows, left=(0, 1)))
    what = "training loss" if found.line.train_error is None else "training error"
    unit = "" if found.line.train_error is None else " %"
    for way in ways:
        name = "straight line" if way is found.line else f"{way.kind} curve"
        lines.append(f"{name}: {way.reading} (mc {number(way.mc, 3)}{unit} of the {what})")
    if found.curve.mc < -found.curve.tolerance:
        lines.append("more --epochs, --bends or a higher --rate may find a better curve")
    return "\n".join(lines)


def _cells(found: Profile) -> list[str]:
    ends = [number(value) for value in found.ends]
    others = (found.greatest, found.weighted_mean, found.mc, found.t_star, found.barrier)
    return [*ends, *(number(value, 3) for value in others)]


def _figure(found: Connection, a: str, b: str, show: str) -> Figure:
    error = show == "error" and found.line.train_error is not None
    series = []
    for way in (found.line, found.curve):
        for split in ("train", "test"):
            profile = getattr(way, f"{split}_error" if error else f"{split}_loss")
            series.append(Series(f"{way.kind}, {split}", way.t, profile.values))
    values = [y for s in series for y in s.y]
    return Figure(
        f"From {a} to {b}",
        "t (A at 0, B at 1)",
        "error, %" if error else "loss",
        tuple(series),
        y_log=not error and far_apart(min(values), max(values)),
    )


def _rows(found: Connection) -> list[dict[str, Any]]:
    rows = []
    for way in (found.line, found.curve):
        for i, t in enumerate(way.t):
            row: dict[str, Any] = {"along": way.kind, "t": t, "distance": way.distance[i]}
            for name in ("train_loss", "test_loss", "train_error", "test_error"):
                profile = getattr(way, name)
                if profile is not None:
                    row[name] = profile.values[i]
            rows.append(row)
    return rows
