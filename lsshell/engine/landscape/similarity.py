"""How alike the functions of several networks are: CKA, disagreement, ensemble gain, distance."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from lsshell.engine.errors import EngineError
from lsshell.engine.events import Listener, Progress, silent
from lsshell.engine.landscape.alignment import align
from lsshell.engine.landscape.places import Place, visit
from lsshell.engine.problem import Problem, Split
from lsshell.engine.seeds import generator
from lsshell.engine.vectors import norm, wide

# The published setting (Yang et al. 2021, released code): 6 batches of 128, Beta(16, 16).
EXAMPLES = 768
MIXUP_BATCH = 128
MIXUP_ALPHA = 16
LOGITS, SOFTMAX, OUTPUTS = "logits", "softmax", "outputs"
# Layers that only pass on, or reshape, what they are given.
_PASSING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d,
            nn.Dropout3d, nn.AlphaDropout)  # fmt: skip


@dataclass(frozen=True)
class LayerSimilarity:
    """CKA of a layer's activations between two networks; None where either is constant."""

    layer: str
    linear: float | None
    kernel: float | None


@dataclass(frozen=True)
class Ensemble:
    """The average of several networks' predictions (softmax; outputs for regression) against them.

    gain: its accuracy minus the mean of theirs, in percent (None for regression); loss_change: its
    loss minus the mean of theirs, never above 0, since both losses are convex in the prediction.
    """

    loss_change: float
    gain: float | None


@dataclass(frozen=True)
class PairSimilarity:
    """Two of the places, by their numbers; CKA of each layer and of the outputs; the percentage of
    examples of which the predicted class differs (None for regression); the root mean square
    difference of the predictions (regression: None otherwise); their ensemble; ‖θ_a − θ_b‖, that
    over ½(‖θ_a‖ + ‖θ_b‖), and what is left of it where b is aligned to a (None: not asked for).
    """

    a: int
    b: int
    layers: tuple[LayerSimilarity, ...]
    disagreement: float | None
    rms_difference: float | None
    ensemble: Ensemble
    distance: float
    relative_distance: float
    aligned_distance: float | None = None

    def layer(self, name: str) -> LayerSimilarity:
        """That of a layer, or of the outputs: logits, softmax (regression: outputs)."""
        return next(found for found in self.layers if found.layer == name)


