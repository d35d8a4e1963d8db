"""Which measures rank points, or sessions, as the test loss does: correlate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lsshell.engine.suggestions import did_you_mean
from lsshell.figures.figure import Figure, Series
from lsshell.sessions.errors import CommandError
from lsshell.sessions.outputs import check_files, with_files
from lsshell.sessions.reply import Reply
from lsshell.sessions.tables import number, table
from lsshell.sessions.vocabulary import VOCABULARY, FromSession

if TYPE_CHECKING:
    from lsshell.engine.landscape.correlation import Correlations, MeasureTable

Target = Literal["test-loss", "test-accuracy"]
NOT_INDEPENDENT = (
    "points along one walk are not independent: what changes steadily correlates with whatever else"
    " does, and p is too small"
)


@VOCABULARY.command("landscape")
def correlate(
    *,
    measures: str | None = None,
    target: Annotated[Target, Parameter(name="--with")] = "test-loss",
    points: int = 20,
    sessions: Annotated[
        tuple[Path, ...], Parameter(negative="", consume_multiple=True, show_default=False)
    ] = (),
    out: Path | None = None,
    save: Path | None = None,
    session: FromSession,
) -> Reply:
    """Rank correlations of every measure with test loss: along the walk, or across sessions.

    Spearman's ρ and Kendall's τ-b, with p by permutation. Points along one walk are not
    independent: p is then too small. Across sessions, a row is where a session's last walk ended,
    with what is on record there.

    Parameters
    ----------
    measures
        Names with commas between, or `all`, the costly ones too (the cheap ones).
    target
        What to correlate with: test-loss or test-accuracy.
    points
        At most so many kept points on the way from the start to here, evenly chosen.
    sessions
        Folders of saved sessions, or of batches of them, instead of the walk at hand.
    out
        Write the bars to FILE.png, .svg, .pdf or .txt; the session keeps a copy.
    save
        Write the measures themselves, a row a point or session, to FILE.csv or .json.
    """
    from lsshell.engine.landscape.correlation import correlate_along
    from lsshell.engine.landscape.scalars import find_scalars

    check_files(session, out, save)
    if measures is not None and measures.strip() == target:
        raise CommandError(f"--measures {measures}: that is what measures are correlated with")
    if sessions:
        found = _across(session, sessions, measures, target)
        title = f"rank correlation with {_words(target)} across {len(found.table.places)} sessions"
    else:
        engine = session.engine
        found = correlate_along(
            engine, find_scalars(measures), target, points=points, listen=engine.listen
        )
        title = f"rank correlation with {_words(target)} at {len(found.table.places)} points"
    figure = _figure(found, title)
    if figure is None and out is not None:
        raise CommandError(f"--out {out}: none of these measures varies, so there are no bars")
    values = _values(found, sessions=bool(sessions))
    text = f"{title}\n{_table(found)}"
    for name, why in found.table.missing.items():
        text += f"\n{name}: {why}"
    if not sessions:
        text += f"\n{NOT_INDEPENDENT}"
    # Other sessions go on being written: a replay may well find more in them.
    reply = Reply(values, text, {} if sessions else None, figure)
    return with_files(session, reply, out, save, found.table.rows)


def _across(
    session: FromSession, folders: Sequence[Path], measures: str | None, target: Target
) -> Correlations:
    """Over the ends of saved sessions."""
    from lsshell.engine.landscape.correlation import correlate
    from lsshell.sessions.session_ends import ends_table

    own = session.journal.folder if session.journal is not None else None
    found = ends_table([session.find(folder) for folder in folders], own)
    if target not in found.columns or target in found.missing:
        raise CommandError(f"--with {target}: these sessions have none on record")
    if measures not in (None, "all"):
        found = _only(found, str(measures), target)
    return correlate(found, target)


def _only(found: MeasureTable, names: str, target: str) -> MeasureTable:
    """The columns asked for."""
    asked = [name.strip() for name in names.split(",")]
    for name in asked:
        if name not in found.columns:
            raise CommandError(
                f"--measures {names}: no {name or '(empty)'} is on record"
                f"{did_you_mean(name, found.columns)}; there are {', '.join(found.columns)}"
            )
    kept = {n: c for n, c in found.columns.items() if n == target or n in asked}
    missing = {n: why for n, why in found.missing.items() if n in kept}
    return replace(found, columns=kept, missing=missing)


def _values(found: Correlations, *, sessions: bool) -> dict[str, Any]:
    return {
        "with": found.target,
        "sessions" if sessions else "points": len(found.table.places),
        "measures": {
            name: {"spearman": c.spearman, "kendall": c.kendall, "p": c.p, "n": c.n}
            for name, c in found.found.items()
        },
        "missing": dict(found.table.missing),
    }


def _table(found: Correlations) -> str:
    """The strongest first; those that are nowhere defined are left out."""
    rows = []
    columns = found.table.columns
    for name in _strongest(found):
        c, column = found.found[name], [v for v in columns[name] if v is not None]
        first, last = column[0], column[-1]
        rows.append(
            [name, _signed(c.spearman), _signed(c.kendall), number(c.p, 2), str(c.n),
             number(first), number(last)]
        )  # fmt: skip
    return table(["measure", "Spearman ρ", "Kendall τ", "p", "n", "first", "last"], rows)


def _strongest(found: Correlations) -> list[str]:
    """Measures that are defined somewhere, by |ρ|; those without a ρ last."""
    names = [n for n in found.found if n not in found.table.missing]
    return sorted(names, key=lambda n: -abs(found.found[n].spearman or 0.0))


def _figure(found: Correlations, title: str) -> Figure | None:
    names = [n for n in _strongest(found) if found.found[n].spearman is not None]
    if not names:
        return None
    heights = tuple(found.found[n].spearman or 0.0 for n in names)
    places = tuple(float(k) for k in range(len(names)))
    bars = Series("Spearman ρ", places, heights, "bars")
    return Figure(title, "", "Spearman ρ", (bars,), categories=tuple(names))


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _words(target: str) -> str:
    return target.replace("-", " ")
