"""`python -m lsshell.sessions.phases.worker PID`: measures the cells that PID sends, one by one.

A laboratory and then cells come pickled over standard input, from the process that started this
one; each cell is answered by a line of JSON.
"""

from __future__ import annotations

import json
import pickle
import sys
import threading

from lsshell.engine.errors import EngineError
from lsshell.sessions.ends_with_parent import end_with


def main() -> None:
    """Until standard input ends."""
    threading.Thread(target=end_with, args=(int(sys.argv[1]),), daemon=True).start()
    answers, sys.stdout = sys.stdout, sys.stderr  # what a user's own network prints is no answer
    from lsshell.engine.engine import no_approximate_arithmetic
    from lsshell.sessions.phases.cells import result_values

    no_approximate_arithmetic()
    laboratory = pickle.load(sys.stdin.buffer)
    while True:
        try:
            job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = result_values(laboratory.measure(job))
        except EngineError as e:
            answer = {"error": str(e)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
