"""Walks that stop where they are best, in sessions: said, replayed, resumed, interrupted."""

import json

import pytest

from lsshell.engine.events import Located, Noticed
from lsshell.sessions.language import Line
from lsshell.sessions.replay import replay
from lsshell.sessions.resume import resume
from lsshell.sessions.session import Session
from tests.sessions.conversation import results, say, talk

SETUP = """\
seed 5
data iris --validation 30
model mlp 4-8-3
train --epochs 40 --rate 0.01
level
reg l2 on
"""
WALK = "walk --steps 200 --measure 2 --record 1 --patience 3\n"


def checked(folder, tmp_path):
    again = Session(tmp_path / f"again-{len(list(tmp_path.iterdir()))}")
    try:
        return replay(folder, again, check=True)
    finally:
        again.close()


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A session whose walk stopped by patience, closed; what its lines gave."""
    folder = tmp_path_factory.mktemp("walked") / "s"
    session = Session(folder)
    outcomes = say(session, SETUP + WALK + "path convergence\ngoto best\nwalk --steps 3\n")
    session.close()
    assert all(o.ok for o in outcomes), outcomes
    return folder, outcomes


def test_the_reply_says_where_the_walk_was_best_and_goto_best_goes_there(walked):
    walk, _, best, _ = [o.reply for o in walked[1][-4:]]
    assert walk.values["reason"] == "the validation loss has not fallen for 3 measures"
    found = walk.values["best"]
    assert found["at"].startswith("main-best:")
    assert best.values["branch"] == "main-best"
    assert best.values["point"]["validation_loss"] == found["validation_loss"]
    assert f"at {found['at']}: `goto best` goes there" in walk.text
    event = walk.values["events"][-1]
    assert event == {"event": "least validation loss", "at": found["at"],
                     "value": found["validation_loss"]}  # fmt: skip
    json.dumps(dict(walk.values))


def test_a_walk_that_located_its_best_replays_bit_for_bit(walked, tmp_path):
    found = checked(walked[0], tmp_path)
    assert found.difference is None, str(found.difference)
    assert found.failed is None


def test_the_report_is_the_same_after_resuming(walked, tmp_path):
    session = Session(tmp_path / "s")
    results(session, SETUP + WALK)
    (before,) = say(session, "path convergence")
    end = session.engine.path.here
    best = session.engine.path.find("best")
    session.close()
    session, _ = resume(tmp_path / "s")
    assert session.engine.path.here == end
    (after,) = say(session, "path convergence")
    assert after.reply.values == before.reply.values == walked[1][-3].reply.values
    assert after.reply.text == before.reply.text
    assert len(after.reply.values["steps"]) == end.step
    assert after.reply.text.splitlines()[0].split()[:2] == ["step", "predictor"]
    assert session.engine.path.find("best") == best
    results(session, "walk --steps 2\ngoto best\nwalk --steps 2")
    session.close()
    assert checked(tmp_path / "s", tmp_path).difference is None


def interrupted(folder, at):
    """A session whose walk was interrupted at the first event that `at` says."""
    session = Session(folder)
    results(session, SETUP)
    session.listen = lambda event: session.cancel() if at(event) else None
    (walk,) = say(session, WALK)
    session.listen = lambda event: None
    return session, walk


def test_a_walk_interrupted_before_its_best_is_located_replays(tmp_path):
    session, walk = interrupted(tmp_path / "s", lambda e: isinstance(e, Noticed))
    assert walk.reply.interrupted
    assert "main-best" not in session.engine.path.branches()
    results(session, "goto best\nwalk --steps 2")
    session.close()
    found = checked(tmp_path / "s", tmp_path)
    assert found.difference is None, str(found.difference)


def test_what_a_killed_walk_located_is_not_taken_up_again(tmp_path):
    session = Session(tmp_path / "s")
    results(session, SETUP)
    session.open_journal()

    class Killed(BaseException):
        pass

    def kill(event):
        if isinstance(event, Located):
            raise Killed

    session.listen = kill
    with pytest.raises(Killed):
        session.execute(Line("test.lss", 9, WALK.strip()))
    session.close()
    session, notices = resume(tmp_path / "s")
    assert any("cut off" in n for n in notices)
    assert list(session.engine.path.branches()) == ["main"]
    assert session.engine.path.here.kind == "step"
    results(session, "walk --steps 2\ngoto best")
    session.close()
    session, _ = resume(tmp_path / "s")
    assert list(session.engine.path.branches()) == ["main"]
    session.close()
    found = checked(tmp_path / "s", tmp_path)
    assert found.difference is None, str(found.difference)


def test_without_validation_examples_it_says_that_the_test_loss_chose(tmp_path):
    session = talk(tmp_path / "s", SETUP.replace(" --validation 30", ""))
    (asked, plain) = say(session, "walk --steps 4 --patience 2\nwalk --steps 2")
    assert "test_loss" in asked.reply.values["best"]
    assert "there are no validation examples to choose by" in asked.reply.text
    assert "validation" not in plain.reply.text
    session.close()


def test_before_a_walk_there_is_nothing_to_report(tmp_path):
    session = talk(tmp_path / "s", SETUP)
    (outcome,) = say(session, "path convergence")
    assert "`walk` first" in outcome.failure.message
    session.close()
