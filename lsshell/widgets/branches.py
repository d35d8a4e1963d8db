"""The tree of branches; Enter goes to the end of one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text
from textual.widgets import Tree

from lsshell.sessions.tables import number
from lsshell.widgets.messages import Say

if TYPE_CHECKING:
    from textual.widgets.tree import TreeNode

    from lsshell.engine.path import Path, Point


LABELLED_EVERY = 2.0  # seconds


class Branches(Tree[str]):
    """Every branch under the one that it leaves from."""

    BORDER_TITLE = "8 branches"

    def __init__(self, **options: str) -> None:
        super().__init__("path", **options)
        self.show_root = False
        self.guide_depth = 2
        self._shown: dict[str, Text] = {}
        self._labelled = 0.0
        self._by_name: dict[str, TreeNode[str]] = {}

    def show_path(self, path: Path | None, *, walking: bool) -> None:
        """Shows the branches of a path; the tree is made anew where there is another branch.

        During a walk its labels follow now and then: each change arranges the tree anew.
        """
        branches = path.branches() if path is not None else {}
        here = path.here if path is not None else None
        labels = {name: _label(name, points, here) for name, points in branches.items()}
        if list(labels) != list(self._shown):
            self._grow(branches, path, labels)
        elif walking and time.monotonic() - self._labelled < LABELLED_EVERY:
            return
        else:
            for name, label in labels.items():
                if label != self._shown[name]:
                    self._by_name[name].set_label(label)
        self._shown, self._labelled = labels, time.monotonic()

    def _grow(
        self, branches: dict[str, list[Point]], path: Path | None, labels: dict[str, Text]
    ) -> None:
        self.clear()
        self._by_name = {}
        for name, points in branches.items():
            parent = points[0].parent
            origin = path.points.get(parent) if path is not None and parent is not None else None
            above = self._by_name.get(origin.branch) if origin is not None else None
            node = (above or self.root).add(labels[name], name, expand=True)
            node.allow_expand = False
            self._by_name[name] = node
        self.root.expand_all()

    def on_tree_node_selected(self, event: Tree.NodeSelected[str]) -> None:
        event.stop()
        if event.node.data:
            self.post_message(Say(f"goto {event.node.data}"))


def _label(name: str, points: list[Point], here: Point | None) -> Text:
    first, last = points[0], points[-1]
    steps = f"{first.step}–{last.step}" if last.step > first.step else str(first.step)
    tested = next((p for p in reversed(points) if p.test_loss is not None), None)
    loss = f"  test {number(tested.test_loss)}" if tested is not None else ""
    level = f"  L* {number(last.level)}" if last.level is not None else f"  L {number(last.loss)}"
    mark = "▶ " if here is not None and here.branch == name else ""
    return Text(f"{mark}{name} {steps}{loss}{level}")  # as it is: no markup
