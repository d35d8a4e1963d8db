"""Figures in files: PNG, SVG and PDF by matplotlib, plain text by plotext."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lsshell.figures.colours import DIVERGING_NAME, SEQUENTIAL_NAME, scale_of
from lsshell.figures.figure import Figure, Series, Surface

FORMATS = (".png", ".svg", ".pdf", ".txt")


def write_figure(figure: Figure, file: Path, *, dpi: int = 150) -> None:
    """Writes the figure in the format that the file's ending names; whole or not at all."""
    if file.suffix == ".txt":
        from lsshell.figures.text import draw_text

        data = (draw_text(figure, 100, 30, colour=False) + "\n").encode()
    else:
        data = _draw([figure], file.suffix.removeprefix("."), dpi)
    _write(data, file)


def write_panels(figures: Sequence[Figure], file: Path, *, title: str = "", dpi: int = 150) -> None:
    """Several figures above one another, with one x axis (bars: beside one another, with one y
    axis; surfaces: in rows and columns); formats as `write_figure` (not .txt).
    """
    _write(_draw(figures, file.suffix.removeprefix("."), dpi, title), file)


def write_scene(
    lines: Sequence[tuple[str, Any]],
    marks: Sequence[tuple[str, str, Any]],
    file: Path,
    *,
    title: str = "",
) -> None:
    """Two 3-D scatters of points in six coordinates, the first three and the last three.

    lines: name and (n, 6), coloured by their order; marks: name, matplotlib's marker and (m, 6).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10, 4.8), layout="constrained")
    FigureCanvasAgg(canvas)
    canvas.suptitle(title, fontsize=9)
    shown = None
    for part in (0, 1):
        axes: Any = canvas.add_subplot(1, 2, part + 1, projection="3d")
        axes.view_init(elev=30, azim=45)
        columns = slice(3 * part, 3 * part + 3)
        for _, points in lines:
            xyz = points[:, columns]
            order = [k / max(len(xyz) - 1, 1) for k in range(len(xyz))]
            shown = axes.scatter(*xyz.T, c=order, cmap="viridis", vmin=0, vmax=1, s=8)
        for name, marker, points in marks:
            xyz = points[:, columns]
            axes.scatter(*xyz.T, marker=marker, s=70, label=name, depthshade=False)
        axes.set(**{f"{a}label": f"PC {3 * part + k}" for k, a in enumerate("xyz", start=1)})
    if marks:
        canvas.axes[0].legend(fontsize=7, loc="upper left")
    if shown is not None:
        canvas.colorbar(
            shown, ax=canvas.axes, shrink=0.6, label="from a run's start (0) to its end (1)"
        )
    _write(_saved(canvas, file.suffix.removeprefix("."), 150), file)


def _write(data: bytes, file: Path) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _draw(figures: Sequence[Figure], form: str, dpi: int, title: str = "") -> bytes:
    # The object-oriented interface: no display, no global state of pyplot.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    if len(figures) > 1 and all(f.categories for f in figures):  # bars side by side
        size = (2.0 + 1.7 * len(figures), 1.2 + 0.28 * len(figures[0].categories))
        canvas = Canvas(figsize=size, layout="constrained")
        panels = canvas.subplots(1, len(figures), sharey=True)
    elif any(f.surface is not None for f in figures):
        columns = math.ceil(math.sqrt(len(figures)))
        rows = -(-len(figures) // columns)
        canvas = Canvas(figsize=(1 + 5 * columns, 4.5 * rows), layout="constrained")
        grid = canvas.subplots(rows, columns, squeeze=False).flat
        for spare in grid[len(figures) :]:
            spare.remove()
        panels = grid[: len(figures)]
    else:
        names = 1.2 + 0.28 * len(figures[0].categories)  # that they can be read
        height = max(4.5, names) if len(figures) == 1 else 2.1 * len(figures)
        canvas = Canvas(figsize=(7, height), layout="constrained")
        panels = canvas.subplots(len(figures), 1, sharex=True, squeeze=False)[:, 0]
    FigureCanvasAgg(canvas)
    if title:
        canvas.suptitle(title, fontsize=9)
    for figure, axes in zip(figures, panels, strict=True):
        own = bool(figure.categories) or figure.surface is not None
        _draw_on(axes, figure, canvas, last=own or axes is panels[-1])
    return _saved(canvas, form, dpi)


def _draw_on(axes: Any, figure: Figure, canvas: Any, *, last: bool) -> None:
    from matplotlib import colormaps

    if figure.surface is not None:
        _draw_surface(axes, figure, figure.surface, canvas)
    shades = [v for s in figure.series for v in s.shade or ()]
    mappable = None
    many = len(figure.series) > 10
    colours = colormaps["tab20" if many else "tab10"].colors
    if figure.surface is not None:  # blue is among the surface's own
        colours = colours[1:]
    for k, series in enumerate(figure.series):
        if series.style == "bars":
            fill = ["crimson" if c == "cumulative" else "C0" for c in figure.categories]
            axes.barh(figure.categories, series.y, xerr=series.spread, color=fill, capsize=3)
            axes.set_ylim(len(figure.categories) - 0.5, -0.5)  # the first on top
            _cut_long(axes, series)
        elif series.style == "mark":
            sign, size = {"now": ("*", 11), "start": ("o", 11)}.get(series.name, ("s", 8))
            axes.plot(series.x, series.y, sign, ms=size, mec="black", zorder=4, label=series.name,
                      mfc="crimson" if series.name == "now" else "white")  # fmt: skip
        elif series.shade is not None:
            axes.plot(series.x, series.y, "-", color="0.75", lw=1, zorder=1)
            mappable = axes.scatter(
                series.x, series.y, c=series.shade, cmap="viridis", s=14, zorder=2,
                vmin=min(shades), vmax=max(shades),
            )  # fmt: skip
        else:
            style = {"color": colours[k % len(colours)], "label": series.name}
            axes.plot(series.x, series.y, _line_style(series), ms=3, lw=1.4, **style)
            if series.spread is not None:
                pairs = list(zip(series.y, series.spread, strict=True))
                low, high = [y - s for y, s in pairs], [y + s for y, s in pairs]
                axes.fill_between(series.x, low, high, alpha=0.2, lw=0, color=style["color"])
    for name, value in figure.bands:
        axes.axhline(value, color="0.5", lw=0.9, ls="--")
        axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), fontsize=8, ha="right",
                      va="bottom", color="0.35")  # fmt: skip
    if mappable is not None:
        canvas.colorbar(mappable, label=figure.shade_label)
    if figure.equal_axes:
        axes.set_aspect("equal", adjustable="datalim" if figure.surface is None else "box")
    if figure.y_log:
        axes.set_yscale("log")
    if figure.x_log:
        axes.set_xscale("log")
    x_label, y_label = figure.x_label, figure.y_label
    if figure.categories:  # bars lie down: their names are read
        x_label, y_label = y_label, x_label
    axes.set(title=figure.title, xlabel=x_label if last else "", ylabel=y_label)
    if figure.surface is None:
        axes.grid(alpha=0.25)
    coloured = figure.surface is not None  # so that words on it need a ground of their own
    if len(axes.get_legend_handles_labels()[0]) > (0 if coloured else 1):
        beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if many else {}
        opaque = {"frameon": True, "facecolor": "0.35", "labelcolor": "white"} if coloured else {}
        axes.legend(**{"fontsize": 8, "frameon": False} | beside | opaque)


def _draw_surface(axes: Any, figure: Figure, surface: Surface, canvas: Any) -> None:
    """Cells of colour around the grid's points, with contours and words over them."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm, Normalize

    scale = scale_of(surface)
    z = np.ma.masked_invalid(np.array(surface.z, dtype=float))
    if scale.log:
        z = np.ma.masked_less_equal(z, 0.0)
    norm = (LogNorm if scale.log else Normalize)(scale.low, scale.high)
    cmap = colormaps[DIVERGING_NAME if scale.diverging else SEQUENTIAL_NAME]
    count = len(surface.z_ticks)
    if count:  # a colour each, in a bar of as many steps
        norm, cmap = Normalize(-0.5, count - 0.5), cmap.resampled(count)
    shown = axes.pcolormesh(
        surface.x, surface.y, z, cmap=cmap, norm=norm, shading="nearest", rasterized=True
    )
    bar = canvas.colorbar(shown, ax=axes, label=surface.label)
    if count:
        bar.set_ticks(range(count), labels=surface.z_ticks)
    for k, (label, level) in enumerate(surface.contours):
        if z.min() < level < z.max():
            style = {"colors": ["white"], "linestyles": ["-", "--", ":"][k % 3], "linewidths": 1.6}
            axes.contour(surface.x, surface.y, z, levels=[level], **style)
            style = {"color": "white", "ls": style["linestyles"], "label": f"{label} {level:.4g}"}
            axes.plot([], [], **style)
    for j, words in enumerate(surface.labels):
        for i, word in enumerate(words):
            place = scale.place(surface.z[j][i])
            dark = place is not None and sum(scale.colour(place)) < 380
            axes.text(surface.x[i], surface.y[j], word, ha="center", va="center", fontsize=7,
                      color="white" if dark else "black")  # fmt: skip
    if surface.x_ticks:
        axes.set_xticks(surface.x, surface.x_ticks)
    if surface.y_ticks:
        axes.set_yticks(surface.y, surface.y_ticks)


def _cut_long(axes: Any, series: Series) -> None:
    """Bars that dwarf three quarters of the others end at the frame, with their value."""
    sizes = sorted(abs(y) for y in series.y)
    most = 4.0 * sizes[(3 * len(sizes)) // 4]
    if len(sizes) < 6 or not 0.0 < most < sizes[-1]:
        return
    shown = [y for y in series.y if abs(y) <= most]
    low, high = min(0.0, *shown), max(0.0, *shown)
    room = 0.15 * (high - low)
    low -= room * (min(series.y) < low)
    high += room * (max(series.y) > high)
    axes.set_xlim(low, high)
    for place, y in enumerate(series.y):
        if abs(y) > most:
            at, side = (high, "right") if y > 0 else (low, "left")
            axes.annotate(f"{y:.3g}", (at, place), ha=side, va="center", fontsize=7, color="white")


def _saved(canvas: Any, form: str, dpi: int) -> bytes:
    from matplotlib import rc_context

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
