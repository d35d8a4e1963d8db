"""`paper` against the published arithmetic, written here a second time from the formulas."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lsshell.engine.problem import Problem
from lsshell.engine.steppers import Paper, PaperRates
from tests.engine.descent import descend
from tests.engine.small import dataset

SIZES = (4, 5, 3)


class Published:
    """A tanh network 4-5-3 with softmax cross-entropy, forward and backward by hand, in numpy."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def unpack(self, theta):
        w1, b1 = theta[:20].reshape(5, 4), theta[20:25]
        w2, b2 = theta[25:40].reshape(3, 5), theta[40:43]
        return w1, b1, w2, b2

    def loss_and_gradient(self, theta):
        w1, b1, w2, b2 = self.unpack(theta)
        n = len(self.x)
        h = np.tanh(self.x @ w1.T + b1)
        z = h @ w2.T + b2
        z = z - z.max(1, keepdims=True)
        log_q = z - np.log(np.exp(z).sum(1, keepdims=True))
        loss = -log_q[np.arange(n), self.y].mean()
        dz = np.exp(log_q)
        dz[np.arange(n), self.y] -= 1
        dz /= n
        dh = dz @ w2 * (1 - h**2)
        parts = (dh.T @ self.x, dh.sum(0), dz.T @ h, dz.sum(0))
        return loss, np.concatenate([p.ravel() for p in parts])


def follow(published, theta, c, steps, h_min, h_max, eta):
    """The released program's loop: predictors counted, corrections in between."""
    h, last, p_prev = h_min, None, None
    points, rates, corrections = [], [], 0
    while True:
        loss, g = published.loss_and_gradient(theta)
        if (loss - c) ** 2 <= 1e-10:
            points.append(theta.copy())
            if len(rates) == steps:
                return points, rates, corrections
            r = 2 * theta
            if np.sqrt((g**2).mean()) >= 1e-6:
                unit = g / np.linalg.norm(g)
                t = r - (r @ unit) * unit
            else:
                t = r
            p = t / np.linalg.norm(t)
            if last == "predict":
                turned = math.degrees(math.acos(min(1.0, p @ p_prev)))
                slower, faster = round(0.1 * h, 10), round(1.1 * h, 10)
                h = max(slower, h_min) if turned >= 0.1 else min(faster, h_max)
            if last == "correct":
                h = h_min
            theta, p_prev, last = theta - h * p, p, "predict"
            rates.append(h)
        else:
            q = 2 * (loss - c) * g
            q = q - (q @ p_prev) * p_prev
            theta, last = theta - eta * q / np.linalg.norm(q), "correct"
            corrections += 1


@pytest.mark.parametrize(
    ("h_min", "h_max", "eta", "epochs", "works"),
    [
        (1e-4, 0.1, 1e-4, 4000, "rate"),
        (1e-5, 0.1, 1e-6, 4000, "rate"),
        (1e-2, 0.1, 1e-4, 200, "corrector"),
    ],
)
def test_two_hundred_steps_are_those_of_the_published_program(h_min, h_max, eta, epochs, works):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 4)).astype(np.float32).astype(np.float64)
    y = np.arange(12) % 3
    theta = rng.normal(size=43)
    published = Published(x, y)
    for _ in range(epochs):  # plain descent to a small loss, where the gradient is small
        theta = theta - 0.5 * published.loss_and_gradient(theta)[1]
    c, _ = published.loss_and_gradient(theta)

    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    data = dataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    problem = Problem(network, data, dtype=torch.float64)
    walked = descend(
        problem,
        Paper(PaperRates(minimum=h_min, maximum=h_max, corrector=eta)),
        {"l2": {}},
        level=float(c),
        tolerance=1e-5,
        steps=200,
        theta=torch.tensor(theta),
    )
    points, rates, corrections = follow(published, theta, c, 200, h_min, h_max, eta)
    assert len(walked.positions) == 201
    worst = max(
        np.abs(ours.theta.numpy() - theirs).max()
        for ours, theirs in zip(walked.positions, points, strict=True)
    )
    assert worst <= 1e-12
    # What the case is for did happen: the rate adapted, or the corrector had to step in.
    assert len(set(rates)) > 3 if works == "rate" else corrections > 10


def test_where_the_loss_is_flat_the_published_predictor_is_not_projected():
    network = nn.Sequential(nn.Linear(2, 2))
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    problem = Problem(network, dataset(x, torch.tensor([0, 1])), dtype=torch.float64)
    problem.theta.copy_(torch.tensor([40.0, 0.0, 0.0, 40.0, 0.0, 0.0]))
    theta = problem.theta.clone()
    walked = descend(
        problem, Paper(), {"l2": {}}, level=problem.loss(theta), tolerance=1e-5, steps=1
    )
    step = walked.positions[1].theta - theta
    assert torch.allclose(step, -1e-4 * theta / theta.norm(), atol=1e-12)
