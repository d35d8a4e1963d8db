"""Where a measure is taken: points of the path and checkpoints, visited without moving the walk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from lsshell.engine.checkpoints import read_checkpoint
from lsshell.engine.errors import EngineError
from lsshell.engine.problem import whole_gradients

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine
    from lsshell.engine.path import Point
    from lsshell.engine.problem import Problem

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A point to measure at: θ (p,) on the problem's device, and the network's buffers there
    (batch-norm statistics).

    `point`: the recorded point that it is; None for a checkpoint, and for θ not on record.
    """

    name: str
    theta: Tensor
    buffers: Mapping[str, Tensor]
    point: Point | None = None


@dataclass
class Spent:
    """The work of a visit, in gradients (a Hessian-vector product counts 2)."""

    gradients: int = 0


def find_place(engine: Engine, where: str | FilePath | None = None) -> Place:
    """The current point (None or "here"), one of the path (`Path.find`), the initialisation
    ("init", where no branch has that name), or a checkpoint's.

    Raises EngineError where there is none of that name, or the file is of another network.
    """
    problem = engine.ready()
    if where is None or where == "here":
        here = engine.path.here
        name = "here" if where == "here" or here is None else here.name
        return Place(name, engine.problem_theta().clone(), _buffers(problem), here)
    if isinstance(where, FilePath):
        return read_place(problem, where)
    if where == "init" and where not in engine.path.branches():
        return initialisation(engine)
    return place_at(engine, engine.path.find(where), where)


def place_at(engine: Engine, point: Point, name: str | None = None) -> Place:
    """A kept point of the path."""
    problem = engine.ready()
    state = engine.path.store.get(point.index)
    theta = problem.flat(state).to(problem.device)
    return Place(name or point.name, theta, _buffers(problem, state), point)


def kept_points(engine: Engine, first: str | None = None, last: str | None = None) -> list[Point]:
    """The kept points on the lineage of `last` (here), from `first` on (its start), in order.

    Raises EngineError where there are none, and where `first` is not on that lineage.
    """
    engine.ready()
    end = None if last in (None, "here") else engine.path.find(str(last))
    line = [p for p in engine.path.lineage(end) if p.kept]
    if not line:
        raise EngineError("nothing has been walked yet: `walk` first")
    if first is None:
        return line
    begin = engine.path.here if first == "here" else engine.path.find(first)
    at = [k for k, p in enumerate(line) if begin is not None and p.index == begin.index]
    if not at:
        raise EngineError(f"{first} is not on the way from {line[0].name} to {line[-1].name}")
    return line[at[0] :]


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many (2 or more) of the items, evenly spaced by number, both ends among them."""
    count, last = min(most, len(items)), len(items) - 1
    return [items[round(k * last / max(1, count - 1))] for k in range(count)]


def initialisation(engine: Engine) -> Place:
    """Where training begins: the network initialised anew, under the seed of this traversal's
    start (the session's, before there is one).

    For a checkpoint trained elsewhere that is a fresh initialisation, not its own. Raises
    EngineError for a network that came with its parameters.
    """
    problem = engine.ready()
    if engine._rebuild is None or engine.data is None:
        raise EngineError("this network came with its parameters; how it was initialised is lost")
    seed = engine.path.start().seed if engine.path.points else engine.seed
    state = engine._rebuild(engine.data, seed=seed).state_dict()
    return Place("init", problem.flat(state).to(problem.device), _buffers(problem, state))


def read_place(problem: Problem, file: FilePath) -> Place:
    """A checkpoint's θ and buffers; the session stays where it is."""
    state = read_checkpoint(file).tensors
    for slot in problem.slots:
        if slot.name not in state or tuple(state[slot.name].shape) != slot.shape:
            raise EngineError(
                f"{file.name} is not a checkpoint of this network: {slot.name} differs"
            )
    return Place(file.name, problem.flat(state).to(problem.device), _buffers(problem, state))


def _buffers(problem: Problem, state: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Copies of the network's buffers, as they are or as a state has them."""
    found = {name: buffer.clone() for name, buffer in problem.network.named_buffers()}
    for name in found if state is not None else ():
        assert state is not None
        if name in state:
            found[name].copy_(state[name])
    return found


@contextlib.contextmanager
def visit(problem: Problem, place: Place | None = None) -> Iterator[Spent]:
    """Inside, the network's buffers are the place's; afterwards all is as it was, to the last bit.

    That is the network's parameters, gradients and buffers, its mode, and the count of gradients,
    which belongs to the walk: what the visit cost is in the `Spent` that it gives. Holds two
    vectors (p,).
    """
    theta, gradient = problem.theta.clone(), problem._gradient.clone()
    before, buffers, spent = problem.work, _buffers(problem), Spent()
    training = {module: module.training for module in problem.network.modules()}
    try:
        if place is not None:
            set_buffers(problem, place.buffers)
        yield spent
    finally:
        spent.gradients = whole_gradients(problem.work - before)
        problem.work = before
        problem.theta.copy_(theta)
        problem._gradient.copy_(gradient)
        set_buffers(problem, buffers)
        for module, mode in training.items():
            module.training = mode


def set_buffers(problem: Problem, buffers: Mapping[str, Tensor]) -> None:
    """Puts these values into the network's buffers."""
    for name, buffer in problem.network.named_buffers():
        buffer.copy_(buffers[name])