@dataclass(frozen=True)
class Similarity:
    """Places compared, their pairs, the ensemble of all, layers compared (in the order of the
    network, outputs last), how many examples CKA is of, how many the rest, and of which split.
    """

    names: tuple[str, ...]
    pairs: tuple[PairSimilarity, ...]
    ensemble: Ensemble
    layers: tuple[str, ...]
    examples: int
    predicted: int
    split: Split
    mixup: bool

    def pair(self, a: int, b: int) -> PairSimilarity:
        return next(p for p in self.pairs if (p.a, p.b) == (min(a, b), max(a, b)))


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of activations x (n, d) and y (n, e) of the same n examples, in [0, 1].

    ‖Y_cᵀX_c‖²_F / (‖X_cᵀX_c‖_F ‖Y_cᵀY_c‖_F), columns centred (Kornblith et al. 2019); by Gram
    matrices where there are more features than examples. Invariant to orthogonal maps and isotropic
    scaling of either, not to other linear maps. For unrelated features it is not 0 but of the order
    of d/n. NaN where x or y is the same for all examples. Raises EngineError for unlike n.
    """
    if len(x) != len(y) or len(x) < 2:
        raise EngineError(f"CKA needs 2 or more of the same examples, not {len(x)} and {len(y)}")
    x, y = _centred(_features(x)), _centred(_features(y))
    if x.shape[1] + y.shape[1] > 2 * len(x):
        return _cosine(x @ x.T, y @ y.T)
    cross = float((y.T @ x).square().sum())
    lengths = float(torch.linalg.norm(x.T @ x)) * float(torch.linalg.norm(y.T @ y))
    return cross / lengths if lengths > 0.0 else math.nan


def kernel_cka(x: Tensor, y: Tensor) -> float:
    """CKA of x (n, d) and y (n, e) with Gaussian kernels, each as wide as its median distance.

    tr(K_c L_c)/√(tr(K_c²) tr(L_c²)) with K_ij = exp(−‖x_i − x_j‖²/(2σ²)), σ² the median of
    ‖x_i − x_j‖² over i < j, K_c centred by rows and columns (Kornblith et al. 2019). NaN where x or
    y is the same for all examples. Raises EngineError for unlike n.
    """
    if len(x) != len(y) or len(x) < 2:
        raise EngineError(f"CKA needs 2 or more of the same examples, not {len(x)} and {len(y)}")
    return _cosine(_gaussian(_gram(x)), _gaussian(_gram(y)))


def similarity(
    problem: Problem,
    places: Sequence[Place],
    *,
    split: Split = "test",
    examples: int = EXAMPLES,
    mixup: bool = False,
    permute: bool = False,
    seed: int = 0,
    listen: Listener = silent,
) -> Similarity:
    """Compares the functions of two or more places, each with its own batch-norm statistics.

    CKA (linear and with Gaussian kernels) of every layer's activations and of the outputs is of
    `examples` examples of `split`, drawn by `seed` (all, where there are fewer), the same for all
    places. mixup: of mixtures λx_i + (1 − λ)x_π(i), λ ~ Beta(16, 16) and a permutation for each 128
    (Yang et al. 2021). Disagreement and ensembles are over the whole split, as it is. permute:
    distances after alignment too (`alignment.align`), which ‖θ_a − θ_b‖ alone ignores.

    Activations are flattened, a row an example; a layer that is called several times is listed as
    often. One layer is compared at a time: memory is its activations and n × n matrices, for each
    place. The problem is left as it was. Raises EngineError for fewer than two places or examples,
    Cancelled where the user asked to stop.
    """
    if len(places) < 2:
        raise EngineError("similarity compares two or more places")
    if examples < 2:
        raise EngineError(f"CKA needs 2 or more examples, not {examples}")
    x = _inputs(problem, split, examples, mixup, seed)
    pairs = list(combinations(range(len(places)), 2))
    names = _layer_names(problem, places[0], x[:2])
    distances = {}
    if permute:
        for a, b in pairs:
            distances[a, b] = align(problem, places[a].theta, places[b].theta, seed=seed).after
    compared: dict[tuple[int, int], list[LayerSimilarity]] = {pair: [] for pair in pairs}
    outputs: list[Tensor] = []
    for done, name in enumerate([*names, OUTPUTS], start=1):
        found = [_activations(problem, place, x, None if name == OUTPUTS else name)
                 for place in places]  # fmt: skip
        for label, features in _kinds(problem, name, found):
            _compare_layer(label, features, compared)
        listen(Progress("similarity", done, len(names) + 2, name))
    for place in places:
        with visit(problem, place):
            outputs.append(problem.outputs(place.theta, problem.examples(split)[0]))
    listen(Progress("similarity", len(names) + 2, len(names) + 2, "predictions"))
    y = problem.examples(split)[1]
    made = tuple(
        replace(
            _pair(problem, places, a, b, tuple(compared[a, b]), outputs, y),
            aligned_distance=distances.get((a, b)),
        )
        for a, b in pairs
    )
    return Similarity(
        tuple(place.name for place in places),
        made,
        _ensemble(problem, outputs, y),
        tuple(found.layer for found in compared[pairs[0]]),
        len(x),
        len(y),
        split,
        mixup,
    )


def layers_of(problem: Problem, place: Place) -> tuple[str, ...]:
    """The names under which `similarity` lists what it compares, in order."""
    outputs = (LOGITS, SOFTMAX) if problem.classification else (OUTPUTS,)
    return (*_layer_names(problem, place, problem.x_train[:2]), *outputs)


# -- activations ---------------------------------------------------------------------------------


def _inputs(problem: Problem, split: Split, examples: int, mixup: bool, seed: int) -> Tensor:
    """The inputs that CKA is of."""
    x, _ = problem.examples(split)
    if len(x) < 2:
        raise EngineError(f"there are not two {split} examples to compare on")
    chosen = torch.randperm(len(x), generator=generator(seed, "similarity"))[:examples]
    x = x[chosen.to(x.device)]
    if not mixup:
        return x
    if not x.is_floating_point():
        raise EngineError("--mixup takes inputs that are real numbers, and these are not")
    source = generator(seed, "mixup")
    mixed = []
    for part in x.split(MIXUP_BATCH):
        # Beta(α, α) of whole α: two sums of α exponentials, the first over both.
        gammas = -torch.rand(2, MIXUP_ALPHA, generator=source, dtype=torch.float64).log().sum(1)
        share = float(gammas[0] / gammas.sum())
        other = part[torch.randperm(len(part), generator=source).to(part.device)]
        mixed.append(share * part + (1.0 - share) * other)
    return torch.cat(mixed)


def _layer_names(problem: Problem, place: Place, x: Tensor) -> list[str]:
    """The layers that can be compared, as in `3 Linear`; the network's output is not among them."""
    names = []
    with visit(problem, place), torch.no_grad():
        problem.place(place.theta)
        with _listening(problem) as heard:
            result = problem.network(x)
        for name, output in heard:
            if len(output) == len(x) and output is not result and output.is_floating_point():
                names.append(name)
    return names


def _activations(problem: Problem, place: Place, x: Tensor, name: str | None) -> Tensor:
    """What a layer (None: the network) gives for x, a row an example."""
    parts = []
    with visit(problem, place), torch.no_grad():
        problem.place(place.theta)
        for part in x.split(problem.chunk):
            problem.unless_cancelled()
            with _listening(problem, name) as heard:
                found = problem.network(part)
            if name is not None:
                found = heard[0][1]
            parts.append(found.reshape(len(part), -1).clone())
    return torch.cat(parts)


