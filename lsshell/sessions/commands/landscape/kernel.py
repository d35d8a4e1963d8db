"""The tangent kernel of a sample of examples, and the PL* constant of the loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lsshell.figures.figure import Figure, Series
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_picture, check_table, write_picture, write_table
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, Flag, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.tangent_kernel import TangentKernel

MOST_ALONG = 50
SHOWN = 12


@VOCABULARY.command("landscape")
def kernel(
    where: str = "here",
    /,
    *,
    origin: Annotated[str | None, Parameter(name="--from")] = None,
    examples: int | None = None,
    along: Flag = False,
    minimum: float = 0.0,
    seed: int | None = None,
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Measure the tangent kernel K = J Jᵀ and the PL* constant ρ = ‖∇L‖²/(2(L − least L)).

    J is the Jacobian of the outputs for a sample of training examples by all parameters. Shows the
    extreme eigenvalues, the condition number and the effective rank of K; draws its spectrum, or
    with --along ρ and λ_min along the path. For mean squared error on the sample of n rows
    2λ_min/n ≤ ρ ≤ 2λ_max/n, which is checked.

    Parameters
    ----------
    where
        here, a point as in `goto`, or a checkpoint file.
    origin
        Tell how far K is from that at this place: ‖K − K₀‖/‖K₀‖.
    examples
        Training examples in the sample (128; examples × outputs is at most 2000).
    along
        Measure at the kept points of the path up to there (at most 50, evenly spread).
    minimum
        The least value that L can have.
    seed
        For the sample (the session's).
    out
        Write the figure to FILE.png, .svg, .pdf or .txt rather than draw it here.
    save
        Write the eigenvalues, or the measures along the path, to FILE.csv or .json.
    """
    check_picture(session, out)
    check_table(session, save)
    if not math.isfinite(minimum):
        raise CommandError("--minimum must be a number")
    from lsshell.engine.landscape.tangent_kernel import tangent_kernel

    engine = session.engine
    problem = engine.ready()
    options: dict[str, Any] = {
        "examples": examples,
        "seed": engine.seed if seed is None else seed,
        "minimum": minimum,
    }
    first = None
    if origin is not None:
        # ρ is not asked for there.
        there = named_place(session, origin)
        first = tangent_kernel(problem, there, **{**options, "minimum": 0.0})
    if along:
        return _along(session, where, options, first, out, save)
    place = named_place(session, where)
    found = tangent_kernel(problem, place, **options, origin=first)
    values = {"place": place.name, **_values(found), "gradients": found.gradients}
    if origin is not None:
        values["from"] = origin
    figure = _spectrum(found)
    if save is not None:
        descending = found.eigenvalues.flip(0).tolist()
        write_table(
            session,
            save,
            [{"number": k + 1, "eigenvalue": value} for k, value in enumerate(descending)],
        )
    text = _text(found, origin)
    return _reply(session, values, text, figure, out, save)


def _along(
    session: FromSession,
    where: str,
    options: dict[str, Any],
    origin: TangentKernel | None,
    out: Path | None,
    save: Path | None,
) -> Reply:
    from lsshell.engine.landscape.places import kept_points, place_at
    from lsshell.engine.landscape.tangent_kernel import kernels_along

    engine = session.engine
    points = thinned(kept_points(engine, None, where), MOST_ALONG)
    found = kernels_along(
        engine.ready(),
        (place_at(engine, point) for point in points),
        **options,
        origin=origin,
        count=len(points),
        listen=engine.listen,
    )
    rows = [
        {"step": point.step, "length": point.length, **_values(k)}
        for point, k in zip(points, found, strict=True)
    ]
    steps = tuple(float(row["step"]) for row in rows)
    rhos = [row["rho"] for row in rows if row["rho"] is not None]
    values = {
        "places": len(rows),
        "examples": rows[-1]["examples"],
        "outputs": rows[-1]["outputs"],
        "least_rho": min(rhos, default=None),
        "least_eigenvalue": min(row["least"] for row in rows),
        "start": rows[0],
        "end": rows[-1],
    }
    if save is not None:
        write_table(session, save, rows)
    series = [Series("ρ = ‖∇L‖²/2(L − least L)", *_known(steps, [r["rho"] for r in rows]))]
    if rows[0].get("sample_rho") is not None:
        series.append(Series("ρ on the sample", *_known(steps, [r["sample_rho"] for r in rows])))
        series.append(Series("2λ_min/n", *_known(steps, [r["lower"] for r in rows])))
    figure = Figure("PL* constant along the path", "step", "ρ", tuple(series), y_log=True)
    return _reply(session, values, _along_table(rows), figure, out, save)


