"""How many basins a slice of the loss has, and how deep they are: topology."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_files, with_files
from lsshell.sessions.places import named_place
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number
from lsshell.sessions.topology_plots import Show, diagram_figure, tree_figure
from lsshell.sessions.vocabulary import VOCABULARY, Flag, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.slice import Slice
    from lsshell.engine.landscape.topology import Cut, Topology

MOST_PAIRS = 20  # in the JSON result; all are in --save
ON_A_LINE, ON_A_SIDE = 161, 41  # so that 0 and 1 are on the grid from −0.5 to 1.5


@dataclass(frozen=True)
class Field:
    """Values over a grid, what they are of, and places on it by name and coefficients."""

    about: str
    axes: tuple[tuple[float, ...], ...]
    values: Any
    level: float | None = None
    marks: tuple[tuple[str, tuple[float, ...]], ...] = field(default=())

    def cell(self, at: Sequence[float]) -> tuple[int, ...]:
        """The grid point nearest to these coefficients."""
        found = []
        for a, axis in zip(at, self.axes, strict=True):
            if not axis[0] <= a <= axis[-1]:
                raise CommandError(
                    f"--range: a point to be connected lies at {a:g}, outside {axis[0]:g}:"
                    f"{axis[-1]:g}"
                )
            found.append(min(range(len(axis)), key=lambda k: abs(axis[k] - a)))
        return tuple(found)

    def at(self, cell: Sequence[int]) -> list[float]:
        """The coefficients of a grid point."""
        return [axis[k] for axis, k in zip(self.axes, cell, strict=True)]


@VOCABULARY.command("landscape")
def topology(
    a: str | None = None,
    /,
    *,
    toward: str | None = None,
    third: Annotated[str | None, Parameter(name="--and")] = None,
    directions: Literal["random", "principal", "hessian"] | None = None,
    dimensions: int | None = None,
    points: int | None = None,
    span: Annotated[str | None, Parameter(name="--range", allow_leading_hyphen=True)] = None,
    seed: int | None = None,
    batch_norm: Literal["frozen", "recomputed"] | None = None,
    on: Literal["train", "test"] = "train",
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    level: float | None = None,
    eps: float = 1e-3,
    loops: Flag = False,
    show: Show = "diagram",
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Count the basins of a slice of the loss: merge tree, persistence, SMAD, level components.

    As a level c rises, components of {L ≤ c} in the slice are born at minima and merge at saddles.
    A component persists from its minimum to the saddle where one with a lower minimum takes it.
    Two points in one component are connected at that level, within this plane. The slice is that
    of `slice`, or was saved by it.

    Parameters
    ----------
    a
        The middle of the slice: here, a point as in `goto`, init, or a checkpoint file.
    toward
        The slice goes through this point: is it connected with A?
    third
        With --toward: the plane through these three points.
    directions
        random, principal or hessian, as in `slice` (random).
    dimensions
        1 or 2 (2; with --toward alone, 1).
    points
        Grid points (161 on a line, 41 along each side of a plane).
    span
        How far to look, as in `slice`.
    seed
        Of the random directions (the session's).
    batch_norm
        Statistics as they are at A (frozen), or recomputed at every grid point.
    on
        Examples: train or test.
    from_
        FILE.csv that `slice --save` wrote, instead of a slice taken now.
    level
        Count the components of {L ≤ this} (L* + tolerance, for training loss).
    eps
        Leave out what persists by no more than this share of the loss's range in the slice.
    loops
        Also rings of {L ≤ c} around a peak (dimension 1).
    show
        diagram (deaths against births) or tree (the merge tree).
    out
        Write FILE.png, .svg, .pdf or .txt rather than draw here; the session keeps a copy.
    save
        Write the pairs to FILE.csv, or the merge tree and all measures to FILE.json.
    """
    from lsshell.engine.landscape import topology as engine_topology
    from lsshell.engine.landscape.merge_tree import connecting_level

    check_files(session, out, save)
    if level is not None and not math.isfinite(level):
        raise CommandError(f"--level {level:g}: a number is needed")
    asked = (a, toward, third, directions, dimensions, points, span, seed, batch_norm)
    if from_ is not None and any(option is not None for option in asked):
        raise CommandError("--from takes the slice as it was saved: leave out where it is to be")
    if from_ is not None:
        found = _saved(session, from_, on)
    else:
        found = _taken(
            session, "here" if a is None else a, toward, third, directions or "random", dimensions,
            points, span, seed, batch_norm or "frozen", on,
        )  # fmt: skip
    level = found.level if level is None else level
    stop = session.engine.cancel.is_set
    measured = engine_topology.topology(found.values, eps, with_loops=loops, cancelled=stop)
    cells = tuple(found.cell(at) for _, at in found.marks)
    cut = None if level is None else engine_topology.cut(found.values, level, cells)
    joined = [connecting_level(found.values, cells[0], cell, cancelled=stop) for cell in cells[1:]]
    values = _values(found, measured, cut, joined, on)
    text = _text(found, measured, cut, joined, on)
    figure = (tree_figure if show == "tree" else diagram_figure)(
        measured, f"{'merge tree' if show == 'tree' else 'persistence'} of {found.about}",
        _quantity(on), level,
    )  # fmt: skip
    return with_files(
        session, Reply(values, text, figure=figure), out, save,
        lambda: _rows(found, measured), whole=lambda: _whole(found, measured, values),
    )  # fmt: skip


