"""What the engine's benchmarks step on: R = Σ θ² on the level set through θ, within 1 % of L*."""

from torch import Tensor

from lsshell.engine.levelset import LevelSet
from lsshell.engine.problem import Problem
from lsshell.engine.regularizers import WeightedSum, make_regularizer
from lsshell.engine.steppers import Position, Terrain


def terrain_at(problem: Problem, theta: Tensor) -> tuple[Position, Terrain]:
    """The position at θ (p,) and its terrain; two gradients' work at the most."""
    total = WeightedSum()
    total.terms["l2"] = (make_regularizer("l2", problem, theta), 1.0)
    level = problem.loss(theta)
    terrain = Terrain(problem, LevelSet(level, 0.01 * level), total, 1.0, lambda event: None)
    return terrain.at(theta, *problem.loss_and_gradient(theta)), terrain
