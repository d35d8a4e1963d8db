"""What can be seen and taken away: measure, plot, export, status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lsshell.sessions.export import export_points
from lsshell.sessions.outputs import write_picture
from lsshell.sessions.plots import Axis, Plot, Shade, make_figure
from lsshell.sessions.points import point_values, side_by_side
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, Flag, FromSession


@VOCABULARY.command("view")
def measure(*, session: FromSession) -> Reply:
    """Take every measure at this point, and show it beside the start."""
    engine = session.engine
    point = engine.measure(everything=True)
    columns = [("now", point)]
    if engine.path.points:
        columns.insert(0, ("start", engine.start_point()))
    return Reply(point_values(point), side_by_side(columns, list(point.regularizers)))


@VOCABULARY.command("view")
def plot(
    what: Plot,
    /,
    *,
    x: Axis = "steps",
    colour: Annotated[Shade, Parameter(name=("--colour", "--color"))] = "step",
    log: Flag = False,
    out: Path | None = None,
    session: FromSession,
) -> Reply:
    """Draw the walk: test-loss, test-accuracy, regularizers, loss, angle, or path (in PCA).

    Parameters
    ----------
    what
        test-loss, test-accuracy (RMSE for regression), regularizers (relative to the start), loss
        (the residual in units of the tolerance), angle (between ∇L and ∇R), path (the kept
        points in their first two principal components).
    x
        What to draw against: steps, gradients, length, l2, level (L*) or weight-decay (λ = 1/ν).
    colour
        path: colour by step or by test loss.
    log
        Logarithmic values; loss: |L − L*|; angle: what is left to 180°.
    out
        Write FILE.png, .svg, .pdf or .txt rather than draw here; the session keeps a copy.
    """
    figure = make_figure(session.engine, what, x, colour, log=log)
    values: dict[str, Any] = {
        "plot": what,
        "x": x,
        "colour": colour,
        "log": log,
        "title": figure.title,
        "series": {s.name: len(s.x) for s in figure.series},
    }
    if out is None:
        return Reply(values, "", {}, figure)
    write_picture(session, out, [figure])
    return Reply(values | {"file": str(out)}, f"wrote {out}", {})


@VOCABULARY.command("view")
def export(file: Path, /, *, session: FromSession) -> Reply:
    """Write the points of this traversal: .csv or .json (numbers), .npz or .safetensors (with θ).

    Parameters
    ----------
    file
        FILE.csv, .json, .npz or .safetensors.
    """
    target = session.writable(file)
    rows = export_points(session.engine, target)
    return Reply({"file": str(target), "points": rows}, f"wrote {rows} points to {target}", {})


@VOCABULARY.command("talk")
def status(*, session: FromSession) -> Reply:
    """Show what is loaded, where the walk is, and where the session is written."""
    engine = session.engine
    problem, level_set, here = engine.problem, engine.level_set, engine.path.here
    values: dict[str, Any] = {
        "data": engine.data_words or None,
        "model": engine.model_words or None,
        "parameters": problem.p if problem else None,
        "device": engine.device,
        "dtype": engine.dtype,
        "seed": engine.seed,
        "level": level_set.level if level_set else None,
        "tolerance": level_set.tolerance if level_set else None,
        "regularizers": {n: w for n, (_, w) in engine.sum.terms.items()},
        "branch": engine.path.branch,
        "step": here.step if here else None,
        "session": str(session.folder) if session.folder else None,
    }
    rows = [[name, _word(value)] for name, value in values.items()]
    return Reply(values, table(["", ""], rows, left=(0, 1)).lstrip("\n"))


def _word(value: Any) -> str:
    if value is None or value == {}:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{name} × {weight:g}" for name, weight in value.items())
    return number(value, 6) if isinstance(value, float) else str(value)
