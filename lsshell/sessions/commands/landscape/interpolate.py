"""The straight line between two points: interpolate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lsshell.figures.figure import Figure, Series, far_apart
from lsshell.sessions.outputs import check_files, with_files
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.interpolation import Interpolation

THRESHOLDS = (0.0, 1e-6, 1e-3)  # of the loss's range


@VOCABULARY.command("landscape")
def interpolate(
    a: str,
    b: str = "here",
    /,
    *,
    points: int = 50,
    refine: int = 0,
    batch_norm: Literal["recomputed", "frozen"] = "recomputed",
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Follow the straight line between two points: does the loss fall all the way?

    Gives the loss along it, its largest rise Δ (0: monotonic linear interpolation), its bumps, the
    distance moved, and the Gauss length of the outputs' path (by how many radians their direction
    of motion turns). The state is untouched.

    Parameters
    ----------
    a
        From where: init (the initialisation), a point as in `goto`, here, or a checkpoint file.
    b
        To where (here).
    points
        Equidistant points, both ends included.
    refine
        At most so many more, where the loss bends most: a narrow bump is not missed.
    batch_norm
        Statistics recomputed at every point, or as they are at A.
    out
        Write FILE.png, .svg, .pdf or .txt rather than draw here; the session keeps a copy.
    save
        Write all values to FILE.csv or .json.
    """
    from lsshell.engine.landscape.batch_norm import taken_anew
    from lsshell.engine.landscape.interpolation import interpolate as follow

    check_files(session, out, save)
    engine = session.engine
    found = follow(
        engine.ready(),
        named_place(session, a),
        named_place(session, b),
        points=points,
        refine=refine,
        batch_norm=batch_norm,
        listen=engine.listen,
    )
    text = _text(found)
    if taken_anew(engine.ready(), batch_norm):
        text += "\nbatch norm by statistics taken anew at each point, the ends too"
    reply = Reply(interpolation_values(found), text, figure=interpolation_figure(found))
    return with_files(session, reply, out, save, lambda: _rows(found))


def interpolation_values(found: Interpolation) -> dict[str, Any]:
    """The JSON result."""
    train = found.values["train"].loss
    reach = float(train.max() - train.min())
    gauss = found.gauss
    return {
        "from": found.a.name,
        "to": found.b.name,
        "points": len(found.alphas),
        **{split: _ends(found, split) for split in ("train", "test")},
        "rise": found.rise,
        "monotone": found.monotone,
        "monotone_within": {f"{t:g}": found.rise <= t * reach for t in THRESHOLDS},
        "bumps": [{"from": x.begins, "to": x.ends, "height": x.height} for x in found.bumps[:20]],
        "barrier": found.barrier,
        "distance": found.distance,
        "distance_relative": found.relative,
        "gauss_length": None if gauss is None else float(gauss.mean()),
        "gauss_length_std": None if gauss is None or len(gauss) < 2 else float(gauss.std()),
        "gauss_examples": 0 if gauss is None else len(gauss),
    }


def _ends(found: Interpolation, split: Literal["train", "test"]) -> dict[str, Any]:
    values = found.values[split]
    least = int(values.loss.argmin())
    ends: dict[str, Any] = {
        "from": float(values.loss[0]),
        "to": float(values.loss[-1]),
        "least": float(values.loss[least]),
        "least_at": found.alphas[least],
        "greatest": float(values.loss.max()),
    }
    if values.accuracy is not None:
        ends |= {
            "accuracy_from": float(values.accuracy[0]),
            "accuracy_to": float(values.accuracy[-1]),
        }
    return ends


def _text(found: Interpolation) -> str:
    accuracy = found.values["train"].accuracy is not None
    rows = []
    for name, split in (("training", "train"), ("test", "test")):
        v = _ends(found, "train" if split == "train" else "test")
        row = [
            f"{name} loss", number(v["from"], 5), number(v["to"], 5),
            f"{number(v['least'], 5)} at {v['least_at']:.3g}", number(v["greatest"], 5),
        ]  # fmt: skip
        if accuracy:
            row.append(f"{100 * v['accuracy_from']:.2f} → {100 * v['accuracy_to']:.2f}")
        rows.append(row)
    headers = ["", found.a.name, found.b.name, "least", "greatest"]
    lines = [table([*headers, *(["accuracy %"] if accuracy else [])], rows)]
    if found.monotone:
        lines.append(f"monotone: largest rise of the training loss {number(found.rise)}")
    else:
        places = ", ".join(f"{x.begins:.3g}–{x.ends:.3g} (by {number(x.height, 3)})"
                           for x in found.bumps[:5])  # fmt: skip
        more = f" and {len(found.bumps) - 5} more" if len(found.bumps) > 5 else ""
        lines.append(f"not monotone: largest rise {number(found.rise)}; bumps at {places}{more}")
    relative = (
        "" if found.relative is None else f", {number(found.relative)} times ‖θ‖ at the first"
    )
    lines.append(f"barrier over the chord {number(found.barrier)}; distance "
                 f"{number(found.distance)}{relative}")  # fmt: skip
    if found.gauss is None:
        lines.append(f"Gauss length: not for this network ({found.why})")
    else:
        lines.append(
            f"Gauss length of the outputs {number(float(found.gauss.mean()))} rad,"
            f" mean of {len(found.gauss)} test examples"
        )
    return "\n".join(lines)


def _rows(found: Interpolation) -> list[dict[str, float]]:
    columns: dict[str, list[float]] = {"alpha": list(found.alphas)}
    for split, values in found.values.items():
        columns[f"{split}_loss"] = values.loss.tolist()
        if values.accuracy is not None:
            columns[f"{split}_accuracy"] = values.accuracy.tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def interpolation_figure(found: Interpolation) -> Figure:
    """Training and test loss along the line; logarithmic where the loss falls far."""
    train = found.values["train"].loss
    return Figure(
        f"from {found.a.name} to {found.b.name} in a straight line",
        "α",
        "loss",
        (
            Series("training", found.alphas, tuple(train.tolist())),
            Series("test", found.alphas, tuple(found.values["test"].loss.tolist())),
        ),
        y_log=far_apart(float(train.min()), float(train.max())),
    )
