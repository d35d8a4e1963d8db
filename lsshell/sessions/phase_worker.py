"""`python -m lsshell.sessions.phase_worker PID`: measures the cells that PID sends, one by one.

Cells come pickled over standard input, from the process that started this one; each is answered by
a line of JSON.
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
    from lsshell.sessions.phase_cells import result_values

    no_approximate_arithmetic()
    while True:
        try:
            job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = result_values(job.measure())
        except EngineError as e:
            answer = {"error": str(e)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
