"""A walk without a session: what the tests of steppers share."""

from dataclasses import dataclass

from lsshell.engine.levelset import LevelSet, move_to
from lsshell.engine.regularizers import WeightedSum, make_regularizer
from lsshell.engine.steppers import Position, Terrain
from lsshell.engine.walk import WalkEnd, walk


@dataclass
class Walked:
    """Where a walk ended, every accepted position, every event, and the level set."""

    end: WalkEnd
    positions: list[Position]
    events: list
    level_set: LevelSet


def descend(problem, stepper, names, *, level, tolerance, steps, sign=1.0, theta=None, **kwargs):
    """Moves onto the level and walks; `names` maps a regulariser to its options."""
    level_set = LevelSet(level, tolerance)
    theta = problem.theta.clone() if theta is None else theta
    if not level_set.contains(problem.loss(theta)):
        theta, _ = move_to(problem, level_set, theta)
    total = WeightedSum()
    for name, options in names.items():
        total.terms[name] = (make_regularizer(name, problem, theta, **options), 1.0)
    events = []
    terrain = Terrain(problem, level_set, total, sign, events.append)
    here = terrain.at(theta, *problem.loss_and_gradient(theta))
    positions = [here]
    end = walk(terrain, stepper, here, steps=steps, record=positions.append, **kwargs)
    return Walked(end, positions, events, level_set)
