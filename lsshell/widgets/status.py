"""What is loaded, where it computes, where on which level set: two lines."""

from __future__ import annotations

import math

from textual.content import Content
from textual.widget import Widget

from lsshell.sessions.tables import number
from lsshell.sessions.view import View

Part = tuple[int, Content]  # how much it matters, and what it says
_GAUGE = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Status(Widget):
    """Two lines of facts; on a narrow screen the ones that matter least are left out."""

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self._view = View()
        self._rate = 0.0
        self._ready = True

    def show(self, view: View, gradients_per_second: float, *, ready: bool) -> None:
        """Shows a view; `ready`: torch is there."""
        self._view, self._rate, self._ready = view, gradients_per_second, ready
        self.refresh()

    def render(self) -> Content:
        width = self.content_size.width
        return Content("\n").join([_fit(self._loaded(), width), _fit(self._where(), width)])

    def _loaded(self) -> list[Part]:
        view = self._view
        parts = [(4, Content.styled("lsshell", "bold $accent"))]
        if not self._ready:
            parts.append((9, Content.styled("torch is being loaded …", "$text-muted")))
        elif not view.loaded and not view.data:
            parts.append(
                (9, Content.styled("nothing is loaded yet: o opens, ? helps", "$text-muted"))
            )
        if view.checkpoint:
            parts.append((9, Content.styled(view.checkpoint, "bold")))
        if view.network and view.network != view.checkpoint:
            size = f" ({view.parameters:,})" if view.parameters else ""
            parts.append((8, Content(f"{view.network}{size}")))
        if view.data:
            parts.append((7, Content(view.data)))
        if view.device:
            parts.append((6, Content(f"{view.device}{_memory(view.memory)}")))
            parts.append((3, Content.styled(view.dtype, "$text-muted")))
        if view.session:
            parts.append((2, Content.styled(view.session, "$text-muted")))
        return parts

    def _where(self) -> list[Part]:
        view, here = self._view, self._view.here
        if view.level is None or here is None:
            words = "no level fixed: level fixes L* here, or walk does" if view.loaded else ""
            parts = [(9, Content.styled(words, "$text-muted"))]
            if here is not None:
                parts.append((9, Content(f"L {number(here.loss)}  test {number(here.test_loss)}")))
            return parts
        parts = [(9, Content(f"L* {number(view.level)} ± {number(view.tolerance, 2)}"))]
        if view.share is not None:
            parts.append((10, gauge(abs(view.share))))
        parts.append((8, Content(f"{here.branch}:{here.step}")))
        if view.tested is not None:
            parts.append((5, Content(f"test {number(view.tested.test_loss)}")))
        if here.angle_deg is not None:
            parts.append((4, Content(f"∠ {here.angle_deg:.1f}°")))
        parts.append((7, Content(f"{here.gradients} gradients")))
        if self._rate > 0:
            parts.append((6, Content.styled(f"{self._rate:.0f} gradients/s", "$accent")))
        return parts


def gauge(share: float) -> Content:
    """|L − L*| in units of the tolerance, as a bar and in figures."""
    filled = min(share, 1.0) * _GAUGE
    whole = math.floor(filled)
    bar = "█" * whole
    if whole < _GAUGE:
        bar += _EIGHTHS[round(8 * (filled - whole))]
    colour = "$text-success" if share <= 0.5 else "$text-warning" if share <= 1 else "$text-error"
    return Content.assemble(
        "|L−L*|/tol ▕", (f"{bar:<{_GAUGE}}", colour), "▏", (f"{share:.2f}", colour)
    )


def _memory(memory: tuple[int, int] | None) -> str:
    if memory is None:
        return ""
    used, total = (f"{m / 2**30:.1f}" for m in memory)
    return f" {used}/{total} GiB"


def _fit(parts: list[Part], width: int) -> Content:
    """The parts that there is room for, in their order."""
    kept = [p for p in parts if p[1]]
    line = _joined(kept)
    while len(kept) > 1 and line.cell_length > width:
        kept.remove(min(kept, key=lambda p: p[0]))
        line = _joined(kept)
    return line.truncate(width, ellipsis=True) if line.cell_length > width else line


def _joined(parts: list[Part]) -> Content:
    return Content.styled(" │ ", "$text-disabled").join([content for _, content in parts])
