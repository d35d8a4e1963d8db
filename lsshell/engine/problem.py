"""The training problem as functions of one flat parameter vector θ (p,)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from lsshell.engine.captured import Captured, capture
from lsshell.engine.errors import Cancelled, EngineError, NetworkMismatchError, NotFiniteError
from lsshell.engine.evaluation import Evaluation
from lsshell.engine.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from lsshell.engine.data import DataSet

DEFAULT_CHUNK = 2048
# What a loss alone takes of a loss-and-gradient.
FORWARD = 1 / 3
Split = Literal["train", "test"]
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def whole_gradients(work: float) -> int:
    """Work in gradients, without the part of one begun (sums of shares fall short by rounding)."""
    return math.floor(work + 1e-6)


def chunk_sizes(n: int, chunk: int) -> list[int]:
    """n examples in slices of `chunk`; a single one left over goes with those before it, since
    batch norm can normalise no single example."""
    sizes = [min(chunk, n - k) for k in range(0, n, chunk)]
    if len(sizes) > 1 and sizes[-1] == 1 < chunk:
        sizes[-2:] = [chunk + 1]
    return sizes


@dataclass(frozen=True)
class Slot:
    """Where one tensor of the network lives in θ: θ[offset : offset + size] viewed as `shape`."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def is_weight(self) -> bool:
        """Weights (matrices, filters) as against biases and normalisation parameters."""
        return len(self.shape) >= 2


@dataclass(frozen=True)
class TestMetrics:
    """Unpenalised loss on the test examples, with accuracy in [0, 1] or RMSE (target units).

    `validation_loss`: on the examples to choose by, where the data set has some.
    """

    loss: float
    accuracy: float | None
    rmse: float | None
    validation_loss: float | None = None

    @property
    def chosen_by(self) -> float:
        """The validation loss, or the test loss where there is none."""
        return self.loss if self.validation_loss is None else self.validation_loss


