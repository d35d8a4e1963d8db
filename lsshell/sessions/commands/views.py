"""What can be seen and taken away: measure, plot, compare, export, status."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from lsshell.sessions.errors import CommandError
from lsshell.sessions.export import export_points
from lsshell.sessions.plots import Axis, Plot, Shade, make_figure
from lsshell.sessions.points import point_values, side_by_side
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import MOST, VOCABULARY, Flag, FromSession, positive


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
        What to draw against: steps, gradients, length, or l2.
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
    from lsshell.figures.files import FORMATS, write_figure

    if out.suffix not in FORMATS:
        raise CommandError(f"--out {out}: a figure ends in {', '.join(FORMATS)}")
    targets = [] if session.replaying else [session.writable(out)]
    if session.journal is not None:
        targets.append(session.journal.figures_folder / out.name)
    try:
        for target in targets:
            if session.journal is not None and target.parent == session.journal.figures_folder:
                target.parent.mkdir(exist_ok=True)
            write_figure(figure, target)
    except OSError as e:
        raise CommandError(f"{out} cannot be written: {e.strerror}") from e
    return Reply(values | {"file": str(out)}, f"wrote {out}", {})


@VOCABULARY.command("view")
def compare(
    what: Literal["weight-decay"],
    /,
    *,
    penalties: Annotated[str, Parameter(name="--lambda")] = "1e-6:1e6:13",
    runs: int = 15,
    epochs: int = 200,
    rate: float = 1e-3,
    batch: int = 32,
    session: FromSession,
) -> Reply:
    """Compare this point with weighted-sum training: loss + λ·Σ w² from fresh initialisations.

    Losses are of the data alone. λ = 0 is always among them; the least test loss is marked (*):
    it is chosen on the test set, as the paper does, so it flatters weight decay.

    Parameters
    ----------
    what
        weight-decay.
    penalties
        λ as FROM:TO:COUNT on a logarithmic scale, or a list 1e-4,1e-3.
    runs
        Trainings for each λ, each from its own seed.
    epochs
        Passes over the training examples (the paper: 200 for images, 500 for tables).
    rate
        Learning rate of Adam.
    batch
        Examples in a mini-batch.
    """
    positive(runs=runs, epochs=epochs, rate=rate, batch=batch)
    engine = session.engine
    found = engine.compare_weight_decay(_penalties(penalties), runs, epochs, rate, batch)
    asked = len(_penalties(penalties))
    here = engine.measure()
    values = {"rows": [asdict(r) for r in found], "here": point_values(here)}
    text = _comparison_table(found, here)
    if len(found) < asked:
        return Reply(values, f"interrupted\n{text}", {}, interrupted=True)
    return Reply(values, text)


def _penalties(text: str) -> list[float]:
    """0 and the λ asked for, ascending."""
    try:
        if ":" in text:
            low, high, count = text.split(":")
            first, last, n = float(low), float(high), int(count)
            if not (0 < first <= last and n >= 1):
                raise ValueError
            ratio = (last / first) ** (1 / max(n - 1, 1))
            found = [float(f"{first * ratio**k:.12g}") for k in range(n)]
        else:
            found = [float(part) for part in text.split(",")]
            if not all(0 <= penalty < MOST for penalty in found):
                raise ValueError
    except ValueError as e:
        raise CommandError(
            f"--lambda {text}: expected FROM:TO:COUNT (1e-6:1e6:13) or a list (1e-4,1e-3)"
        ) from e
    return sorted({0.0, *found})


def _comparison_table(found: list[Any], here: Any) -> str:
    least = min((r.test_loss.mean for r in found), default=None)

    def spread(s: Any, scale: float = 1.0) -> str:
        return "–" if s is None else f"{number(scale * s.mean)} ± {number(scale * s.std, 2)}"

    accuracy = here.test_accuracy is not None
    rows = [
        [
            f"λ = {r.penalty:g}" + (" *" if r.test_loss.mean == least else ""),
            str(r.runs),
            spread(r.train_loss),
            spread(r.test_loss),
            spread(r.test_accuracy, 100) if accuracy else spread(r.test_rmse),
            spread(r.l2),
        ]
        for r in found
    ]
    rate = 100 * here.test_accuracy if accuracy else here.test_rmse
    rows.append(
        [
            "this point",
            "1",
            number(here.loss),
            number(here.test_loss),
            number(rate),
            number(here.regularizers.get("l2")),
        ]
    )
    headers = [
        "",
        "runs",
        "training loss",
        "test loss",
        "accuracy %" if accuracy else "RMSE",
        "‖θ‖²",
    ]
    return table(headers, rows)


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
