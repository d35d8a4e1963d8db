"""wander, bridge and regularization-path in sessions: replayed, stopped, killed and resumed."""

import csv

import pytest

from lsshell.engine.events import Progress
from lsshell.sessions.journal import read_record
from lsshell.sessions.plots import make_figure
from lsshell.sessions.resume import resume
from tests.sessions.conversation import SETUP, results, say, talk
from tests.sessions.test_interruptions import Pause, Stop, replayed

TWO = """\
data iris
seed 2
model mlp 4-8-3
train --epochs 60 --rate 0.01
branch second
level 0.05
save {folder}/second
seed 1
model mlp 4-8-3
train --epochs 60 --rate 0.01
branch first
level 0.05
"""
COMMANDS = (
    "wander --steps 8",
    "wander --kind random --steps 12",
    "wander --length 1 --direction away --seed 5",
    "regularization-path --to 0.3 --points 3",
)

LONG = (
    "wander --steps 1000",
    "wander --kind random --steps 1000",
    "regularization-path --to 1e-6 --until-angle 179.9",
)


def test_the_three_commands_replay_bit_for_bit_and_go_on_from_each_other(tmp_path):
    session = talk(tmp_path / "said", TWO.format(folder=tmp_path) + "reg l2 on")
    found = results(session, f"bridge first {tmp_path}/second.safetensors")
    for line in ("goto bridge:4", *COMMANDS, "walk --steps 2"):
        found += results(session, line)
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_at_the_regularisers_own_minimum_there_is_no_angle_and_no_further_minimum(tmp_path):
    session = talk(tmp_path / "said", SETUP + "reg l2 off\nreg distance on")
    (outcome,) = say(session, "regularization-path --to 2 --points 2")
    (minimum,) = outcome.reply.values["minima"]
    assert minimum["angle_deg"] is None
    assert minimum["value"] == 0.0
    assert "short of" not in outcome.reply.text
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_what_they_recorded_is_plotted_exported_and_projected_like_any_walk(tmp_path):
    session = talk(tmp_path / "said", SETUP)
    for line in COMMANDS:
        results(session, line)
    engine = session.engine
    steps = engine.path.here.step
    assert results(session, "plot path")[0]["series"]["now"] == 1
    results(
        session, f"export {tmp_path / 'p.csv'}\nundo 3\ngoto best\ngoto end\nmeasure\npath points"
    )
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert len(rows) == steps + 1
    assert [float(r["level"]) for r in rows[-3:]] == sorted({float(r["level"]) for r in rows})[1:]
    figure = make_figure(engine, "test-loss", "level", "step")
    assert figure.series[0].x[-1] == pytest.approx(-0.5229, abs=1e-3)
    figure = make_figure(engine, "test-loss", "weight-decay", "step")
    assert list(figure.series[0].x[-3:]) == sorted(figure.series[0].x[-3:])
    session.close()


@pytest.mark.parametrize(
    ("command", "at_once"), [(LONG[0], False), (LONG[1], True), (LONG[2], False), (LONG[2], True)]
)
def test_commands_that_were_stopped_within_a_step_replay(tmp_path, command, at_once):
    session = talk(tmp_path / "said", SETUP)
    cut = set()
    for evaluations in (9, 23, 61):
        with Stop(session, evaluations, at_once=at_once):
            (found,) = results(session, command)
        cut.add((found["reason"], found["steps"]))
    assert all(reason == "interrupted" for reason, _ in cut)
    assert len(cut) > 2
    assert all(abs(p.loss - p.level) <= p.tolerance for p in session.engine.path.lineage()[1:])
    results(session, "wander --steps 3")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_a_continuation_stopped_between_its_minima_replays_and_keeps_them(tmp_path):
    session = talk(tmp_path / "said", SETUP)

    def stop(event):
        if isinstance(event, Progress) and event.task == "regularization-path" and event.done == 3:
            session.cancel()

    session.listen = stop
    (outcome,) = say(session, "regularization-path --to 0.5 --points 8")
    session.listen = lambda event: None
    assert outcome.reply.interrupted
    assert len(outcome.reply.values["minima"]) == 4
    results(session, "regularization-path --to 0.7 --points 2\nwalk --steps 2")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_wanderings_that_were_paused_replay(tmp_path):
    session = talk(tmp_path / "said", SETUP)
    with Pause(session, 3):
        (found,) = results(session, "wander --steps 1000")
    assert (found["reason"], found["steps"]) == ("paused", 3)
    results(session, "wander --kind random --steps 5")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


def test_a_bridge_that_was_stopped_is_a_path_or_nothing_and_replays(tmp_path):
    session = talk(tmp_path / "said", TWO.format(folder=tmp_path))
    line, reasons = f"bridge first {tmp_path}/second.safetensors", []
    with Stop(session, 10**6) as count:
        results(session, line)
    whole = 10**6 - count.left
    for evaluations in (40, whole - 90, whole - 60, whole - 3, 10**6):
        before = session.engine.theta_hash(), session.engine.problem.gradients
        with Stop(session, evaluations):
            (outcome,) = say(session, line)
        if outcome.failure is not None:
            reasons.append(outcome.failure.message)
            assert (session.engine.theta_hash(), session.engine.problem.gradients) == before
            continue
        values = outcome.reply.values
        reasons.append(values["reason"])
        assert values["at_points"] <= 1
        assert values["between"] <= 1
    assert reasons[0] == "interrupted; nothing was changed"
    assert reasons[-1] == "path found"
    assert "interrupted" in reasons
    results(session, "wander --steps 3")
    session.close()
    assert replayed(tmp_path / "said", tmp_path) is None


@pytest.mark.parametrize("number", [1, 3, 4])
def test_a_command_that_was_killed_is_resumed_and_replays(tmp_path, number):
    session = talk(tmp_path / "said", TWO.format(folder=tmp_path) + "reg l2 on")
    line = (*COMMANDS, f"bridge first {tmp_path}/second.safetensors")[number]
    session.engine.goto("first")
    results(session, line)
    session.close()
    cut_off(tmp_path / "said", 2)
    session, notices = resume(tmp_path / "said")
    assert "was cut off after" in " ".join(notices)
    results(session, "wander --steps 3")
    session.close()
    assert read_record(tmp_path / "said").entries[-2].results["reason"] == "killed"
    assert replayed(tmp_path / "said", tmp_path) is None


def cut_off(folder, lost):
    """As a kill leaves it: the last command without results, its last points never written."""
    script = folder / "session.lss"
    lines = script.read_text().splitlines()
    while lines[-1].startswith("#="):
        lines.pop()
    script.write_text("\n".join(lines) + "\n")
    steps = folder / "steps.jsonl"
    kept = [text for text in steps.read_text().splitlines() if text]
    steps.write_text("\n".join(kept[:-lost]) + "\n")
