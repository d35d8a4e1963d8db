"""The command `phases`: tables and pictures, errors, replay."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lsshell.engine.events import Progress
from tests.sessions.conversation import results, say, talk
from tests.sessions.test_interruptions import replayed

PUBLISHED = Path(__file__).parents[3] / "examples/landscape/data/taxonomy-resnet18-cifar10.csv"
FROM = f"phases --from {PUBLISHED}"
SETUP = "seed 1\ndata iris --train 60"
QUICK = "--seeds 2 --epochs 4 --curve-epochs 2 --measured 20 --probes 4 --network 'mlp w'"
GRID = f"phases --load width=2,4 --temperature batch=4,30 {QUICK}"


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


def numbers(file):
    """The measures in a saved table, by the place of their cell."""
    rows = csv.DictReader(file.open())
    return {(r.pop("width"), r.pop("batch_size")): r for r in rows}


def failure(session, line):
    (outcome,) = say(session, line)
    assert outcome.failure is not None
    return outcome.failure.message


def test_the_published_table_comes_out_with_its_phases(tmp_path):
    session = talk(tmp_path / "said", "")
    (found,) = results(session, FROM)
    assert (found["cells"], found["connected"]) == (169, 67)
    assert found["best"] == {"width": 128.0, "batch_size": 44.0, "test_accuracy_pct": 89.908}
    assert found["phases"] == {
        "I": 56, "II": 33, "III": 20, "IV-A": 34, "IV-B": 26, "unknown": 0
    }  # fmt: skip
    assert found["sensitivity"]["similar"]["-20%"] == 31
    assert found["correlations"]["cka_softmax"]["connected"] == pytest.approx(0.875, abs=5e-4)
    (other,) = results(session, f"{FROM} --sharp 0 --barrier 100 --similar 0")
    assert other["phases"]["I"] == other["phases"]["III"] == other["phases"]["IV-A"] == 0
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_what_is_saved_is_read_again_to_the_same_result(tmp_path):
    session = talk(tmp_path / "said", "")
    file = tmp_path / "t.csv"
    (first,) = results(session, f"{FROM} --save {file}")
    (again,) = results(session, f"phases --from {file}")
    assert again == {name: v for name, v in first.items() if name != "saved"}
    rows = list(csv.DictReader(file.open()))
    assert list(rows[0])[:10] == PUBLISHED.read_text().splitlines()[0].split(",")
    assert rows[0]["phase"] == "I" and rows[0]["connectivity"] == "poorly connected"
    results(session, f"{FROM} --save {tmp_path / 't.json'}")
    assert json.loads((tmp_path / "t.json").read_text())[0]["curvature"] == "sharp"


def test_every_panel_is_drawn_with_the_hot_end_on_top(tmp_path):
    session = talk(tmp_path / "said", "")
    from lsshell.sessions.phases.plots import PANELS

    for panel in PANELS:
        (outcome,) = say(session, f"{FROM} --show {panel} --limits published")
        surface = outcome.reply.figure.surface
        assert (surface.y_ticks[0], surface.y_ticks[-1]) == ("1024", "16")
        assert (surface.x_ticks[0], surface.x_ticks[-1]) == ("2", "128")
        if panel == "connectivity":
            assert surface.diverging and surface.limits == (-30, 30)
            assert surface.z[-1][0] == -6.22
        if panel == "phases":
            assert surface.labels[-1][0] == "I" and surface.labels[0][-1] == "IV-A"
    (outcome,) = say(session, f"{FROM} --show connectivity")
    assert outcome.reply.figure.surface.limits is None


def test_pictures_are_written_with_all_panels_or_as_text_with_one(tmp_path):
    session = talk(tmp_path / "said", "")
    small = tmp_path / "small.csv"
    small.write_text("".join(PUBLISHED.read_text().splitlines(keepends=True)[:3]))
    line = f"phases --from {small} --out {tmp_path}"
    results(session, f"{line}/p.svg\n{line}/p.txt --show distance")
    drawn = (tmp_path / "p.svg").read_text()
    assert drawn.count('<g id="axes_') == 2 * 8  # a panel and its colours
    assert "distance between networks" in (tmp_path / "p.txt").read_text()


def test_bad_words_are_refused_before_anything_is_written(tmp_path):
    session = talk(tmp_path / "said", "")
    out = tmp_path / "p.png"
    assert "no file" in failure(session, f"phases --from none.csv --out {out}")
    assert "--sharp" in failure(session, f"{FROM} --sharp nan --out {out}")
    assert "a table ends in" in failure(session, f"{FROM} --save t.xls --out {out}")
    assert "a figure ends in" in failure(session, f"{FROM} --out p.doc")
    assert not out.exists()


# -- grids ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A 2 × 2 grid: the session's folder, the result, the saved table, and what was heard."""
    folder, heard = tmp_path_factory.mktemp("grid"), []
    session = talk(folder / "said", SETUP, listen=heard.append)
    (found,) = results(session, f"{GRID} --save {folder / 't.csv'} --out {folder / 'p.txt'}")
    session.close()
    return folder, found, numbers(folder / "t.csv"), heard


