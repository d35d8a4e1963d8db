"""Memory and time of a long walk with its points on disk, and of the PCA of its path.

    python benchmarks/memory.py [--steps 10000] [--record 50] [--json FILE]
    python benchmarks/memory.py --model "mlp 784-4620-4620-10" --examples 100 --steps 1000 \\
        --record 1

MNIST_FF from the bundled checkpoint, by `paper`, every `record`th point kept, then `plot path`:
the peak resident memory of the process that does it all, beside that of one which only takes a
step, and the seconds of walk and plot. With --model that network (above: 25 million parameters),
trained for an epoch, by `quasi-newton`; θ of every kept point is on disk, 4p bytes each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from setting import SETTING

CHILD = """
import json, resource, sys
from pathlib import Path
from lsshell.sessions.language import Line
from lsshell.sessions.session import Session
session = Session(Path(sys.argv[1]) / "session")
seconds = {}
for number, text in enumerate(json.loads(sys.argv[2])):
    outcome = session.execute(Line("benchmark", number, text))
    assert outcome.failure is None, outcome.failure
    seconds[text.split()[0]] = outcome.seconds
session.close()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
print(json.dumps({"peak, MB": peak / unit, **seconds}))
"""


def measured(lines: tuple[str, ...]) -> dict[str, float]:
    """Peak memory and seconds by command of a session of its own, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="lsshell-benchmark-") as folder:
        words = [sys.executable, "-c", CHILD, folder, json.dumps(lines)]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--record", type=int, default=50)
    parser.add_argument("--model")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    setting, method = SETTING, "paper"
    if asked.model is not None:
        data = f"data mnist-5k --train {asked.examples}"
        setting = ("seed 0", data, f"model {asked.model}", "train --epochs 1", "level", "reg l2 on")
        method = "quasi-newton"
    walk = f"walk --method {method} --steps {asked.steps} --record {asked.record}"
    least = measured((*setting, f"walk --method {method} --steps 1"))
    found = measured((*setting, walk, "plot path --out path.svg"))
    print(f"one step: peak {least['peak, MB']:.0f} MB")
    print(
        f"{asked.steps} steps, every {asked.record}th kept, and PCA:"
        f" peak {found['peak, MB']:.0f} MB, walk {found['walk']:.1f} s, plot {found['plot']:.1f} s"
    )
    if asked.json:
        asked.json.write_text(json.dumps({"one step": least, "all": found}, indent=1))


if __name__ == "__main__":
    main()
