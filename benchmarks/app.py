"""What the app costs: its first frame, keys during a walk, and the walk's speed beside it.

    python benchmarks/app.py [--rounds 5] [--keys 200] [--json FILE]

first frame: from starting `lsshell` in a pseudo-terminal of 120×40 until its first screen is
drawn. keys: letters typed on the command line while MNIST_FF walks; the time until each is on the
screen, by Textual's Pilot (in process) and in tmux (where one is installed), whose own time for an
idle prompt is beside it. speed: the same walk in the app, and before and after it without a
screen; the median ratio of their times (a machine's own speed drifts: take fifteen rounds).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from setting import SETTING

LSSHELL = Path(sys.executable).with_name("lsshell")
LONG_WALK = "walk --method paper --steps 20000"
TIMED_WALKS = ("walk --steps 400 --method paper", "walk --steps 100 --method gradient")
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def first_frame(folder: Path) -> float:
    """Seconds until the first screen is drawn."""
    import pexpect

    began = time.perf_counter()
    process = pexpect.spawn(
        str(LSSHELL), cwd=str(folder), dimensions=(40, 120), encoding="utf-8",
        env=os.environ | {"TERM": "xterm-256color", "XDG_STATE_HOME": str(folder)},
    )  # fmt: skip
    process.expect("Walk along the level set", timeout=30)
    seconds = time.perf_counter() - began
    process.close(force=True)
    return seconds


def keys_in_tmux(folder: Path, count: int, *, walking: bool) -> list[float]:
    """Seconds from each key until it is on the screen, read by `capture-pane`."""
    name = f"lsshell-benchmark-{os.getpid()}"
    tmux = ["tmux", "-L", name, "-f", "/dev/null"]

    def say(*words: str) -> str:
        return subprocess.run([*tmux, *words], capture_output=True, text=True, check=True).stdout

    def wait(text: str) -> None:
        deadline = time.monotonic() + 120
        while text not in say("capture-pane", "-p"):
            assert time.monotonic() < deadline, say("capture-pane", "-p")
            time.sleep(0.05)

    say("new-session", "-d", "-x", "120", "-y", "40", "-c", str(folder),
        f"XDG_STATE_HOME={folder} {LSSHELL}")  # fmt: skip
    try:
        wait("Walk along the level set")
        say("send-keys", "Escape")
        time.sleep(0.5)
        say("send-keys", ":")
        for line in (*SETTING, *((LONG_WALK,) if walking else ())):
            time.sleep(0.2)
            say("send-keys", "-l", line)
            say("send-keys", "Enter")
            time.sleep(0.2)
        wait("/20000" if walking else "l2 is on")
        time.sleep(2)
        found = []
        typed = ""
        for k in range(count):
            letter = ALPHABET[k % len(ALPHABET)]
            typed = letter if len(typed) > 30 else typed + letter
            if typed == letter and k:
                say("send-keys", "C-u")
                time.sleep(0.3)
            began = time.perf_counter()
            say("send-keys", "-l", letter)
            while f" {typed}" not in say("capture-pane", "-p"):
                pass
            found.append(time.perf_counter() - began)
            time.sleep(0.05)
        return found
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)


async def keys_in_pilot(folder: Path, count: int) -> list[float]:
    """Seconds until Pilot has seen each key through, and the line shows it."""
    from lsshell.app import LsshellApp
    from lsshell.widgets.command_line import CommandLine

    app = LsshellApp(folder / "pilot", lines=(*SETTING, LONG_WALK))
    found = []
    async with app.run_test(size=(120, 40)) as pilot:
        while app.worker.progress is None or app.worker.progress.done < 5:
            await asyncio.sleep(0.05)
        await pilot.press("colon")
        line = app.query_one(CommandLine).input
        for k in range(count):
            letter = ALPHABET[k % len(ALPHABET)]
            expected = line.value + letter
            began = time.perf_counter()
            app.simulate_key(letter)
            while line.value != expected:
                await asyncio.sleep(0)
            await pilot.app.animator.wait_until_complete()
            found.append(time.perf_counter() - began)
            await asyncio.sleep(0.05)
        app.worker.close()
    return found


def timed_in_app(folder: Path, walk: str) -> float:
    """Seconds of the walk as the app runs it, on a pseudo-terminal that is read."""
    code = f"""
import sys, time
from pathlib import Path
from lsshell.app import LsshellApp
app = LsshellApp(Path({str(folder / "app")!r}), lines={(*SETTING, walk)!r})
hear = app._hear
def heard(said):
    hear(said)
    if said.outcome is not None and said.outcome.command == "walk":
        Path({str(folder / "seconds")!r}).write_text(repr(said.outcome.seconds))
        app._leave(True)
app._hear = heard
app.run()
"""
    import pexpect

    process = pexpect.spawn(
        sys.executable, ["-c", code], dimensions=(40, 120), timeout=600,
        env=os.environ | {"TERM": "xterm-256color", "XDG_STATE_HOME": str(folder)},
    )  # fmt: skip
    while process.isalive():
        ready, _, _ = select.select([process.child_fd], [], [], 0.2)
        if ready:
            try:
                os.read(process.child_fd, 1 << 16)
            except OSError:
                break
    process.wait()
    return float((folder / "seconds").read_text())


def timed_without(folder: Path, walk: str) -> float:
    """Seconds of the same walk in a session with no screen, in a process of its own."""
    code = f"""
from pathlib import Path
from lsshell.sessions.session import Session
from lsshell.sessions.language import Line
session = Session(Path({str(folder / "plain")!r}))
for k, line in enumerate({(*SETTING, walk)!r}):
    outcome = session.execute(Line("benchmark", k, line))
print(outcome.seconds)
session.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found: dict[str, object] = {}

    def fresh() -> Path:
        return Path(tempfile.mkdtemp(prefix="lsshell-benchmark-"))

    frames = [first_frame(fresh()) for _ in range(asked.rounds + 1)][1:]
    found["first frame, s"] = statistics.median(frames)
    print(f"first frame: median {statistics.median(frames):.3f} s, worst {max(frames):.3f} s")

    def keys(label: str, times: list[float]) -> None:
        middle, tail = statistics.median(times), percentile(times, 0.95)
        found[f"keys, {label}, ms"] = {"median": 1e3 * middle, "p95": 1e3 * tail}
        print(f"keys, {label}: median {1e3 * middle:.1f} ms, 95 % {1e3 * tail:.1f} ms")

    keys("Pilot, walking", asyncio.run(keys_in_pilot(fresh(), asked.keys)))
    if shutil.which("tmux"):
        keys("tmux, walking", keys_in_tmux(fresh(), asked.keys, walking=True))
        keys("tmux, idle", keys_in_tmux(fresh(), asked.keys, walking=False))
    for walk in TIMED_WALKS:
        ratios = []
        for _ in range(asked.rounds):
            before, shown = timed_without(fresh(), walk), timed_in_app(fresh(), walk)
            ratios.append(2 * shown / (before + timed_without(fresh(), walk)))
        found[f"{walk}: in the app / without"] = ratios
        print(f"{walk}: in the app / without: median {statistics.median(ratios):.3f}"
              f" ({', '.join(f'{r:.3f}' for r in ratios)})")  # fmt: skip
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
