"""What a report is made of, and how it is written: Markdown, CSV, PNG and SVG."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsshell.engine.comparison import Spread
from lsshell.figures.figure import Figure
from lsshell.sessions.report.statistics import Paired
from lsshell.sessions.tables import number, table
from lsshell.sessions.whole_file import write_whole


@dataclass(frozen=True)
class Table:
    """Cells are text, numbers, spreads or nothing; the caption says what and how many runs."""

    name: str
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def text(self) -> str:
        """For terminals."""
        return table(list(self.headers), [[_cell(c) for c in row] for row in self.rows])

    def markdown(self) -> str:
        lines = [" | ".join(h.replace("|", "\\|") for h in self.headers)]
        lines.append("|".join(["---"] * len(self.headers)))
        lines += [" | ".join(_cell(c).replace("|", "\\|") for c in row) for row in self.rows]
        return "\n".join(f"| {line} |" for line in lines)

    def csv(self) -> str:
        """Every number in full; a spread is two columns, an interval three."""
        parts = [_parts([row[i] for row in self.rows]) for i in range(len(self.headers))]
        names = [f"{h}{p}" for h, ps in zip(self.headers, parts, strict=True) for p in ps]
        rows = (
            [v for cell, ps in zip(row, parts, strict=True) for v in _values(cell, len(ps))]
            for row in self.rows
        )
        return _csv(names, rows)


@dataclass(frozen=True)
class Picture:
    """One figure, or several above one another that share their x axis."""

    name: str
    caption: str
    panels: Sequence[Figure]
    scene: Scene | None = None

    def csv(self) -> str:
        if self.scene is not None:
            return self.scene.csv()
        rows: list[Sequence[Any]] = []
        for panel in self.panels:
            for s in panel.series:
                none = ("",) * len(s.x)
                for x, y, spread, shade in zip(
                    panel.categories or s.x, s.y, s.spread or none, s.shade or none, strict=True
                ):
                    rows.append([panel.y_label, s.name, x, y, spread, shade])
        return _csv(["panel", "series", "x", "y", "spread", "shade"], rows)


@dataclass(frozen=True)
class Scene:
    """Points in six principal components, for a pair of 3-D scatters; see `write_scene`."""

    lines: Sequence[tuple[str, Any]]
    marks: Sequence[tuple[str, str, Any]]

    def csv(self) -> str:
        named = (*self.lines, *((name, points) for name, _, points in self.marks))
        rows = ([name, *map(float, point)] for name, points in named for point in points)
        return _csv(["", *(f"PC {k}" for k in range(1, 7))], rows)


@dataclass(frozen=True)
class Section:
    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def write_report(folder: Path, title: str, sections: Sequence[Section]) -> Path:
    """Writes FOLDER/report.md with a CSV a table, and a PNG, an SVG and a CSV a picture."""
    from lsshell.figures.files import write_panels, write_scene

    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        if section.text:
            lines += [section.text, ""]
        for part in section.tables:
            lines += [f"{part.caption} (`{part.name}.csv`)", "", part.markdown(), ""]
            write_whole(folder / f"{part.name}.csv", part.csv().encode())
        for picture in section.pictures:
            for form in ("png", "svg"):
                file = folder / f"{picture.name}.{form}"
                if picture.scene is not None:
                    write_scene(picture.scene.lines, picture.scene.marks, file, title=section.title)
                else:
                    write_panels(picture.panels, file, title=section.title)
            write_whole(folder / f"{picture.name}.csv", picture.csv().encode())
            lines += [f"![{picture.caption}]({picture.name}.png)", "", f"*{picture.caption}*", ""]
    report = folder / "report.md"
    write_whole(report, "\n".join(lines).encode())
    return report


def _csv(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows(rows)
    return out.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, Spread):
        return f"{number(value.mean)} ± {number(value.std, 2)}"
    if isinstance(value, Paired):
        return f"{value.mean:+.4f} [{value.low:+.4f}, {value.high:+.4f}]" + " !" * value.sure
    if value is None or isinstance(value, float):
        return number(value)
    return str(value)


def _parts(column: Sequence[Any]) -> tuple[str, ...]:
    if any(isinstance(c, Spread) for c in column):
        return ("", " std")
    if any(isinstance(c, Paired) for c in column):
        return ("", " low", " high")
    return ("",)


def _values(cell: Any, count: int) -> list[Any]:
    if isinstance(cell, Spread):
        return [cell.mean, cell.std]
    if isinstance(cell, Paired):
        return [cell.mean, cell.low, cell.high]
    return ["" if cell is None else cell, *[""] * (count - 1)]
