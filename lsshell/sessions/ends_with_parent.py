"""`python -m lsshell.sessions.ends_with_parent PID …`: lsshell, killed once its parent has died.

A Ray worker that is killed must not leave its job running beside the retry. Killing is safe: what
stands in a session is whole.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time


def end_with(parent: int) -> None:
    """Kills this process once `parent` is not its parent any more."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with, args=(int(sys.argv.pop(1)),), daemon=True).start()
    runpy.run_module("lsshell", run_name="__main__", alter_sys=True)
