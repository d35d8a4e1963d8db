"""resume, replay and save-as in the middle of a session, which goes on as another."""

import json
import re
import shutil
import threading
from pathlib import Path

import pytest
import torch

from lsshell.engine.events import Stepped
from lsshell.sessions.journal import SESSIONS_VARIABLE, read_record
from lsshell.sessions.replay import replay
from lsshell.sessions.resume import resume
from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk

WALKED = SETUP + "walk --steps 6 --record 2\nundo 2\nwalk --steps 3\n"


@pytest.fixture(autouse=True)
def sessions(tmp_path, monkeypatch):
    """The folder that new sessions go to."""
    monkeypatch.setenv(SESSIONS_VARIABLE, str(tmp_path / "sessions"))
    return tmp_path / "sessions"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("once") / "recorded"
    talk(folder, WALKED).close()
    return folder


@pytest.fixture
def recorded(once, tmp_path):
    """A closed session: a walk, and a branch that leaves it at step 4."""
    return shutil.copytree(once, tmp_path / "recorded")


@pytest.fixture
def at_hand(tmp_path):
    session = talk(tmp_path / "at-hand", "seed 1\ndata iris")
    yield session
    session.close()


def one(session, text):
    """The reply of a line that must succeed."""
    outcome = say(session, text)[-1]
    assert outcome.ok, outcome.failure
    return outcome.reply


def failure(session, text):
    outcome = say(session, text)[-1]
    assert not outcome.ok
    return outcome.failure.message


def commands(folder):
    return [e.line.text for e in read_record(folder).entries]


def edit(folder, pattern, by):
    script = folder / "session.lss"
    changed, count = re.subn(pattern, by, script.read_text(), count=1)
    assert count == 1
    script.write_text(changed)


def checked(folder, tmp_path):
    """The session replays to the same results."""
    session = Session(tmp_path / f"check-{len(list(tmp_path.iterdir()))}")
    found = replay(folder, session, check=True)
    session.close()
    assert found.failed is None, str(found.failed.failure)
    assert found.difference is None, str(found.difference)
    return found


def unchanged(session, folder):
    """The session is still that of this folder, works, and records."""
    assert session.folder == folder
    before = len(commands(folder))
    results(session, "model mlp 4-5-3")
    assert commands(folder)[before:] == ["model mlp 4-5-3"]


# -- resume --------------------------------------------------------------------------------------


def test_resuming_ends_the_session_at_hand_and_goes_on_with_the_other(at_hand, recorded):
    heard = []
    at_hand.listen = heard.append
    script = (recorded / "session.lss").read_bytes()
    reply = one(at_hand, f"resume {recorded}")
    assert reply.text.startswith("at step 7 of main-2: loss ")
    assert reply.values["point"]["step"] == 7
    assert at_hand.folder == recorded
    assert at_hand.history == WALKED.splitlines()
    results(at_hand, "walk --steps 2")
    assert sum(isinstance(event, Stepped) for event in heard) == 2
    at_hand.close()
    assert (recorded / "session.lss").read_bytes().startswith(script)
    assert commands(recorded)[-1] == "walk --steps 2"
    steps = [json.loads(t) for t in (recorded / "steps.jsonl").read_text().splitlines()]
    assert steps[-1]["step"] == 9
    assert steps[-1]["command"] == len(commands(recorded)) - 1


def test_the_session_that_was_left_is_free_and_whole(at_hand, recorded, tmp_path):
    one(at_hand, f"resume {recorded}")
    other, notices = resume(tmp_path / "at-hand")
    assert notices == []
    assert commands(tmp_path / "at-hand") == ["seed 1", "data iris"]
    other.close()


def test_a_session_resumed_in_place_replays(at_hand, recorded, tmp_path):
    results(at_hand, f"resume {recorded}\nwalk --steps 2\ngoto start\nwalk --steps 2")
    at_hand.close()
    assert checked(recorded, tmp_path).compared > 100


def test_notices_are_in_the_reply(at_hand, recorded):
    script = recorded / "session.lss"
    script.write_bytes(script.read_bytes() + b"walk --st")
    first, *_, last = one(at_hand, f"resume {recorded}").text.splitlines()
    assert "torn" in first
    assert last.startswith("at step 7")


