"""Sessions read back as runs of an experiment: what was walked, and what it was compared with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsshell.engine.comparison import Trained
from lsshell.engine.path import Point
from lsshell.engine.store import PointStore
from lsshell.sessions.errors import SessionError
from lsshell.sessions.journal import SCRIPT, Entry, read_record


@dataclass(frozen=True)
class Walked:
    """One branch of a traversal: its start, and the points on the way from there to its end.

    method: of its last walk; regularizers: those it descended, with their weights.
    """

    name: str
    method: str
    regularizers: Mapping[str, float]
    points: Sequence[Point]

    @property
    def start(self) -> Point:
        return self.points[0]

    @property
    def end(self) -> Point:
        return self.points[-1]

    @property
    def tested(self) -> list[Point]:
        """The points whose test loss was measured."""
        return [p for p in self.points if p.test_loss is not None]

    @property
    def chosen(self) -> Point:
        """The point of least validation loss; of least test loss where nothing validates."""
        return min(self.tested, key=lambda p: (p.chosen_by, p.index))


@dataclass(frozen=True)
class Sweep:
    """The weighted-sum trainings of one `compare weight-decay`; begin: `scratch` or `start`;
    implied: whether at the λ that the point there implies.
    """

    begin: str
    implied: bool
    trained: Sequence[Trained]


@dataclass(frozen=True)
class Run:
    """One session. epochs: of training before the first walk; `decayed`: the points where a
    `train --weight-decay` ended.
    """

    folder: Path
    data: str
    notes: str
    model: str
    seed: int
    epochs: int
    walks: Mapping[str, Walked]
    sweeps: Sequence[Sweep]
    decayed: Sequence[Point]

    @property
    def experiment(self) -> tuple[str, str]:
        """Runs of one experiment share model and data, and differ in their seeds."""
        return (self.model, self.data)

    def store(self) -> PointStore:
        return PointStore(self.folder / "points")


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """The sessions in these folders, at any depth, sorted by folder.

    Sessions in which nothing was walked or compared are left out; raises SessionError where none
    is left. Folders that a batch has moved aside (`.cut-off-`) are not looked into.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise SessionError(f"no folder {folder}")
        scripts = sorted(folder.rglob(SCRIPT))
        found += [s.parent for s in scripts if ".cut-off-" not in str(s.relative_to(folder))]
    runs = [read_run(f) for f in dict.fromkeys(found)]
    runs = [r for r in runs if r.walks or r.sweeps]
    if not runs:
        names = ", ".join(map(str, folders))
        raise SessionError(f"{names}: no session in which something was walked or compared")
    return runs


def read_run(folder: Path) -> Run:
    """One session folder. Raises SessionError where it cannot be read."""
    record = read_record(folder)
    data = model = notes = ""
    seed, epochs, walked, sweeps = 0, 0, False, []
    for entry in record.entries:
        words = _words(entry)
        results = entry.results or {}
        if words[:1] == ["seed"]:
            seed = int(results.get("seed", seed))
        elif words[:1] == ["data"] and entry.results is not None:
            data = _without(words[1:], ("--root", "--chunk"))
            notes = f"{results.get('train')} training, {results.get('test')} test examples"
            if "validation" in results:
                notes += f", {results['validation']} to choose by"
        elif words[:1] == ["model"] and entry.results is not None:
            model = " ".join(words[1:])
        elif words[:1] == ["train"] and not walked:
            epochs += int(results.get("epochs", 0))
        elif words[:1] == ["walk"]:
            walked = True
        elif words[:1] == ["load"] and not model:
            model = Path(words[1]).name
        elif words[:2] == ["compare", "weight-decay"] and entry.results:
            implied = bool(results.get("implied", False))
            sweeps.append(Sweep(results.get("from", "scratch"), implied, _trained(results)))
    latest: dict[int, tuple[int, Point]] = {}
    for fields in record.steps:
        point = Point.from_dict({k: v for k, v in fields.items() if k != "command"})
        latest[point.index] = (fields["command"], point)
    walks = {w.name: w for w in _walks(record.entries, latest)}
    decayed = [
        point
        for command, point in latest.values()
        if point.kind == "start" and "--weight-decay" in _words(record.entries[command])
    ]
    return Run(folder, data, notes, model, seed, epochs, walks, tuple(sweeps), decayed)


def _walks(entries: Sequence[Entry], latest: Mapping[int, tuple[int, Point]]) -> Iterator[Walked]:
    """A branch for each name that was walked on, with the points from its traversal's start on."""
    on = _switched_on(entries)
    ends = {point.branch: index for index, (_, point) in latest.items() if point.kind == "step"}
    for name, index in ends.items():
        command, line = latest[index][0], []
        at: int | None = index
        while at is not None:
            point = latest[at][1]
            line.append(point)
            at = point.parent if point.kind == "step" else None
        words = _words(entries[command])
        method = words[words.index("--method") + 1] if "--method" in words else "quasi-newton"
        yield Walked(name, method, on[command], line[::-1])


def _switched_on(entries: Sequence[Entry]) -> list[dict[str, float]]:
    """The regularisers with their weights that are on at each command."""
    on: dict[str, float] = {}
    states = []
    for entry in entries:
        words, results = _words(entry), entry.results or {}
        if words[:1] == ["reg"] and "on" in results:
            on = dict(on)
            if results["on"]:
                on[results["name"]] = results["weight"]
            else:
                on.pop(results["name"], None)
        elif words[:1] == ["model"]:
            on = {}
        states.append(on)
    return states


def _words(entry: Entry) -> list[str]:
    try:
        return shlex.split(entry.line.text, comments=True)
    except ValueError:
        return entry.line.text.split()


def _without(words: Sequence[str], options: Sequence[str]) -> str:
    """The words but for these options and their values: where a file lies says nothing of it."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in options:
            skip = True
        else:
            kept.append(word)
    return " ".join(kept)


def _trained(results: Mapping[str, Any]) -> list[Trained]:
    rows: dict[int, dict[str, Any]] = {}
    for name, value in results.items():
        head, _, rest = name.partition(".")
        if head == "runs" and rest:
            number, _, column = rest.partition(".")
            rows.setdefault(int(number), {})[column] = value
    optional = {"validation_loss": None, "test_accuracy": None, "test_rmse": None}
    return [Trained(**{**optional, **row}) for row in rows.values()]