def _saved(session: FromSession, file: Path, on: str) -> Field:
    """The table of a slice."""
    from lsshell.engine.landscape.grid_table import read_grid

    found = read_grid(session.find(file), f"{on}_loss")
    return Field(f"the slice in {file.name}", found.axes, found.values)


def _taken(
    session: FromSession,
    a: str,
    toward: str | None,
    third: str | None,
    directions: Literal["random", "principal", "hessian"],
    dimensions: int | None,
    points: int | None,
    span: str | None,
    seed: int | None,
    batch_norm: Literal["frozen", "recomputed"],
    on: Literal["train", "test"],
) -> Field:
    """A slice taken now."""
    from lsshell.engine.landscape.slice import take_slice
    from lsshell.sessions.commands.landscape.slice import parse_spans

    if third is not None and toward is None:
        raise CommandError("--and takes a third point besides that of --toward")
    line = dimensions == 1 or (dimensions is None and toward is not None and third is None)
    found = take_slice(
        session.engine,
        named_place(session, a),
        directions=directions,
        toward=[named_place(session, where) for where in (toward, third) if where is not None],
        dimensions=dimensions,
        points=points if points is not None else ON_A_LINE if line else ON_A_SIDE,
        spans=None if span is None else parse_spans(span),
        seed=seed,
        batch_norm=batch_norm,
        splits=(on,),
    )
    marks: list[tuple[str, tuple[float, ...]]] = []
    if toward is not None:
        ends = [(0.0,), (1.0,)] if line else [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]
        marks = list(zip([a, *found.toward], ends, strict=True))
    return Field(
        f"the slice around {found.origin.name}",
        found.axes,
        found.values[on].loss.numpy(),
        _highest(session, found) if on == "train" else None,
        tuple(marks),
    )


def _highest(session: FromSession, found: Slice) -> float | None:
    """L* + tolerance: the highest loss that counts as on the level set."""
    if found.level is None:
        return None
    point, here = found.origin.point, session.engine.level_set
    if point is not None and point.level is not None:
        return found.level + (point.tolerance or 0.0)
    return found.level + (0.0 if here is None else here.tolerance)


