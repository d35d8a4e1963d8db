"""The phases of learning: a table of cells in load and temperature, and the regions' names.

Source: Yang et al., "Taxonomizing local versus global structure in neural network loss
landscapes", NeurIPS 2021. There the phases are drawn by hand; the rule here is this program's.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, TextIO, get_args

from lsshell.engine.errors import EngineError
from lsshell.engine.landscape.rank_correlation import spearman

# Each may be the load, or the temperature, of a table. Hotter is smaller for batches only.
LOADS = ("width", "examples", "noise")
TEMPERATURES = ("batch_size", "lr", "weight_decay")

Phase = Literal["I", "II", "III", "IV-A", "IV-B"]
Connectivity = Literal["poorly connected", "rugged", "well connected"]
PHASES: tuple[Phase, ...] = get_args(Phase)
# By which a threshold is moved, to see how much hangs on it.
CHANGES = (-0.2, -0.1, 0.1, 0.2)
CONNECTED = 1.0  # per cent: within which correlations are taken a second time


@dataclass(frozen=True)
class Cell:
    """Networks trained at one load and temperature; means over seeds, NaN for what is unknown.

    Accuracies and mode connectivity are in per cent; `hessian_top_eigenvalue` and `hessian_trace`
    are of the training loss; `cka_softmax` and `l2_distance` are between seeds.
    """

    load: float
    temperature: float
    test_accuracy_pct: float
    train_loss: float
    train_accuracy_pct: float
    hessian_top_eigenvalue: float
    hessian_trace: float
    mode_connectivity_pct: float
    cka_softmax: float
    l2_distance: float


MEASURES = tuple(field.name for field in fields(Cell))[2:]
_SHARES = ("test_accuracy_pct", "train_accuracy_pct")


@dataclass(frozen=True)
class Thresholds:
    """Where one region ends and the next begins.

    sharp: of ln λ_max; barrier: of |mc|, in per cent of training error; similar: of the CKA.
    """

    sharp: float = 3.0
    barrier: float = 1.0
    similar: float = 0.7

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not math.isfinite(value):
                raise EngineError(f"--{name} must be a number, not {value}")
        if self.barrier < 0:
            raise EngineError(f"--barrier is of |mc|: 0 or above, not {self.barrier:g}")


@dataclass(frozen=True)
class Region:
    """Where a cell lies; `phase` is what the others make of it."""

    sharp: bool
    connectivity: Connectivity
    similar: bool

    @property
    def phase(self) -> Phase:
        if self.connectivity == "poorly connected":
            return "I" if self.sharp else "III"
        if self.sharp:
            return "II"
        return "IV-B" if self.similar else "IV-A"


def region_of(cell: Cell, thresholds: Thresholds | None = None) -> Region | None:
    """The region of a cell; None where one of the three measures is unknown.

    * sharp: ln λ_max > `sharp` (λ_max ≤ 0 is flat), else flat;
    * poorly connected: mc < −`barrier` (a barrier between seeds); rugged: mc > `barrier` (the
      curve is better than the networks at its ends); well connected: |mc| ≤ `barrier`;
    * similar: CKA ≥ `similar`.

    Phase I is poorly connected and sharp, III poorly connected and flat; all else is connected:
    II sharp, IV-A flat with dissimilar networks, IV-B flat with similar ones.
    """
    limits = thresholds or Thresholds()
    top, mc = cell.hessian_top_eigenvalue, cell.mode_connectivity_pct
    if any(map(math.isnan, (top, mc, cell.cka_softmax))):
        return None
    connectivity: Connectivity = "well connected"
    if abs(mc) > limits.barrier:
        connectivity = "poorly connected" if mc < 0 else "rugged"
    sharp = top > 0 and math.log(top) > limits.sharp
    return Region(sharp, connectivity, cell.cka_softmax >= limits.similar)


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ of a measure with test accuracy: over all cells, and those of |mc| < 1."""

    measure: str
    everywhere: float
    connected: float