def test_what_cannot_be_resumed_leaves_the_session_at_hand(at_hand, recorded, tmp_path):
    (tmp_path / "empty").mkdir()
    locked, _ = resume(recorded)
    assert "holds no session" in failure(at_hand, f"resume {tmp_path / 'empty'}")
    assert "holds no session" in failure(at_hand, f"resume {tmp_path / 'nowhere'}")
    assert "open in another process" in failure(at_hand, f"resume {recorded}")
    locked.close()
    threads = torch.get_num_threads()
    edit(recorded, r"#: threads \d+", f"#: threads {threads + 1}")
    edit(recorded, "data iris", "data gone.csv")
    assert "cannot be set up again" in failure(at_hand, f"resume {recorded}")
    assert torch.get_num_threads() == threads
    unchanged(at_hand, tmp_path / "at-hand")


def test_the_session_at_hand_cannot_be_resumed(at_hand, tmp_path):
    assert "is the session at hand" in failure(at_hand, f"resume {tmp_path / 'at-hand'}")
    unchanged(at_hand, tmp_path / "at-hand")


def test_a_script_goes_on_in_the_session_it_resumes(at_hand, recorded, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "more.lss").write_text("walk --steps 2\n")
    script = tmp_path / "scripts" / "go.lss"
    script.write_text(f"resume {recorded}\nsource more.lss\nmeasure\n")
    one(at_hand, f"source {script}")
    assert commands(recorded)[-2:] == ["walk --steps 2", "measure"]
    assert "no script" in failure(at_hand, "source more.lss")  # found beside go.lss only


# -- replay --------------------------------------------------------------------------------------


def test_a_replay_is_a_new_session_in_which_one_goes_on(at_hand, recorded, sessions, tmp_path):
    outcomes = say(at_hand, f"replay {recorded}")
    assert [o.line.text for o in outcomes[:-1]] == WALKED.splitlines()
    reply = outcomes[-1].reply
    assert reply.values["differences"] == 0
    assert f"all {reply.values['compared']} results of 9 commands agree" in reply.text
    assert at_hand.folder.parent == sessions
    assert at_hand.folder.name.endswith("-recorded-replay")
    assert not at_hand.replaying
    (walk,) = results(at_hand, "walk --steps 2")
    assert walk["end"]["step"] == 9
    at_hand.close()
    assert commands(at_hand.folder) == [*WALKED.splitlines(), "walk --steps 2"]
    assert commands(tmp_path / "at-hand") == ["seed 1", "data iris"]
    assert commands(recorded) == WALKED.splitlines()


def test_a_replayed_session_replays_and_resumes(at_hand, recorded, tmp_path):
    results(at_hand, f"replay {recorded} --check\nwalk --steps 2\nseed 4")
    first = at_hand.folder
    assert one(at_hand, f"replay {first} --check").values["commands"] == 11
    assert at_hand.folder.name == f"{first.name}-2"
    results(at_hand, f"resume {first}\nwalk --steps 1")
    at_hand.close()
    checked(first, tmp_path)


def cut_short(folder):
    """A session of walks and training that did not end by themselves."""
    session = talk(folder, SETUP)

    def stop_at(task, count, stop):
        def hear(event):
            if getattr(event, "task", "") == task and event.done == count:
                stop()

        return hear

    session.listen = stop_at("walk", 4, session.pause)
    (paused,) = results(session, "walk --steps 100")
    assert (paused["reason"], paused["steps"]) == ("paused", 4)
    session.listen = stop_at("walk", 3, session.cancel)
    (stopped,) = results(session, "walk --steps 100")
    assert (stopped["reason"], stopped["steps"]) == ("interrupted", 3)
    session.listen = stop_at("train", 2, session.cancel)
    results(session, "walk --steps 2\ntrain --epochs 50\nlevel\nwalk --steps 2")
    session.close()
    session, _ = resume(folder)
    results(session, "walk --steps 2")
    session.close()


def test_what_was_paused_interrupted_and_resumed_replays_from_its_replay_too(at_hand, tmp_path):
    cut_short(tmp_path / "cut")
    one(at_hand, f"replay {tmp_path / 'cut'} --check")
    reasons = [(e.results or {}).get("reason") for e in read_record(at_hand.folder).entries]
    assert reasons[6:] == [
        "paused", "interrupted", "2 steps taken", "interrupted", None, "2 steps taken",
        "2 steps taken",
    ]  # fmt: skip
    at_hand.close()
    checked(at_hand.folder, tmp_path)


def test_a_paused_walk_goes_on_with_what_it_learned_when_replayed(tmp_path):
    session = talk(tmp_path / "s", SETUP)
    session.listen = lambda event: session.pause() if isinstance(event, Stepped) else None
    results(session, "walk --steps 40\n" * 6)
    here = session.engine.theta_hash()
    session.close()
    whole = talk(tmp_path / "whole", SETUP + "walk --steps 6")
    assert whole.engine.theta_hash() == here
    whole.close()
    checked(tmp_path / "s", tmp_path)


