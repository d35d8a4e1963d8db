"""Every measure of a place that is one number, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.regularizers import REGULARIZERS, make_regularizer
from lsshell.engine.suggestions import did_you_mean
from lsshell.engine.vectors import norm

if TYPE_CHECKING:
    from lsshell.engine.landscape.places import Place
    from lsshell.engine.problem import Problem


@dataclass(frozen=True)
class Context:
    """Where a measure is taken, and what it may refer to.

    place: with θ, its buffers and, where it is a recorded point, what is on record of it; start:
    what distances, similarities and barriers are from (None: they are not defined); seed: of what
    is drawn, the same at all places; shared: what a measure makes once and uses at each place (a
    regulariser under its name).
    """

    place: Place
    start: Place | None = None
    seed: int = 0
    shared: dict[str, Any] = field(default_factory=dict)


Measure = Callable[["Problem", Tensor, Context], float | None]


@dataclass(frozen=True)
class Scalar:
    """A measure: its name, what it is in one line, and its function of a problem, θ (p,) and the
    context; `cheap` where that costs a few passes over θ or the data.

    The function is called inside a `visit` of the place. It gives None where the measure is not
    defined there, and raises EngineError where it is not for this network or data.
    """

    name: str
    description: str
    function: Measure
    cheap: bool = False


SCALARS: dict[str, Scalar] = {}


def _scalar(name: str, description: str, *, cheap: bool = False) -> Callable[[Measure], Measure]:
    """Registers a function under a name."""

    def add(function: Measure) -> Measure:
        SCALARS[name] = Scalar(name, description, function, cheap)
        return function

    return add


def find_scalars(names: str | None) -> list[Scalar]:
    """The measures of a comma-separated list, in its order; `all` of them; by default the cheap.

    Raises EngineError for a name that there is not.
    """
    if names is None:
        return [s for s in SCALARS.values() if s.cheap]
    if names == "all":
        return list(SCALARS.values())
    asked = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in asked:
        if name not in SCALARS:
            raise EngineError(
                f"no measure {name or '(empty)'}{did_you_mean(name, SCALARS)}; there are"
                f" {', '.join(SCALARS)}, or all"
            )
    return [SCALARS[name] for name in asked]


def _start(context: Context) -> Place:
    if context.start is None:
        raise EngineError("there is no start to measure from")
    return context.start


# -- of the path ---------------------------------------------------------------------------------


@_scalar("length", "length of the path walked to there", cheap=True)
def _length(problem: Problem, theta: Tensor, context: Context) -> float | None:
    return None if context.place.point is None else context.place.point.length


@_scalar("distance-to-start", "‖θ − θ_start‖", cheap=True)
def _distance(problem: Problem, theta: Tensor, context: Context) -> float:
    return norm(theta - _start(context).theta)


@_scalar("angle", "angle between ∇L and ∇R on record, in degrees", cheap=True)
def _angle(problem: Problem, theta: Tensor, context: Context) -> float | None:
    return None if context.place.point is None else context.place.point.angle_deg


@_scalar("multiplier", "ν of min R on the level set, on record; 1/ν is the weight decay implied",
         cheap=True)  # fmt: skip
def _multiplier(problem: Problem, theta: Tensor, context: Context) -> float | None:
    point = context.place.point
    implied = None if point is None else point.implied_weight_decay
    return 1.0 / implied if implied else None


# -- of the loss ---------------------------------------------------------------------------------


@_scalar("loss", "training loss L", cheap=True)
def _loss(problem: Problem, theta: Tensor, context: Context) -> float:
    return problem.loss(theta)


@_scalar("train-accuracy", "share of the training examples that are classified right", cheap=True)
def _train_accuracy(problem: Problem, theta: Tensor, context: Context) -> float:
    return _accuracy(problem, problem.metrics(theta, "train").accuracy)


@_scalar("test-loss", "loss on the test examples", cheap=True)
def _test_loss(problem: Problem, theta: Tensor, context: Context) -> float:
    return problem.metrics(theta, "test").loss


@_scalar("test-accuracy", "share of the test examples that are classified right", cheap=True)
def _test_accuracy(problem: Problem, theta: Tensor, context: Context) -> float:
    return _accuracy(problem, problem.metrics(theta, "test").accuracy)


def _accuracy(problem: Problem, found: float | None) -> float:
    if found is None:
        raise EngineError(f"{problem.data.name} is for regression, which has no accuracy")
    return found


@_scalar("slope", "‖∇L‖", cheap=True)
def _slope(problem: Problem, theta: Tensor, context: Context) -> float:
    return norm(problem.loss_and_gradient(theta)[1])


@_scalar("pl", "PL* constant ρ = ‖∇L‖²/(2L)", cheap=True)
def _pl(problem: Problem, theta: Tensor, context: Context) -> float | None:
    """For a least loss of 0 (Liu, Zhu & Belkin 2020)."""
    loss, gradient = problem.loss_and_gradient(theta)
    return norm(gradient) ** 2 / (2.0 * loss) if loss > 0.0 else None


# -- regularisers --------------------------------------------------------------------------------


def _regularizer(name: str, problem: Problem, theta: Tensor, context: Context) -> float:
    """With default options, made at the start, unless one is shared."""
    if name not in context.shared:
        at = theta if context.start is None else context.start.theta
        context.shared[name] = make_regularizer(name, problem, at, seed=context.seed)
    return context.shared[name].value(theta)


for _name, _kind in REGULARIZERS.items():
    _scalar(_name, f"regulariser: {_kind.formula}", cheap=_kind.cheap)(partial(_regularizer, _name))