@dataclass(frozen=True)
class Sensitivity:
    """How many cells are of another phase where a threshold is moved by a share of itself."""

    threshold: str
    change: float
    value: float
    changed: int


@dataclass(frozen=True)
class PhaseTable:
    """Cells of a grid in `load` and `temperature` (names of LOADS and TEMPERATURES).

    Raises EngineError where there is no cell, or one twice.
    """

    load: str
    temperature: str
    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        if not self.cells:
            raise EngineError("a phase table needs at least one cell")
        twice = _repeated(self.cells)
        if twice is not None:
            raise EngineError(f"{self.name_of(self.cells[twice[0]])} is there twice")

    def name_of(self, cell: Cell) -> str:
        """As in `width 128, batch_size 44`."""
        return f"{self.load} {cell.load:g}, {self.temperature} {cell.temperature:g}"

    @property
    def loads(self) -> tuple[float, ...]:
        """Ascending."""
        return tuple(sorted({cell.load for cell in self.cells}))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """From cold to hot: batches descend, rates and weight decays ascend."""
        values = {cell.temperature for cell in self.cells}
        return tuple(sorted(values, reverse=self.temperature == "batch_size"))

    @property
    def best(self) -> Cell | None:
        """The cell of the greatest test accuracy; None where none is known."""
        known = [c for c in self.cells if not math.isnan(c.test_accuracy_pct)]
        return max(known, key=lambda c: c.test_accuracy_pct, default=None)

    @property
    def connected(self) -> tuple[Cell, ...]:
        """The cells with |mc| < 1 %."""
        return tuple(c for c in self.cells if abs(c.mode_connectivity_pct) < CONNECTED)

    def rows(self, value: Callable[[Cell], float]) -> tuple[tuple[float, ...], ...]:
        """A number of every cell: a row a temperature, from cold to hot; NaN where there is no
        cell.
        """
        at = {(c.load, c.temperature): c for c in self.cells}
        return tuple(
            tuple(value(at[x, t]) if (x, t) in at else math.nan for x in self.loads)
            for t in self.temperatures
        )

    def regions(self, thresholds: Thresholds | None = None) -> tuple[Region | None, ...]:
        """Of every cell, in their order."""
        return tuple(region_of(cell, thresholds) for cell in self.cells)

    def correlations(self) -> tuple[Correlation, ...]:
        """Of every measure with test accuracy, the strongest first; also of −|mc|."""
        found = [
            Correlation(name, _with_accuracy(self.cells, get), _with_accuracy(self.connected, get))
            for name, get in _CORRELATED.items()
        ]
        return tuple(sorted(found, key=lambda c: _strength(c.everywhere), reverse=True))

    def sensitivity(self, thresholds: Thresholds | None = None) -> tuple[Sensitivity, ...]:
        """How many cells change their phase when each threshold moves by 10 and 20 per cent."""
        limits = thresholds or Thresholds()
        before = self.regions(limits)
        found = []
        for name, value in asdict(limits).items():
            for change in CHANGES:
                moved = value + change * abs(value)
                after = self.regions(replace(limits, **{name: moved}))
                pairs = zip(before, after, strict=True)
                changed = sum(a is not None and b is not None and a.phase != b.phase
                              for a, b in pairs)  # fmt: skip
                found.append(Sensitivity(name, change, moved, changed))
        return tuple(found)

    def as_rows(self) -> list[dict[str, float]]:
        """A row a cell, under the columns that `read_phases` reads."""
        rows = []
        for cell in self.cells:
            values = asdict(cell)
            at = {self.load: values.pop("load"), self.temperature: values.pop("temperature")}
            rows.append({n: int(v) if v.is_integer() else v for n, v in at.items()} | values)
        return rows