def test_with_check_it_stops_at_the_first_difference(at_hand, recorded):
    edit(recorded, r"walk --steps 6(.*\n)+?.* steps=6", lambda m: f"{m.group()[:-1]}7")
    message = failure(at_hand, f"replay {recorded} --check")
    assert re.fullmatch(r"session\.lss:\d+: walk: steps is 6, recorded as 7", message)
    assert commands(at_hand.folder)[-1] == "walk --steps 6 --record 2"
    assert not at_hand.replaying
    results(at_hand, "walk --steps 1")


def test_without_check_differences_are_counted(at_hand, recorded):
    edit(recorded, "#= seed=3", "#= seed=4")
    edit(recorded, r"(walk --steps 3\n(#=.*\n)*?#=.* steps=)3", r"\g<1>5")
    reply = one(at_hand, f"replay {recorded}")
    count = reply.values["compared"]
    assert reply.values["differences"] == 2
    assert f"{count - 2} of {count} results of 9 commands agree" in reply.text
    assert ": seed: seed is 3, recorded as 4" in reply.text
    assert at_hand.engine.path.here.step == 7


def test_every_comparison_is_told(at_hand, recorded):
    told = []
    at_hand.compared = told.append
    reply = one(at_hand, f"replay {recorded}")
    expected = [(e.line, n, v) for e in read_record(recorded).entries for n, v in e.results.items()]
    assert [(c.entry.line, c.name, c.recorded) for c in told] == expected
    assert all(c.same and c.found == c.recorded for c in told)
    assert len(told) == reply.values["compared"] > 100
    told.clear()
    edit(recorded, "#= seed=3", "#= seed=4")
    one(at_hand, f"replay {recorded}")
    assert [(c.name, c.recorded, c.found) for c in told if not c.same] == [("seed", 4, 3)]


class Waits(threading.Event):
    """An event that is never waited for, but says for how long it would have been."""

    def __init__(self, answer=lambda waits: None):
        super().__init__()
        self.asked, self.answer = [], answer

    def wait(self, timeout=None):
        self.asked.append(timeout)
        self.answer(self)
        return self.is_set()


def test_speed_makes_every_step_wait_for_its_time(at_hand, recorded):
    waits = at_hand.engine.cancel = Waits()
    one(at_hand, f"replay {recorded} --speed 0.001")
    assert len(waits.asked) == 8  # of nine steps, the first is due at once
    assert all(900 < seconds <= 1000 for seconds in waits.asked)
    assert at_hand.pace is None
    results(at_hand, "walk --steps 3")
    assert len(waits.asked) == 8


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf", "fast"])
def test_a_speed_is_a_number_above_0(at_hand, recorded, tmp_path, speed):
    assert "speed" in failure(at_hand, f"replay {recorded} --speed {speed}")
    unchanged(at_hand, tmp_path / "at-hand")


def test_a_slow_replay_stops_while_it_waits(at_hand, recorded, tmp_path):
    at_hand.engine.cancel = Waits(lambda waits: waits.set() if len(waits.asked) == 3 else None)
    reply = one(at_hand, f"replay {recorded} --speed 1e-300")
    assert reply.interrupted
    assert reply.text.startswith("interrupted: all ")
    assert at_hand.engine.path.here.step == 4
    at_hand.engine.cancel.clear()
    results(at_hand, "walk --steps 1")
    at_hand.close()
    walks = [e.results for e in read_record(at_hand.folder).entries][-2:]
    assert [(w["reason"], w["steps"]) for w in walks] == [("interrupted", 4), ("1 steps taken", 1)]
    checked(at_hand.folder, tmp_path)


def test_asking_from_another_thread_ends_the_wait(at_hand, recorded):
    threads = []

    def hear(event):
        if isinstance(event, Stepped):
            threads.append(threading.Timer(0.05, at_hand.cancel))
            threads[-1].start()

    at_hand.listen = hear
    assert one(at_hand, f"replay {recorded} --speed 1e-6").interrupted
    for thread in threads:
        thread.join()


def test_a_replay_stopped_at_the_end_of_a_command_begins_no_other(at_hand, recorded):
    def hear(event):
        if type(event).__name__ == "Stopped":
            at_hand.cancel()

    at_hand.listen = hear
    assert one(at_hand, f"replay {recorded}").interrupted
    assert commands(at_hand.folder)[-1] == "walk --steps 6 --record 2"


