"""Sessions read back as runs of an experiment: what was walked, and what it was compared with."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

    method, regularizers: what it was walked by and descended, with weights; `several` and {} where
    that changed on the way.
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
        """The last point whose test loss was measured: a killed walk may have later ones."""
        return self.tested[-1] if self.tested else self.points[-1]

    @property
    def tested(self) -> list[Point]:
        """The points whose test loss was measured."""
        return [p for p in self.points if p.test_loss is not None]

    @property
    def chosen(self) -> Point:
        """The point of least validation loss; of least test loss where nothing validates."""
        return min(self.tested, key=lambda p: (p.chosen_by, p.index))


@dataclass(frozen=True)
class Setting:
    """How weighted-sum trainings were done; begin: `scratch` or `start` (of the walk)."""

    begin: str
    biases: bool
    epochs: int
    rate: float
    batch: int


@dataclass(frozen=True)
class Sweep:
    """The trainings of one `compare weight-decay`; implied: at the λ that its point implies."""

    setting: Setting
    implied: bool
    trained: Sequence[Trained]


@dataclass(frozen=True)
class Run:
    """What one session did with one network, data set and seed.

    epochs: of training before the walks, None where a checkpoint was loaded; `decayed`: the points
    where a `train --weight-decay` ended.
    """

    folder: Path
    data: str
    notes: str
    model: str
    seed: int
    epochs: int | None
    walks: Mapping[str, Walked]
    sweeps: Sequence[Sweep]
    decayed: Sequence[Point]

    def store(self) -> PointStore:
        return PointStore(self.folder / "points")


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs of the sessions in these folders, at any depth, sorted by folder.

    Sessions in which nothing was walked or compared are left out; raises SessionError where none
    is left. Folders that a batch has moved aside (`.cut-off-`) are not looked into.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise SessionError(f"no folder {folder}")
        scripts = sorted(folder.resolve().rglob(SCRIPT))
        found += [s.parent for s in scripts if ".cut-off-" not in str(s)]
    runs = [run for folder in dict.fromkeys(found) for run in read_runs(folder)]
    if not runs:
        names = ", ".join(map(str, folders))
        raise SessionError(f"{names}: no session in which something was walked or compared")
    return runs


@dataclass(frozen=True)
class _State:
    """What was set up when a command began."""

    data: str = ""
    notes: str = ""
    model: str = ""
    seed: int = 0
    epochs: int | None = 0

    @property
    def key(self) -> tuple[str, str, int]:
        return (self.model, self.data, self.seed)


def read_runs(folder: Path) -> list[Run]:
    """The runs of one session folder. Raises SessionError where it cannot be read."""
    record = read_record(folder)
    states = _states(record.entries)
    latest: dict[int, tuple[int, Point]] = {}
    for fields in record.steps:
        point = Point.from_dict({k: v for k, v in fields.items() if k != "command"})
        latest[point.index] = (fields["command"], point)
    _add_measured(record.entries, latest)
    first: dict[tuple[str, str, int], _State] = {}
    walks: dict[tuple[str, str, int], list[Walked]] = {}
    for walked in _walks(record.entries, latest):
        state = states[latest[walked.start.index][0]]
        walks.setdefault(state.key, []).append(walked)
        first.setdefault(state.key, state)
    sweeps: dict[tuple[str, str, int], list[Sweep]] = {}
    for entry, state in zip(record.entries, states, strict=True):
        if _words(entry)[:2] == ["compare", "weight-decay"] and entry.results:
            sweeps.setdefault(state.key, []).append(_sweep(entry.results))
            first.setdefault(state.key, state)
    decayed: dict[tuple[str, str, int], list[Point]] = {}
    for command, point in latest.values():
        if point.kind == "start" and _option(_words(record.entries[command]), "--weight-decay"):
            decayed.setdefault(states[command].key, []).append(point)
    return [
        Run(folder, state.data, state.notes, state.model, state.seed, state.epochs,
            _by_name(walks.get(key, [])), sweeps.get(key, []), decayed.get(key, []))
        for key, state in first.items()
    ]  # fmt: skip


def _states(entries: Sequence[Entry]) -> list[_State]:
    """What was set up at each command."""
    state, states = _State(), []
    for entry in entries:
        states.append(state)
        words, results = _words(entry), entry.results
        if not words or results is None:
            continue
        if words[0] == "seed":
            state = replace(state, seed=int(results.get("seed", state.seed)))
        elif words[0] == "data":
            notes = f"{results.get('train')} training, {results.get('test')} test examples"
            if "validation" in results:
                notes += f", {results['validation']} to choose by"
            state = replace(state, data=_data_words(words[1:]), notes=notes)
        elif words[0] == "model":
            state = replace(state, model=" ".join(words[1:]), epochs=0)
        elif words[0] == "train" and state.epochs is not None:
            state = replace(state, epochs=state.epochs + int(results.get("epochs", 0)))
        elif words[0] == "load":
            model = state.model or Path(words[1]).name
            state = replace(state, model=model, epochs=None)
    return states


def _walks(entries: Sequence[Entry], latest: Mapping[int, tuple[int, Point]]) -> Iterator[Walked]:
    """A line of points for each branch of each traversal that was walked on."""
    on = _switched_on(entries)
    ends: dict[tuple[int, str], list[int]] = {}
    for index, (_, point) in latest.items():
        if not point.begins:
            line = _line(index, latest)
            ends[line[0].index, point.branch] = [p.index for p in line]
    for (_, name), line_of in ends.items():
        line = [latest[i][1] for i in line_of]
        commands = list(dict.fromkeys(latest[p.index][0] for p in line if not p.begins))
        ways = {_option(_words(entries[c]), "--method") or "quasi-newton" for c in commands}
        descended = [on[c] for c in commands]
        alike = all(d == descended[0] for d in descended)
        method = ways.pop() if len(ways) == 1 else "several"
        yield Walked(name, method, descended[0] if alike else {}, line)


def _line(index: int, latest: Mapping[int, tuple[int, Point]]) -> list[Point]:
    """From its traversal's start to a point."""
    line: list[Point] = []
    at: int | None = index
    while at is not None and at in latest:
        point = latest[at][1]
        line.append(point)
        at = None if point.begins else point.parent
    return line[::-1]


