"""What can be opened: sessions on disk, and what a file is, found out without torch."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from lsshell.engine.vocabulary import DATA_SETS
from lsshell.sessions.journal import SCRIPT
from lsshell.sessions.language import CONTROL

MOST_HEADER = 1 << 20
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".pt2")
TABLES = (".npz", ".csv")


@dataclass(frozen=True)
class SavedSession:
    """A session's folder, and the last thing said in it."""

    folder: Path
    changed: float
    last: str


def saved_sessions(root: Path, most: int = 8) -> list[SavedSession]:
    """The sessions in a folder, the latest first; none where there is no such folder."""
    try:
        scripts = [(s.stat().st_mtime, s) for s in root.glob(f"*/{SCRIPT}")]
    except OSError:
        return []
    latest = sorted(scripts, reverse=True)[:most]
    return [SavedSession(s.parent, changed, _last_line(s)) for changed, s in latest]


def _last_line(script: Path) -> str:
    """The last command of a script, from its end."""
    try:
        with script.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - 8192, 0))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((t.strip() for t in reversed(lines) if t.strip() and not t.startswith("#")), "")


def lines_to_open(path: Path, *, has_data: bool) -> list[str]:
    """The commands that open a file or folder: resume, source, load or data.

    A checkpoint of lsshell's own says which bundled data it was made on; with no data loaded yet,
    they are loaded first. Raises ValueError, for people, where it is none of these.
    """
    if CONTROL.search(str(path)):
        raise ValueError("a path with line breaks or other control characters cannot be opened")
    if path.name == SCRIPT:
        path = path.parent
    if path.is_dir():
        if not (path / SCRIPT).exists():
            raise ValueError(f"{path} holds no session (there is no {SCRIPT} in it)")
        return [f"resume {quoted(path)}"]
    if path.suffix == ".lss":
        return [f"source {quoted(path)}"]
    if path.suffix in TABLES:
        return [f"data {quoted(path)}"]
    if path.suffix in CHECKPOINTS:
        before = [] if has_data else _setting(path)
        return [*before, f"load {quoted(path)}"]
    raise ValueError(
        f"{path.name}: neither a checkpoint ({', '.join(CHECKPOINTS)}), data ({', '.join(TABLES)}),"
        " a script (.lss), nor a session's folder"
    )


def _setting(checkpoint: Path) -> list[str]:
    """The seed and data that a checkpoint names. Only bundled data by name: the file is not ours
    to trust with a command.
    """
    metadata = safetensors_metadata(checkpoint)
    words = metadata.get("data", "").split()
    name, rest = (words[0], words[1:]) if words else ("", [])
    if name not in DATA_SETS:
        return []
    if rest and not (len(rest) == 2 and rest[0] == "--train" and rest[1].isdecimal()):
        return []
    seed = metadata.get("seed", "0")
    lines = [f"seed {seed}"] if seed.isdecimal() else []
    return [*lines, f"data {' '.join(words)}"]


def safetensors_metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file; nothing where it is none."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if not 0 < size <= MOST_HEADER:
                return {}
            found = json.loads(stream.read(size)).get("__metadata__", {})
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(k): v for k, v in found.items() if isinstance(v, str)}


def quoted(path: Path) -> str:
    """The path as one word of the command language."""
    return shlex.quote(str(path))