def read_phases(file: Path) -> PhaseTable:
    """A table measured before, or elsewhere: a .csv with a row a cell, and a header.

    Columns, in any order: one of LOADS, one of TEMPERATURES, and MEASURES; others are passed over.
    `nan` and an empty cell stand for a measure that is unknown. Raises EngineError that names the
    file and line of what is wrong.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as handle:
            return _table(file, handle)
    except FileNotFoundError as e:
        raise EngineError(f"there is no file {file}") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise EngineError(f"{file} is not a table of text: {e}") from e
    except OSError as e:
        raise EngineError(f"{file} cannot be read: {e.strerror}") from e


def _table(file: Path, handle: TextIO) -> PhaseTable:
    lines = csv.reader(handle)
    header = [name.strip() for name in next(lines, [])]
    load, temperature = (_axis(file, header, names) for names in (LOADS, TEMPERATURES))
    missing = [name for name in MEASURES if name not in header]
    if missing:
        raise EngineError(f"{file}:1: columns are missing: {', '.join(missing)}")
    cells: list[Cell] = []
    at: list[int] = []
    for words in lines:
        if not any(word.strip() for word in words):
            continue
        where = f"{file}:{lines.line_num}"
        if len(words) != len(header):
            raise EngineError(f"{where}: {len(words)} cells under {len(header)} columns")
        cells.append(_cell(where, dict(zip(header, words, strict=True)), load, temperature))
        at.append(lines.line_num)
    if not cells:
        raise EngineError(f"{file} holds no cells below its header")
    twice = _repeated(cells)
    if twice is not None:
        cell, (again, first) = cells[twice[0]], (at[k] for k in twice)
        raise EngineError(
            f"{file}:{again}: {load} {cell.load:g}, {temperature} {cell.temperature:g} is there"
            f" twice (first in line {first})"
        )
    return PhaseTable(load, temperature, tuple(cells))


def _axis(file: Path, header: Sequence[str], names: Sequence[str]) -> str:
    found = [name for name in names if name in header]
    if len(found) != 1:
        what = "has no column" if not found else f"has {len(found)} columns"
        raise EngineError(f"{file}:1: {what} among {', '.join(names)}; one is needed")
    return found[0]


def _cell(where: str, words: Mapping[str, str], load: str, temperature: str) -> Cell:
    values = [_number(where, name, words[name]) for name in (load, temperature, *MEASURES)]
    for name, value in zip((load, temperature), values, strict=False):
        if not 0 <= value < math.inf:
            raise EngineError(f"{where}: {name}: {words[name].strip() or 'nothing'} is no place")
    for name, value in zip(MEASURES, values[2:], strict=True):
        if math.isinf(value):
            raise EngineError(f"{where}: {name}: {words[name].strip()} is not finite")
        if name in _SHARES and not (math.isnan(value) or 0 <= value <= 100):
            raise EngineError(f"{where}: {name}: {value:g} is no percentage")
    return Cell(*values)


def _number(where: str, name: str, word: str) -> float:
    if not word.strip():
        return math.nan
    try:
        return float(word)
    except ValueError as e:
        raise EngineError(f"{where}: {name}: {word.strip()!r} is not a number") from e


def _repeated(cells: Sequence[Cell]) -> tuple[int, int] | None:
    """The first cell that lies where an earlier one does: both positions."""
    seen: dict[tuple[float, float], int] = {}
    for k, cell in enumerate(cells):
        first = seen.setdefault((cell.load, cell.temperature), k)
        if first != k:
            return k, first
    return None


def _connectedness(cell: Cell) -> float:
    return -abs(cell.mode_connectivity_pct)


def _measure(name: str) -> Callable[[Cell], float]:
    return lambda cell: float(getattr(cell, name))


_CORRELATED: Mapping[str, Callable[[Cell], float]] = {
    name: _measure(name)
    for name in MEASURES
    if name not in ("test_accuracy_pct", "train_accuracy_pct")
} | {"-|mode_connectivity|": _connectedness}


def _with_accuracy(cells: Iterable[Cell], value: Callable[[Cell], float]) -> float:
    pairs = [(c.test_accuracy_pct, value(c)) for c in cells]
    return spearman([a for a, _ in pairs], [b for _, b in pairs])


def _strength(rho: float) -> float:
    return -1.0 if math.isnan(rho) else abs(rho)