def test_what_cannot_be_replayed_leaves_the_session_at_hand(at_hand, recorded, sessions, tmp_path):
    script = tmp_path / "plain.lss"
    script.write_text("seed 1\n")
    (tmp_path / "binary.lss").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()
    assert "no session or script" in failure(at_hand, f"replay {tmp_path / 'nowhere'}")
    assert "no session or script" in failure(at_hand, f"replay {tmp_path / 'empty'}")
    assert "not a text file" in failure(at_hand, f"replay {tmp_path / 'binary.lss'}")
    assert "no recorded results" in failure(at_hand, f"replay {script} --check")
    sessions.write_text("in the way")
    threads = torch.get_num_threads()
    edit(recorded, r"#: threads \d+", f"#: threads {threads + 1}")
    assert "cannot be made" in failure(at_hand, f"replay {recorded}")
    assert torch.get_num_threads() == threads
    unchanged(at_hand, tmp_path / "at-hand")


def test_a_script_without_results_is_run_again(at_hand, tmp_path):
    script = tmp_path / "plain.lss"
    script.write_text("seed 5\nset n=2\n# nothing\ndata iris\n")
    text = one(at_hand, f"replay {script}").text
    assert text.startswith("3 commands, with no recorded results to compare\nnothing walked yet")
    assert at_hand.folder.name.endswith("-plain-replay")
    assert at_hand.variables == {"n": "2"}


@pytest.mark.parametrize("line", ["replay {}", "resume {}", "save-as {}", "source {}"])
def test_a_script_that_goes_on_with_itself_ends(at_hand, tmp_path, line):
    script = tmp_path / "loop.lss"
    script.write_text(f"seed 1\n{line.format(script)}\n")
    (message,) = {failure(at_hand, f"replay {script}")}
    assert "cannot be part of" in message or "includes itself" in message
    assert not at_hand.replaying
    results(at_hand, "seed 2")
    assert one(at_hand, "history").values["history"][-2:] == ["seed 2", "history"]


def test_a_session_that_replays_another_cannot_be_resumed_into_a_loop(at_hand, recorded):
    script = recorded / "session.lss"
    script.write_text(script.read_text() + f"replay {recorded}\n")
    assert "cannot be part of" in failure(at_hand, f"resume {recorded}")
    assert "cannot be part of" in failure(at_hand, f"replay {recorded}")


def test_a_command_that_fails_on_replay_is_named_and_leaves_the_session_usable(at_hand, recorded):
    edit(recorded, "model mlp 4-8-3", "model mlp 5-8-3")
    message = failure(at_hand, f"replay {recorded}")
    assert message.startswith("stopped at session.lss:")
    assert not at_hand.replaying
    results(at_hand, "model mlp 4-8-3")
    assert commands(at_hand.folder) == ["seed 3", "data iris", "model mlp 4-8-3"]


def test_a_module_is_found_from_the_replay_of_a_replay(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "there" / "mine.py").write_text(
        "import torch\ndef net(width):\n    return torch.nn.Linear(4, 3)\n"
    )
    monkeypatch.chdir(tmp_path / "there")
    talk(tmp_path / "s", "data iris\nmodel mine:net --width 3").close()
    monkeypatch.chdir(tmp_path / "here")
    session = Session(tmp_path / "at-hand")
    one(session, f"replay {tmp_path / 's'} --check")
    session.close()
    checked(session.folder, tmp_path)


def test_after_a_replay_files_are_written_where_they_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    talk(tmp_path / "s", "data iris\nmodel mlp 4-3\nsave c\ntrain --epochs 1").close()
    before = Path("c.safetensors").read_bytes()
    session = Session(tmp_path / "at-hand")
    one(session, "replay s --check")
    assert Path("c.safetensors").read_bytes() == before
    (trained,) = results(session, "measure")
    results(session, "save c")
    assert Path("c.safetensors").read_bytes() != before
    (loaded,) = results(session, "load c.safetensors")
    assert loaded["point"]["loss"] == trained["loss"]
    session.close()


# -- save-as -------------------------------------------------------------------------------------


def test_a_session_saved_elsewhere_goes_on_there(recorded, tmp_path):
    session, _ = resume(recorded)
    before = {p: p.read_bytes() for p in recorded.rglob("*") if p.is_file()}
    reply = one(session, f"save-as {tmp_path / 'new' / 'place'}")
    folder = tmp_path / "new" / "place"
    assert reply.values["session"] == str(folder)
    copied = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    assert copied == {p.relative_to(recorded) for p in before}
    assert not list(folder.parent.glob(".*"))
    results(session, "goto 2\nwalk --steps 3 --record 1")
    assert {p: p.read_bytes() for p in recorded.rglob("*") if p.is_file()} == before
    steps = [json.loads(t) for t in (folder / "steps.jsonl").read_text().splitlines()]
    assert steps[-1]["command"] == len(commands(folder)) - 1
    session.close()
    checked(folder, tmp_path)
    other, _ = resume(recorded)  # it was given back
    other.close()


