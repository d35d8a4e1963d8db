"""The convergence report: how each step was made, as JSON and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lsshell.sessions.tables import number, table

if TYPE_CHECKING:
    from lsshell.engine.path import Point

_HEADERS = ("step", "predictor", "(L − L*)/tolerance", "κ₁", "turning", "R by", "predicted",
            "angle", "ν", "gradients", "refused")  # fmt: skip
_SHOWN = 4  # residuals; of more, the first two and the last


def step_values(point: Point) -> dict[str, Any]:
    """The step that led to a point whose making is on record; lengths and losses as recorded.

    `contraction` is κ₁ = |second residual|/|first|; `multiplier` ν at the end of the step.
    """
    made = point.convergence
    assert made is not None
    return {
        "step": point.step,
        "branch": point.branch,
        "predictor": point.rate,
        "residuals": list(made.residuals),
        "contraction": made.contraction,
        "corrections": point.corrections,
        "turning_deg": made.turning_deg,
        "decrease": made.decrease,
        "predicted_decrease": made.predicted,
        "angle_deg": point.angle_deg,
        "multiplier": _multiplier(point),
        "gradients": made.gradients,
        "refused": [{"length": length, "why": why} for length, why in made.refused],
    }


def step_table(points: Sequence[Point]) -> str:
    """A row a step."""
    return table(_HEADERS, [_row(p) for p in points], left=(2, 10))


def _row(point: Point) -> list[str]:
    made = point.convergence
    assert made is not None
    return [
        str(point.step),
        number(point.rate, 3),
        _residuals([r / (point.tolerance or 1.0) for r in made.residuals]),
        number(made.contraction, 2),
        "–" if made.turning_deg is None else f"{made.turning_deg:.1f}°",
        f"{-made.decrease:+.3g}",
        "–" if made.predicted is None else f"{-made.predicted:+.3g}",
        "–" if point.angle_deg is None else f"{point.angle_deg:.2f}°",
        number(_multiplier(point), 3),
        str(made.gradients),
        ", ".join(f"{n} × {why}" for why, n in Counter(w for _, w in made.refused).items()),
    ]


def _residuals(each: Sequence[float]) -> str:
    words = [f"{r:+.2g}" for r in each]
    if len(words) > _SHOWN:
        words = [*words[:2], "…", words[-1]]
    return " → ".join(words) or "–"


def _multiplier(point: Point) -> float | None:
    """ν, from its inverse on record."""
    return 1.0 / point.implied_weight_decay if point.implied_weight_decay else None
