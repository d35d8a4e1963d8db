"""Replaying sessions: identical, changed by one number, cut short, elsewhere."""

import re

import pytest

from lsshell.sessions.errors import SessionError
from lsshell.sessions.replay import replay
from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk

WALKED = SETUP + "walk --steps 8 --measure 2\nundo 3\nreg l1 0.1\nwalk --steps 4\nmeasure\n"


def replayed(path, tmp_path, **kwargs):
    session = Session(tmp_path / f"again-{len(list(tmp_path.iterdir()))}")
    try:
        return replay(path, session, check=True, **kwargs)
    finally:
        session.close()


@pytest.fixture
def recorded(tmp_path):
    talk(tmp_path / "s", WALKED).close()
    return tmp_path / "s"


def edit(folder, change):
    script = folder / "session.lss"
    text = script.read_text()
    changed = change(text)
    assert changed != text
    script.write_text(changed)


def test_a_session_replays_bit_for_bit(recorded, tmp_path):
    found = replayed(recorded, tmp_path)
    assert found.difference is None
    assert found.elsewhere == ()
    assert found.compared > 100
    assert found.commands == 11


def test_the_script_alone_replays_too(recorded, tmp_path):
    assert replayed(recorded / "session.lss", tmp_path).difference is None


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (r"(end\.test_loss=0\.\d{6})(\d)", "end.test_loss"),
        (r"(start\.angle_deg=\d+\.\d{3})(\d)", "start.angle_deg"),
        (r"(end\.gradients=)(\d)", "end.gradients"),
        (r'( theta="[0-9a-f]{15})([0-9a-f])', "theta"),
    ],
)
def test_one_changed_number_is_found_and_named(recorded, tmp_path, pattern, name):
    def other(match):
        digit = match.group(2)
        return match.group(1) + ("1" if digit != "1" else "2")

    edit(recorded, lambda text: re.sub(pattern, other, text, count=1))
    difference = replayed(recorded, tmp_path).difference
    assert difference is not None
    assert difference.name == name
    assert re.match(r"session\.lss:\d+: \w+: ", str(difference))


def test_a_result_that_no_longer_comes_is_a_difference(recorded, tmp_path):
    edit(recorded, lambda text: text.replace("#= seed=3", "#= seed=3 colour=4"))
    difference = replayed(recorded, tmp_path).difference
    assert (difference.name, difference.found) == ("colour", None)


def test_elsewhere_results_agree_within_tolerances_and_larger_changes_are_found(recorded, tmp_path):
    edit(recorded, lambda text: re.sub(r"#: torch \S+", "#: torch 0.1", text))
    edit(recorded, lambda text: re.sub(r"(end\.test_loss=0\.\d{6})(\d)", r"\g<1>", text, count=1))
    found = replayed(recorded, tmp_path)
    assert found.difference is None
    assert found.elsewhere[0].startswith("torch 0.1 there, ")
    edit(recorded, lambda text: re.sub(r"end\.test_loss=0\.", "end.test_loss=1.", text, count=1))
    assert replayed(recorded, tmp_path).difference.name == "end.test_loss"


def test_a_script_without_results_cannot_be_checked(tmp_path):
    (tmp_path / "x.lss").write_text(SETUP)
    with pytest.raises(SessionError, match="no recorded results"):
        replayed(tmp_path / "x.lss", tmp_path)


def test_interrupted_and_timed_walks_replay_as_far_as_they_went(tmp_path):
    session = Session(tmp_path / "s")
    results(session, SETUP)

    def stop_at_five(event):
        if getattr(event, "task", "") == "walk" and event.done == 5:
            session.cancel()

    session.listen = stop_at_five
    (outcome,) = say(session, "walk --steps 100")
    assert outcome.reply.interrupted
    session.listen = lambda event: None
    (timed,) = results(session, "walk --steps 100000 --method paper --seconds 0.2")
    assert "seconds are over" in timed["reason"]
    results(session, "walk --steps 2")
    session.close()
    found = replayed(tmp_path / "s", tmp_path)
    assert found.difference is None, str(found.difference)


