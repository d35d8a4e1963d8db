"""Plain-text tables and numbers for people."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def number(value: float | None, digits: int = 4) -> str:
    """A number in `digits` significant digits; – where there is none."""
    if value is None:
        return "–"
    return f"{value:.{digits}g}"


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)
) -> str:
    """Aligned columns, two spaces apart; flush right, those numbered in `left` flush left."""
    widths = [max(len(r[i]) for r in (headers, *rows)) for i in range(len(headers))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            c.ljust(w) if i in left else c.rjust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    return "\n".join([line(headers), *(line(r) for r in rows)])
