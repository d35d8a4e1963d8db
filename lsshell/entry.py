"""The command `lsshell`: the app at once where no words follow, else the command line."""

from __future__ import annotations

import os
import sys

from lsshell.ending import end


def main() -> None:
    """Exits with the code that the README documents."""
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    if len(sys.argv) == 1 and alone and sys.stdout is not None and sys.stdin is not None:
        from lsshell.launch import launch, refusal

        if refusal() is None:  # the quick way to the first frame: no parser of arguments
            end(launch())
    from lsshell.cli import main as command_line

    command_line()