class Problem:
    """A network, a data set and a loss, seen as L(θ) for a flat θ (p,).

    L is the mean over the **full** training set, evaluated in chunks of `chunk` examples:
    cross-entropy (classification) or mean squared error over examples and outputs (regression,
    no factor ½). Dropout is off and batch-norm statistics are frozen; `notices` says so.

    The network's parameters and their gradients are views of two flat buffers, so nothing is
    concatenated. L is formed from the outputs in float64 (float32 where the device has no
    float64): near zero loss, float32 cross-entropy is mostly rounding.

    With several `ranks`, each of them evaluates sums over the training, test and validation
    examples on its own part (`x_part`, `y_part` of the training examples), and all get the whole.

    `work` counts in units of one loss-and-gradient (a Hessian- or Gauss-Newton-vector product
    counts 2, other work as the share of a gradient's operations that it takes). `cancelled` is
    asked before each evaluation.
    """

    def __init__(
        self,
        network: nn.Module,
        data: DataSet,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        chunk: int | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        ranks: Ranks = ALONE,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.accumulate = torch.float32 if self.device.type == "mps" else torch.float64
        self.data = data
        self.chunk = chunk or DEFAULT_CHUNK
        self.cancelled = cancelled
        self.ranks = ranks
        self.work = 0.0
        self.network = network.to(self.device, dtype).eval()
        self.parameters = [q for q in network.parameters() if q.requires_grad]
        if not self.parameters:
            raise EngineError("the network has no trainable parameters")
        self.notices = self._notices()
        self.x_train, self.y_train = self._place_pair(data.x_train, data.y_train)
        self.x_test, self.y_test = self._place_pair(data.x_test, data.y_test)
        self.validation = None
        if data.x_validation is not None and data.y_validation is not None:
            self.validation = self._place_pair(data.x_validation, data.y_validation)
        self.part = ranks.part(len(self.x_train))
        self.x_part, self.y_part = self.x_train[self.part], self.y_train[self.part]
        self._check_fit()
        self.slots = self._layout()
        self.theta = torch.cat([q.detach().reshape(-1) for q in self.parameters])
        self._gradient = torch.zeros_like(self.theta)
        self._waiting: tuple[Evaluation, Tensor | None] | None = None
        self._captured: Captured | None
        self._unseen: bool
        self.share_state()
        self.attach()

    # -- layout ------------------------------------------------------------------------------

    def _layout(self) -> tuple[Slot, ...]:
        names = {id(q): name for name, q in self.network.named_parameters()}
        slots, offset = [], 0
        for q in self.parameters:
            slots.append(Slot(names[id(q)], tuple(q.shape), offset, q.numel()))
            offset += q.numel()
        return tuple(slots)

    def attach(self) -> None:
        """Makes the network's parameters and gradients views of this problem's flat buffers.

        Called again where another problem, which then could not be made, had the network.
        """
        self.network.to(self.device, self.dtype)
        self._captured, self._unseen = None, True  # buffers may lie elsewhere now
        gradients = self.tensors(self._gradient).values()
        views = self.tensors(self.theta).values()
        for q, view, gradient in zip(self.parameters, views, gradients, strict=True):
            q.grad = None
            q.data = view
            q.grad = gradient

    def _notices(self) -> tuple[str, ...]:
        dropout = sum(isinstance(m, _DROPOUT) for m in self.network.modules())
        frozen = len(self.batch_norms)
        notices = []
        if dropout:
            notices.append(f"dropout is off ({_layers(dropout)})")
        if frozen:
            notices.append(f"batch-norm statistics are frozen ({_layers(frozen)})")
        return tuple(notices)

    def _place_pair(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(self.device, self.dtype if x.is_floating_point() else None)
        y = y.to(self.device, self.accumulate if y.is_floating_point() else None)
        return x, y

    def _check_fit(self) -> None:
        """One forward pass on two examples (one, of one): does this network take this data?"""
        if any(layer.running_mean is None for layer in self.batch_norms):
            raise EngineError(
                "batch norm without running statistics (track_running_stats=False) normalises by"
                " the examples that come together, so the loss would depend on --chunk: let it"
                " keep them"
            )
        x, y = self.x_train[:2], self.y_train[:2]
        given = "×".join(map(str, x.shape[1:]))
        try:
            with torch.no_grad():
                outputs, again = self.network(x), self.network(x)
        except Exception as e:  # the network may be the user's own
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            raise NetworkMismatchError(
                f"the network does not take the data {self.data.name} ({given} inputs): {reason}"
            ) from e
        if not isinstance(outputs, Tensor):
            raise EngineError("the network must return one tensor")
        if not torch.allclose(outputs, again, rtol=1e-3, atol=1e-5, equal_nan=True):
            raise EngineError(
                "the network gives other outputs each time: something in it draws random numbers"
                " even in eval mode, so its loss has no level set"
            )
        if self.classification:
            wanted = self.data.outputs
            if outputs.ndim != 2 or outputs.shape[1] < wanted:
                got = "×".join(map(str, outputs.shape[1:]))
                raise EngineError(
                    f"the network gives {got or 'scalar'} outputs, "
                    f"the data {self.data.name} has {wanted} classes"
                )
        elif outputs.reshape(len(y), -1).shape[1] != y.reshape(len(y), -1).shape[1]:
            got = outputs.reshape(len(y), -1).shape[1]
            raise EngineError(
                f"the network gives {got} outputs, the data {self.data.name} has "
                f"{y.reshape(len(y), -1).shape[1]} targets"
            )

    @property
    def p(self) -> int:
        """Number of trainable parameters."""
        return self.theta.numel()

    @property
    def classification(self) -> bool:
        return self.data.task == "classification"

    @property
    def gradients(self) -> int:
        """Whole loss-and-gradients of work so far."""
        return whole_gradients(self.work)

    def tensors(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of θ (p,) under the network's names and shapes."""
        return {s.name: theta[s.offset : s.offset + s.size].view(s.shape) for s in self.slots}

    @property
    def tensor_names(self) -> list[str]:
        """Of the tensors that make θ, in their order."""
        return [slot.name for slot in self.slots]

    @property
    def batch_norms(self) -> list[nn.modules.batchnorm._BatchNorm]:
        """Layers that normalise by running statistics, or in training by the batch at hand."""
        modules = self.network.modules()
        return [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def slots_of(self, module: nn.Module) -> dict[str, Slot]:
        """Where the parameters that are a module's own live in θ, by their names in it."""
        at = {id(q): slot for q, slot in zip(self.parameters, self.slots, strict=True)}
        own = module.named_parameters(recurse=False)
        return {name: at[id(q)] for name, q in own if id(q) in at}

    def place(self, theta: Tensor) -> None:
        """Puts θ (p,) into the network."""
        self._waiting = None  # the memory of its graph is free for what follows
        if theta.data_ptr() != self.theta.data_ptr():
            self.theta.copy_(theta)

    def state(self, theta: Tensor) -> dict[str, Tensor]:
        """The network's tensors at θ, with its buffers: what a checkpoint holds."""
        return self.network.state_dict() | self.tensors(theta)

    def flat(self, state: Mapping[str, Tensor]) -> Tensor:
        """θ (p,) on the CPU from named tensors (the inverse of `state`)."""
        return torch.cat([state[s.name].reshape(-1).to("cpu", self.dtype) for s in self.slots])

    def share_state(self) -> None:
        """Every rank takes the first one's θ and buffers, to the last bit."""
        self.ranks.share(self.theta, *(b for b in self.network.buffers() if b.is_floating_point()))

    def restore(self, state: Mapping[str, Tensor]) -> Tensor:
        """Takes the buffers of a state and returns its θ (p,) on this problem's device."""
        for name, buffer in self.network.named_buffers():
            if name in state:
                buffer.copy_(state[name])
        return self.flat(state).to(self.device)

    # -- loss and its derivatives ------------------------------------------------------------

    def chunks(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) in slices of `chunk_sizes`; nothing where there are none."""
        sizes = chunk_sizes(len(x), self.chunk)
        return zip(x.split(sizes), y.split(sizes), strict=True)

    def loss_sum(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Σ over the examples given of the per-example loss, formed in `accumulate` precision."""
        outputs = outputs.to(self.accumulate)
        if self.classification:
            return nn.functional.cross_entropy(outputs, y, reduction="sum")
        outputs = outputs.reshape(len(y), -1)
        return (outputs - y.reshape(len(y), -1)).square().sum() / outputs.shape[1]

    def loss(self, theta: Tensor) -> float:
        """L(θ) over the full training set. Raises EngineError where it is not finite."""
        return self._mean_loss(theta, self.x_train, self.y_train)[0]

    def sum_over_examples(
        self,
        what: str,
        theta: Tensor,
        cost: float,
        compute: Callable[[], Iterable[Tensor | float]],
        *vectors: Tensor,
    ) -> list[float]:
        """Σ over ranks of the numbers that `compute` gives at θ, and in place of `vectors`.

        `compute` goes over this rank's examples and adds its share to `vectors`, zeros before.
        `what` names the evaluation, which counts as `cost` gradients. Raises Cancelled where the
        user asked to stop, on all ranks.
        """

        def part() -> Iterable[Tensor | float]:
            if self.cancelled():
                raise Cancelled
            self.place(theta)
            return compute()

        found = self.ranks.summed(what, theta, part, *vectors)
        self.work += cost
        return found

    def loss_and_gradient(
        self, theta: Tensor, out: Tensor | None = None, *, split: Split = "train"
    ) -> tuple[float, Tensor]:
        """L(θ) and ∇L(θ) (p,), the latter written to `out` if given; or those of the test loss,
        the same mean over the test examples, which counts as a gradient too.

        Raises EngineError where L is not finite, Cancelled where the user asked to stop.
        """
        if split == "test":
            what, compute, n = "test loss and gradient", self._test_gradient, len(self.x_test)
        else:
            what, compute, n = "loss and gradient", self._train_gradient, len(self.x_train)
        (total,) = self.sum_over_examples(what, theta, 1, compute, self._gradient)
        loss = self._finite(total / n)
        if out is None:
            return loss, self._gradient.clone()
        return loss, out.copy_(self._gradient)

    def evaluate(self, theta: Tensor) -> Evaluation:
        """L(θ) now, ∇L(θ) when it is asked for: a third of a gradient's work, and two thirds.

        What the backward pass needs is kept until anything else is evaluated; after that the
        gradient costs a whole one. Both come at once, at the work of both, where the examples make
        several chunks, whose graphs might not fit, and on CUDA, which replays them as one.
        """
        if self.device.type == "cuda" or -(-len(self.x_train) // self.ranks.count) > self.chunk:
            return Evaluation(self, theta, *self.loss_and_gradient(theta))
        graph: Tensor | None = None

        def compute() -> tuple[Tensor]:
            nonlocal graph
            if not len(self.x_part):
                return (torch.zeros((), dtype=self.accumulate),)
            graph = self.loss_sum(self.network(self.x_part), self.y_part)
            return (graph.detach(),)

        (total,) = self.sum_over_examples("loss", theta, FORWARD, compute)
        found = Evaluation(self, theta, self._finite(total / len(self.x_train)))
        self._waiting = (found, graph)
        return found

    def gradient_at(self, evaluation: Evaluation) -> Tensor:
        """∇L (p,) where the loss is known."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or waiting[0] is not evaluation:
            return self.loss_and_gradient(evaluation.theta)[1]
        graph, n = waiting[1], len(self.x_train)

        def compute() -> tuple[()]:
            self._gradient.zero_()
            if graph is not None:
                (graph / n).backward()
            return ()

        self.sum_over_examples("gradient", evaluation.theta, 1.0 - FORWARD, compute, self._gradient)
        return self._gradient.clone()

    def _train_gradient(self) -> tuple[Tensor]:
        if self._unseen:  # at the first gradient, so that what is only loaded costs nothing
            self._unseen = False
            chunks = chunk_sizes(len(self.x_part), self.chunk)
            self._captured = capture(self._add_gradient, self._gradient, self.device, len(chunks))
        return (self._add_gradient() if self._captured is None else self._captured(),)

    def _test_gradient(self) -> tuple[Tensor]:
        part = self.ranks.part(len(self.x_test))
        return (self._add_gradient_of(self.x_test[part], self.y_test[part], len(self.x_test)),)

    def _add_gradient(self) -> Tensor:
        """This rank's part of Σ loss, and of ∇L in the network's own buffer."""
        return self._add_gradient_of(self.x_part, self.y_part, len(self.x_train))

    def _add_gradient_of(self, x: Tensor, y: Tensor, n: int) -> Tensor:
        """Σ loss over these examples; the network's buffer becomes its gradient over n."""
        self._gradient.zero_()
        total = torch.zeros((), device=self.device, dtype=self.accumulate)
        for inputs, target in self.chunks(x, y):
            part = self.loss_sum(self.network(inputs), target)
            (part / n).backward()
            total += part.detach()
        return total

    def unless_cancelled(self) -> None:
        """Raises Cancelled, on all ranks, where the user asked to stop: for loops of one's own."""
        if self.ranks.any(self.cancelled()):
            raise Cancelled

    @contextlib.contextmanager
    def uncancelled(self) -> Iterator[None]:
        """Inside, evaluations go on although the user asked to stop: short work that must end."""
        asked, self.cancelled = self.cancelled, lambda: False
        try:
            yield
        finally:
            self.cancelled = asked

    def begin_gradient(self) -> Tensor:
        """The zeroed buffer (p,) into which the next backward pass adds; for training loops."""
        self.unless_cancelled()
        return self._gradient.zero_()

    def hessian_vector(self, theta: Tensor, v: Tensor) -> Tensor:
        """∇²L(θ)·v (p,) by double backward, exact, over the full training set."""
        n, product = len(self.x_train), torch.zeros_like(v)

        def compute() -> tuple[()]:
            for x, y in self.chunks(self.x_part, self.y_part):
                part = self.loss_sum(self.network(x), y) / n
                gradient = self.gradient_of(part, create_graph=True)
                self.add_flat(product, self.gradient_of(self.inner(gradient, v)))
            return ()

        self.sum_over_examples("Hessian product", theta, 2, compute, product)
        return product

    def gauss_newton_vector(self, theta: Tensor, v: Tensor) -> Tensor:
        """Jᵀ(∇²ℓ)J·v (p,): J the Jacobian of the outputs, ∇²ℓ the loss's Hessian in the outputs.

        Positive semidefinite; equals ∇²L where the outputs are linear in θ.
        J·v is taken by differentiating the (linear) vector-Jacobian product.
        """
        n, product = len(self.x_train), torch.zeros_like(v)

        def compute() -> tuple[()]:
            for x, y in self.chunks(self.x_part, self.y_part):
                outputs = self.network(x)
                u = torch.zeros_like(outputs, requires_grad=True)
                vjp = torch.autograd.grad(
                    outputs, self.parameters, u, create_graph=True, materialize_grads=True
                )
                (jv,) = torch.autograd.grad(self.inner(vjp, v), u)
                curvature = self._output_curvature(outputs.detach(), jv, y) / n
                parts = torch.autograd.grad(
                    outputs, self.parameters, curvature, materialize_grads=True
                )
                self.add_flat(product, parts)
            return ()

        self.sum_over_examples("Gauss-Newton product", theta, 2, compute, product)
        return product

    def _output_curvature(self, outputs: Tensor, jv: Tensor, y: Tensor) -> Tensor:
        """∇²ℓ·(Jv), a row an example: softmax cross-entropy, or squared error."""
        if self.classification:
            q = outputs.to(self.accumulate).softmax(1)
            z = q * jv
            return (z - q * z.sum(1, keepdim=True)).to(jv.dtype)
        return 2.0 * jv / outputs.reshape(len(y), -1).shape[1]

    def gradient_of(
        self, scalar: Tensor, *, create_graph: bool = False, retain_graph: bool | None = None
    ) -> tuple[Tensor, ...]:
        """Gradient of a scalar by the network's parameters, zeros where it does not depend."""
        if not scalar.requires_grad:
            return tuple(torch.zeros_like(q) for q in self.parameters)
        return torch.autograd.grad(
            scalar,
            self.parameters,
            create_graph=create_graph,
            retain_graph=retain_graph,
            materialize_grads=True,
        )

    def inner(self, parts: tuple[Tensor, ...], v: Tensor) -> Tensor:
        """Σ parts·v: a gradient by the parameters (tensors) with v (p,), differentiable."""
        views = self.tensors(v).values()
        return torch.stack([(a * b).sum() for a, b in zip(parts, views, strict=True)]).sum()

    def add_flat(self, flat: Tensor, parts: tuple[Tensor, ...]) -> None:
        """Adds a gradient by the parameters (tensors) to a flat vector (p,)."""
        with torch.no_grad():  # torch 2.6: zeros that stand for no gradient require one
            for view, part in zip(self.tensors(flat).values(), parts, strict=True):
                view.add_(part)

    # -- predictions -------------------------------------------------------------------------

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """Network outputs (n, k) for inputs x, in chunks, without gradient."""
        self.unless_cancelled()
        self.place(theta)
        with torch.no_grad():
            return torch.cat([self.network(part) for part in x.split(self.chunk)])

    def test(self, theta: Tensor) -> TestMetrics:
        """Loss and accuracy (or RMSE) on the test examples at θ, and the validation loss."""
        found = self.metrics(theta, "test")
        if self.validation is None:
            return found
        return replace(found, validation_loss=self._mean_loss(theta, *self.validation)[0])

    def examples(self, split: Split) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the training or test examples."""
        return (self.x_train, self.y_train) if split == "train" else (self.x_test, self.y_test)

    def metrics(self, theta: Tensor, split: Split) -> TestMetrics:
        """Loss and accuracy (or RMSE) on the training or test examples at θ (p,)."""
        x, y = self.examples(split)
        loss, right = self._mean_loss(theta, x, y)
        if self.classification:
            return TestMetrics(loss, right / len(y), None)
        return TestMetrics(loss, None, math.sqrt(loss))

    def _mean_loss(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[float, int]:
        part = self.ranks.part(len(x))

        def compute() -> tuple[Tensor, Tensor]:
            total = torch.zeros((), device=self.device, dtype=self.accumulate)
            right = torch.zeros((), device=self.device, dtype=torch.int64)
            with torch.no_grad():
                for inputs, target in self.chunks(x[part], y[part]):
                    outputs = self.network(inputs)
                    total += self.loss_sum(outputs, target)
                    if self.classification:
                        right += (outputs.argmax(1) == target).sum()
            return total, right

        total, right = self.sum_over_examples("loss", theta, 0, compute)
        return self._finite(total / len(x)), int(right)

    # -- house rules -------------------------------------------------------------------------

    def _finite(self, loss: float) -> float:
        if not math.isfinite(loss):
            raise NotFiniteError(
                f"the loss is {loss}: the parameters or the data hold values too large or NaN"
            )
        return loss


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count != 1)}"
