"""Networks by name: those of the published experiments, `mlp`, `cnn`, both with batch norm, and the
user's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import nn

from lsshell.engine.errors import EngineError
from lsshell.engine.factories import call_factory
from lsshell.engine.seeds import generator
from lsshell.engine.suggestions import did_you_mean
from lsshell.engine.vocabulary import NETWORKS

if TYPE_CHECKING:
    from lsshell.engine.data import DataSet

# Tahir & Katz 2020, released code (Models.py): sizes of the dense networks, …
_DENSE = {
    "mnist-ff": "784-100-100-100-10",
    "iris-ff": "4-100-100-100-100-3",
    "mpg-ff": "9-100-100-100-100-1",
}
# … and image shape, layers and outputs of the convolutional ones.
_CONVOLUTIONAL = {
    "mnist-conv": ((1, 28, 28), "20-20-d100", 10),
    "cifar10-conv": ((3, 32, 32), "60-60-d300", 10),
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}
# Standard deviation of a unit normal truncated at ±2, by which Keras's VarianceScaling divides.
_TRUNCATED_STD = 0.87962566103423978
_NONE: Mapping[str, str] = MappingProxyType({})


def build_network(
    spec: Sequence[str],
    data: DataSet,
    *,
    activation: str | None = None,
    seed: int = 0,
    factory_options: Mapping[str, str] = _NONE,
    search: Path | None = None,
) -> nn.Module:
    """The network `spec` names, initialised from `seed`, for the data it will be fitted to.

    `spec` is one of

    * `mnist-ff`, `mnist-conv`, `cifar10-conv`, `iris-ff`, `mpg-ff`: the published networks;
    * `mlp SIZES`, as `mlp 784-300-10`: flattened inputs, then dense layers; the first and last
      sizes are those of the data;
    * `cnn LAYERS`, as `cnn 20-20-d100`: each number a 3×3 convolution (valid padding) with that
      many channels, the activation and 2×2 average pooling; each `dN` a dense layer of N units
      with the activation; a dense layer to the data's outputs is added;
    * `mlp-bn SIZES`, `cnn-bn LAYERS`: the same with batch norm before every activation;
    * `MODULE:FACTORY [ARGUMENT…]`: see `factories.call_factory`; `factory_options` are its
      keyword arguments and `search` (default: the working directory) is where it is looked for.

    `activation` (default tanh) goes after every layer but the last; a factory receives it as a
    keyword argument where it is given. Weights are Glorot-normal as in Keras, biases zero; see
    `initialise`. Raises EngineError for an unknown name and where network and data do not fit.
    """
    if not spec:
        raise EngineError(f"name a network: {', '.join(NETWORKS)}, or MODULE:FACTORY")
    name, *words = spec
    if ":" in name:
        options = dict(factory_options) | ({"activation": activation} if activation else {})
        return call_factory(name, words, options, seed=seed, search=search or Path.cwd())
    if name not in NETWORKS:
        raise EngineError(
            f"there is no network {name!r}{did_you_mean(name, NETWORKS)}; "
            f"known are {', '.join(NETWORKS)}, and MODULE:FACTORY for your own"
        )
    if factory_options:
        raise EngineError(f"{name} takes no option --{next(iter(factory_options))}")
    layers = _layers(name, words, data, _activation(activation or "tanh"))
    network = nn.Sequential(*layers)
    initialise(network, generator(seed, "init"))
    return network


def describe_network(network: nn.Module) -> str:
    """One line for people: kind, number of parameter tensors, number of parameters."""
    sizes = [q.numel() for q in network.parameters()]
    count = f"{sum(sizes):,}".replace(",", " ")
    return f"{type(network).__name__}, {len(sizes)} tensors, {count} parameters"


def initialise(network: nn.Module, source: torch.Generator) -> None:
    """Glorot-normal weights and zero biases for every dense and convolutional layer, in order.

    w = σ·z with z a unit normal truncated at ±2 and σ² = 2/(fan_in + fan_out)/0.8796², so that
    the variance after truncation is 2/(fan_in + fan_out) (Glorot & Bengio 2010, as Keras's
    GlorotNormal has it). A convolution's fans include its receptive field.
    """
    low, high = (0.5 * (1.0 + math.erf(z / math.sqrt(2.0))) for z in (-2.0, 2.0))
    for layer in network.modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        weight = layer.weight
        field = weight[0, 0].numel()
        std = math.sqrt(2.0 / ((weight.shape[0] + weight.shape[1]) * field)) / _TRUNCATED_STD
        # Inverse distribution function, not nn.init.trunc_normal_, whose algorithm (and so the
        # network a seed gives) differs between torch versions.
        uniform = torch.rand(weight.shape, generator=source, dtype=torch.float64)
        with torch.no_grad():
            weight.copy_(torch.special.ndtri(low + (high - low) * uniform).mul_(std))
            if layer.bias is not None:
                layer.bias.zero_()


def _layers(
    name: str, words: Sequence[str], data: DataSet, activation: type[nn.Module]
) -> list[nn.Module]:
    kind, _, norm = name.partition("-")
    if kind in ("mlp", "cnn"):
        if len(words) != 1:
            example = f"{name} {'784-300-10' if kind == 'mlp' else '20-20-d100'}"
            given = f"got {' '.join(words)!r}" if words else "got nothing"
            raise EngineError(f"{name} takes its layers as one word, as in `{example}`; {given}")
        if kind == "mlp":
            layers = _dense(name, words[0], data, activation)
        else:
            shape = _image_shape(name, data)
            layers = _convolutional(name, words[0], shape, data.outputs, activation)
        return _normalised(layers, activation) if norm else layers
    if words:
        raise EngineError(f"{name} takes no arguments, got {' '.join(words)!r}")
    if name in _DENSE:
        return _dense(name, _DENSE[name], data, activation)
    shape, published, outputs = _CONVOLUTIONAL[name]
    if _input_shape(data) != shape:
        raise EngineError(f"{name} takes {_by(shape)} inputs, {_sizes(data)}")
    _check_outputs(name, outputs, data)
    return _convolutional(name, published, shape, outputs, activation)


def _dense(
    name: str, sizes_given: str, data: DataSet, activation: type[nn.Module]
) -> list[nn.Module]:
    if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)+", sizes_given):
        raise EngineError(
            f"{name}: {sizes_given!r} is not a list of layer sizes; write inputs, hidden layers "
            f"and outputs as in 784-300-10 ({_sizes(data)})"
        )
    sizes = [int(size) for size in sizes_given.split("-")]
    if sizes[0] != math.prod(_input_shape(data)):
        raise EngineError(f"{name} {sizes_given} takes {sizes[0]} inputs, {_sizes(data)}")
    _check_outputs(f"{name} {sizes_given}", sizes[-1], data)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [_linear(inputs, outputs), activation()]
    return layers[:-1]


def _convolutional(
    name: str,
    layers_given: str,
    shape: tuple[int, ...],
    outputs: int,
    activation: type[nn.Module],
) -> list[nn.Module]:
    if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)*(-d[1-9]\d*)*", layers_given):
        raise EngineError(
            f"{name}: {layers_given!r} is not a list of layers; write the channels of each "
            "convolution, then dN for each dense layer, as in 20-20-d100"
        )
    words = layers_given.split("-")
    channels, height, width = shape
    layers: list[nn.Module] = []
    for word in (w for w in words if not w.startswith("d")):
        if min(height, width) < 4:
            raise EngineError(
                f"{name} {layers_given}: {_by(shape)} images are too small for so many "
                f"convolutions: {height}×{width} is left before the one of {word} channels, "
                "and a 3×3 convolution with 2×2 pooling needs 4×4; leave some out"
            )
        layers += [_convolution(channels, int(word)), activation(), nn.AvgPool2d(2)]
        channels, height, width = int(word), (height - 2) // 2, (width - 2) // 2
    layers.append(nn.Flatten())
    size = channels * height * width
    for word in (w for w in words if w.startswith("d")):
        layers += [_linear(size, int(word[1:])), activation()]
        size = int(word[1:])
    return [*layers, _linear(size, outputs)]


def _normalised(layers: list[nn.Module], activation: type[nn.Module]) -> list[nn.Module]:
    """With batch norm (Ioffe & Szegedy 2015) between each layer and its activation."""
    found: list[nn.Module] = []
    for layer in layers:
        before = found[-1] if found else None
        if isinstance(layer, activation) and isinstance(before, nn.Linear):
            found.append(nn.BatchNorm1d(before.out_features))
        elif isinstance(layer, activation) and isinstance(before, nn.Conv2d):
            found.append(nn.BatchNorm2d(before.out_channels))
        found.append(layer)
    return found


def _linear(inputs: int, outputs: int) -> nn.Module:
    # skip_init: torch's own initialisation would draw from the global generator.
    return _allocated(nn.Linear, inputs, outputs)


def _convolution(inputs: int, outputs: int) -> nn.Module:
    return _allocated(nn.Conv2d, inputs, outputs, 3)


def _allocated(layer: type[nn.Module], *sizes: int) -> nn.Module:
    try:
        return nn.utils.skip_init(layer, *sizes, dtype=torch.float32)
    except (RuntimeError, OverflowError) as e:
        raise EngineError(
            f"a layer of {_by(sizes[:2])} does not fit in memory: {str(e).splitlines()[0]}"
        ) from None


def _activation(name: str) -> type[nn.Module]:
    if name not in _ACTIVATIONS:
        raise EngineError(
            f"there is no activation {name!r}{did_you_mean(name, _ACTIVATIONS)}; "
            f"known are {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def _check_outputs(name: str, outputs: int, data: DataSet) -> None:
    # More outputs than classes is harmless (a class no example has); Problem allows it as well.
    if outputs < data.outputs or (data.task == "regression" and outputs > data.outputs):
        raise EngineError(f"{name} gives {outputs} outputs, {_sizes(data)}")


def _input_shape(data: DataSet) -> tuple[int, ...]:
    return tuple(data.x_train.shape[1:])


def _image_shape(name: str, data: DataSet) -> tuple[int, ...]:
    shape = _input_shape(data)
    if len(shape) != 3:
        raise EngineError(f"{name} takes images (channels×height×width), {_sizes(data)}")
    return shape


def _sizes(data: DataSet) -> str:
    """As in: mnist has 784 inputs (1×28×28) and 10 classes."""
    shape = _input_shape(data)
    inputs = f"{math.prod(shape)} inputs" + (f" ({_by(shape)})" if len(shape) > 1 else "")
    kind = "classes" if data.task == "classification" else "targets"
    return f"{data.name} has {inputs} and {data.outputs} {kind}"


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
