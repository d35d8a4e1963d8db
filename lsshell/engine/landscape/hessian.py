"""The spectrum of the loss's curvature at a place: both ends, trace, and density."""

from __future__ import annotations

from dataclasses import dataclass

from lsshell.engine.errors import EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.curvature_operator import CurvatureOperator, Matrix
from lsshell.engine.landscape.lanczos import (
    DEFAULT_PRODUCTS,
    DEFAULT_TOLERANCE,
    Eigenvalues,
    top_eigenvalues,
)
from lsshell.engine.landscape.places import Place, visit
from lsshell.engine.landscape.spectral_density import (
    DEFAULT_PROBES,
    DEFAULT_STEPS,
    SpectralDensity,
    spectral_density,
)
from lsshell.engine.landscape.trace import DEFAULT_PROBES as DEFAULT_TRACE_PROBES
from lsshell.engine.landscape.trace import Estimate, TraceMethod, check_probes, hessian_trace
from lsshell.engine.problem import Problem


@dataclass(frozen=True)
class HessianRequest:
    """What `measure_hessian` is asked for.

    k: eigenvalues at each end (of the Gauss-Newton matrix, which has no negative ones, at the upper
    end alone); trace_probes, density_steps: 0 leaves that out; trace_error: relative, ends the
    trace early; examples: so many, drawn by `seed`, the same at every place (all).
    """

    k: int = 5
    matrix: Matrix = "hessian"
    examples: int | None = None
    seed: int = 0
    tolerance: float = DEFAULT_TOLERANCE
    most_products: int = DEFAULT_PRODUCTS
    trace_probes: int = DEFAULT_TRACE_PROBES
    trace_method: TraceMethod = "hutchinson"
    trace_error: float | None = None
    density_steps: int = DEFAULT_STEPS
    density_probes: int = DEFAULT_PROBES


@dataclass(frozen=True)
class HessianResult:
    """The spectrum at a place: `p` eigenvalues, of the mean loss over `examples`.

    products: all that it took; gradients: their work in loss-and-gradients of all examples.
    """

    place: str
    matrix: Matrix
    p: int
    examples: int
    eigenvalues: Eigenvalues
    trace: Estimate | None
    density: SpectralDensity | None
    products: int
    gradients: int


def measure_hessian(
    problem: Problem,
    place: Place,
    request: HessianRequest = HessianRequest(),
    listen: Listener = silent,
) -> HessianResult:
    """Eigenvalues at both ends, trace and spectral density of one matrix at a place.

    Nothing moves: afterwards the problem is as it was, to the last bit. Raises EngineError for
    numbers out of range, before the work begins; Cancelled where the user asked to stop.
    """
    _check(request)
    task, total, before = "eigenvalues", request.most_products, 0

    def moved(products: int) -> None:
        listen(Progress(f"hessian: {task}", products - before, total))

    trace = density = None
    with visit(problem, place) as spent:
        operator = CurvatureOperator(
            problem,
            place.theta,
            request.matrix,
            examples=request.examples,
            seed=request.seed,
            moved=moved,
        )
        eigenvalues = top_eigenvalues(
            operator,
            request.k,
            "both" if request.matrix == "hessian" else "top",
            tolerance=request.tolerance,
            seed=request.seed,
            most_products=request.most_products,
        )
        if request.trace_probes:
            task, total, before = "trace", request.trace_probes, operator.products
            trace = hessian_trace(
                operator,
                request.trace_probes,
                request.trace_method,
                request.seed,
                until=request.trace_error,
            )
        if request.density_steps:
            task, before = "density", operator.products
            total = request.density_probes * min(request.density_steps, problem.p)
            density = spectral_density(
                operator, request.density_steps, request.density_probes, request.seed
            )
    return HessianResult(
        place.name,
        request.matrix,
        problem.p,
        operator.examples,
        eigenvalues,
        trace,
        density,
        operator.products,
        spent.gradients,
    )


def _check(request: HessianRequest) -> None:
    """Raises EngineError for what the later measures would refuse only after the first."""
    if request.trace_probes:
        check_probes(request.trace_probes, request.trace_method, request.trace_error)
    if request.density_steps < 0 or request.density_probes < 1:
        raise EngineError(
            f"{request.density_steps} steps of {request.density_probes} probes: at least 1 of each;"
            " 0 steps leave the density out"
        )
