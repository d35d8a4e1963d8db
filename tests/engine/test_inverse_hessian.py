"""The compact limited-memory inverse against the textbook's two loops and the dense update."""

import pytest
import torch

from lsshell.engine import vectors
from lsshell.engine.inverse_hessian import SCALING_WINDOW, InverseHessian


def pairs(count, p, seed=0):
    """Secant pairs of a positive definite quadratic."""
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(p, p, generator=g, dtype=torch.float64)
    b = root @ root.T / p + torch.eye(p, dtype=torch.float64)
    s = torch.randn(count, p, generator=g, dtype=torch.float64)
    return [(row, b @ row) for row in s]


def dense(kept, p):
    """BFGS updates of γI one after another, oldest first."""
    gamma = max(float(s @ y / (y @ y)) for s, y in kept[-SCALING_WINDOW:])
    h, eye = gamma * torch.eye(p, dtype=torch.float64), torch.eye(p, dtype=torch.float64)
    for s, y in kept:
        rho = 1.0 / (s @ y)
        left = eye - rho * torch.outer(s, y)
        h = left @ h @ left.T + rho * torch.outer(s, s)
    return h


@pytest.mark.parametrize(("count", "cached"), [(1, 12), (4, 5), (5, 12), (9, 1), (17, 7)])
def test_constrained_step_is_that_of_the_dense_update(monkeypatch, count, cached):
    monkeypatch.setattr(vectors, "CACHED", cached)
    p, memory = 12, 5
    inverse = InverseHessian(memory, torch.zeros(p, dtype=torch.float64))
    g = torch.Generator().manual_seed(7)
    added = []
    for s, y in pairs(count, p):
        assert inverse.add(s, y)
        added.append((s, y))
        t = torch.randn(p, generator=g, dtype=torch.float64)
        normal = torch.randn(p, generator=g, dtype=torch.float64)
        h = dense(added[-memory:], p)
        u, w = h @ t, h @ normal
        wanted = -(u - (u @ normal) / (w @ normal) * w)
        step, along = inverse.constrained_step(t, normal)
        assert torch.allclose(along, w, rtol=1e-9, atol=1e-11)
        assert torch.allclose(step, wanted, rtol=1e-9, atol=1e-11)
        assert abs(float(step @ normal)) < 1e-9 * float(step.norm() * normal.norm())
    assert len(inverse) == min(count, memory)


def test_several_pairs_at_once_count_as_one_after_another():
    p = 9
    one, many = (InverseHessian(4, torch.zeros(p, dtype=torch.float64)) for _ in range(2))
    t, normal = torch.ones(p, dtype=torch.float64), torch.arange(p, dtype=torch.float64)
    for s, y in pairs(7, p):
        one.add(s, y)
        one.constrained_step(t, normal)
        many.add(s, y)
    assert torch.allclose(one.constrained_step(t, normal)[0], many.constrained_step(t, normal)[0])


def test_pairs_without_positive_curvature_are_left_out():
    inverse = InverseHessian(3, torch.zeros(2))
    assert not inverse.add(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]))
    assert not inverse.add(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert len(inverse) == 0
    assert inverse.add(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0]))
    inverse.clear()
    assert len(inverse) == 0


@pytest.mark.parametrize("cached", [1, 3, 10, 11])
def test_a_length_is_that_of_all_parts_in_float64(monkeypatch, cached):
    monkeypatch.setattr(vectors, "CACHED", cached)
    a = torch.tensor([1e-4, 3e4, -5e3, 7.0, 1e-9, 2e4, 0.0, 1.5, -2.5, 8e3])
    assert vectors.norm(a) == pytest.approx(float(a.double().norm()), rel=1e-14)
    assert vectors.norm(a[:0]) == 0.0


def test_pairs_too_short_for_the_precision_are_left_out():
    inverse = InverseHessian(3, torch.zeros(2))
    s, y = torch.tensor([1e-10, 0.0]), torch.tensor([1e-25, 0.0])  # yᵀy is 0 in float32
    assert not inverse.add(s, y)
    assert len(inverse) == 0
