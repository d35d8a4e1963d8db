"""Sessions on disk: what is written, what survives, what is refused."""

import errno
import io
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from lsshell.sessions.errors import SessionError
from lsshell.sessions.journal import Journal, new_folder, read_record
from lsshell.sessions.replay import replay
from lsshell.sessions.resume import resume
from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk


@pytest.fixture
def finished(tmp_path):
    """A closed session: a walk, a figure, a failure."""
    session = talk(tmp_path / "s", SETUP + "walk --steps 6 --record 3 --measure 2")
    say(session, "walk --stesp 3\ngoto 99")
    session.close()
    return tmp_path / "s"


def numbers(folder):
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_a_session_can_be_read_without_lsshell(finished):
    record = read_record(finished)
    assert record.header["lsshell-session"] == "1"
    assert {"created", "torch", "python", "machine", "threads", "folder"} <= set(record.header)
    lines = [e.line.text for e in record.entries]
    assert lines == [*SETUP.splitlines(), "walk --steps 6 --record 3 --measure 2"]
    walk = record.entries[-1].results
    assert walk["steps"] == 6
    steps = [p for p in numbers(finished) if p["kind"] == "step"]
    assert {p["step"] for p in steps} == {1, 2, 3, 4, 5, 6}
    assert walk["end.loss"] == steps[-1]["loss"]
    assert sorted(p.name for p in (finished / "points").iterdir()) == [
        "000000.safetensors", "000001.safetensors", "000004.safetensors", "000007.safetensors",
    ]  # fmt: skip
    script = (finished / "session.lss").read_text()
    assert "# goto 99\n#! " in script
    assert [p.name for p in finished.rglob(".*")] == [".lock"]  # and no temporary file


def test_a_session_is_a_script_that_runs(finished, tmp_path):
    again = Session(tmp_path / "again")
    outcomes = say(again, (finished / "session.lss").read_text())
    assert all(o.ok for o in outcomes)
    recorded = read_record(finished).entries[-1].results["theta"]
    assert outcomes[-1].reply.values["theta"] == recorded
    again.close()


def test_everything_is_on_disk_before_the_next_line(tmp_path):
    session = talk(tmp_path / "s", SETUP)
    text = (tmp_path / "s" / "session.lss").read_text()
    assert text.count("\n#= ") >= len(SETUP.splitlines())
    session.close()


@pytest.mark.parametrize("tear", [1, 7, 40])
def test_torn_last_lines_are_dropped_with_a_notice(finished, tear):
    for name in ("session.lss", "steps.jsonl"):
        file = finished / name
        file.write_bytes(file.read_bytes()[:-tear])
    session, notices = resume(finished)
    assert any("torn" in n for n in notices)
    assert session.engine.path.here.step == 6
    results(session, "walk --steps 2")
    session.close()
    again, notices = resume(finished)
    assert not any("torn" in n for n in notices)
    assert again.engine.path.here.step == 8
    again.close()