def test_points_of_before_are_read_from_the_new_folder(tmp_path):
    session = talk(tmp_path / "old", WALKED)
    results(session, f"save-as {tmp_path / 'new'}")
    shutil.rmtree(tmp_path / "old")
    store = session.engine.path.store
    store._memory.clear()
    assert store.path(0).is_relative_to(tmp_path / "new")
    results(session, "goto main:2\nwalk --steps 2")
    session.close()
    again, notices = resume(tmp_path / "new")
    assert notices == []
    results(again, "goto main:4\nwalk --steps 1")
    again.close()
    checked(tmp_path / "new", tmp_path)


def test_what_a_replay_wrote_is_found_after_saving_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    talk(tmp_path / "s", "data iris\nmodel mlp 4-3\nsave c").close()
    Path("c.safetensors").unlink()
    session = Session(tmp_path / "at-hand")
    one(session, "replay s")
    old = session.folder
    one(session, "save-as kept")
    shutil.rmtree(old)
    results(session, "load c.safetensors")
    session.close()


def test_a_session_with_nothing_in_it_is_written_there_from_the_first_command(tmp_path):
    session = Session()
    one(session, f"save-as {tmp_path / 'first'}")
    results(session, f"save-as {tmp_path / 'second'}\nseed 3")
    session.close()
    assert commands(tmp_path / "second") == ["seed 3"]
    assert not (tmp_path / "sessions").exists()
    silent = Session(record=False)
    assert "not recorded" in failure(silent, f"save-as {tmp_path / 'third'}")


def test_the_home_folder_is_filled_in(at_hand, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    one(at_hand, "save-as ~/kept")
    assert at_hand.folder == tmp_path / "home" / "kept"
    unchanged(at_hand, tmp_path / "home" / "kept")


def test_a_folder_that_cannot_be_had_leaves_the_session_at_hand(at_hand, recorded, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("x")
    for folder, message in (
        (recorded, "holds a session already"),
        (tmp_path / "at-hand", "holds a session already"),
        (tmp_path / "at-hand" / "points" / "x", "lies inside"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "full", "is not empty"),
        (tmp_path / "file" / "below", "cannot be kept"),
        ("~nobody-has-this-name/x", "no home folder"),
    ):
        assert message in failure(at_hand, f"save-as {folder}")
    nothing_yet = Session()
    assert "holds a session already" in failure(nothing_yet, f"save-as {recorded}")
    assert "cannot be made" in failure(nothing_yet, f"save-as {tmp_path / 'file' / 'below'}")
    unchanged(at_hand, tmp_path / "at-hand")


@pytest.mark.parametrize("call", ["shutil.copyfile", "pathlib.Path.replace"])
def test_a_disk_that_is_full_leaves_no_half_copy(at_hand, tmp_path, monkeypatch, call):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(call, full)
    message = failure(at_hand, f"save-as {tmp_path / 'new'}")
    monkeypatch.undo()
    assert "cannot be kept" in message
    assert "No space left on device" in message
    assert sorted(tmp_path.iterdir()) == before
    unchanged(at_hand, tmp_path / "at-hand")


def test_new_ends_this_session_and_begins_another_with_nothing_loaded(tmp_path):
    session = talk(tmp_path / "first", f"{SETUP}\nwalk --steps 3")
    theta = session.engine.theta_hash()
    (found,) = results(session, "new")
    assert found["before"] == str(tmp_path / "first")
    assert session.engine.problem is None and session.journal is None
    results(session, "data iris\nmodel mlp 4-5-3\nlevel\nreg l1 on\nwalk --steps 2")
    assert session.folder.parent == tmp_path / "sessions"
    session.close()
    resumed, _ = resume(tmp_path / "first")
    assert resumed.engine.theta_hash() == theta
    resumed.close()
    for folder in (tmp_path / "first", session.folder):
        again = Session(tmp_path / f"again-{folder.name}")
        assert replay(folder, again, check=True).difference is None
        again.close()


def test_data_for_another_network_are_refused_with_a_way_out(tmp_path):
    session = talk(tmp_path / "first", SETUP)
    (outcome,) = say(session, "data digits")
    assert "`new` begins a session with nothing loaded" in outcome.failure.message
    results(session, "walk --steps 1")
    session.close()
