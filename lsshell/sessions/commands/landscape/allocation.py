"""Loss change allocation: which layers brought a change along the path, or in a training run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from cyclopts import Parameter

from lsshell.figures.figure import Figure, Series
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_files, with_files
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, Flag, FromSession, positive

if TYPE_CHECKING:
    from lsshell.engine.landscape.allocation import Allocated, Allocation

What = Literal["train", "test", "regularizer"]
OF: tuple[What, ...] = get_args(What)
WORDS = {"train": "training loss", "test": "test loss", "regularizer": "R"}
SHOWN, LINES = 20, 8


@VOCABULARY.command("landscape")
def allocation(
    *,
    of: Annotated[tuple[What, ...], Parameter(negative="")] = ("train", "test"),
    by: Literal["layer", "neuron", "kind"] = "layer",
    first: Annotated[str | None, Parameter(name="--from")] = None,
    last: Annotated[str, Parameter(name="--to")] = "here",
    tolerance: float | None = None,
    train: Flag = False,
    epochs: int | None = None,
    rate: float | None = None,
    batch: int | None = None,
    every: int | None = None,
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Share out a change of loss among layers: who brought it and who paid (LCA).

    Along the kept points of the path, or with --train along a training run made for this, which
    leaves no trace. Each parameter's share is the integral of ∂L/∂θ_i dθ_i; shares sum to the
    change. Below 0 helps. Along a level set those of the training loss sum to about 0, and those of
    the test loss say which layers bring the improvement.

    Parameters
    ----------
    of
        train, test or regularizer (the sum of those that are on); may be given several times. The
        figure is of the last.
    by
        layer, neuron (filter) or kind (weights, biases, scales).
    first
        Where the path begins: a point as in `goto` (the start). --train: the place to train from
        (here).
    last
        Where the path ends: a point as in `goto`.
    tolerance
        Of a segment's sum against the true change (a thousandth of the value at the beginning);
        sub-intervals are doubled from 2 up to 32 for it.
    train
        Allocate a training run by Adam on mini-batches, as `train` makes it.
    epochs
        --train: passes over the training examples (1).
    rate
        --train: the learning rate (1e-3).
    batch
        --train: examples in a mini-batch (32).
    every
        --train: updates in a segment (1).
    out
        Write the figure to FILE.png, .svg, .pdf or .txt rather than draw it here.
    save
        Write every group's cumulative share at each station to FILE.csv or .json.
    """
    check_files(session, out, save)
    if tolerance is not None:
        positive(tolerance=tolerance)
    given = {"epochs": epochs, "rate": rate, "batch": batch, "every": every}
    given = {name: value for name, value in given.items() if value is not None}
    positive(**given)
    if given and not train:
        raise CommandError(f"--{next(iter(given))} is for --train")
    if train and last != "here":
        raise CommandError("--to is for a path; a training run ends after --epochs")
    engine = session.engine
    problem = engine.ready()
    options: dict[str, Any] = {
        "of": of,
        "by": by,
        "regularizers": engine.sum,
        "tolerance": tolerance,
        "listen": engine.listen,
    }
    if train:
        from lsshell.engine.landscape.allocation import allocate_training

        place = named_place(session, "here" if first is None else first)
        found = allocate_training(problem, place, **options, **given, seed=engine.seed)
    else:
        from lsshell.engine.landscape.allocation import allocate_walk
        from lsshell.engine.landscape.places import kept_points, place_at

        points = kept_points(engine, first, last)
        places = (place_at(engine, point) for point in points)
        found = allocate_walk(problem, places, **options, segments=len(points) - 1)
    text = "\n".join([_summary(found), _table(found), *found.notes])
    reply = Reply(_values(found), text, figure=_figure(found, train=train))
    return with_files(session, reply, out, save, lambda: _rows(found))


def _order(found: Allocation) -> list[int]:
    """Layers and kinds in the network's order; neurons, the greatest shares of the last first."""
    if found.by != "neuron":
        return list(range(len(found.groups)))
    net = found.quantities[-1].net
    return sorted(range(len(net)), key=lambda k: (-abs(net[k]), k))


