"""Commands in a session: what they give, what they refuse, and that a failure changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.session import Session
from tests.sessions.conversation import SETUP, results, say, talk

POINT = [
    "step", "loss", "level", "tolerance", "test_loss", "test_accuracy", "regularizers",
    "angle_deg", "implied_weight_decay", "gradients", "distance", "length",
]  # fmt: skip


@pytest.fixture
def session(tmp_path):
    session = talk(tmp_path / "s", SETUP)
    yield session
    session.close()


def state(session):
    engine = session.engine
    here = engine.path.here
    return (
        engine.theta_hash() if engine.problem is not None else None,
        engine.data_words,
        engine.model_words,
        engine.level_set,
        {name: weight for name, (_, weight) in engine.sum.terms.items()},
        here.index if here else None,
        engine.path.branch,
        len(engine.path),
        engine.seed,
        engine.dtype,
        dict(session.variables),
    )


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("wlak", 1, "unknown command wlak; did you mean walk"),
        ("frobnicate", 1, "`help` lists the commands"),
        ("walk --stesp 3", 6, "unknown option: --stesp. Did you mean --steps"),
        ("walk --steps three", 14, 'unable to convert "three" into int'),
        ("walk --steps", 13, "--steps"),
        ("walk 3", 6, "unexpected 3"),
        ("walk --steps 0", 6, "--steps must be above 0"),
        ("walk --until l2", 6, "NAME=NUMBER"),
        ("walk --until l2=x", 6, "--until l2=x: expected NAME=NUMBER"),
        ("walk --until-angle 190", 6, "(0, 180]"),
        ("walk --method newtonian", 15, "Choose from"),
        ("data irsi", 6, "did you mean iris"),
        ("data iris --target y", 11, "--target does not apply"),
        ("data digits", 6, "does not take the data digits"),
        ("data iris --chunk 0", 11, "--chunk must be at least 1"),
        ("model mlp 4-8-2", 7, "gives 2 outputs"),
        ("model mlp", 7, "mlp takes its layers"),
        ("model nothing:here", 7, "no module"),
        ("load nowhere.safetensors", 6, "nowhere.safetensors"),
        ("train --epochs 0", 7, "--epochs must be above 0"),
        ("train --rate 0", 7, "--rate must be above 0"),
        ("reg l2 strong", 5, "expected on, off or a weight"),
        ("reg l2 0", 5, "say `reg l2 off`"),
        ("reg l2 nan", 5, "weight nan"),
        ("reg l2 inf", 5, "weight inf"),
        ("reg l1 off", 5, "l1 is not on"),
        ("walk --until l2=nan", 6, "a number is needed"),
        ("walk --method paper --rate-min -0.01", 21, "--rate-min must be above 0"),
        ("walk --method paper --corrector-rate 0", 21, "--corrector-rate must be above 0"),
        ("walk --seconds inf", 6, "--seconds must be above 0"),
        ("train --rate nan", 7, "--rate must be above 0"),
        ("train --rate 1e39", 7, "--rate must be above 0"),
        ("level nan", 7, "above 0"),
        ("level inf", 7, "above 0"),
        ("goto ²", 6, "no branch or step"),
        ("walk --steps 1.5", 14, "takes a whole number, not 1.5"),
        ("train --epochs=2.5", 7, "takes a whole number, not 2.5"),
        ("train --until-loss nan", 7, "--until-loss must be above 0"),
        ("reg l2 1e300", 5, "weight 1e+300"),
        ("reg hessian-trace on --probes 100000000", 22, "at most 1000"),
        ("save .", 6, "needs a file's name"),
        ("threads 100000", 9, "at most"),
        ("compare weight-decay --lambda nan", 22, "FROM:TO:COUNT"),
        ("device meta", 8, "no place to compute"),
        ("reg l2 on --probes 3", 5, "no option --probes"),
        ("reg distance on --reference nowhere.pt", 5, "nowhere.pt"),
        ("level 0", 7, "above 0"),
        ("level x", 7, "into float"),
        ("level --tol 100", 7, "tolerance must lie"),
        ("goto 99", 6, "99"),
        ("undo 99", 6, "steps lie behind"),
        ("branch main", 8, "is a branch main already"),
        ("branch 12", 8, "not a number"),
        ("plot test-loss", 6, "nothing has been walked yet"),
        ("plot everything", 6, "Choose from"),
        ("save /nonexistent/folder/x", 6, "there is no folder"),
        ("export table.xls", 8, "an export ends in"),
        ("dtype float16", 7, "Choose from"),
        ("device abacus", 8, "no device abacus"),
        ("threads 0", 9, "at least 1"),
        ("set x", 5, "NAME=VALUE"),
        ("seed ${nothing}", 6, "no variable nothing"),
        ("source nowhere.lss", 8, "no script"),
        ("compare weight-decay --lambda x", 22, "FROM:TO:COUNT"),
        ("help nothing", 6, "unknown command nothing"),
    ],
)
def test_bad_lines_get_one_clear_message_and_change_nothing(session, line, column, message):
    before = state(session)
    script = (session.folder / "session.lss").read_text()
    (outcome,) = say(session, line)
    assert outcome.failure is not None
    assert message in outcome.failure.message
    assert "\n" not in outcome.failure.message
    assert outcome.failure.column == column
    assert state(session) == before
    # A failed command is at most a comment in the script.
    added = (session.folder / "session.lss").read_text().removeprefix(script)
    assert all(text.startswith("#") for text in added.splitlines())


def test_verbs_before_load_say_what_comes_first(tmp_path):
    session = Session(tmp_path / "s")
    for line, message in (("walk", "no data yet"), ("level", "no data yet"), ("undo", "nothing")):
        (outcome,) = say(session, line)
        assert message in outcome.failure.message
    say(session, "data iris")
    (outcome,) = say(session, "walk")
    assert "no network yet" in outcome.failure.message
    session.close()


def test_points_have_the_promised_fields_in_order(session):
    _, walk, measure = results(session, "walk --steps 3\nwalk --steps 4\nmeasure")
    assert list(walk) == ["start", "end", "steps", "refused", "reason", "theta", "best", "events"]
    assert list(walk["end"]) == POINT
    assert walk["end"]["step"] == 7
    assert set(measure["regularizers"]) >= {"l2", "jacobian", "hessian-trace", "gradient-norm"}


def test_regression_points_have_rmse(tmp_path):
    session = talk(tmp_path / "s", "data mpg\nmodel mpg-ff\nlevel")
    point = session.engine.path.here
    assert point.test_rmse is not None
    (found,) = results(session, "measure")
    assert "test_rmse" in found
    assert "test_accuracy" not in found
    session.close()


def test_going_back_and_branching(session):
    found = results(
        session, "walk --steps 10\nundo 4\nbranch try\nwalk --steps 2\npath list\ngoto end"
    )
    assert found[1]["point"]["step"] == 6
    assert found[4]["branches"]["try"]["from"] == "main:6"
    assert found[5]["branch"] == "try"
    (best,) = results(session, "goto best")
    tests = [p.test_loss for p in session.engine.path.traversal() if p.kept and p.test_loss]
    assert best["point"]["test_loss"] == min(tests)


def test_scripts_source_others_with_variables_but_not_themselves(tmp_path, session):
    (tmp_path / "inner.lss").write_text("walk --steps ${n}\n")
    (tmp_path / "outer.lss").write_text("# first\nset n=3\nsource inner.lss\n")
    outcomes = say(session, f"source {tmp_path / 'outer.lss'}")
    assert [o.command for o in outcomes] == ["set", "walk", "source", "source"]
    assert session.engine.path.here.step == 3
    (tmp_path / "a.lss").write_text("source b.lss\n")
    (tmp_path / "b.lss").write_text("source a.lss\n")
    outcomes = say(session, f"source {tmp_path / 'a.lss'}")
    assert "includes itself (a.lss → b.lss → a.lss)" in str(outcomes[0].failure)


def test_a_failure_in_a_sourced_script_names_its_line(tmp_path, session):
    (tmp_path / "x.lss").write_text("walk --steps 2\n\nwalk --steps two\n")
    outcomes = say(session, f"source {tmp_path / 'x.lss'}")
    assert str(outcomes[1].failure).startswith(f"{tmp_path / 'x.lss'}:3:14: walk:")
    assert session.engine.path.here.step == 2


def test_saved_checkpoints_load_again_without_naming_the_network(tmp_path, session):
    results(session, f"walk --steps 5\nsave {tmp_path / 'end'}")
    end = session.engine.theta_hash()
    other = talk(tmp_path / "t", f"seed 3\ndata iris\nload {tmp_path / 'end.safetensors'}")
    assert other.engine.theta_hash() == end
    other.close()
    again = talk(tmp_path / "u", f"seed 4\ndata iris\nload {tmp_path / 'end.safetensors'}")
    notes = say(again, f"load {tmp_path / 'end.safetensors'}")[0].reply.values["notes"]
    assert any("other data" in note for note in notes)
    again.close()


def test_the_reference_of_distance_can_be_a_checkpoint(tmp_path, session):
    results(session, f"save {tmp_path / 'home'}\nwalk --steps 10\nreg l2 off")
    reg, walk = results(
        session, f"reg distance on --reference {tmp_path / 'home.safetensors'}\nwalk --steps 40"
    )
    assert walk["end"]["distance"] ** 2 == pytest.approx(
        walk["end"]["regularizers"]["distance"], rel=1e-3
    )
    assert walk["end"]["regularizers"]["distance"] < 0.5 * reg["value"]


def test_data_that_do_not_fit_leave_the_network_walking(session):
    (outcome,) = say(session, "data digits")
    assert not outcome.ok
    (walk,) = results(session, "walk --steps 3")
    assert walk["steps"] == 3
    assert walk["end"]["regularizers"]["l2"] < walk["start"]["regularizers"]["l2"]


def test_a_checkpoint_cannot_name_code_to_run(tmp_path):
    from safetensors.torch import save_file

    marker = tmp_path / "ran"
    save_file(
        {"w": torch.zeros(1)}, tmp_path / "evil.safetensors",
        {"model": f"os:system touch${{IFS}}{marker}"},
    )  # fmt: skip
    session = talk(tmp_path / "s", "data iris")
    (outcome,) = say(session, f"load {tmp_path / 'evil.safetensors'}")
    assert "say `model` before `load`" in outcome.failure.message
    assert not marker.exists()
    session.close()


def test_a_checkpoint_that_does_not_fit_leaves_no_network_behind(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, tmp_path / "c.safetensors", {"model": "iris-ff"})
    session = talk(tmp_path / "s", "data iris")
    (outcome,) = say(session, f"load {tmp_path / 'c.safetensors'}")
    assert "missing" in outcome.failure.message
    assert session.engine.problem is None
    session.close()


def test_a_walk_that_cannot_start_fixes_no_level(tmp_path):
    session = talk(tmp_path / "s", SETUP.replace("level\n", ""))
    before = state(session)
    engine = session.engine
    evaluations = 0

    def stop():
        nonlocal evaluations
        evaluations += 1
        return evaluations > 1

    engine.problem.cancelled = stop
    (outcome,) = say(session, "walk --steps 5")
    assert outcome.failure.message == "interrupted; nothing was changed"
    assert state(session) == before
    session.close()


def test_choosing_the_precision_that_is_in_use_changes_nothing(session):
    results(session, "walk --steps 3")
    before = state(session)
    say(session, "dtype float32\ndevice cpu")
    assert state(session) == before
    (outcome,) = say(session, "dtype float64")
    assert "start anew" in outcome.reply.text


def test_training_that_diverges_leaves_batch_norm_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def bn():\n"
        "    return nn.Sequential(nn.Linear(9, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))\n"
    )
    monkeypatch.chdir(tmp_path)
    session = talk(tmp_path / "s", "data mpg\nmodel nets:bn\ntrain --epochs 2")
    engine = session.engine
    loss = engine.problem.loss(engine.theta)
    (outcome,) = say(session, "train --epochs 3 --rate 1e17")
    if outcome.ok:
        pytest.skip("this training did not diverge")
    assert "diverged" in outcome.failure.message
    assert engine.problem.loss(engine.theta) == loss
    session.close()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("assert x.shape[1] == 5, 'five inputs'", "five inputs"),
        ("raise KeyError('x')", "does not take the data"),
    ],
)
def test_whatever_a_users_network_raises_is_one_message(tmp_path, monkeypatch, body, message):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self): super().__init__(4, 3)\n"
        f"    def forward(self, x):\n        {body}\n"
    )
    monkeypatch.chdir(tmp_path)
    session = talk(tmp_path / "s", "data iris")
    (outcome,) = say(session, "model mine:Net")
    assert message in outcome.failure.message
    session.close()


def test_a_network_with_a_frozen_layer_walks_on_the_rest(tmp_path, monkeypatch):
    (tmp_path / "frozen.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    n = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))\n"
        "    n[0].requires_grad_(False)\n"
        "    return n\n"
    )
    monkeypatch.chdir(tmp_path)
    session = talk(tmp_path / "s", "data iris\nmodel frozen:net\ntrain --epochs 20 --rate 0.01")
    first = session.engine.problem.network[0].weight.clone()
    results(session, "level\nreg path-norm on\nwalk --steps 4")
    assert session.engine.problem.p == 27
    assert torch.equal(session.engine.problem.network[0].weight, first)
    session.close()


def test_every_level_can_be_gone_back_to(session):
    first = session.engine.level_set.level
    results(session, "walk --steps 4\nlevel 0.3\nwalk --steps 4")
    assert set(session.engine.path.branches()) == {"main", "main-2"}
    (found,) = results(session, "goto main:2")
    assert found["point"]["level"] == first
    (found,) = results(session, "goto main-2:2")
    assert found["point"]["level"] == 0.3


def test_ascending_stops_where_the_angle_has_fallen(session):
    (start,) = results(session, "walk --steps 3 --ascend")
    target = start["end"]["angle_deg"] - 1.0
    (found,) = results(session, f"walk --steps 200 --ascend --until-angle {target}")
    assert found["end"]["angle_deg"] <= target
    assert f"{found['end']['angle_deg']:.4g}°" in found["reason"]


def test_a_walk_of_no_steps_knows_its_angle(session):
    (first,) = results(session, "walk --steps 3")
    angle = first["end"]["angle_deg"]
    (found,) = results(session, f"walk --steps 3 --until-angle {angle - 1}")
    assert found["steps"] == 0
    assert found["end"]["angle_deg"] == pytest.approx(angle)


def test_what_nobody_foresaw_is_one_line_too(session, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(session.engine, "goto", broken)
    (outcome,) = say(session, "goto 1")
    assert "unexpected ZeroDivisionError: division by zero (test_session.py:" in str(
        outcome.failure
    )


def test_a_branch_named_is_the_one_walked_on_wherever_one_goes_first(session):
    results(session, "walk --steps 4\nbranch other\ngoto start\nwalk --steps 2")
    assert session.engine.path.here.branch == "other"


def test_what_changed_since_the_start_is_said_of_the_same_function(session):
    results(session, "reg l2 off\nreg spectral on --form square\nwalk --steps 5")
    start = session.engine.start_point().regularizers["spectral"]
    assert session.engine.path.here.regularizers["spectral"] < start
    (outcome,) = say(session, "reg")
    (row,) = (line for line in outcome.reply.text.splitlines() if line.startswith("spectral"))
    assert row.endswith("σ₁(W)²")
    assert " -" in row


def test_a_network_that_is_random_in_eval_mode_is_refused(tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self): super().__init__(4, 3)\n"
        "    def forward(self, x): return super().forward(x) + torch.randn(len(x), 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    session = talk(tmp_path / "s", "data iris")
    (outcome,) = say(session, "model noisy:Net")
    assert "draws random numbers" in outcome.failure.message
    session.close()


def test_scripts_with_a_byte_order_mark_and_windows_lines_run(tmp_path, session):
    (tmp_path / "w.lss").write_bytes(b"\xef\xbb\xbfwalk --steps 2\r\nseed 4\r\n")
    outcomes = say(session, f"source {tmp_path / 'w.lss'}")
    assert all(o.ok for o in outcomes), outcomes


def test_nan_weights_of_a_users_network_are_an_error_and_no_traceback(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def net():\n"
        "    n = torch.nn.Linear(4, 3)\n"
        "    torch.nn.init.constant_(n.weight, float('nan'))\n"
        "    return n\n"
    )
    monkeypatch.chdir(tmp_path)
    session = talk(tmp_path / "s", "data iris\nmodel mine:net")
    (outcome,) = say(session, "level")
    assert "the loss is nan" in outcome.failure.message
    session.close()


def test_a_users_factory_gets_its_arguments_and_is_found_from_where_lsshell_runs(
    tmp_path, monkeypatch
):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "nets.py").write_text(
        "from torch import nn\n"
        "def small(width, depth=1):\n"
        "    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    session = talk(tmp_path / "s", "data iris\nmodel pack.nets:small 7 --depth 2")
    assert session.engine.problem.p == 4 * 7 + 7 + 7 * 3 + 3
    session.close()


def test_the_export_of_a_path_is_no_checkpoint(tmp_path, session):
    file = tmp_path / "path.safetensors"
    results(session, f"walk --steps 2\nexport {file}")
    (outcome,) = say(session, f"load {file}")
    assert "export of a path, not a checkpoint" in outcome.failure.message


def test_a_regulariser_that_is_no_number_here_is_not_switched_on(session):
    engine = session.engine
    engine.theta = engine.problem_theta() * float("nan")
    (outcome,) = say(session, "reg l1 on")
    assert "l1 is nan here" in outcome.failure.message
    assert "l1" not in engine.sum.terms


@pytest.mark.parametrize("suffix", [".csv", ".json", ".npz", ".safetensors"])
def test_exports_hold_every_point(tmp_path, session, suffix):
    file = tmp_path / f"points{suffix}"
    found = results(session, f"walk --steps 12 --record 4 --measure 3\nexport {file}")[1]
    assert found["points"] == 13
    losses = [p.loss for p in session.engine.path.traversal()]
    if suffix == ".csv":
        import csv

        with file.open() as handle:
            rows = list(csv.DictReader(handle))
        assert [float(r["loss"]) for r in rows] == losses
        assert rows[1]["test_loss"] == ""
    elif suffix == ".json":
        import json

        points = json.loads(file.read_text())["points"]
        assert [p["loss"] for p in points] == losses
        assert [k for k in points[-1] if k != "branch"] == POINT
    elif suffix == ".npz":
        with np.load(file) as arrays:
            assert arrays["loss"].tolist() == losses
            assert arrays["theta"].shape == (4, session.engine.problem.p)
            assert arrays["theta_step"].tolist() == [0, 4, 8, 12]
    else:
        from safetensors.torch import load_file

        assert load_file(file)["loss"].tolist() == losses


@pytest.mark.parametrize(
    "what", ["test-loss", "test-accuracy", "regularizers", "loss", "angle", "path"]
)
@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".txt"])
def test_figures_are_written_whole_and_kept_with_the_session(tmp_path, session, what, suffix):
    file = tmp_path / f"figure{suffix}"
    results(session, f"walk --steps 5\nplot {what} --out {file}")
    data = file.read_bytes()
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".txt": b""}
    assert data.startswith(starts[suffix])
    assert len(data) > 500
    assert (session.folder / "figures" / file.name).read_bytes() == data


def test_every_command_has_help_with_all_its_options(session):
    for name in VOCABULARY.commands:
        (found,) = results(session, f"help {name}")
        for spellings in (option.names for option in VOCABULARY.options(name)):
            for spelling in spellings:
                if spelling.startswith("--"):
                    assert spelling in found["help"], (name, spelling)
    (everything,) = results(session, "help")
    assert all(name in everything["help"] for name in VOCABULARY.commands)


def test_history_and_status_tell_what_was_said(session):
    results(session, "walk --steps 2")
    history, status = results(session, "history\nstatus")
    assert history["history"][:2] == ["seed 3", "data iris"]
    assert status["step"] == 2
    assert status["session"] == str(session.folder)


def test_the_weight_decay_that_a_point_implies_goes_with_the_weight_and_with_l2_alone():
    session = talk(None, "seed 1\ndata iris\nmodel mlp 4-10-3\ntrain --epochs 20", record=False)
    compare = "compare weight-decay --lambda implied --runs 1 --epochs 1 --biases"
    results(session, "reg l2 on\nlevel\nwalk --steps 30")
    implied = session.engine.measure().implied_weight_decay
    assert implied > 0.0
    (row,) = results(session, compare)[0]["rows"]
    assert row["penalty"] == pytest.approx(implied)
    results(session, "reg l2 4")
    (row,) = results(session, compare)[0]["rows"]
    assert row["penalty"] == pytest.approx(implied)  # 4·θ²/ν' with ν' four times ν
    results(session, "reg l2 on\nreg l1 on")
    failed = say(session, compare)[0].failure
    assert "l2 alone must be on" in str(failed)
    assert "l2-weights alone" in str(say(session, compare.removesuffix(" --biases"))[0].failure)
    results(session, "reg l1 off")
    point = replace(session.engine.measure(), implied_weight_decay=-implied)
    session.engine.measure = lambda: point
    found = results(session, compare)[0]
    assert found["runs"] == [] and found["implied"]


def test_branches_are_compared_at_equal_training_loss():
    session = talk(
        None, "seed 1\ndata iris\nmodel mlp 4-10-3\ntrain --epochs 20\nlevel", record=False
    )
    assert "nothing has been walked" in str(say(session, "compare branches")[0].failure)
    results(session, "branch a\nreg l2 on\nwalk --steps 4\ngoto start\nbranch b\nreg l2 off\n"
                     "reg l1 on\nwalk --steps 3")  # fmt: skip
    found = results(session, "compare branches")[0]
    assert list(found["branches"]) == ["a", "b"]
    start, a = found["start"], found["branches"]["a"]
    assert a["end"]["step"] == 4 and found["branches"]["b"]["end"]["step"] == 3
    assert abs(a["end"]["loss"] - start["loss"]) <= a["end"]["tolerance"]
    change = a["end"]["regularizers"]["l2"] / start["regularizers"]["l2"] - 1
    assert a["changes"]["l2"] == pytest.approx(change) and change < 0.0
    assert a["best"]["test_loss"] <= a["end"]["test_loss"]
