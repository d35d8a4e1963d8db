"""What there is to check and to measure on a GPU, by one command.

    python benchmarks/gpu.py [--device cuda] [--json FILE]

Checks: the gradient captured as a CUDA graph is the one evaluated eagerly, and a walk on the GPU
keeps its tolerance and comes to what the CPU comes to. Measures, each against the same work in
plain eager PyTorch in one run: steps per second of MNIST_FF, and a step of ResNet-18 on 50 000
CIFAR-10-shaped images over its forward-backward passes. With --device cpu at a small size, to see
that it runs. Needs torch and numpy, no terminal.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from terrain import terrain_at
from torch import Tensor, nn

from lsshell.engine import Engine, WalkRequest
from lsshell.engine.data import DataSet
from lsshell.engine.problem import Problem
from lsshell.engine.steppers import Gradient, QuasiNewton, Stepper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here; --device cpu runs a small version of everything")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}")
    found = {**checks(options.device), **mnist_ff(options.device), **resnet(options.device)}
    for key, value in found.items():
        print(f"{key}: {value}")
    if options.json:
        options.json.write_text(json.dumps({"device": name, **found}, indent=1) + "\n")


def engine_on(device: str) -> Engine:
    """MNIST_FF after three epochs."""
    engine = Engine()
    engine.load_data("mnist-5k", "mnist-5k", None, train=1000)
    engine.build_model(["mnist-ff"], None, {})
    engine.train(epochs=3)
    engine.use_device(device)
    engine.fix_level(None, None)
    engine.switch("l2", None, {})
    return engine


def checks(device: str) -> dict[str, object]:
    """Whether the GPU gives what it should; raises AssertionError where it does not."""
    engine = engine_on(device)
    problem, theta = engine.problem, engine.problem_theta()
    loss, gradient = problem.loss_and_gradient(theta)
    problem.place(theta)
    eager = float(problem._add_gradient()) / len(problem.x_train)
    worst = float((problem._gradient - gradient).norm() / gradient.norm())
    assert abs(loss - eager) <= 1e-5 * eager, (loss, eager)
    assert worst <= 1e-4, worst
    other = engine_on("cpu")
    ends = [e.walk(WalkRequest(steps=40, record=1)) for e in (engine, other)]
    for e in (engine, other):
        assert all(abs(p.residual) <= 1.0 for p in e.path.lineage() if p.kind == "step")
    values = [end.end.regularizers["l2"] for end in ends]
    assert abs(values[0] / values[1] - 1) < 0.05, values
    return {
        "captured as a graph": problem._captured is not None,
        "gradient, captured against eager": worst,
        "l2 after 40 steps, here and on the CPU": values,
    }


def mnist_ff(device: str) -> dict[str, object]:
    """Steps and gradients per second, and those of plain eager PyTorch on the same full batch."""
    engine = engine_on(device)
    problem, theta = engine.problem, engine.problem_theta()
    here, terrain = terrain_at(problem, theta)
    found: dict[str, object] = {}
    for stepper in (Gradient(), QuasiNewton()):
        at = here
        for _ in range(10):
            at = stepper.step(terrain, at)
        spent, rate = problem.gradients, 0.0
        seconds, steps = 0.0, 100
        began = waited(device)
        for _ in range(steps):
            at = stepper.step(terrain, at)
        seconds = waited(device) - began
        rate = (problem.gradients - spent) / seconds
        found[f"MNIST_FF {stepper.name}, steps per second"] = steps / seconds
        found[f"MNIST_FF {stepper.name}, gradients per second"] = rate
    plain = plain_gradient(problem)
    one = timed(plain, device, 50)
    found["MNIST_FF plain eager gradients per second"] = 1 / one
    found["MNIST_FF gradient's over plain eager"] = (
        found["MNIST_FF gradient, gradients per second"] * one  # type: ignore[operator]
    )
    return found


def plain_gradient(problem: Problem) -> Callable[[], Tensor]:
    """The full-batch gradient as one would write it, its parts put together to one vector."""

    def evaluate() -> Tensor:
        loss = nn.functional.cross_entropy(problem.network(problem.x_train), problem.y_train)
        parts = torch.autograd.grad(loss, problem.parameters)
        return torch.cat([p.reshape(-1) for p in parts])

    return evaluate


def resnet(device: str) -> dict[str, object]:
    """A quasi-newton step of ResNet-18 over the forward-backward passes that it takes."""
    small = device == "cpu"
    n, chunk = (40, 20) if small else (50_000, 1000)
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, 3, 32, 32, generator=g), torch.randint(10, (n,), generator=g)
    data = DataSet(
        name="cifar-shaped", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20],
        task="classification", outputs=10, classes=tuple("0123456789"), notes=(), digest="0" * 64,
    )  # fmt: skip
    torch.manual_seed(0)
    problem = Problem(ResNet18(), data, device=device, chunk=chunk)
    here, terrain = terrain_at(problem, problem.theta.clone())
    stepper: Stepper = QuasiNewton()
    steps = 1 if small else 3
    for _ in range(2):
        here = stepper.step(terrain, here)
    spent, began = problem.gradients, waited(device)
    for _ in range(steps):
        here = stepper.step(terrain, here)
    seconds, spent = waited(device) - began, problem.gradients - spent

    def bare() -> None:
        for part, target in problem.chunks(problem.x_train, problem.y_train):
            loss = nn.functional.cross_entropy(problem.network(part), target, reduction="sum")
            loss.backward()

    one = timed(bare, device, 1 if small else 3)
    return {
        "ResNet-18 p": problem.p,
        "ResNet-18 forward-backward, s": one,
        "ResNet-18 step over its forward-backward": seconds / (spent * one),
    }


def timed(work: Callable[[], object], device: str, repeats: int) -> float:
    work()
    began = waited(device)
    for _ in range(repeats):
        work()
    return (waited(device) - began) / repeats


def waited(device: str) -> float:
    """The time, once the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
            nn.ReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.short = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.short(x))


class ResNet18(nn.Sequential):
    """For 32×32 images: a 3×3 stem, four stages of two blocks."""

    def __init__(self) -> None:
        stages = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
        blocks = [b for i, o, s in stages for b in (Block(i, o, s), Block(o, o, 1))]
        super().__init__(
            nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), *blocks,
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10),
        )  # fmt: skip


if __name__ == "__main__":
    main()
