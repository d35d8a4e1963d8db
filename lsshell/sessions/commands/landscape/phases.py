"""phases: load and temperature, what the landscape is like there, and the regions' names."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_picture, check_table, write_picture, write_table
from lsshell.sessions.phase_plots import PANELS, Limits, Panel, phase_figure
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import table
from lsshell.sessions.vocabulary import VOCABULARY, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.phases import PhaseTable, Thresholds


@VOCABULARY.command("landscape")
def phases(
    *,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    show: Panel = "phases",
    sharp: float = 3.0,
    barrier: float = 1.0,
    similar: float = 0.7,
    limits: Limits = "data",
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Draw the phases of learning over load and temperature, and name their regions.

    A cell is sharp or flat, and poorly connected, rugged or well connected. Phase I is poorly
    connected and sharp, III poorly connected and flat, II connected and sharp, IV-A connected and
    flat with dissimilar networks, IV-B with similar ones.

    Parameters
    ----------
    from_
        FILE.csv of a table measured before or elsewhere: a row a cell.
    show
        What to draw here: phases, or one of the measures.
    sharp
        A cell is sharp where ln λ_max is above this.
    barrier
        Poorly connected where mc is below minus this (per cent), rugged where it is above this.
    similar
        Networks are similar where their CKA is at least this.
    limits
        What the ends of the colours stand for: those of the data, or of the published figures.
    out
        Write all panels to FILE.png, .svg or .pdf.
    save
        Write the cells, with their phases, to FILE.csv or .json; --from reads the .csv.
    """
    check_picture(out)
    check_table(save)
    from lsshell.engine.landscape.phases import Thresholds, read_phases

    thresholds = Thresholds(sharp, barrier, similar)
    if from_ is None:
        raise CommandError("phases needs --from FILE.csv")
    found = read_phases(session.find(from_))
    if save is not None:
        write_table(session, save, _cells(found, thresholds))
    if out is not None:
        panels = (show,) if out.suffix == ".txt" else PANELS
        figures = [phase_figure(found, panel, thresholds, limits) for panel in panels]
        write_picture(session, out, figures)
    values = _values(found, thresholds)
    wrote = [f"wrote {file}" for file in (out, save) if file is not None]
    text = "\n".join([_words(values), *wrote])
    return Reply(values, text, figure=phase_figure(found, show, thresholds, limits))


def _cells(found: PhaseTable, thresholds: Thresholds) -> list[dict[str, Any]]:
    """A row a cell, with its region."""
    rows: list[dict[str, Any]] = []
    for row, region in zip(found.as_rows(), found.regions(thresholds), strict=True):
        names = ("", "", "") if region is None else (
            region.phase, region.connectivity, "sharp" if region.sharp else "flat"
        )  # fmt: skip
        rows.append(row | dict(zip(("phase", "connectivity", "curvature"), names, strict=True)))
    return rows


def _values(found: PhaseTable, thresholds: Thresholds) -> dict[str, Any]:
    from lsshell.engine.landscape.phases import PHASES

    regions = found.regions(thresholds)
    known = [r for r in regions if r is not None]
    names = Counter(r.phase for r in known)
    best = found.best
    return {
        "load": found.load,
        "temperature": found.temperature,
        "cells": len(found.cells),
        "connected": len(found.connected),
        "best": None
        if best is None
        else {
            found.load: best.load,
            found.temperature: best.temperature,
            "test_accuracy_pct": best.test_accuracy_pct,
        },
        "phases": {phase: names[phase] for phase in PHASES} | {"unknown": regions.count(None)},
        "connectivity": dict(sorted(Counter(r.connectivity for r in known).items())),
        "sharp": sum(r.sharp for r in known),
        "correlations": {
            c.measure: {"all": c.everywhere, "connected": c.connected} for c in found.correlations()
        },
        "sensitivity": {
            name: {f"{s.change:+.0%}": s.changed for s in moved}
            for name, moved in _by_threshold(found, thresholds).items()
        },
    }


def _by_threshold(found: PhaseTable, thresholds: Thresholds) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for moved in found.sensitivity(thresholds):
        grouped.setdefault(moved.threshold, []).append(moved)
    return grouped


def _words(values: dict[str, Any]) -> str:
    best, load, temperature = values["best"], values["load"], values["temperature"]
    first = f"{values['cells']} cells, {values['connected']} with |mc| < 1 %"
    if best is not None:
        first += (
            f"; best test accuracy {best['test_accuracy_pct']:.2f} % at {load} {best[load]:g},"
            f" {temperature} {best[temperature]:g}"
        )
    counts = ", ".join(f"{name} {count}" for name, count in values["phases"].items() if count)
    kinds = ", ".join(f"{name} {count}" for name, count in values["connectivity"].items())
    known = sum(values["connectivity"].values())
    regions = f"{kinds}; sharp {values['sharp']}, flat {known - values['sharp']}"
    correlations = table(
        ["rank correlation with test accuracy", "all", "|mc| < 1 %"],
        [
            [name, *(_signed(rho) for rho in (found["all"], found["connected"]))]
            for name, found in values["correlations"].items()
        ],
    )
    moved = values["sensitivity"]
    changes = list(next(iter(moved.values())))
    sensitivity = table(
        ["cells of another phase where a threshold moves by", *changes],
        [[name, *(str(found[c]) for c in changes)] for name, found in moved.items()],
    )
    return "\n".join([first, f"phases: {counts}", regions, correlations, sensitivity])


def _signed(rho: float) -> str:
    return "–" if rho != rho else f"{rho:+.3f}"
