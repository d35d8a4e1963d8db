"""Figures in files: PNG, SVG and PDF by matplotlib, plain text by plotext."""

from __future__ import annotations

import io
import os
from pathlib import Path

from lsshell.figures.figure import Figure, Series

FORMATS = (".png", ".svg", ".pdf", ".txt")


def write_figure(figure: Figure, file: Path, *, dpi: int = 150) -> None:
    """Writes the figure in the format that the file's ending names; whole or not at all."""
    if file.suffix == ".txt":
        from lsshell.figures.text import draw_text

        data = (draw_text(figure, 100, 30, colour=False) + "\n").encode()
    else:
        data = _draw(figure, file.suffix.removeprefix("."), dpi)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _draw(figure: Figure, form: str, dpi: int) -> bytes:
    # The object-oriented interface: no display, no global state of pyplot.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    shades = [v for s in figure.series for v in s.shade or ()]
    mappable = None
    for k, series in enumerate(figure.series):
        if series.style == "mark":
            axes.plot(series.x, series.y, "*" if series.name == "now" else "o", ms=11, mec="black",
                      mfc="crimson" if series.name == "now" else "white", zorder=4,
                      label=series.name)  # fmt: skip
        elif series.shade is not None:
            axes.plot(series.x, series.y, "-", color="0.75", lw=1, zorder=1)
            mappable = axes.scatter(
                series.x, series.y, c=series.shade, cmap="viridis", s=14, zorder=2,
                vmin=min(shades), vmax=max(shades),
            )  # fmt: skip
        else:
            style = {"color": f"C{k % 10}", "label": series.name}
            axes.plot(series.x, series.y, _line_style(series), ms=3, lw=1.4, **style)
    for name, value in figure.bands:
        axes.axhline(value, color="0.5", lw=0.9, ls="--")
        axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), fontsize=8, ha="right",
                      va="bottom", color="0.35")  # fmt: skip
    if mappable is not None:
        canvas.colorbar(mappable, label=figure.shade_label)
    if figure.equal_axes:
        axes.set_aspect("equal", adjustable="datalim")
    if figure.y_log:
        axes.set_yscale("log")
    axes.set(title=figure.title, xlabel=figure.x_label, ylabel=figure.y_label)
    axes.grid(alpha=0.25)
    if sum(s.shade is None for s in figure.series) > 1:
        axes.legend(fontsize=8, frameon=False)
    out = io.BytesIO()
    # Names inside a vector file are drawn from this salt: the same figure is the same file.
    with rc_context({"svg.hashsalt": "lsshell"}):
        canvas.savefig(out, format=form, dpi=dpi, metadata=_metadata(form))
    return out.getvalue()


def _line_style(series: Series) -> str:
    if series.style == "points":
        return "o"
    return "-" if len(series.x) > 60 else "o-"


def _metadata(form: str) -> dict[str, None] | None:
    """No date in vector files."""
    return {"Date": None} if form == "svg" else {"CreationDate": None} if form == "pdf" else None