def _values(
    found: Field, measured: Topology, cut: Cut | None, joined: Sequence[float], on: str
) -> dict[str, Any]:
    """The JSON result."""
    values: dict[str, Any] = {
        "of": found.about,
        "on": on,
        "points": [len(axis) for axis in found.axes],
        "least": measured.least,
        "greatest": measured.greatest,
        "eps": measured.eps,
        "minima": measured.minima,
        "minima_inside": measured.minima_inside,
        "smad": measured.smad,
        "smad_share": measured.smad_share,
        "smad_elder": measured.smad_elder,
        "total_persistence": measured.total_persistence,
        "most_persistence": measured.most_persistence,
        "pairs": [[p.birth, p.death] for p in measured.tree.pairs[:MOST_PAIRS]],
    }
    if measured.loops is not None:
        values["loops"] = len(measured.loops)
        values["loop_pairs"] = [[p.birth, p.death] for p in measured.loops[:MOST_PAIRS]]
    if cut is not None:
        values |= {"level": cut.level, "components": cut.components, "share": cut.share}
    for k, (name, _) in enumerate(found.marks[1:], start=1):
        values.setdefault("connected", []).append(
            {
                "to": name,
                "at_level": None if cut is None else cut.connected(0, k),
                "from_level": joined[k - 1],
            }
        )
    return values


def _text(
    found: Field, measured: Topology, cut: Cut | None, joined: Sequence[float], on: str
) -> str:
    size = " × ".join(str(len(axis)) for axis in found.axes)
    many = measured.minima != 1
    lines = [
        f"{found.about}: {size} points of {_quantity(on)}, {number(measured.least)} …"
        f" {number(measured.greatest)}",
        f"{measured.minima} {'minima' if many else 'minimum'}, {measured.minima_inside} inside the"
        f" grid, that persist{'' if many else 's'} by more than {100 * measured.eps:g} % of the"
        " range",
    ]
    if many:
        lines.append(
            f"SMAD {number(measured.smad)} ({100 * measured.smad_share:.2f} % of the range);"
            f" by the elder rule {number(measured.smad_elder)}; persistence"
            f" {number(measured.total_persistence)} in all, {number(measured.most_persistence)} at"
            " most"
        )
    if measured.loops is not None:
        count = len(measured.loops)
        most = f", of persistence {number(measured.loops[0].persistence)} at most" if count else ""
        lines.append(f"{count} {'loop' if count == 1 else 'loops'}{most}")
    if cut is not None:
        lines.append(
            f"loss at most {number(cut.level)}: {cut.components}"
            f" {'component' if cut.components == 1 else 'components'}, {100 * cut.share:.1f} % of"
            " the points"
        )
    for k, (name, _) in enumerate(found.marks[1:], start=1):
        where = "along this line" if len(found.axes) == 1 else "in this plane"
        words = f"{found.marks[0][0]} and {name}: connected {where} from loss"
        words += f" {number(joined[k - 1], 6)} on"
        if cut is not None:
            words += f"; at {number(cut.level)} they are{'' if cut.connected(0, k) else ' not'}"
        lines.append(words)
    return "\n".join(lines)


def _quantity(on: str) -> str:
    return "training loss" if on == "train" else "test loss"


def _whole(found: Field, measured: Topology, values: dict[str, Any]) -> dict[str, Any]:
    """Everything, as one JSON object."""
    whole = {
        **{k: v for k, v in values.items() if k not in ("pairs", "loop_pairs")},
        "axes": [list(axis) for axis in found.axes],
        "tree": measured.tree.as_json(),
    }
    if measured.loops is not None:
        whole["loops"] = _rows(found, measured, dimension=1)
    return whole


def _rows(
    found: Field, measured: Topology, dimension: int | None = None
) -> list[dict[str, float | None]]:
    """A row a pair: where it begins and ends, and at which coefficients."""
    pairs = [(0, p, p.minimum, p.saddle) for p in measured.tree.pairs]
    rings = [(1, p, p.saddle, p.maximum) for p in measured.loops or ()]
    rows = []
    for kind, pair, first, last in [*pairs, *rings]:
        if dimension in (None, kind):
            row: dict[str, float | None] = {
                "dimension": kind,
                "birth": pair.birth,
                "death": pair.death,
                "persistence": pair.persistence,
            }
            for name, cell in (("birth", first), ("death", last)):
                at = [None] * len(found.axes) if cell is None else found.at(cell)
                row |= {f"{name}_{axis}": a for axis, a in zip("ab", at, strict=False)}
            rows.append(row)
    return rows