def thinned(points: list[Any], most: int) -> list[Any]:
    """At most so many, evenly spread, with both ends."""
    if len(points) <= most:
        return points
    last = len(points) - 1
    return [points[round(k * last / (most - 1))] for k in range(most)]


def _known(x: tuple[float, ...], y: list[float | None]) -> tuple[Any, Any]:
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if b]
    return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)


def _reply(
    session: FromSession,
    values: dict[str, Any],
    text: str,
    figure: Figure,
    out: Path | None,
    save: Path | None,
) -> Reply:
    check = dict(values)
    for file in (out, save):
        text += f"\nwrote {file}" if file is not None else ""
    if save is not None:
        values["saved"] = str(save)
    if out is None:
        return Reply(values, text, check, figure)
    write_picture(session, out, [figure])
    return Reply({**values, "file": str(out)}, text, check)


def _values(found: TangentKernel) -> dict[str, Any]:
    """The measures of one place; the condition number is left out where λ_min is 0."""
    values: dict[str, Any] = {
        "examples": found.examples,
        "outputs": found.outputs,
        "least": found.least,
        "zeros": found.zeros,
        "greatest": found.greatest,
        "condition": found.condition if math.isfinite(found.condition) else None,
        "mean": found.mean,
        "effective_rank": found.effective_rank,
        "loss": found.loss,
        "gradient_norm": found.gradient_norm,
        "rho": found.rho,
    }
    if found.change is not None:
        values["change"] = found.change
    if found.square is not None:
        square = found.square
        values |= {"lower": square.lower, "sample_rho": square.rho, "upper": square.upper}
    return values


def _text(found: TangentKernel, origin: str | None) -> str:
    n = len(found.matrix)
    zero = f" ({found.zeros} of {n} are numerically zero)" if found.zeros else ""
    condition = number(found.condition) if math.isfinite(found.condition) else "∞"
    rows = [
        ["rows n", f"{found.examples} examples × {found.outputs} outputs = {n}"],
        ["λ_max", number(found.greatest, 5)],
        ["λ_min", f"{number(found.least, 5)}{zero}"],
        ["condition number λ_max/λ_min", condition],
        ["mean eigenvalue tr K/n", number(found.mean, 5)],
        ["effective rank (tr K)²/‖K‖²", number(found.effective_rank)],
        ["training loss L", number(found.loss, 5)],
        ["‖∇L‖", number(found.gradient_norm, 5)],
        ["ρ = ‖∇L‖²/2(L − least L)", number(found.rho, 5)],
    ]
    if found.change is not None:
        rows.append([f"‖K − K₀‖/‖K₀‖ from {origin}", number(found.change)])
    if found.square is not None:
        square = found.square
        rows.append(
            [
                "2λ_min/n ≤ ρ on the sample ≤ 2λ_max/n",
                f"{number(square.lower)} ≤ {number(square.rho)} ≤ {number(square.upper)}",
            ]
        )
    return table([found.place.name, ""], rows, left=(0, 1))


def _along_table(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            str(row["step"]),
            number(row["loss"]),
            number(row["rho"]),
            number(row["least"]),
            number(row["greatest"]),
            number(row["condition"]) if row["condition"] is not None else "∞",
            number(row["effective_rank"]),
            number(row["change"]),
        ]
        for row in thinned(rows, SHOWN)
    ]
    headers = ["step", "loss", "ρ", "λ_min", "λ_max", "λ_max/λ_min", "effective rank", "‖ΔK‖/‖K₀‖"]
    return table(headers, cells, left=())


def _spectrum(found: TangentKernel) -> Figure:
    descending = [v for v in found.eigenvalues.flip(0).tolist() if v > 0.0]
    threshold = 1e-10 * found.greatest
    bands = (("numerically zero", threshold),) if found.zeros and threshold else ()
    return Figure(
        f"spectrum of the tangent kernel, {found.place.name}",
        "eigenvalue number",
        "eigenvalue of K",
        (Series("K", tuple(float(k + 1) for k in range(len(descending))), tuple(descending)),),
        bands,
        y_log=True,
    )
