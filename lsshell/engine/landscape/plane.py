"""A plane of parameter vectors through three learned ones, and its derivative."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lsshell.engine.errors import EngineError
from lsshell.engine.vectors import dot, norm, wide

FIRST_SCALE = 0.1
_LEAST_SINE = 1e-6  # of the angle between the two directions


@dataclass(frozen=True)
class Axes:
    """u and v (p,), of one length and at right angles, with what their derivative needs.

    along: (ũ·v)/(v·v); v_norm: ‖v‖ = ‖u‖; rest: ‖ũ − along·v‖.
    """

    u: Tensor
    v: Tensor
    along: float
    v_norm: float
    rest: float


@dataclass(frozen=True)
class Plane:
    """θ(i, j) = o + s·(i·u + j·v), spanned by three vectors õ = o, ũ, ṽ (p,) and the scalar s.

    v = ṽ − o, u = ‖v‖·t/‖t‖ with t = ũ − (ũ·v/v·v)·v: orthogonal and of equal length, so that i
    and j count cells of a square grid (Skorokhodov & Burtsev 2019, "up_orthogonal"). Inner products
    are float64 where the device has it. `parts` are o, ũ, ṽ and s (1,); all four are learned.
    """

    o: Tensor
    up: Tensor
    right: Tensor
    s: Tensor

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.o, self.up, self.right, self.s

    @classmethod
    def through(cls, o: Tensor, up: Tensor, right: Tensor) -> Plane:
        """The plane that these three vectors (p,) begin, which it takes over; s = 0.1.

        Raises EngineError where they span none.
        """
        plane = cls(o, up, right, torch.full((1,), FIRST_SCALE, device=o.device, dtype=o.dtype))
        plane.axes()
        return plane

    def axes(self) -> Axes:
        """u and v. Raises EngineError where the three vectors lie on a line through 0."""
        v = self.right - self.o
        up, along_v = wide(self.up), wide(v)
        v_norm, up_norm = norm(v), norm(up)
        along = dot(up, along_v) / v_norm**2 if v_norm else 0.0
        t = torch.sub(up, along_v, alpha=along)
        rest = norm(t)
        if not rest > _LEAST_SINE * up_norm or not v_norm:
            raise EngineError(
                "the three networks span no plane: they are the same, or have one parameter"
                if up.numel() < 2 or not v_norm
                else "the plane has collapsed to a line: a lower --rate helps"
            )
        return Axes(t.mul_(v_norm / rest).to(v.dtype), v, along, v_norm, rest)

    def theta(self, axes: Axes, i: float, j: float, out: Tensor | None = None) -> Tensor:
        """θ(i, j) (p,), into `out` where given."""
        s = float(self.s)
        theta = torch.empty_like(self.o) if out is None else out
        return theta.copy_(self.o).add_(axes.u, alpha=s * i).add_(axes.v, alpha=s * j)

    def pull_back(self, axes: Axes, sums: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Gradients by o, ũ, ṽ (p,) and s (1,) of a loss of the θ(i, j).

        sums: Σ g, Σ i·g and Σ j·g (p,), g the loss's gradient by θ(i, j), over all (i, j). They
        are overwritten. The cost is that of some inner products, however many (i, j) there were.
        """
        g_o, g_u, g_v = sums
        s = float(self.s)
        u, v = axes.u, axes.v
        g_s = dot(wide(g_u), wide(u)) + dot(wide(g_v), wide(v))
        g_u.mul_(s)
        g_v.mul_(s)
        # u = ‖v‖·t/‖t‖: across t, and through ‖v‖ …
        across = dot(wide(g_u), wide(u)) / axes.v_norm  # g_u·t/‖t‖, u/‖v‖ being t/‖t‖
        g_v.add_(v, alpha=across / axes.v_norm)
        g_u.sub_(u, alpha=across / axes.v_norm).mul_(axes.v_norm / axes.rest)
        # … and t = ũ − along·v.
        beside = dot(wide(g_u), wide(v)) / axes.v_norm**2
        g_v.sub_(g_u, alpha=axes.along)
        g_v.sub_(self.up, alpha=beside).add_(v, alpha=2.0 * beside * axes.along)
        g_u.sub_(v, alpha=beside)
        g_o.sub_(g_v)
        return g_o, g_u, g_v, torch.full_like(self.s, g_s)

    def spacing(self, axes: Axes) -> float:
        """|s|·‖v‖: how far neighbouring points of the grid lie apart."""
        return abs(float(self.s)) * axes.v_norm


def clip_norm(gradients: Sequence[Tensor], most: float) -> float:
    """Scales gradients down to a joint norm of `most` where it is larger; the norm before."""
    length = math.hypot(*(norm(g) for g in gradients))
    if length > most:
        for g in gradients:
            g.mul_(most / length)
    return length