def _values(found: Allocation) -> dict[str, Any]:
    values: dict[str, Any] = {
        "by": found.by,
        "segments": found.segments,
        "from_step": found.stations[0],
        "to_step": found.stations[-1],
        "intervals": found.intervals,
        "capped": found.capped,
        "gradients": found.gradients,
        "notes": list(found.notes),
    }
    if found.training is not None:
        values |= {"epochs": found.training.epochs, "trained_loss": found.training.loss}
    shown = _order(found)[:SHOWN]
    for quantity in found.quantities:
        values[quantity.of] = {
            "first": float(quantity.values[0]),
            "last": float(quantity.values[-1]),
            "change": quantity.change,
            "total": quantity.total,
            "error": quantity.error,
            "worst": quantity.worst,
            "helping": quantity.helps,
            "helping_std": quantity.spread,
            "groups": {
                found.groups[k].name: {
                    "net": float(quantity.net[k]),
                    "helped": float(quantity.helped[k]),
                }
                for k in shown
            },
        }
    return values


def _summary(found: Allocation) -> str:
    lines = [
        f"{found.segments} segments, {number(found.intervals)} sub-intervals each,"
        f" {found.gradients} gradients"
    ]
    if found.capped:
        lines[0] += f"; {found.capped} segments are not within the tolerance at 32 sub-intervals"
    lines += [_sentence(quantity) for quantity in found.quantities]
    return "\n".join(lines)


def _sentence(quantity: Allocated) -> str:
    first, last = (number(float(v), 5) for v in (quantity.values[0], quantity.values[-1]))
    return (
        f"{WORDS[quantity.of]} {first} → {last}: change {quantity.change:+.5g}, the shares sum to"
        f" {quantity.total:+.5g} (error {quantity.error:+.1e}); in a segment"
        f" {100 * quantity.helps:.1f} ± {100 * quantity.spread:.1f} % of the parameters help"
    )


def _table(found: Allocation) -> str:
    order = _order(found)
    rows = []
    for k in order[:SHOWN]:
        row = [found.groups[k].name, str(found.groups[k].parameters)]
        for quantity in found.quantities:
            row += [f"{quantity.net[k]:+.4g}", f"{100 * quantity.helped[k]:.1f} %"]
        rows.append(row)
    headers = [found.by, "parameters"]
    for quantity in found.quantities:
        headers += [WORDS[quantity.of], "help"]
    text = table(headers, rows)
    left = len(order) - len(rows)
    return text + (f"\n… and {left} more {found.by}s (--save writes all)" if left else "")


def _rows(found: Allocation) -> list[dict[str, Any]]:
    """A row for each group at each station."""
    rows = []
    for s, station in enumerate(found.stations):
        for k, group in enumerate(found.groups):
            row: dict[str, Any] = {
                "step": station,
                found.by: group.name,
                "parameters": group.parameters,
            }
            for quantity in found.quantities:
                row[quantity.of] = float(quantity.cumulative[s, k])
                row[f"{quantity.of}_helped"] = float(quantity.helped_so_far[s, k])
            rows.append(row)
    return rows


def _figure(found: Allocation, *, train: bool) -> Figure:
    quantity = found.quantities[-1]
    steps = tuple(float(s) for s in found.stations)
    greatest = sorted(range(len(found.groups)), key=lambda k: -abs(float(quantity.net[k])))[:LINES]
    series = tuple(
        Series(found.groups[k].name, steps, tuple(quantity.cumulative[:, k].tolist()))
        for k in sorted(greatest)
    )
    what = WORDS[quantity.of]
    total = Series("all", steps, tuple(quantity.cumulative.sum(1).tolist()))
    return Figure(
        f"who changed the {what}, by {found.by}"
        if what != "R"
        else f"who changed R, by {found.by}",
        "update" if train else "step",
        f"Σ LCA of the {what}" if what != "R" else "Σ LCA of R",
        series if found.by == "neuron" or len(series) == 1 else (*series, total),
        (("", 0.0),),
    )
