"""Principal components of the path while it grows, in a thread that mostly sleeps."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from lsshell.ending import Background

if TYPE_CHECKING:
    from lsshell.engine.engine import Engine
    from lsshell.engine.path import Path
    from lsshell.engine.projection import GrowingProjection, Projection
    from lsshell.sessions.plots import Traversal

# While a walk goes on: points in a picture, seconds between two, and of rest for each of work.
POINTS, LEAST, REST = 64, 1.0, 200.0
POINTS_AT_REST = 200


class Projector:
    """Projects the latest traversal asked for; `latest` is the newest picture there is."""

    def __init__(self) -> None:
        self.latest: Projection | None = None
        self.pictures = 0  # how many there have been
        self._path: Path | None = None  # whose picture it is
        self._growing: GrowingProjection | None = None
        self._wanted: tuple[Engine, Traversal, bool] | None = None
        self._changed = threading.Condition()
        Background(self._run, "projector").start()

    def want(self, engine: Engine, traversal: Traversal, *, walking: bool) -> None:
        """Asks for the projection of these points; an older wish that waits is forgotten."""
        with self._changed:
            if engine.path is not self._path:  # another session, or another network
                self._path, self._growing, self.latest = engine.path, None, None
            self._wanted = (engine, traversal, walking)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._wanted is None:
                    self._changed.wait()
                engine, traversal, walking = self._wanted
                self._wanted = None
                growing = self._growing = self._growing or _new_projection()
            began = time.thread_time()
            # A store or problem that is exchanged under our feet: the next wish comes soon.
            with contextlib.suppress(Exception):
                self._project(growing, engine, traversal, POINTS if walking else POINTS_AT_REST)
            if walking:
                self._rest(max(LEAST, REST * (time.thread_time() - began)))

    def _rest(self, seconds: float) -> None:
        """Until then, or until the walk has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted and not self._wanted[2], seconds)

    def _project(
        self, growing: GrowingProjection, engine: Engine, traversal: Traversal, most: int
    ) -> None:
        seen = {p.index: p for line in traversal.lines.values() for p in line}
        points = [seen[index] for index in sorted(seen)]
        names = engine.ready().tensor_names
        found = growing.update(engine.path.store, points, names, traversal.here, most)
        with self._changed:
            if found is not None and growing is self._growing:
                self.latest = found
                self.pictures += 1


def _new_projection() -> GrowingProjection:
    from lsshell.engine.projection import GrowingProjection

    return GrowingProjection()