def test_a_grid_is_trained_saved_read_again_and_replayed(measured, tmp_path):
    folder, found, table, heard = measured
    assert list(table) == [("2", "4"), ("4", "4"), ("2", "30"), ("4", "30")]
    told = [e for e in heard if isinstance(e, Progress) and e.task == "phases"]
    assert [(e.done, e.total) for e in told] == [(k, 4) for k in range(5)]
    assert told[-1].note.startswith("width=4 batch_size=30: ")
    assert len(list((folder / "said" / "phases").glob("*.json"))) == 4
    (again,) = results(talk(tmp_path / "b", ""), f"phases --from {folder / 't.csv'}")
    assert again == {name: v for name, v in found.items() if name not in ("file", "saved")}
    assert replayed(folder / "said", tmp_path) is None


def test_a_replay_measures_anew_and_sees_a_cell_that_was_changed(measured, tmp_path):
    _, _, table, _ = measured
    work = tmp_path / "work"
    session = talk(tmp_path / "said", SETUP)
    results(session, f"{GRID} --work {work}")
    for file in work.iterdir():
        said = json.loads(file.read_text())
        said["cell"]["train_loss"] += 1.0
        file.write_text(json.dumps(said))
    results(session, f"{GRID} --work {work} --save {tmp_path / 't.csv'}")
    session.close()
    off = {k: float(r["train_loss"]) for k, r in numbers(tmp_path / "t.csv").items()}
    assert off == {k: float(r["train_loss"]) + 1.0 for k, r in table.items()}
    assert "sha256" in str(replayed(tmp_path / "said", tmp_path))


