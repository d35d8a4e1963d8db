"""hessian: the spectrum of the loss's curvature at a place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lsshell.figures.figure import Figure, Series
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_picture, check_table, write_picture, write_table
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, FromSession, positive

if TYPE_CHECKING:
    from lsshell.engine.landscape.hessian import HessianResult
    from lsshell.engine.landscape.spectral_density import SpectralDensity

MOST_EIGENVALUES = 50
DRAWN = 1000


@VOCABULARY.command("landscape")
def hessian(
    where: str = "here",
    /,
    *,
    k: int = 5,
    matrix: Literal["hessian", "gauss-newton"] = "hessian",
    examples: int | None = None,
    tolerance: float = 1e-3,
    trace_probes: int = 100,
    trace_method: Literal["hutchinson", "hutch++"] = "hutchinson",
    trace_error: float | None = None,
    density: int = 64,
    density_probes: int = 4,
    seed: int | None = None,
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Measure the curvature of the loss: eigenvalues at both ends, trace, and density.

    All of the training loss, at any place; the walk stays where it is. Lanczos' iteration with full
    reorthogonalisation, random probes for the trace, stochastic Lanczos quadrature for the density.

    Parameters
    ----------
    where
        here, a point as in `goto`, or a checkpoint file.
    k
        So many of the greatest eigenvalues, and so many of the least.
    matrix
        hessian, or gauss-newton (which has no negative eigenvalues).
    examples
        So many training examples, the same at every place (all).
    tolerance
        Of an eigenpair: ‖Hv − λv‖ relative to |λ|.
    trace_probes
        Random vectors for the trace; 0: no trace.
    trace_method
        hutchinson, or hutch++ (better where few eigenvalues make the trace).
    trace_error
        End the trace at this relative standard error (hutchinson).
    density
        Lanczos steps for each probe of the density; 0: no density.
    density_probes
        Random vectors for the density.
    seed
        For examples, starts and probes (the session's).
    out
        Write the density to FILE.png, .svg, .pdf or .txt rather than draw it here.
    save
        Write eigenvalues, and nodes and weights of the density, to FILE.csv or .json.
    """
    from lsshell.engine.landscape.hessian import HessianRequest, measure_hessian

    check_picture(session, out)
    check_table(session, save)
    positive(k=k, tolerance=tolerance)
    if k > MOST_EIGENVALUES:
        raise CommandError(f"--k {k}: at most {MOST_EIGENVALUES} at each end")
    if trace_probes < 0 or density < 0:
        raise CommandError("--trace-probes and --density must be 0 or more")
    if out is not None and not density:
        raise CommandError("--out draws the density: --density must be above 0")
    engine = session.engine
    place = named_place(session, where)
    request = HessianRequest(
        k=k,
        matrix=matrix,
        examples=examples,
        seed=engine.seed if seed is None else seed,
        tolerance=tolerance,
        trace_probes=trace_probes,
        trace_method=trace_method,
        trace_error=trace_error,
        density_steps=density,
        density_probes=density_probes,
    )
    result = measure_hessian(engine.ready(), place, request, engine.listen)
    values, text = _values(result), _text(result)
    check = {name: value for name, value in values.items() if name != "where"}  # a file's name
    figure = None if result.density is None else density_figure(result)
    if save is not None:
        write_table(session, save, _rows(result))
        text += f"\nwrote {save}"
    if out is not None and figure is not None:
        write_picture(session, out, [figure])
        return Reply(values | {"file": str(out)}, f"{text}\nwrote {out}", check)
    return Reply(values, text, check, figure)


def density_figure(result: HessianResult) -> Figure:
    """The density on a logarithmic scale, down to a tenth of one eigenvalue's height."""
    density, found = result.density, result.eigenvalues.values.tolist()
    assert density is not None
    one = 1.0 / (result.p * density.width * np.sqrt(2.0 * np.pi))
    ends = (*density.range, *found)
    margin = 4.0 * density.width
    x = np.linspace(min(ends) - margin, max(ends) + margin, DRAWN)
    y = np.maximum(density.at(x), 0.1 * one)
    return Figure(
        title=f"spectral density of the {_name(result)}{_at(result)}",
        x_label=f"eigenvalue (σ = {number(density.width)})",
        y_label="density",
        series=(
            Series("density", tuple(x.tolist()), tuple(y.tolist())),
            Series(
                "eigenvalues, at the height of one",
                tuple(found),
                (float(one),) * len(found),
                style="points",
            ),
        ),
        y_log=True,
    )


