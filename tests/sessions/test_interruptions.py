"""Sessions in which commands were stopped, at any gradient of a step, replay bit for bit."""

import pytest
import torch

from lsshell.engine.events import Stepped
from lsshell.sessions.journal import read_record
from lsshell.sessions.replay import replay
from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk


class Stop:
    """Asks to stop, or raises as a second Ctrl-C does, at the n-th evaluation from now."""

    def __init__(self, session, evaluations, *, at_once=False):
        self.problem, self.left, self.at_once = session.engine.problem, evaluations, at_once

    def __enter__(self):
        self.before, self.problem.cancelled = self.problem.cancelled, self.asked
        return self

    def __exit__(self, *error):
        self.problem.cancelled = self.before

    def asked(self):
        self.left -= 1
        if self.left < 0 and self.at_once:
            self.problem.cancelled = self.before
            raise KeyboardInterrupt
        return self.left < 0


def replayed(folder, tmp_path):
    again = Session(tmp_path / "again")
    try:
        found = replay(folder, again, check=True)
    finally:
        again.close()
    return found.failed or found.difference


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("method", ["gradient", "quasi-newton", "paper"])
def test_a_walk_after_walks_that_were_stopped_within_a_step_replays(tmp_path, method, at_once):
    session = talk(tmp_path / "said", SETUP)
    for evaluations in (9, 10, 11, 12, 13):
        with Stop(session, evaluations, at_once=at_once):
            (found,) = results(session, f"walk --steps 100000 --method {method}")
        assert found["reason"] == "interrupted"
    results(session, f"walk --steps 5 --method {method}")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


class Pause:
    """Pauses a walk after its n-th step from now."""

    def __init__(self, session, steps):
        self.session, self.left = session, steps

    def __enter__(self):
        self.session.listen = self.hear

    def __exit__(self, *error):
        self.session.listen = lambda event: None

    def hear(self, event):
        self.left -= isinstance(event, Stepped)
        if self.left == 0:
            self.session.pause()


@pytest.mark.parametrize("method", ["gradient", "quasi-newton", "paper"])
def test_walks_that_were_paused_replay_and_keep_what_the_stepper_has_learned(tmp_path, method):
    session = talk(tmp_path / "said", SETUP)
    for steps in (3, 5):
        with Pause(session, steps):
            (found,) = results(session, f"walk --steps 100000 --method {method}")
        assert (found["reason"], found["steps"]) == ("paused", steps)
    results(session, f"walk --steps 4 --method {method}")
    theta = session.engine.theta.clone()
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None
    whole = talk(tmp_path / "whole", f"{SETUP}\nwalk --steps 12 --method {method}")
    assert torch.equal(whole.engine.theta, theta)
    whole.close()


def test_a_regulariser_switched_between_two_steps_replays(tmp_path):
    session = talk(tmp_path / "said", SETUP)
    with Pause(session, 4):
        results(session, "walk --steps 100000 --method gradient")
    results(session, "reg l1 0.1\nwalk --steps 5 --method gradient")
    assert all(abs(p.loss - p.level) <= p.tolerance for p in session.engine.path.traversal())
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_training_stopped_at_once_ends_with_a_whole_epoch_and_replays(tmp_path):
    session = talk(tmp_path / "said", SETUP)
    with Stop(session, 10, at_once=True):
        (found,) = results(session, "train --epochs 1000")
    assert found["reason"] == "interrupted"
    results(session, "level\nreg l2 on\nwalk --steps 2")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_a_sourced_script_ends_with_the_command_that_was_stopped(tmp_path):
    script = tmp_path / "long.lss"
    script.write_text("walk --steps 100000 --method gradient\nwalk --steps 2\n")
    session = talk(tmp_path / "said", SETUP)
    with Stop(session, 20):
        outcomes = say(session, f"source {script}")
    session.close()
    assert [o.command for o in outcomes] == ["walk", "source"]
    assert outcomes[-1].reply.interrupted
    assert read_record(tmp_path / "said").entries[-1].results["reason"] == "interrupted"


def test_a_command_stopped_at_once_before_it_did_anything_is_no_part_of_the_script(
    tmp_path, monkeypatch
):
    session = talk(tmp_path / "said", SETUP)
    monkeypatch.setattr(
        session.engine, "measure", lambda **how: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        say(session, "measure")
    monkeypatch.undo()
    session.close()
    assert read_record(tmp_path / "said").entries[-1].line.text == "reg l2 on"


def test_the_home_of_nobody_is_an_error_of_the_command(tmp_path):
    session = talk(tmp_path / "said", SETUP + "walk --steps 2\n")
    places = ("load ~nobody-has-this-name/x.pt", "save ~nobody-has-this-name/x")
    for command in (*places, "plot loss --out ~nobody-has-this-name/x.png"):
        (outcome,) = say(session, command)
        assert "no home folder ~nobody-has-this-name" in outcome.failure.message
    session.close()
