"""One line on what is under way: bar, rate, time left, what waits."""

from __future__ import annotations

import time

from textual.content import Content
from textual.widget import Widget

from lsshell.pace import Pace, bar, clock
from lsshell.worker import Worker


class Activity(Widget):
    """Reads the worker; shows nothing that is not so."""

    def __init__(self, **options: str) -> None:
        super().__init__(**options)
        self._pace = Pace()
        self._text = Content("")

    def show(self, worker: Worker) -> None:
        """Looks at what the worker does."""
        text = self._words(worker)
        if text != self._text:
            self._text = text
            self.refresh()

    def render(self) -> Content:
        return self._text

    def _words(self, worker: Worker) -> Content:
        job, progress, waiting = worker.running, worker.progress, worker.waiting
        tail = f"  · {len(waiting)} waiting: {waiting[0]}" if waiting else ""
        if not worker.ready:
            return Content.assemble(
                ("loading torch", "$text-warning"), ("  commands wait" + tail, "$text-muted")
            )
        if job is None:
            self._pace = Pace()
            if worker.rest is not None:
                return Content.assemble(
                    ("paused", "bold $text-warning"),
                    "  ",
                    ("r", "bold"),
                    f" goes on: {worker.rest}",
                )
            return Content.styled(f"ready{tail}", "$text-muted")
        if progress is None:
            seconds = clock(time.monotonic() - job.began)
            return Content.assemble(
                (job.text, "$text-accent"), f" … {seconds}", (tail, "$text-muted")
            )
        self._pace.hear(progress)
        width = max(min(30, self.size.width // 4), 6)
        return Content.assemble(
            (progress.task, "bold $text-accent"),
            " ",
            (bar(progress, width), "$accent"),
            f" {self._pace.words(progress)}",
            (f"  {progress.note}", "$text-muted"),
            (tail, "$text-warning"),
        )
