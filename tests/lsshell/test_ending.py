"""The process ends with its exit code, whatever its threads are doing."""

from __future__ import annotations

import subprocess
import sys

AT_WORK = """
import sys, threading, torch
from lsshell.ending import Background, end
begun = threading.Event()
matrix = torch.randn(300, 300)
def work():
    while True:
        torch.linalg.eigvalsh(matrix @ matrix.T)
        begun.set()
Background(work, "work").start()
begun.wait()
print("the last words")
"""


def after(ending: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AT_WORK + ending], capture_output=True, text=True, timeout=240
    )


def test_the_exit_code_is_the_one_given_while_a_thread_is_inside_torch():
    ended = after("end(3)")
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "the last words\n", "")


def test_the_exit_code_is_the_one_given_where_nobody_reads_what_was_printed():
    ended = after("import os; os.close(1); end(3)")
    assert (ended.returncode, ended.stderr) == (3, "")


def test_with_no_thread_at_work_what_is_to_be_done_at_the_end_is_done():
    code = "import atexit; from lsshell.ending import end; atexit.register(print, 'done'); end(3)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (3, "done\n")
