"""`walk --runs` and `walk --each` in sessions: replayed bit for bit, resumed, interrupted."""

import pytest

from lsshell.sessions.journal import read_record
from lsshell.sessions.remainder import one_step, rest_of_record, rest_of_walk
from lsshell.sessions.replay import replay
from lsshell.sessions.resume import resume
from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import Stop
from tests.sessions.test_journal import cut

WALKS = {
    "batched": "walk --runs 4 --steps 6 --method gradient --batched yes --record 2",
    "alone": "walk --runs 3 --steps 4 --spread 0.02 --seed 9 --record 2",
    "each": "walk --each l2,l1 --steps 4 --method gradient --batched yes --record 2",
}


def assert_replays(tmp_path):
    replayed = replay(tmp_path / "s", Session(tmp_path / "again"), check=True)
    assert replayed.failed is None
    assert replayed.difference is None, str(replayed.difference)


def test_walks_of_many_walkers_replay_and_resume_where_they_left(tmp_path):
    session = talk(tmp_path / "s", SETUP)
    for text in WALKS.values():
        (found,) = results(session, text)
        assert found["reason"] == "all walkers have ended"
        assert found["steps"] == sum(w["steps"] for w in found["walkers"].values()) + (
            0 if "each" in text else len(found["walkers"]) - 1
        )
    here, theta = session.engine.path.here, session.engine.theta_hash()
    branches = list(session.engine.path.branches())
    session.close()
    session, _ = resume(tmp_path / "s")
    assert session.engine.path.here == here
    assert session.engine.theta_hash() == theta
    assert list(session.engine.path.branches()) == branches
    results(session, "walk --steps 1\ngoto main-w2\nwalk --steps 1\npath")
    session.close()
    assert_replays(tmp_path)


@pytest.mark.parametrize(
    ("walk", "at_once"), [("batched", False), ("batched", True), ("alone", False), ("each", True)]
)
def test_walkers_stopped_within_a_step_replay(tmp_path, walk, at_once):
    session = talk(tmp_path / "s", SETUP.replace("level\n", ""))
    text = WALKS[walk].replace("--steps 6", "--steps 999").replace("--steps 4", "--steps 999")
    with Stop(session, 40, at_once=at_once):
        (found,) = results(session, text)
    assert found["reason"] == "interrupted"
    assert found["walkers"]
    results(session, f"goto {list(found['walkers'])[-1]}\ngoto start")
    results(session, "walk --steps 2")
    session.close()
    assert_replays(tmp_path)


@pytest.mark.parametrize("evaluation", [0, 1])
def test_a_walker_stopped_as_it_sets_out_replays(tmp_path, evaluation):
    session = talk(tmp_path / "s", SETUP)
    problem, engine = session.engine.problem, session.engine

    def asked():  # from that evaluation of the second walker on
        nonlocal evaluation
        evaluation -= "main-w2" in engine.path.branches()
        return evaluation < 0

    problem.cancelled = asked
    (found,) = results(session, WALKS["alone"])
    problem.cancelled = engine.cancel.is_set
    assert found["reason"] == "interrupted"
    assert found["walkers"]["main-w2"]["steps"] == 0
    assert list(found["walkers"]) == ["main-w1", "main-w2"]
    session.close()
    assert_replays(tmp_path)


@pytest.mark.parametrize(
    ("walk", "after"), [("batched", 0), ("batched", 1), ("batched", 4), ("alone", 2), ("each", 3)]
)
def test_walkers_that_were_killed_are_resumed_where_they_left_and_replay(tmp_path, walk, after):
    session = talk(tmp_path / "s", SETUP + WALKS[walk])
    fork = session.engine.path.here
    session.close()
    cut(tmp_path / "s", after=after)
    if after:
        session, notices = resume(tmp_path / "s")
        assert any("was cut off after" in n for n in notices)
        assert session.engine.path.here == fork
    else:  # not even a displaced start was written
        session, notices = resume(tmp_path / "s")
        assert any("taken out" in n for n in notices)
    results(session, "walk --steps 2")
    session.close()
    assert_replays(tmp_path)


def test_a_walk_of_many_walkers_has_no_rest_and_one_step_of_it_is_of_one(tmp_path):
    text = "walk --runs 4 --spread 0.1 --seed 3 --batched no --method gradient"
    assert rest_of_walk(text, {}, taken=2, of=10, seconds=0.0) is None
    assert one_step(text, {}) == "walk --method gradient --steps 1"
    session = talk(tmp_path / "s", SETUP)
    with Stop(session, 30):
        results(session, WALKS["alone"].replace("--steps 4", "--steps 999"))
    session.close()
    assert rest_of_record(read_record(tmp_path / "s").entries, lambda method: 400) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("walk --spread 0.1", "--runs"),
        ("walk --each l2 --seed 3", "--runs"),
        ("walk --each ,", "l2,l1,group"),
        ("walk --runs 2 --each l2", "do not go together"),
        ("walk --runs 2 --batched yes", "no batched form"),
        ("walk --runs 2 --batched perhaps", "perhaps"),
        ("walk --runs 1.5", "whole number"),
    ],
)
def test_what_cannot_be_asked_for_is_said_and_changes_nothing(tmp_path, line, words):
    session = talk(tmp_path / "s", SETUP)
    before = session.engine.path.here
    (outcome,) = say(session, line)
    assert words in str(outcome.failure)
    assert session.engine.path.here is before
    session.close()