@contextlib.contextmanager
def _listening(problem: Problem, only: str | None = None) -> Iterator[list[tuple[str, Tensor]]]:
    """Inside, what each layer gives, or `only` one of them, is appended to the list, named."""
    heard: list[tuple[str, Tensor]] = []
    calls: Counter[str] = Counter()

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, given: Any, output: Any) -> None:
            calls[name] += 1
            label = name if calls[name] == 1 else f"{name} ({calls[name]})"
            if isinstance(output, Tensor) and output.ndim > 0 and only in (None, label):
                heard.append((label, output))

        return note

    hooks = [
        module.register_forward_hook(hook(f"{name} {type(module).__name__}".strip()))
        for name, module in problem.network.named_modules()
        if not any(module.children()) and not isinstance(module, _PASSING)
    ]
    try:
        yield heard
    finally:
        for each in hooks:
            each.remove()


def _kinds(problem: Problem, name: str, found: list[Tensor]) -> list[tuple[str, list[Tensor]]]:
    """What is compared of a layer, or of the outputs."""
    if name != OUTPUTS or not problem.classification:
        return [(name, found)]
    return [(LOGITS, found), (SOFTMAX, [f.to(problem.accumulate).softmax(1) for f in found])]


# -- CKA -----------------------------------------------------------------------------------------


def _compare_layer(
    label: str,
    features: Sequence[Tensor],
    compared: dict[tuple[int, int], list[LayerSimilarity]],
) -> None:
    linear = [_gram(f) for f in features]
    kernel = [_gaussian(gram) for gram in linear]
    for (a, b), layers in compared.items():
        values = _cosine(linear[a], linear[b]), _cosine(kernel[a], kernel[b])
        found = [None if math.isnan(value) else value for value in values]
        layers.append(LayerSimilarity(label, *found))


def _features(x: Tensor) -> Tensor:
    """A row an example, in float64 where the device has it."""
    return wide(x.detach().reshape(len(x), -1))


def _centred(x: Tensor) -> Tensor:
    """Columns less their means; exactly 0 where a column is constant."""
    centred = x - x.mean(0)
    return centred.masked_fill_((x == x[0]).all(0), 0.0)


def _cosine(k: Tensor, m: Tensor) -> float:
    """⟨K, M⟩/(‖K‖‖M‖) of centred Gram matrices (n, n)."""
    lengths = float(torch.linalg.norm(k)) * float(torch.linalg.norm(m))
    return min(1.0, float((k * m).sum()) / lengths) if lengths > 0.0 else math.nan


def _gram(x: Tensor) -> Tensor:
    """Inner products (n, n) of the centred rows of x (n, d)."""
    z = _centred(_features(x))
    return z @ z.T


def _gaussian(gram: Tensor) -> Tensor:
    """The centred Gram matrix (n, n) of a Gaussian kernel of the median width, from inner products;
    0 for constant x.
    """
    n = len(gram)
    squares = gram.diagonal()
    distances = (squares[:, None] + squares[None, :] - 2.0 * gram).clamp_(min=0.0)
    i, j = torch.triu_indices(n, n, 1, device=gram.device)
    apart = distances[i, j]
    width = float(apart.median())
    if width == 0.0:  # more than half of the pairs coincide
        width = float(apart.mean())
    if width == 0.0:
        return torch.zeros_like(distances)
    k = (distances / (-2.0 * width)).exp_()
    return k - k.mean(0) - k.mean(1)[:, None] + k.mean()


# -- predictions ---------------------------------------------------------------------------------


def _pair(
    problem: Problem,
    places: Sequence[Place],
    a: int,
    b: int,
    layers: tuple[LayerSimilarity, ...],
    outputs: Sequence[Tensor],
    y: Tensor,
) -> PairSimilarity:
    first, second = places[a].theta, places[b].theta
    differ = rms = None
    if problem.classification:
        differ = 100.0 * float((outputs[a].argmax(1) != outputs[b].argmax(1)).double().mean())
    else:
        rms = float((outputs[a] - outputs[b]).to(problem.accumulate).square().mean().sqrt())
    distance, size = norm(first - second), 0.5 * (norm(first) + norm(second))
    return PairSimilarity(
        a,
        b,
        layers,
        differ,
        rms,
        _ensemble(problem, [outputs[a], outputs[b]], y),
        distance,
        distance / size if size else 0.0,
    )


def _ensemble(problem: Problem, outputs: Sequence[Tensor], y: Tensor) -> Ensemble:
    if problem.classification:
        logs = [o.to(problem.accumulate).log_softmax(1) for o in outputs]
        # The softmax of this is the average of theirs; in logarithms nothing is lost to rounding.
        average = torch.logsumexp(torch.stack(logs), 0)
        rights = [int((z.argmax(1) == y).sum()) for z in (*logs, average)]  # whole: 0 is 0
        gain = 100.0 * (len(logs) * rights[-1] - sum(rights[:-1])) / (len(logs) * len(y))
    else:
        logs = [o.to(problem.accumulate) for o in outputs]
        average, gain = torch.stack(logs).mean(0), None
    losses = [float(problem.loss_sum(z, y)) / len(y) for z in (*logs, average)]
    return Ensemble(losses[-1] - math.fsum(losses[:-1]) / len(logs), gain)