def test_interrupted_training_replays_to_its_last_whole_epoch(tmp_path):
    session = Session(tmp_path / "s")
    results(session, "data iris\nmodel mlp 4-8-3")

    def stop(event):
        if getattr(event, "task", "") == "train" and event.done == 4:
            session.cancel()

    session.listen = stop
    (outcome,) = say(session, "train --epochs 50")
    assert outcome.reply.values["epochs"] == 4
    session.close()
    assert replayed(tmp_path / "s", tmp_path).difference is None


def test_levels_seeds_and_branches_replay_after_resuming(tmp_path):
    from lsshell.sessions.resume import resume

    talk(tmp_path / "s", SETUP + "seed 5\nwalk --steps 4\nlevel 0.3\nwalk --steps 3").close()
    session, _ = resume(tmp_path / "s")
    results(session, "goto main:2\nwalk --steps 3\nmeasure\ngoto start\nwalk --steps 2")
    session.close()
    found = replayed(tmp_path / "s", tmp_path)
    assert found.failed is None
    assert found.difference is None, str(found.difference)


def test_a_stalled_walk_counts_all_its_gradients_and_replays_after_resuming(tmp_path):
    from lsshell.sessions.resume import resume

    lines = SETUP + "level --tol 1e-6\nreg l2 on\nwalk --steps 4000"
    session = talk(tmp_path / "s", lines)
    here = session.engine.path.here
    assert here.gradients == session.engine.problem.gradients - (
        session.engine._recorder.gradients_before
    )
    session.close()
    session, _ = resume(tmp_path / "s")
    results(session, "reg l1 0.001\nwalk --steps 3")
    session.close()
    found = replayed(tmp_path / "s", tmp_path)
    assert found.difference is None, str(found.difference)


def test_what_a_session_saved_and_loaded_is_loaded_from_its_replay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = "seed {}\ndata iris\nmodel mlp 4-8-3\nsave c\ntrain --epochs 3\nload c.safetensors"
    talk(tmp_path / "s", lines.format(0)).close()
    talk(tmp_path / "t", lines.format(1)).close()
    found = replayed(tmp_path / "s", tmp_path)
    assert found.failed is None
    assert found.difference is None, str(found.difference)


def test_a_timed_walk_that_ended_by_its_steps_replays_however_slow(tmp_path):
    talk(tmp_path / "s", SETUP + "walk --steps 5 --seconds 1000").close()
    edit(tmp_path / "s", lambda text: text.replace("--seconds 1000", "--seconds 1e-9"))
    assert replayed(tmp_path / "s", tmp_path).difference is None


def test_what_a_failed_command_spent_is_not_on_the_count(tmp_path):
    session = talk(tmp_path / "s", SETUP)
    before = session.engine.problem.gradients
    assert say(session, "level 1e-30")[0].failure is not None
    assert session.engine.problem.gradients == before
    results(session, "walk --steps 2")
    session.close()
    found = replayed(tmp_path / "s", tmp_path)
    assert found.difference is None, str(found.difference)


def test_a_command_that_fails_on_replay_is_told(tmp_path):
    talk(tmp_path / "t", f"data iris\nmodel mlp 4-8-3\nsave {tmp_path / 'c'}").close()
    talk(tmp_path / "s", f"data iris\nload {tmp_path / 'c.safetensors'}").close()
    (tmp_path / "c.safetensors").unlink()
    found = replayed(tmp_path / "s", tmp_path)
    assert "c.safetensors" in str(found.failed.failure)


def test_files_beside_a_script_are_found_again_on_replay(tmp_path, monkeypatch):
    (tmp_path / "scripts").mkdir()
    talk(tmp_path / "t", f"data iris\nmodel mlp 4-8-3\nsave {tmp_path / 'scripts' / 'c'}").close()
    script = tmp_path / "scripts" / "go.lss"
    script.write_text("data iris\nload c.safetensors\n")
    session = Session(tmp_path / "s")
    outcomes = say(session, f"source {script}")
    assert all(o.ok for o in outcomes), outcomes[-1].failure
    session.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert replayed(tmp_path / "s", tmp_path).difference is None


def test_replaying_writes_nothing_outside_its_own_session(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    script = SETUP + f"walk --steps 3\nsave {target / 'c'}\nexport {target / 'p.csv'}\n"
    talk(tmp_path / "s", script + f"plot path --out {target / 'p.png'}").close()
    for file in target.iterdir():
        file.unlink()
    assert replayed(tmp_path / "s", tmp_path).difference is None
    assert list(target.iterdir()) == []
