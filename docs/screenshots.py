"""The README's pictures of the app, drawn by the app itself.

    python docs/screenshots.py

Runs the demo with no terminal, at fixed sizes, and writes docs/*.svg.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from textual.pilot import Pilot

from lsshell.app import LsshellApp

FOLDER = Path(__file__).resolve().parent
WIDE, NARROW = (150, 44), (80, 24)


def app(**options: object) -> LsshellApp:
    """One in an empty folder, whose session is thrown away."""
    os.chdir(tempfile.mkdtemp(prefix="lsshell-"))
    return LsshellApp(Path("sessions/demo"), **options)


async def settled(pilot: Pilot[int]) -> None:
    """Until nothing is under way and everything is drawn."""
    worker = pilot.app.worker
    await pilot.pause(0.5)
    while not (worker.ready and worker.idle):
        await pilot.pause(0.1)
    await pilot.pause(3.0)  # principal components, and messages that pass


def keep(pilot: Pilot[int], name: str) -> None:
    file = FOLDER / f"{name}.svg"
    file.write_text(pilot.app.export_screenshot(title="lsshell"))
    print(file.name)


async def main() -> None:
    async with app(welcome=False).run_test(size=WIDE) as pilot:
        pilot.app.theme = "textual-dark"
        pilot.app.action_demo()
        await settled(pilot)
        for line in ("branch flatter", "reg l2 off", "reg spectral on", "walk --steps 40"):
            pilot.app.say(line)
        await settled(pilot)
        keep(pilot, "app")
        await pilot.press("5", "f")
        await settled(pilot)
        keep(pilot, "path")
        await pilot.press("f")
        pilot.app.theme = "textual-light"
        await settled(pilot)
        keep(pilot, "light")
        pilot.app.worker.close()
    async with app().run_test(size=NARROW) as pilot:
        pilot.app.theme = "textual-dark"
        await settled(pilot)
        keep(pilot, "welcome")
        await pilot.press("d")
        await settled(pilot)
        keep(pilot, "small")
        pilot.app.worker.close()


if __name__ == "__main__":
    asyncio.run(main())
