"""The scripts of `make paper`, at a size at which they say nothing but run."""

import re
import shutil
from pathlib import Path

import pytest

from lsshell.sessions.batch import read_matrix
from lsshell.sessions.report.report import make_report
from lsshell.sessions.session import Session, read_lines

PAPER = Path(__file__).parent.parent / "examples" / "paper"
SCRIPTS = sorted(PAPER.glob("*.lss"))
TINY = """source full.lss
set epochs=2
set table_epochs=2
set table_steps=4
set image_steps=3
set steps=3
set table_decay=2
set image_decay=1
set lambdas=1e-3,1e-1
set record=1
set regularizer_steps=2
set image_validation=100
"""


def assigned(size):
    """The variables that a size sets."""
    text = (PAPER / "sizes" / f"{size}.lss").read_text()
    names = set(re.findall(r"^set (\w+)=", text, re.M))
    for other in re.findall(r"^source (\w[\w-]*)\.lss", text, re.M):
        names |= assigned(other)
    return names


@pytest.mark.parametrize("size", ["reduced", "full", "full-root", "published"])
def test_each_size_sets_all_that_the_scripts_ask_for(size):
    used = set()
    for script in (*SCRIPTS, *(PAPER / "sets").glob("*.lss")):
        used |= set(re.findall(r"\$\{(\w+)\}", script.read_text()))
    assert used - assigned(size) == {"seed", "size"}


def test_every_experiment_has_its_walk_and_its_rival():
    names = {s.stem for s in SCRIPTS} - {"regularizers"}
    walks = {n for n in names if not n.endswith("-weight-decay")}
    assert walks == {"iris-ff", "mpg-ff", "mnist-ff", "mnist-conv", "cifar10-conv"}
    assert names - walks == {f"{n}-weight-decay" for n in walks}
    for name in walks:
        text = (PAPER / f"{name}.lss").read_text()
        # Both sides penalise the same parameters, and begin from the same data and seed.
        trained = [r for r in text.splitlines() if "weight-decay" in r and r[0] in "ct"]
        assert len(trained) == 5 and all("--biases" in r for r in trained)
        rival = (PAPER / f"{name}-weight-decay.lss").read_text()
        setting = [r for r in rival.splitlines() if r.startswith(("source", "seed", "data"))]
        assert all(line in text for line in setting)


@pytest.mark.parametrize("count", [2, 5, 10, 15])
def test_seeds_are_so_many(count):
    assert len(read_matrix(PAPER / "seeds" / f"{count}.toml")["seed"]) == count


def test_the_scripts_run_and_make_a_report(tmp_path):
    examples, runs = tmp_path / "paper", tmp_path / "runs"
    shutil.copytree(PAPER, examples)
    (examples / "sizes" / "tiny.lss").write_text(TINY)
    for name in ("iris-ff", "iris-ff-weight-decay", "mnist-ff", "regularizers"):
        session = Session(runs / name)
        session.set_variable("seed=0")
        session.set_variable("size=tiny")
        session.begin_script(examples / f"{name}.lss")
        for line in read_lines(examples / f"{name}.lss"):
            if not line.text.startswith("plot"):
                outcome = session.execute(line)
                assert outcome is None or outcome.ok, f"{name}: {outcome.failure}"
        session.close()
    sections = make_report([runs])
    assert [s.title for s in sections] == [
        "iris-ff on iris --validation 20",
        "mnist-ff on mnist-5k --train 1000 --validation 100",
        "mnist-ff on mnist-5k --train 1000 --validation 100: which regulariser helps",
    ]
    tables = {t.name for s in sections for t in s.tables}
    iris = "iris-ff-iris-validation-20"
    for what in ("ends", "best", "changes", "correlations", "weight-decay-1",
                 "weight-decay-2", "paired", "matched"):  # fmt: skip
        assert f"{iris}-{what}" in tables
    pictures = {p.name for p in sections[1].pictures}
    mnist = "mnist-ff-mnist-5k-train-1000-validation-100"
    assert {f"{mnist}-paper", f"{mnist}-quasi-newton", f"{mnist}-paper-own-components"} <= pictures
    regularizers = sections[2].pictures[0]
    assert {p.y_label for p in regularizers.panels} >= {"Δ test loss", "Δ l2, %", "Δ jacobian, %"}
    walked = regularizers.panels[0].categories
    assert {"distance", "hessian-trace", "l2-and-spectral", "random"} <= set(walked)
