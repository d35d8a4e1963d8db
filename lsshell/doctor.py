"""`lsshell doctor`: versions, devices, data sets found."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lsshell.sessions.tables import table

PACKAGES = (
    "lsshell", "torch", "numpy", "scikit-learn", "safetensors", "mlxtend", "cyclopts",
    "prompt_toolkit", "plotext", "matplotlib", "rich", "filelock",
)  # fmt: skip


def examine(root: Path | None) -> tuple[str, bool]:
    """A report for people, and whether everything that is needed is there."""
    rows, sound = [["python", platform.python_version(), sys.executable]], True
    for package in PACKAGES:
        try:
            rows.append([package, version(package), ""])
        except PackageNotFoundError:
            rows.append([package, "missing", f"pip install {package}"])
            sound = False
    rows += _devices()
    rows += _data(root)
    terminal = f"TERM={os.environ.get('TERM', '')} NO_COLOR={'NO_COLOR' in os.environ}"
    rows.append(["terminal", "yes" if sys.stdout.isatty() else "no", terminal])
    return table(["", "", ""], rows, left=(0, 1, 2)).strip("\n"), sound


def _devices() -> list[list[str]]:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    rows = [["cpu", f"{torch.get_num_threads()} threads", f"{platform.machine()} {capability}"]]
    for k in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(k).total_memory / 2**30
        rows.append([f"cuda:{k}", f"{memory:.0f} GiB", torch.cuda.get_device_name(k)])
    if torch.backends.mps.is_available():
        rows.append(["mps", "yes", "float32 only"])
    return rows


def _data(root: Path | None) -> list[list[str]]:
    from lsshell.engine.data import load_data
    from lsshell.engine.errors import EngineError
    from lsshell.engine.vocabulary import DATA_SETS

    rows = []
    for name in DATA_SETS:
        try:
            bundled = name in ("iris", "digits", "mpg", "mnist-5k")
            found = load_data(name, **({} if bundled else {"root": root}))
            rows.append([name, "found", f"{len(found.x_train)} + {len(found.x_test)} examples"])
        except EngineError as e:
            rows.append([name, "not found", str(e).splitlines()[0]])
    return rows