def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(finished):
    lines = (finished / "steps.jsonl").read_text().splitlines()
    lines[2] = "nonsense"
    (finished / "steps.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(SessionError, match=r"steps.jsonl:3"):
        resume(finished)
    # The lock was given back.
    Journal(finished, None).close()


def test_two_processes_never_write_one_session(tmp_path):
    session = talk(tmp_path / "s", "seed 1")
    with pytest.raises(SessionError, match="open in another process"):
        resume(tmp_path / "s")
    session.close()
    again, _ = resume(tmp_path / "s")
    again.close()


def test_occupied_and_unwritable_folders_are_refused(finished, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("x")
    before = sorted(finished.rglob("*"))
    for folder, message in (
        (finished, "holds a session already"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "full", "is not empty"),
        (tmp_path / "file" / "below", "cannot be written"),
    ):
        session = Session(folder)
        with pytest.raises(SessionError, match=message):
            say(session, "seed 1")
    assert sorted(finished.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    with pytest.raises(SessionError, match="Permission denied"):
        say(Session(tmp_path / "locked" / "s"), "seed 1")


FILL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from lsshell.cli import run_cli
import lsshell.engine.engine  # what is imported writes no files later
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(run_cli(["run", sys.argv[2], "--session", sys.argv[3]]))
"""


@pytest.mark.parametrize("limit", [6_000, 20_000])
def test_a_full_disk_ends_with_a_clear_error_and_loses_nothing(tmp_path, limit):
    script = tmp_path / "walk.lss"
    script.write_text(SETUP + "walk --steps 500\n")
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(limit), str(script), str(tmp_path / "s")],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be written: File too large" in done.stderr
    session, _ = resume(tmp_path / "s")
    steps = [p["index"] for p in numbers(tmp_path / "s")]
    assert set(session.engine.path.points) == set(steps)
    results(session, "walk --steps 2" if limit == 20_000 else "seed 4")
    session.close()


def test_folders_are_named_by_date_and_never_reused(tmp_path):
    first, second = (new_folder(tmp_path / "sessions", "quickstart") for _ in range(2))
    assert first.is_dir()
    assert second.name == f"{first.name}-2"
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="cannot be made: Not a directory"):
        new_folder(tmp_path / "file", "x")


def test_resuming_brings_back_everything_said_and_walked(tmp_path):
    script = SETUP + "walk --steps 6\nundo 2\nbranch b\nreg l1 0.1\nwalk --steps 3\nset n=4"
    session = talk(tmp_path / "s", script)
    engine = session.engine
    was = (engine.theta_hash(), engine.path.points, engine.path.here, engine.level_set)
    history = session.history
    session.close()
    again, notices = resume(tmp_path / "s")
    assert notices == []
    engine = again.engine
    assert (engine.theta_hash(), engine.path.points, engine.path.here, engine.level_set) == was
    assert {n: w for n, (_, w) in engine.sum.terms.items()} == {"l2": 1.0, "l1": 0.1}
    assert again.history == history
    results(again, "walk --steps ${n}")
    assert again.engine.path.here.step == 11
    again.close()
    check(tmp_path)


def check(tmp_path, name="s"):
    """Replays the session and expects every result again."""
    session = Session(tmp_path / "replayed")
    found = replay(tmp_path / name, session, check=True)
    session.close()
    assert found.failed is None
    assert found.difference is None, str(found.difference)
    assert found.compared > 50
    return found


def test_a_session_resumed_twice_replays(tmp_path):
    talk(tmp_path / "s", SETUP + "walk --steps 6").close()
    for _ in range(2):
        session, _ = resume(tmp_path / "s")
        results(session, "walk --steps 5")
        session.close()
    check(tmp_path)


def test_a_missing_checkpoint_file_does_not_keep_a_session_from_resuming(tmp_path):
    session = talk(tmp_path / "t", SETUP + f"save {tmp_path / 'c'}")
    session.close()
    file = tmp_path / "c.safetensors"
    talk(
        tmp_path / "s", f"seed 3\ndata iris\nload {file}\nlevel\nreg l2 on\nwalk --steps 4"
    ).close()
    again, _ = resume(tmp_path / "s")
    assert again.engine.path.here.step == 4
    again.close()


def cut(folder, *, after):
    """Leaves the session as a kill would have: the last command without its results."""
    script = folder / "session.lss"
    lines = script.read_text().splitlines(keepends=True)
    last = max(k for k, text in enumerate(lines) if not text.startswith("#"))
    script.write_text("".join(lines[: last + 1]))
    steps = folder / "steps.jsonl"
    found = [json.loads(line) for line in steps.read_text().splitlines()]
    first = {}
    for point in found:
        first.setdefault((point["index"]), point)
    steps.write_text("".join(json.dumps(p) + "\n" for p in first.values() if p["step"] <= after))


def test_what_a_resume_recovers_the_next_one_finds_too(tmp_path):
    # Killed at step 7 of a walk that keeps every third: θ of step 7 is in its own file only.
    talk(tmp_path / "s", SETUP + "walk --steps 7 --record 3 --measure 3").close()
    cut(tmp_path / "s", after=7)
    for _ in range(3):
        session, _ = resume(tmp_path / "s")
        assert session.engine.path.here.step == 7
        results(session, "goto 6\ngoto 7")
        session.close()
    check(tmp_path)


def test_a_walk_cut_off_before_its_first_step_replays_as_such(tmp_path):
    talk(tmp_path / "s", SETUP.replace("level\n", "") + "walk --steps 4").close()
    cut(tmp_path / "s", after=0)
    session, notices = resume(tmp_path / "s")
    assert any("after 0 steps" in n for n in notices)
    results(session, "walk --steps 3")
    session.close()
    check(tmp_path)


def test_a_command_cut_off_is_taken_out_with_all_its_lines(tmp_path):
    session = talk(tmp_path / "s", "seed 1\ndata iris")
    session.journal.begin("load /nowhere.pt")
    session.journal.search_too(tmp_path)
    session.close()
    again, notices = resume(tmp_path / "s")
    assert any("taken out" in n for n in notices)
    again.close()
    entries = read_record(tmp_path / "s").entries
    assert [e.line.text for e in entries] == ["seed 1", "data iris"]


def test_a_line_torn_within_a_character_is_dropped(tmp_path):
    talk(tmp_path / "s", "seed 1").close()
    script = tmp_path / "s" / "session.lss"
    script.write_bytes(script.read_bytes() + "data größe.csv".encode()[:9])
    session, notices = resume(tmp_path / "s")
    assert any("torn" in n for n in notices)
    session.close()


def test_data_that_changed_since_are_said_when_resuming(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("a,y\n" + "".join(f"{k},{'xyz'[k % 3]}\n" for k in range(30)))
    talk(tmp_path / "s", f"data {table} --target y\nmodel mlp 1-4-3\nlevel").close()
    table.write_text(table.read_text().replace("7,", "8,"))
    session, notices = resume(tmp_path / "s")
    assert any("not what the session was made with" in n for n in notices)
    session.close()


def test_an_exported_program_is_read_again_whatever_its_name(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network.eval(), (torch.zeros(2, 4),), dynamic_shapes=batch)
    torch.export.save(program, tmp_path / "program.pt2")
    (tmp_path / "program.pt2").rename(tmp_path / "program.pt")
    lines = f"data iris\nmodel mlp 4-3\nload {tmp_path / 'program.pt'}\nlevel\nreg l2 on"
    session = talk(tmp_path / "s", lines + "\nwalk --steps 2")
    end = session.engine.theta_hash()
    session.close()
    again, _ = resume(tmp_path / "s")
    assert again.engine.theta_hash() == end
    again.close()


KILLS = 20


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(KILLS))
def test_a_walk_killed_at_any_moment_loses_no_step_and_goes_on(tmp_path, kill):
    script = tmp_path / "walk.lss"
    script.write_text(SETUP + f"walk --steps 100000 --method gradient --record {1 + kill % 4}\n")
    folder = tmp_path / "s"
    process = subprocess.Popen(
        [sys.executable, "-m", "lsshell", "run", str(script), "--session", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    steps = folder / "steps.jsonl"
    while process.poll() is None and not (steps.exists() and b'"step": 1,' in steps.read_bytes()):
        time.sleep(0.01)
    time.sleep(random.Random(kill).uniform(0.0, 0.4))
    process.send_signal(signal.SIGKILL)
    process.wait()

    written = steps.read_bytes()
    whole = written[: written.rfind(b"\n") + 1].decode().splitlines()
    before = {p["index"]: p for p in map(json.loads, whole)}
    session, notices = resume(folder)
    assert any("was cut off after" in n for n in notices)
    engine = session.engine
    assert set(engine.path.points) == set(before)
    assert engine.path.here.index == max(before)
    assert engine.problem.loss(engine.theta) == before[max(before)]["loss"]
    results(session, "walk --steps 3 --method gradient")
    session.close()
    check(tmp_path)


class FillsUp(io.RawIOBase):
    """A file on a disk with room for so many more bytes, until it is freed."""

    def __init__(self, file, room):
        self.file, self.name, self.room = file, file.name, room

    def writable(self):
        return True

    def write(self, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "")
        written = self.file.raw.write(bytes(data[: self.room]))
        self.room -= written
        return written


@pytest.fixture
def filled(tmp_path):
    """A session whose disk is full since some steps of a walk; and what the walk ended with."""
    session = talk(tmp_path / "s", SETUP)
    session.journal._steps = io.BufferedWriter(FillsUp(session.journal._steps, 4000))
    message = ""
    try:
        say(session, "walk --steps 20")
    except SessionError as e:
        message = str(e)
    return session, message


def test_a_write_that_fails_in_mid_walk_closes_the_session_and_the_next_command_says_so(
    filled, tmp_path
):
    session, message = filled
    folder = tmp_path / "s"
    assert f"{folder / 'steps.jsonl'} cannot be written: No space left on device" in message
    assert 0 < session.engine.path.here.step < 20
    assert session.journal is None
    before = {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}
    for line in ("walk --steps 20", "seed 4"):
        with pytest.raises(SessionError, match=f"lsshell resume {folder}"):
            say(session, line)
    assert {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()} == before


def test_after_a_write_that_failed_in_mid_walk_resume_goes_on_and_all_of_it_replays(
    filled, tmp_path
):
    session, _ = filled
    walked = session.engine.path.here.step
    (resumed,) = results(session, f"resume {tmp_path / 's'}")
    recorded = session.engine.path.here.step
    assert 0 < recorded <= walked
    assert any(f"cut off after {recorded} steps" in n for n in resumed["notices"])
    results(session, "walk --steps 5\nreg l1 on\nwalk --steps 3")
    assert session.engine.path.here.step == recorded + 8
    assert {p["step"] for p in numbers(tmp_path / "s") if p["kind"] == "step"} == set(
        range(1, recorded + 9)
    )
    session.close()
    check(tmp_path)


def test_a_journal_that_cannot_be_closed_gives_its_lock_back(tmp_path):
    session = talk(tmp_path / "s", SETUP)
    journal = session.journal  # as a traceback that is kept would
    journal._steps = io.BufferedWriter(FillsUp(journal._steps, 100))
    with pytest.raises(SessionError):
        say(session, "walk --steps 2")
    assert session.journal is None
    Journal(tmp_path / "s", None).close()
