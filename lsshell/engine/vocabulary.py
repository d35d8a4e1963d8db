"""The names a user can say, importable without torch."""

from typing import Literal, get_args

DataName = Literal["iris", "digits", "mpg", "mnist-5k", "mnist", "fashion-mnist", "cifar10"]
NetworkName = Literal[
    "mnist-ff",
    "mnist-conv",
    "cifar10-conv",
    "iris-ff",
    "mpg-ff",
    "mlp",
    "cnn",
    "mlp-bn",
    "cnn-bn",
]
RegularizerName = Literal[
    "l2",
    "l2-weights",
    "l1",
    "elastic",
    "group",
    "compress",
    "spectral",
    "path-norm",
    "jacobian",
    "gradient-norm",
    "hessian-trace",
    "distance",
    "random",
]
Shape = Literal["heart", "ring", "smile", "checkerboard", "cross", "bat"]
Method = Literal["quasi-newton", "newton", "auto", "gradient", "paper"]
Activation = Literal["tanh", "relu", "gelu", "silu", "sigmoid", "elu", "softplus", "identity"]

DATA_SETS: tuple[str, ...] = get_args(DataName)
NETWORKS: tuple[str, ...] = get_args(NetworkName)
REGULARIZERS: tuple[str, ...] = get_args(RegularizerName)
SHAPES: tuple[str, ...] = get_args(Shape)
METHODS: tuple[str, ...] = get_args(Method)
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
