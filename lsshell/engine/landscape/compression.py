"""How far a network's weights can be compressed, and what is left of it then.

C = ‖w‖₁/‖w‖₂: Aytekin, Cricri & Aksu 2019, "Compressibility loss for neural network weights"; what
it buys in pruning and quantisation.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.places import Place, visit
from lsshell.engine.problem import Problem, Slot, Split, TestMetrics
from lsshell.engine.regularizers.sparsity import compressibility
from lsshell.engine.vectors import wide

NEAR_ZERO = 1e-3  # of a tensor's greatest |w|
LEVELS = (3, 16, 256)
ACCURACY_POINTS, RMSE_SHARE = 0.005, 0.005
SHARES = tuple(k / 20 for k in range(21))
BISECTIONS = 6


@dataclass(frozen=True)
class WeightMeasures:
    """What one weight tensor w (n,) says, or all of them together.

    compressibility: C = ‖w‖₁/‖w‖₂ in [1, √n], None where all are zero; hoyer: the sparsity
    (√n − C)/(√n − 1) in [0, 1] (Hoyer 2004), None for n = 1; near_zero: the share of |w| < 1e-3 of
    the tensor's greatest; pruned: the share that is zero after pruning; entropy: bits a weight
    when quantised to 3, 16 and 256 levels, evenly spaced from −max|w| to max|w| of the tensor.
    """

    name: str
    weights: int
    compressibility: float | None
    hoyer: float | None
    near_zero: float
    pruned: float
    entropy: dict[int, float]


@dataclass(frozen=True)
class Compression:
    """What compressing the weights (biases and scales stay) at a place leaves.

    Rates are accuracies in [0, 1], or RMSEs in regression. train, test: of the network as it is.
    threshold, sparsity: all |w| ≤ threshold, this share, are set to zero, the greatest found that
    leaves the training accuracy within half a point (the RMSE within half a percent); pruned_…:
    the rates then. int8_…: with each tensor rounded to 255 even levels, −127 … 127 times
    max|w|/127; size_ratio: bytes of the weights in float32 over those of zlib (level 9) on the int8
    weights and a float32 scale for each tensor; pruned_ratio: that of the pruned weights.
    curve: (share pruned, train, test) for shares 0, 0.05, …, 1. sum: Σ over tensors of C, the
    regulariser `compress`.
    """

    place: str
    tensors: tuple[WeightMeasures, ...]
    total: WeightMeasures
    sum: float
    classification: bool
    train: float
    test: float
    threshold: float
    sparsity: float
    pruned_train: float
    pruned_test: float
    int8_train: float
    int8_test: float
    size_ratio: float
    pruned_ratio: float
    curve: tuple[tuple[float, float, float], ...]


def compression(problem: Problem, place: Place, *, listen: Listener = silent) -> Compression:
    """Measures the weights (tensors of two or more dimensions) at a place.

    Pruning is by magnitude, one threshold for all tensors. The accuracy need not fall steadily:
    shares 0, 0.05, …, 1 are tried, and from the greatest that is within the bound on six
    bisections towards the next (to 0.1 %). Raises EngineError where the network has no weights
    besides biases.
    """
    slots = [slot for slot in problem.slots if slot.is_weight]
    if not slots:
        raise EngineError("this network has no weights besides biases to compress")
    total, done = 2 * len(SHARES) + BISECTIONS + 4, 0
    theta = place.theta

    def rate(at: Tensor, split: Split) -> float:
        nonlocal done
        done += 1
        listen(Progress("compress", done, total, place.name))
        return _rate(problem.metrics(at, split))

    with visit(problem, place):
        magnitudes = torch.cat([_part(theta, s) for s in slots]).abs().sort().values

        def pruned_to(share: float) -> tuple[Tensor, float]:
            threshold = _threshold(magnitudes, share)
            return _pruned(theta, slots, threshold), threshold

        curve = []
        for share in SHARES:
            at, _ = pruned_to(share)
            curve.append((share, rate(at, "train"), rate(at, "test")))
        bound = _bound(problem, curve[0][1])
        low = max(share for share, train, _ in curve if bound(train))
        high = low + 1 / 20
        for _ in range(BISECTIONS if low < 1.0 else 0):
            middle = (low + high) / 2
            if bound(rate(pruned_to(middle)[0], "train")):
                low = middle
            else:
                high = middle
        pruned, threshold = pruned_to(low)
        rounded, codes = _int8(theta, slots)
        _, pruned_codes = _int8(pruned, slots)
        tensors = tuple(_measures(theta, pruned, slot) for slot in slots)
        found = Compression(
            place=place.name,
            tensors=tensors,
            total=_together(theta, pruned, slots, tensors),
            sum=math.fsum(t.compressibility or 0.0 for t in tensors),
            classification=problem.classification,
            train=curve[0][1],
            test=curve[0][2],
            threshold=threshold,
            sparsity=_zeros(pruned, slots),
            pruned_train=rate(pruned, "train"),
            pruned_test=rate(pruned, "test"),
            int8_train=rate(rounded, "train"),
            int8_test=rate(rounded, "test"),
            size_ratio=_ratio(codes),
            pruned_ratio=_ratio(pruned_codes),
            curve=tuple(curve),
        )
    listen(Progress("compress", total, total, place.name))
    return found


def hoyer(weights: int, ratio: float | None) -> float | None:
    """(√n − C)/(√n − 1): 0 where all are alike in magnitude, 1 where one alone is not zero."""
    if ratio is None or weights < 2:
        return None
    root = math.sqrt(weights)
    return min(1.0, max(0.0, (root - ratio) / (root - 1.0)))


def entropy(weights: Tensor, levels: int) -> float:
    """Bits a weight of w (n,) rounded to so many even levels from −max|w| to max|w|."""
    w = weights.detach().cpu().double().flatten().numpy()
    most = float(np.abs(w).max())
    if most == 0.0:
        return 0.0
    step = 2.0 * most / (levels - 1)
    counts = np.bincount(np.rint((w + most) / step).astype(np.int64), minlength=levels)
    shares = counts[counts > 0] / len(w)
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def _part(theta: Tensor, slot: Slot) -> Tensor:
    return theta[slot.offset : slot.offset + slot.size]


def _rate(metrics: TestMetrics) -> float:
    found = metrics.rmse if metrics.accuracy is None else metrics.accuracy
    assert found is not None
    return found


def _bound(problem: Problem, before: float) -> Callable[[float], bool]:
    """Whether a training rate is as good as before, within the half point or percent."""
    if problem.classification:
        # An accuracy is a multiple of 1/N: rounding must not count as a difference.
        return lambda rate: rate >= before - ACCURACY_POINTS - 1e-12
    return lambda rate: rate <= before * (1.0 + RMSE_SHARE)


def _threshold(magnitudes: Tensor, share: float) -> float:
    """|w| up to which that share of the weights lies; below 0 where none is to go."""
    count = math.floor(share * len(magnitudes) + 1e-9)
    return float(magnitudes[count - 1]) if count else -1.0


def _pruned(theta: Tensor, slots: list[Slot], threshold: float) -> Tensor:
    found = theta.clone()
    for slot in slots:
        part = _part(found, slot)
        part[part.abs() <= threshold] = 0.0
    return found


def _zeros(theta: Tensor, slots: list[Slot]) -> float:
    return sum(int((_part(theta, s) == 0).sum()) for s in slots) / sum(s.size for s in slots)


def _int8(theta: Tensor, slots: list[Slot]) -> tuple[Tensor, list[Tensor]]:
    """θ with its weights rounded, and the numbers −127 … 127 that they are rounded to."""
    found, codes = theta.clone(), []
    for slot in slots:
        part = _part(found, slot)
        scale = float(part.abs().max()) / 127.0
        code = (part / scale).round().clamp(-127, 127) if scale > 0.0 else torch.zeros_like(part)
        codes.append(code.to(torch.int8).cpu())
        part.copy_(code * scale)
    return found, codes


def _ratio(codes: list[Tensor]) -> float:
    packed = zlib.compress(torch.cat(codes).numpy().tobytes(), 9)
    return 4 * sum(len(c) for c in codes) / (len(packed) + 4 * len(codes))


def _measures(theta: Tensor, pruned: Tensor, slot: Slot) -> WeightMeasures:
    w = _part(theta, slot)
    ratio = compressibility(wide(w))
    return WeightMeasures(
        name=slot.name,
        weights=slot.size,
        compressibility=ratio,
        hoyer=hoyer(slot.size, ratio),
        near_zero=_near_zero(w),
        pruned=_zeros(pruned, [slot]),
        entropy={k: entropy(w, k) for k in LEVELS},
    )


def _near_zero(w: Tensor) -> float:
    size = w.abs()
    most = float(size.max())
    return int((size < NEAR_ZERO * most).sum()) / len(w) if most > 0.0 else 1.0


def _together(
    theta: Tensor, pruned: Tensor, slots: list[Slot], tensors: tuple[WeightMeasures, ...]
) -> WeightMeasures:
    """C and h of all weights as one vector, the rest as means over the weights."""
    w = torch.cat([_part(theta, s) for s in slots])
    ratio = compressibility(wide(w))
    n = len(w)

    def mean(of: Callable[[WeightMeasures], float]) -> float:
        return math.fsum(of(t) * t.weights for t in tensors) / n

    return WeightMeasures(
        name="all",
        weights=n,
        compressibility=ratio,
        hoyer=hoyer(n, ratio),
        near_zero=mean(lambda t: t.near_zero),
        pruned=_zeros(pruned, slots),
        entropy={k: mean(lambda t, k=k: t.entropy[k]) for k in LEVELS},
    )
