"""Every measure of a place that is one number, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.regularizers import REGULARIZERS, make_regularizer
from lsshell.engine.suggestions import did_you_mean
from lsshell.engine.vectors import norm

if TYPE_CHECKING:
    from lsshell.engine.landscape.lanczos import Eigenvalues
    from lsshell.engine.landscape.places import Place
    from lsshell.engine.landscape.tangent_kernel import TangentKernel
    from lsshell.engine.landscape.topology import Topology
    from lsshell.engine.problem import Problem

T = TypeVar("T")
LINE = 0.01  # Wu, Du, Chen et al. 2021; 50 lines of 10 intervals are the defaults of `roughness`
PLANE_POINTS = 21


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
    from lsshell.engine.landscape.tangent_kernel import pl_constant

    loss, gradient = problem.loss_and_gradient(theta)
    return pl_constant(loss, norm(gradient))


# -- of the landscape ----------------------------------------------------------------------------
# Settings are the published or the default ones of each measure, with the context's seed.


def _once(name: str, context: Context, compute: Callable[[], T]) -> T:
    """What several measures at a place have in common is computed for the first of them."""
    if context.shared.get(name, (None,))[0] is not context.place:
        context.shared[name] = (context.place, compute())
    return context.shared[name][1]


def _eigenvalues(problem: Problem, theta: Tensor, context: Context) -> Eigenvalues:
    from lsshell.engine.landscape.curvature_operator import CurvatureOperator
    from lsshell.engine.landscape.lanczos import top_eigenvalues

    def compute() -> Eigenvalues:
        operator = CurvatureOperator(problem, theta, "hessian", seed=context.seed)
        return top_eigenvalues(operator, 1, "both", seed=context.seed)

    return _once("eigenvalues", context, compute)


@_scalar("hessian-top", "greatest eigenvalue of ∇²L")
def _hessian_top(problem: Problem, theta: Tensor, context: Context) -> float:
    return _eigenvalues(problem, theta, context).greatest


@_scalar("hessian-least", "least eigenvalue of ∇²L")
def _hessian_least(problem: Problem, theta: Tensor, context: Context) -> float:
    return _eigenvalues(problem, theta, context).least


def _kernel(problem: Problem, context: Context) -> TangentKernel:
    from lsshell.engine.landscape.tangent_kernel import tangent_kernel

    return _once(
        "kernel", context, lambda: tangent_kernel(problem, context.place, seed=context.seed)
    )


@_scalar("kernel-condition", "λ_max/λ_min of the tangent kernel on a sample")
def _kernel_condition(problem: Problem, theta: Tensor, context: Context) -> float:
    return _kernel(problem, context).condition


@_scalar("kernel-rank", "effective rank (tr K)²/‖K‖² of the tangent kernel on a sample")
def _kernel_rank(problem: Problem, theta: Tensor, context: Context) -> float:
    return _kernel(problem, context).effective_rank


@_scalar("roughness", "roughness index on 50 random lines of ±0.01 (filter-normalised)")
def _roughness(problem: Problem, theta: Tensor, context: Context) -> float | None:
    from lsshell.engine.landscape.roughness import roughness

    found = roughness(problem, context.place, spans=(LINE,), seed=context.seed)
    return found.rows[0].index


def _plane(problem: Problem, theta: Tensor, context: Context) -> Topology:
    """Of a plane of two random directions, filter-normalised, from −1 to 1."""
    from lsshell.engine.landscape.directions import random_directions
    from lsshell.engine.landscape.grid import evaluate, grid
    from lsshell.engine.landscape.topology import topology

    def compute() -> Topology:
        axis = torch.linspace(-1.0, 1.0, PLANE_POINTS, dtype=torch.float64).tolist()
        directions = random_directions(problem, theta, 2, context.seed)
        values = evaluate(problem, theta, directions, grid(axis, axis), splits=("train",))
        return topology(values["train"].loss.view(PLANE_POINTS, PLANE_POINTS).numpy())

    return _once("plane", context, compute)


@_scalar("smad", "saddle-minimum average distance in a random plane of ±1, 21 × 21 points")
def _smad(problem: Problem, theta: Tensor, context: Context) -> float:
    return _plane(problem, theta, context).smad


@_scalar("minima", "minima in a random plane of ±1 that persist by more than 0.1 % of its range")
def _minima(problem: Problem, theta: Tensor, context: Context) -> float:
    return float(_plane(problem, theta, context).minima)


@_scalar("prunable", "share of the weights that may be zero at half a point of training accuracy")
def _prunable(problem: Problem, theta: Tensor, context: Context) -> float:
    from lsshell.engine.landscape.compression import compression

    return compression(problem, context.place).sparsity


# -- beside the start ----------------------------------------------------------------------------


def _outputs(problem: Problem, theta: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """Of the test examples, at the start and here."""
    from lsshell.engine.landscape.places import visit

    start, x = _start(context), problem.examples("test")[0]
    if "outputs at start" not in context.shared:
        with visit(problem, start):
            context.shared["outputs at start"] = problem.outputs(start.theta, x)
    there = context.shared["outputs at start"]
    return there, _once("outputs", context, lambda: problem.outputs(theta, x))


@_scalar("cka-to-start", "linear CKA of the outputs with those at the start, on the test examples")
def _cka(problem: Problem, theta: Tensor, context: Context) -> float:
    from lsshell.engine.landscape.similarity import cka

    return cka(*_outputs(problem, theta, context))


@_scalar("disagreement-to-start", "share of the test examples classified otherwise than at the"
         " start")  # fmt: skip
def _disagreement(problem: Problem, theta: Tensor, context: Context) -> float:
    if not problem.classification:
        raise EngineError(f"{problem.data.name} is for regression, which has no classes")
    there, here = _outputs(problem, theta, context)
    return float((there.argmax(1) != here.argmax(1)).double().mean())


@_scalar("linear-barrier-to-start", "most that L rises over its straight interpolation, on the"
         " line to the start")  # fmt: skip
def _barrier(problem: Problem, theta: Tensor, context: Context) -> float:
    from lsshell.engine.landscape.connectivity import mode_connectivity
    from lsshell.engine.landscape.curves import line

    return mode_connectivity(problem, line(_start(context).theta, theta)).train_loss.barrier


# -- regularisers --------------------------------------------------------------------------------


def _regularizer(name: str, problem: Problem, theta: Tensor, context: Context) -> float:
    """With default options, made at the start, unless one is shared."""
    if name not in context.shared:
        at = theta if context.start is None else context.start.theta
        context.shared[name] = make_regularizer(name, problem, at, seed=context.seed)
    return context.shared[name].value(theta)


for _name, _kind in REGULARIZERS.items():
    _scalar(_name, f"regulariser: {_kind.formula}", cheap=_kind.cheap)(partial(_regularizer, _name))
