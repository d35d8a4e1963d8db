"""Small data sets and problems with known answers, for tests."""

import torch
from torch import nn

from lsshell.engine.data import DataSet
from lsshell.engine.problem import Problem


def dataset(x, y, x_test=None, y_test=None, *, outputs=None, name="small"):
    """A data set of these tensors; the test part is the training part unless given."""
    classification = not y.is_floating_point()
    if outputs is None:
        outputs = int(y.max()) + 1 if classification else y.reshape(len(y), -1).shape[1]
    return DataSet(
        name=name,
        x_train=x,
        y_train=y,
        x_test=x if x_test is None else x_test,
        y_test=y if y_test is None else y_test,
        task="classification" if classification else "regression",
        outputs=outputs,
        classes=tuple(map(str, range(outputs))) if classification else (),
        notes=(),
        digest="0" * 64,
    )


def blobs(n=13, features=5, classes=3, seed=0):
    """Random points with random labels."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=g)
    return dataset(x, torch.arange(n) % classes, outputs=classes)


def images(n=9, size=8, classes=3, seed=0):
    """Random grey images with random labels."""
    g = torch.Generator().manual_seed(seed)
    return dataset(torch.randn(n, 1, size, size, generator=g), torch.arange(n) % classes)


def regression(n=12, features=3, seed=0):
    """Linear targets with a little noise, float64."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=g)
    w = torch.randn(features, generator=g)
    y = (x @ w + 0.1 * torch.randn(n, generator=g)).double()
    return dataset(x, y)


class Given(nn.Module):
    """A "network" whose output for one example is √N·f(θ), so that L is any f(θ)² or f(θ)."""

    def __init__(self, theta, function):
        super().__init__()
        self.theta = nn.Parameter(torch.as_tensor(theta, dtype=torch.float64))
        self.function = function

    def forward(self, x):
        return self.function(self.theta).expand(len(x), 1)


class GivenLoss(Problem):
    """A problem whose loss is any function of θ: the analytic cases."""

    def __init__(self, theta, function, **kwargs):
        data = dataset(torch.zeros(2, 1), torch.zeros(2, dtype=torch.float64))
        super().__init__(Given(theta, function), data, dtype=torch.float64, **kwargs)

    def loss_sum(self, outputs, y):
        return outputs.sum()
