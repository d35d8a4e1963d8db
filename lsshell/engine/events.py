"""What the engine tells whoever listens. Nothing here prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsshell.engine.path import Point


@dataclass(frozen=True)
class Progress:
    """A long task moved on: `done` of `total` units (0: unknown), and a few words on it."""

    task: str
    done: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class Pictured:
    """A picture that a long task makes, as it is by now: rows of values, the first on top, NaN
    where none is known; what they are, and what the ends of their scale stand for.
    """

    task: str
    values: tuple[tuple[float, ...], ...]
    label: str
    limits: tuple[float, float]


@dataclass(frozen=True)
class Corrected:
    """The corrector brought a predicted point back: how many corrections it took, |L − L*| left,
    L − L* before and after each, and the decrease of R that was predicted.
    """

    corrections: int
    residual: float
    residuals: tuple[float, ...] = ()
    predicted: float | None = None


@dataclass(frozen=True)
class Refused:
    """A trial step of this length (parameter space) was refused; a shorter one follows."""

    length: float
    why: str


@dataclass(frozen=True)
class Started:
    """A point that a traversal can start from was recorded: after load, train or level."""

    point: Point


@dataclass(frozen=True)
class Stepped:
    """A step was accepted and its point recorded."""

    point: Point


@dataclass(frozen=True)
class Measured:
    """Test metrics and every cheap regulariser were taken at a recorded point."""

    point: Point


@dataclass(frozen=True)
class Kept:
    """The parameters of a recorded point, so far only its numbers, are now on record too."""

    point: Point


@dataclass(frozen=True)
class Noticed:
    """Something happened on the way: what, at which recorded point, and the value there."""

    what: str
    at: Point
    value: float

    def __str__(self) -> str:
        return f"{self.what} {self.value:.4g} at {self.at.name}"


@dataclass(frozen=True)
class Located:
    """A point between two steps was recorded, aside from the walk: an event was located there."""

    point: Point


@dataclass(frozen=True)
class Stopped:
    """The walk ended; `reason` is a sentence for people."""

    reason: str


Event = (
    Progress
    | Pictured
    | Corrected
    | Refused
    | Started
    | Stepped
    | Measured
    | Kept
    | Noticed
    | Located
    | Stopped
)
Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener for those who do not listen."""
