"""How differently the loss varies from direction to direction: roughness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lsshell.figures.figure import Figure, Series
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_picture, check_table, write_picture, write_table
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.roughness import RoughnessResult

SHOWN = 8  # slices in the picture of a single range


@VOCABULARY.command("landscape")
def roughness(
    where: str = "here",
    /,
    *,
    directions: int = 50,
    points: int = 10,
    span: Annotated[str, Parameter(name="--range")] = "0.001,0.01,0.1,1",
    seed: int | None = None,
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Take the roughness index of the training loss around a point.

    Along random filter-normalised lines through it, the total variation of the loss over its range:
    1 (in units of 1/(2l)) where it rises or falls throughout, 2 for a valley with the point at its
    bottom, more where it is rough. The index is the standard deviation of that over the
    directions, relative to its mean. The state is untouched.

    Parameters
    ----------
    where
        here, a point as in `goto`, init, or a checkpoint file.
    directions
        How many lines.
    points
        Intervals on each, so one point more.
    span
        Half the length l of the lines, where 1 is the weights' own norm; several with commas.
    seed
        Of the directions (the session's).
    out
        Write FILE.png, .svg, .pdf or .txt rather than draw here; the session keeps a copy.
    save
        Write the total variation of every line to FILE.csv or .json.
    """
    from lsshell.engine.landscape.roughness import roughness as measure

    check_picture(session, out)
    check_table(session, save)
    engine = session.engine
    found = measure(
        engine.ready(),
        named_place(session, where),
        directions=directions,
        points=points,
        spans=_spans(span),
        seed=engine.seed if seed is None else seed,
        listen=engine.listen,
    )
    values = roughness_values(found)
    text = _table(found)
    if save is not None:
        write_table(session, save, _rows(found))
        text += f"\nwrote {save}"
    figure = roughness_figure(found)
    if out is None:
        return Reply(values, text, figure=figure)
    write_picture(session, out, [figure])
    return Reply(values | {"file": str(out)}, f"{text}\nwrote {out}", values)


def _spans(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as e:
        raise CommandError(f"--range {text}: expected lengths, as in 0.001,0.01,0.1") from e


def roughness_values(found: RoughnessResult) -> dict[str, Any]:
    """The JSON result: an entry for each range."""
    return {
        "where": found.place.name,
        "directions": len(found.slices[0]),
        "ranges": [
            {
                "range": row.span,
                "index": row.index,
                "mean": row.mean,
                "variation": row.variation,
                "monotone": row.monotone,
                "flat": row.flat,
            }
            for row in found.rows
        ],
    }


def _table(found: RoughnessResult) -> str:
    rows = [
        [
            f"{row.span:g}",
            number(row.index),
            number(row.mean),
            number(row.variation),
            str(row.monotone),
            str(row.flat),
        ]
        for row in found.rows
    ]
    headers = ["l", "roughness index", "mean TV × 2l", "mean TV of L", "monotone", "flat"]
    return table(headers, rows, left=())


def _rows(found: RoughnessResult) -> list[dict[str, Any]]:
    """A row a range and direction."""
    return [
        {
            "range": row.span,
            "direction": k,
            "normalised_total_variation": row.normalised[k],
            "total_variation": float(f.diff().abs().sum()) / (2.0 * row.span),
            "least": float(f.min()),
            "greatest": float(f.max()),
        }
        for row, slices in zip(found.rows, found.slices, strict=True)
        for k, f in enumerate(slices)
    ]


def roughness_figure(found: RoughnessResult) -> Figure:
    """The index against the range; of a single range, the loss along the first lines."""
    if len(found.rows) == 1:
        (row,), (slices,) = found.rows, found.slices
        steps = slices.shape[1] - 1
        s = tuple(row.span * (2 * j / steps - 1) for j in range(steps + 1))
        return Figure(
            f"the loss along random lines through {found.place.name}",
            "s",
            "training loss",
            tuple(Series(str(k + 1), s, tuple(f.tolist())) for k, f in enumerate(slices[:SHOWN])),
        )
    known = sorted((row for row in found.rows if row.index is not None), key=lambda r: r.span)
    spans = tuple(row.span for row in known)
    return Figure(
        f"roughness around {found.place.name}",
        "half the length l of the lines",
        "relative to the mean",
        (Series("roughness index", spans, tuple(row.index or 0.0 for row in known)),),
        x_log=True,
    )
