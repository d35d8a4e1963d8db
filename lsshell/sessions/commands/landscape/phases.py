"""phases: load and temperature, what the landscape is like there, and the regions' names."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from cyclopts import Parameter

from lsshell.engine.vocabulary import Activation
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_files, with_files
from lsshell.sessions.phases.grid import measured_table
from lsshell.sessions.phases.plots import PANELS, Limits, Panel, phase_figure
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import table
from lsshell.sessions.vocabulary import VOCABULARY, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.phases import PhaseTable, Thresholds


@VOCABULARY.command("landscape")
def phases(
    *,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    load: str | None = None,
    temperature: str | None = None,
    seeds: int | None = None,
    network: str | None = None,
    activation: Activation | None = None,
    width: int | None = None,
    examples: int | None = None,
    noise: float | None = None,
    batch: int | None = None,
    rate: float | None = None,
    weight_decay: float | None = None,
    epochs: int | None = None,
    curve_epochs: int | None = None,
    curve_init: Literal["linear", "random"] | None = None,
    measured: int | None = None,
    probes: int | None = None,
    jobs: int | None = None,
    work: Path | None = None,
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

    `phases --from FILE.csv` reads a table; `phases --load width=2,8,32 --temperature
    batch=16,64,256` trains networks of several seeds in each cell on the data loaded, by SGD with
    momentum, and measures them. Each cell is on disk as soon as it is done: the same command goes
    on where one was stopped, or killed. A cell's numbers depend neither on the grid nor on --jobs.

    A cell is sharp or flat, and poorly connected, rugged or well connected. Phase I is poorly
    connected and sharp, III poorly connected and flat, II connected and sharp, IV-A connected and
    flat with dissimilar networks, IV-B with similar ones.

    Parameters
    ----------
    from_
        FILE.csv of a table measured before or elsewhere: a row a cell.
    load
        NAME=VALUE,VALUE,…: width, examples (how many train) or noise (share of random labels).
    temperature
        NAME=VALUE,VALUE,…: batch, rate or weight-decay.
    seeds
        Networks in each cell (5).
    network
        `mlp w-w` (default), `cnn w-2w-d64`, …: layers of the width, multiples of it, or numbers;
        or MODULE:FACTORY, called with `width`.
    activation
        Of the network (relu).
    width
        Where it is not the load (32).
    examples
        Training examples, where they are not the load (all).
    noise
        Share of random labels, where it is not the load (0).
    batch
        Examples in a mini-batch (128).
    rate
        Learning rate (0.1), a tenth after three quarters of the epochs.
    weight_decay
        Weight decay (5e-4): ½ of it times ‖θ‖² is added to the loss.
    epochs
        Passes over the training examples (100).
    curve_epochs
        Passes that train the curve between the first two networks (50).
    curve_init
        Where it begins: linear, between its ends, or random, as the published ones did (linear).
    measured
        Training examples that Hessian and CKA are of, the same in all cells (200).
    probes
        Random vectors for the trace (100).
    jobs
        Cells at a time, each in a process of one thread (1).
    work
        The folder of the cells; several commands may fill one (the session's own).
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
        Write all panels to FILE.png, .svg or .pdf rather than draw one here.
    save
        Write the cells, with their phases, to FILE.csv or .json; --from reads the .csv.
    """
    check_files(session, out, save)
    from lsshell.engine.landscape.phases import Thresholds, read_phases

    thresholds = Thresholds(sharp, barrier, similar)
    chosen = {
        "seeds": seeds, "network": network, "activation": activation, "width": width,
        "examples": examples, "noise": noise, "batch": batch, "rate": rate,
        "weight_decay": weight_decay, "epochs": epochs, "curve_epochs": curve_epochs,
        "curve_init": curve_init,
        "measured": measured, "probes": probes,
    }  # fmt: skip
    given = {name: value for name, value in chosen.items() if value is not None}
    notes: list[str] = []
    if from_ is not None:
        training = {"load": load, "temperature": temperature, **given, "jobs": jobs, "work": work}
        extra = [name for name, value in training.items() if value is not None]
        if extra:
            raise CommandError(
                f"--{extra[0].replace('_', '-')} does not go with --from: nothing is trained"
            )
        found = read_phases(session.find(from_))
    elif load is None or temperature is None:
        raise CommandError(
            "phases needs --from FILE.csv, or --load and --temperature, as in"
            " `--load width=2,8,32 --temperature batch=16,64,256`"
        )
    else:
        jobs = 1 if jobs is None else jobs
        most = 4 * (os.cpu_count() or 1)
        if not 1 <= jobs <= most:
            raise CommandError(f"--jobs must be at least 1 and at most {most} here, not {jobs}")
        found, notes = measured_table(session, load, temperature, given, jobs, work)
    panels = (show,) if out is None or out.suffix == ".txt" else PANELS
    figures = [phase_figure(found, panel, thresholds, limits) for panel in panels]
    values = _values(found, thresholds) | {"notes": notes, "sha256": _digest(found)}
    check = {name: values[name] for name in ("cells", "phases", "sha256")}
    text = "\n".join([*notes, _words(values)])
    reply = Reply(values, text, check, phase_figure(found, show, thresholds, limits))
    return with_files(session, reply, out, save, lambda: _cells(found, thresholds), figures)


def _digest(found: PhaseTable) -> str:
    """Of every number in the table: what a replay compares."""
    return hashlib.sha256(repr(found.as_rows()).encode()).hexdigest()[:16]


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
    from lsshell.engine.landscape.phases import PHASES, Connectivity

    regions = found.regions(thresholds)
    known = [r for r in regions if r is not None]
    names, kinds = Counter(r.phase for r in known), Counter(r.connectivity for r in known)
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
        "connectivity": {name: kinds[name] for name in get_args(Connectivity)},
        "sharp": sum(r.sharp for r in known),
        "correlations": {
            c.measure: {"all": _known(c.everywhere), "connected": _known(c.connected)}
            for c in found.correlations()
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
    cells = f"{values['cells']} cell{'s' * (values['cells'] != 1)}"
    first = f"{cells}, {values['connected']} with |mc| < 1 %"
    if best is not None:
        first += (
            f"; best test accuracy {best['test_accuracy_pct']:.2f} % at {load} {best[load]:g},"
            f" {temperature} {best[temperature]:g}"
        )
    counts = ", ".join(f"{name} {count}" for name, count in values["phases"].items() if count)
    kinds = ", ".join(f"{name} {count}" for name, count in values["connectivity"].items() if count)
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


def _known(rho: float) -> float | None:
    return None if math.isnan(rho) else rho


def _signed(rho: float | None) -> str:
    return "–" if rho is None else f"{rho:+.3f}"