def _name(result: HessianResult) -> str:
    return "Hessian" if result.matrix == "hessian" else "Gauss-Newton matrix"


def _values(result: HessianResult) -> dict[str, Any]:
    eigenvalues, trace, density = result.eigenvalues, result.trace, result.density
    values: dict[str, Any] = {
        "where": result.place,
        "matrix": result.matrix,
        "parameters": result.p,
        "examples": result.examples,
        "eigenvalues": eigenvalues.values.tolist(),
        "residuals": eigenvalues.residuals.tolist(),
        "converged": list(eigenvalues.converged),
        "products": result.products,
        "gradients": result.gradients,
    }
    if trace is not None:
        values |= {"trace": trace.value, "trace_error": trace.error, "trace_probes": trace.probes}
    if density is not None:
        values |= {
            "mean": density.moment(1),
            "mean_error": density.moment_error(1),
            "mean_square": density.moment(2),
            "mean_square_error": density.moment_error(2),
            "negative_share": density.negative_share,
            "range": list(density.range),
            "width": density.width,
        }
    return values


def _text(result: HessianResult) -> str:
    eigenvalues, trace, density = result.eigenvalues, result.trace, result.density
    of = f"{result.examples} example{'s' * (result.examples != 1)}"
    lines = [
        f"{_name(result)}{_at(result)}: {result.p} parameters, {of},"
        f" {result.products} products ({result.gradients} gradients)"
    ]
    below = len(eigenvalues.values) - eigenvalues.top
    names = [f"λ{i + 1}" for i in range(eigenvalues.top)]
    names += [f"λ−{below - i}" for i in range(below)]
    cells = [
        [name, number(value, 6), f"{residual:.1e}", "" if done else "not converged"]
        for name, value, residual, done in zip(
            names,
            eigenvalues.values.tolist(),
            eigenvalues.residuals.tolist(),
            eigenvalues.converged,
            strict=True,
        )
    ]
    lines.append(table(["", "eigenvalue", "‖Hv − λv‖", ""], cells, left=(0, 3)))
    facts = []
    if trace is not None:
        facts.append(
            ["trace", f"{number(trace.value)} ± {trace.error:.1g} ({trace.probes} probes)"]
        )
    if density is not None:
        facts += [
            ["mean of λ", _moment(density, 1)],
            ["mean of λ²", _moment(density, 2)],
            ["negative share of Σ|λ|", f"{100 * density.negative_share:.3g} %"],
            ["density", f"Gaussians of σ = {number(density.width)}"],
        ]
    if facts:
        lines.append("\n".join(f"{name:<24}{value}" for name, value in facts))
    return "\n".join(lines)


def _moment(density: SpectralDensity, order: int) -> str:
    error, probes = density.moment_error(order), len(density.nodes)
    spread = "" if error is None else f" ± {error:.1g}"
    return f"{number(density.moment(order))}{spread} ({probes} probe{'s' * (probes != 1)})"


def _at(result: HessianResult) -> str:
    return "" if result.place == "here" else f" at {result.place}"


def _rows(result: HessianResult) -> list[dict[str, Any]]:
    """Eigenvalues with residuals; the trace with its error; nodes with weights."""
    eigenvalues, trace, density = result.eigenvalues, result.trace, result.density

    def row(what: str, value: float, error: float | None = None, **more: Any) -> dict[str, Any]:
        return {"what": what, "value": value, "error": error, "probe": None, "weight": None} | more

    pairs = zip(eigenvalues.values.tolist(), eigenvalues.residuals.tolist(), strict=True)
    rows = [row("eigenvalue", value, residual) for value, residual in pairs]
    if trace is not None:
        rows.append(row("trace", trace.value, trace.error))
    if density is not None:
        for probe, (nodes, weights) in enumerate(zip(density.nodes, density.weights, strict=True)):
            for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
                if weight > 0.0:
                    rows.append(row("node", node, probe=probe, weight=weight))
    return rows