def _by_name(walks: Sequence[Walked]) -> dict[str, Walked]:
    """A later walk of the same name, in another traversal, is told apart by a number."""
    found: dict[str, Walked] = {}
    for walked in walks:
        names = itertools.chain([walked.name], (f"{walked.name} ({k})" for k in itertools.count(2)))
        name = next(n for n in names if n not in found)
        found[name] = replace(walked, name=name)
    return found


def _add_measured(entries: Sequence[Entry], latest: dict[int, tuple[int, Point]]) -> None:
    """What `measure` found right after a point was reached is known of that point too."""
    for number, entry in enumerate(entries):
        if _words(entry)[:1] != ["measure"] or not entry.results:
            continue
        before = [
            index
            for index, (command, point) in latest.items()
            if command == number - 1 and point.kind != "located"
        ]
        if not before:  # one has gone somewhere, or switched something, since
            continue
        command, point = latest[max(before)]
        seen = {
            name.removeprefix("regularizers."): value
            for name, value in entry.results.items()
            if name.startswith("regularizers.")
        }
        point = replace(point, regularizers={**seen, **point.regularizers})
        latest[point.index] = (command, point)


def _switched_on(entries: Sequence[Entry]) -> list[dict[str, float]]:
    """The regularisers with their weights that are on at each command."""
    on: dict[str, float] = {}
    states = []
    for entry in entries:
        words, results = _words(entry), entry.results or {}
        if words[:1] == ["reg"] and "on" in results:
            on = {n: w for n, w in on.items() if n != results["name"]}
            if results["on"]:
                on[results["name"]] = results["weight"]
        elif words[:1] == ["model"]:
            on = {}
        states.append(on)
    return states


def _words(entry: Entry) -> list[str]:
    try:
        return shlex.split(entry.line.text, comments=True)
    except ValueError:
        return entry.line.text.split()


def _option(words: Sequence[str], name: str) -> str | None:
    """An option's value, written `--name value` or `--name=value`."""
    for k, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
        if word == name and k + 1 < len(words):
            return words[k + 1]
    return None


def _data_words(words: Sequence[str]) -> str:
    """The data set with its options in one order, but for where it lies and how it is read."""
    names = sorted({w.partition("=")[0] for w in words if w.startswith("--")})
    shown = [f"{n} {_option(words, n)}" for n in names if n not in ("--root", "--chunk")]
    return " ".join([words[0], *(s for s in shown if s != "--validation 0")])


def _sweep(results: Mapping[str, Any]) -> Sweep:
    rows: dict[int, dict[str, Any]] = {}
    for name, value in results.items():
        head, _, rest = name.partition(".")
        if head == "runs" and rest:
            number, _, column = rest.partition(".")
            rows.setdefault(int(number), {})[column] = (
                float(value) if value in ("nan", "inf") else value
            )
    optional = {"validation_loss": None, "test_accuracy": None, "test_rmse": None}
    setting = Setting(
        results.get("from", "scratch"),
        bool(results.get("biases", False)),
        int(results.get("epochs", 0)),
        float(results.get("rate", 0.0)),
        int(results.get("batch", 0)),
    )
    trained = [Trained(**{**optional, **row}) for row in rows.values()]
    return Sweep(setting, bool(results.get("implied", False)), trained)
