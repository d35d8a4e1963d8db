"""A point in words and as the JSON object that every command gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lsshell.sessions.tables import number, table

if TYPE_CHECKING:
    from lsshell.engine.path import Point


def test_rate(point: Point) -> dict[str, float | None]:
    """The RMSE of regression, or the accuracy of classification, under its name."""
    if point.test_rmse is not None:
        return {"test_rmse": point.test_rmse}
    return {"test_accuracy": point.test_accuracy}


def point_values(point: Point) -> dict[str, Any]:
    """The fields of a point in the order in which they are promised."""
    return {
        "step": point.step,
        "loss": point.loss,
        "level": point.level,
        "tolerance": point.tolerance,
        "test_loss": point.test_loss,
        **test_rate(point),
        **({} if point.validation_loss is None else {"validation_loss": point.validation_loss}),
        "regularizers": dict(point.regularizers),
        "angle_deg": point.angle_deg,
        "implied_weight_decay": point.implied_weight_decay,
        "gradients": point.gradients,
        "distance": point.distance,
        "length": point.length,
    }


def test_words(point: Point) -> str:
    """`test loss 0.57, accuracy 88.6 %` (or RMSE)."""
    words = f"test loss {number(point.test_loss)}"
    if point.test_accuracy is not None:
        words += f", accuracy {100 * point.test_accuracy:.2f} %"
    if point.test_rmse is not None:
        words += f", RMSE {number(point.test_rmse)}"
    return words


def point_words(point: Point) -> str:
    """One line on where a point is."""
    return f"step {point.step} of {point.branch}: loss {number(point.loss)}, {test_words(point)}"


def side_by_side(points: Sequence[tuple[str, Point]], names: Sequence[str]) -> str:
    """A table of points in columns; a row each for losses, the regularisers named, and measures."""
    rows: list[list[str]] = []

    def row(label: str, values: Sequence[str]) -> None:
        if any(v != "–" for v in values):
            rows.append([label, *values])

    each = [p for _, p in points]
    row("training loss", [number(p.loss, 6) for p in each])
    row(
        "(L − L*)/tolerance",
        ["–" if p.residual is None else f"{p.residual:+.3f}" for p in each],
    )
    row("validation loss", [number(p.validation_loss, 5) for p in each])
    row("test loss", [number(p.test_loss, 5) for p in each])
    row(
        "test accuracy",
        ["–" if p.test_accuracy is None else f"{100 * p.test_accuracy:.2f} %" for p in each],
    )
    row("test RMSE", [number(p.test_rmse, 5) for p in each])
    for name in names:
        row(name, [number(p.regularizers.get(name), 5) for p in each])
    row("angle(∇L, ∇R)", ["–" if p.angle_deg is None else f"{p.angle_deg:.2f}°" for p in each])
    row("implied weight decay 1/ν", [number(p.implied_weight_decay) for p in each])
    row("gradients", [str(p.gradients) for p in each])
    row("distance from start", [number(p.distance) for p in each])
    row("path length", [number(p.length) for p in each])
    return table(["", *(label for label, _ in points)], rows)
