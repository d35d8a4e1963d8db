"""Every landscape command between two walks: nothing moves, and all of it replays."""

import random
import subprocess
import sys

import numpy as np
import torch

from lsshell.sessions.vocabulary import VOCABULARY
from tests.sessions.conversation import results, say, talk

# Batch norm and dropout: what has state of its own, and what draws.
SETUP = """\
seed 3
data iris
model nets:normalised
train --epochs 20 --rate 0.01
level
reg l2 on
reg jacobian on
walk --steps 3"""
NETWORK = """\
from torch import nn
def normalised():
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, 3)
    )
"""
COMMANDS = """\
allocation --of train --of regularizer
allocation --train --epochs 1 --batch 40 --every 3
compress here start
connect start --epochs 2 --points 5
correlate --points 3 --measures hessian-top,kernel-rank,roughness,minima,prunable,cka-to-start,\
linear-barrier-to-start,hessian-trace,spectral
hessian --k 2 --trace-probes 10 --trace-method hutch++ --density 6 --density-probes 2
hessian start --matrix gauss-newton --examples 50 --k 1 --trace-probes 4 --density 0
interpolate init --points 5 --refine 2
kernel --from start --examples 6
kernel --along --examples 4
pattern --text T --epochs 1 --examples 20 --cells 3 --padding 1
phases --load width=2 --temperature batch=40 --seeds 2 --epochs 2 --curve-epochs 1 --measured 30 \
--probes 4
roughness --directions 3 --points 4
similarity start here --mixup --examples 60
slice --points 5
slice --directions hessian --points 4 --batch-norm recomputed --on both
slice start --toward here --points 5 --quantity accuracy
topology --points 6 --loops
topology --toward start --points 9 --show tree"""


def state(session):
    """All that a later command could depend on, to the last bit."""
    engine = session.engine
    problem = engine.problem
    return {
        "theta": problem.theta.clone(),
        "gradient": problem._gradient.clone(),
        "theta_hash": engine.theta_hash(),
        "buffers": {name: b.clone() for name, b in problem.network.named_buffers()},
        "modes": [module.training for module in problem.network.modules()],
        "views": [q.data_ptr() for q in problem.parameters],
        "gradients": problem.gradients,
        "points": len(engine.path.points),
        "here": engine.path.here,
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "grad mode": torch.is_grad_enabled(),
    }


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    return bool((a == b).all()) if isinstance(a, torch.Tensor | np.ndarray) else a == b


def test_a_walk_after_every_landscape_command_is_the_walk_without_them(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    known = {name for name, command in VOCABULARY.commands.items() if command.kind == "landscape"}
    assert {line.split()[0] for line in COMMANDS.splitlines()} == known
    only, both = (talk(tmp_path / name, SETUP) for name in ("only", "both"))
    for line in COMMANDS.splitlines():
        before = state(both)
        (outcome,) = say(both, line)
        assert outcome.ok, f"{line}: {outcome.failure}"
        after = state(both)
        moved = [name for name in before if not same(before[name], after[name])]
        assert not moved, f"{line}: {moved}"
    walks = [results(session, "walk --steps 3\ntrain --epochs 1") for session in (only, both)]
    assert walks[0] == walks[1]
    end, other = (state(session) for session in (only, both))
    assert all(same(end[k], other[k]) for k in ("theta", "gradient", "buffers", "theta_hash"))
    for session in (only, both):
        session.close()
    command = [sys.executable, "-m", "lsshell", "replay", "--check", str(tmp_path / "both")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