def test_a_grid_that_is_killed_goes_on_where_it_stopped_to_the_same_numbers(measured, tmp_path):
    _, _, table, _ = measured
    work, script = tmp_path / "work", tmp_path / "grid.lss"
    # What is killed would do more first, so that it cannot have come to the last cell meanwhile.
    longer = GRID.replace("batch=4,30", f"batch=4,{','.join(map(str, range(5, 30)))},30")
    script.write_text(f"{SETUP}\n{longer} --work {work}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "lsshell", "run", str(script), "--session", str(tmp_path / "s")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(work.glob("*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = {f: f.stat().st_mtime_ns for f in work.glob("*.json")}
    assert before and not list(work.glob("width=*-batch_size=30-*"))
    session = talk(tmp_path / "said", SETUP)
    results(session, f"{GRID} --work {work} --save {tmp_path / 't.csv'}")
    assert numbers(tmp_path / "t.csv") == table
    assert {f: f.stat().st_mtime_ns for f in before} == before


@linux
def test_a_process_that_measures_ends_with_the_one_that_started_it():
    starter = (
        "import os, subprocess, sys, time\n"
        "words = [sys.executable, '-m', 'lsshell.sessions.phases.worker', str(os.getpid())]\n"
        "print(subprocess.Popen(words, stdin=subprocess.PIPE).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    os.kill(worker, 0)
    process.kill()
    process.communicate()
    while alive(worker):
        time.sleep(0.05)


def alive(pid):
    """Whether there is such a process, and not only its name."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_torn_files_are_measured_anew_by_processes_too_and_other_settings_are_other_cells(
    measured, tmp_path
):
    _, _, table, _ = measured
    work = tmp_path / "work"
    session = talk(tmp_path / "said", SETUP)
    line = f"phases --load width=2 --temperature batch=4,30 {QUICK} --work {work}"
    results(session, line)
    for file, text in zip(sorted(work.iterdir()), ("{", "[1]"), strict=True):
        file.write_text(text)
    results(session, f"{line} --jobs 2 --save {tmp_path / 't.csv'}")
    assert numbers(tmp_path / "t.csv").items() <= table.items()
    results(session, f"{line} --rate 0.01")
    assert len(list(work.iterdir())) == 4
    assert [f.name for f in work.iterdir() if not f.name.startswith("width=2-batch_size=")] == []


def test_a_stop_keeps_the_cells_that_are_done(tmp_path):
    session = talk(tmp_path / "said", SETUP)
    session.listen = lambda event: session.cancel() if event.done == 1 else None
    assert "interrupted; 1 of 4 cells are in" in failure(session, GRID)
    session.listen = lambda event: None
    assert session.engine.problem is None and not session.engine.path.points
    assert results(session, GRID)[0]["cells"] == 4


def test_a_cell_that_diverges_is_left_blank_with_a_word_on_it(tmp_path):
    session = talk(tmp_path / "said", SETUP)
    line = f"phases --load noise=0,0.5 --temperature rate=0.01,1e20 {QUICK}"
    (found,) = results(session, f"{line} --save {tmp_path / 't.csv'}")
    assert found["phases"]["unknown"] == 2 and len(found["notes"]) == 2
    assert "noise=0 lr=1e+20: training diverged" in found["notes"][0]
    (again,) = results(session, f"phases --from {tmp_path / 't.csv'}")
    assert (again["phases"], again["sha256"]) == (found["phases"], found["sha256"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", "--from FILE.csv, or --load and --temperature"),
        ("--load width=2", "--from FILE.csv, or --load and --temperature"),
        ("--from x.csv --epochs 3", "--epochs does not go with --from"),
        ("--load width --temperature batch=4", "--load width: write NAME=VALUE"),
        ("--load depth=2 --temperature batch=4", "NAME is one of width, examples, noise"),
        ("--load width=2,x --temperature batch=4", "'x' is not a number"),
        ("--load width=2,nan --temperature batch=4", "nan is no place"),
        ("--load width=2,2 --temperature batch=4", "2 is there twice"),
        ("--load width=2.5 --temperature batch=4", "width must be whole"),
        ("--load width=2 --temperature batch=4 --batch 8", "--batch is an axis"),
        ("--load width=2 --temperature batch=4 --jobs 0", "--jobs must be at least 1"),
        ("--load width=2 --temperature batch=4 --jobs 9999", "--jobs must be at least 1"),
        ("--load width=2 --temperature batch=4 --measured 99", "measured 99"),
        ("--load width=2 --temperature batch=4 --measured 9 --network 'mlp a'", "a is no layer"),
        ("--load width=2 --temperature batch=4 --network ''", "names no network"),
        ("--load width=2 --temperature rate=-1", "learning rate"),
        (f"--load {'width=' + ','.join(map(str, range(1, 102)))} --temperature"
         f" {'batch=' + ','.join(map(str, range(1, 102)))}", "10000 are the most"),
    ],
)  # fmt: skip
def test_a_grid_that_cannot_be_is_refused_before_anything_is_trained(tmp_path, options, says):
    session = talk(tmp_path / "said", SETUP)
    assert says in failure(session, f"phases {options}")
    assert not (tmp_path / "said" / "phases").exists()


def test_a_grid_needs_data_to_classify_and_a_folder_that_can_be_made(tmp_path):
    session = talk(tmp_path / "said", "")
    line = f"phases --load width=2 --temperature batch=4 {QUICK}"
    assert "no data yet" in failure(session, line)
    results(session, SETUP)
    (tmp_path / "file").write_text("")
    assert "cannot be made" in failure(session, f"{line} --work {tmp_path / 'file' / 'x'}")
    results(session, "data mpg")
    assert "classification" in failure(session, line)


# -- processes -----------------------------------------------------------------------------------


@pytest.fixture
def laboratory():
    from lsshell.engine.data import load_data
    from lsshell.engine.landscape.phase_grid import Recipe
    from lsshell.sessions.phases.cells import CellJob, Laboratory

    jobs = {k: CellJob(Recipe(width=k), "width", "lr") for k in (2, 3)}
    return Laboratory(load_data("iris"), 0, "cpu", "float32"), jobs


@linux
def test_processes_end_at_once_where_the_user_asks_to_stop(laboratory):
    from lsshell.engine.errors import Cancelled
    from lsshell.sessions.phases.processes import Processes

    with Processes(laboratory[0], 2, cancelled=lambda: True) as processes:
        pids = [process._process.pid for process in processes._all]
        with pytest.raises(Cancelled):
            processes.measure(laboratory[1], lambda k, result: None)
    assert not any(map(alive, pids))


def test_a_process_that_dies_is_told_of_by_its_cell(laboratory):
    from lsshell.engine.errors import EngineError
    from lsshell.sessions.phases.processes import Processes

    with Processes(laboratory[0], 1) as processes:
        processes._all[0]._process.kill()
        with pytest.raises(EngineError, match=r"the process of width=2 lr=0.1 ended: it was kil"):
            processes.measure(laboratory[1], lambda k, result: None)
