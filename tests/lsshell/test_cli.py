"""The command line as a user or a pipeline meets it: exit codes, JSON, signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sessions.conversation import SETUP

LSSHELL = str(Path(sys.executable).with_name("lsshell"))


@pytest.fixture
def lsshell(tmp_path):
    """Runs the installed command in a folder of its own."""

    def run(*words, stdin=None, **environment):
        return subprocess.run(
            [LSSHELL, *map(str, words)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=surroundings(tmp_path) | environment,
            check=False,
        )

    return run


def surroundings(tmp_path):
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "LSSHELL_SESSIONS": str(tmp_path / "sessions"),
    }


def test_json_is_one_object_a_command_and_nothing_else(lsshell, tmp_path):
    script = (
        "# first a comment\n"
        + SETUP
        + "walk --steps ${n}\nplot test-loss\nwalk --steps x\nseed 9\n"
    )
    (tmp_path / "w.lss").write_text(script)
    done = lsshell("run", "w.lss", "--json", "--set", "n=4")
    assert done.returncode == 1
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert [o["command"] for o in objects] == [
        "seed", "data", "model", "train", "level", "reg", "walk", "plot", "walk",
    ]  # fmt: skip
    walk = objects[6]
    assert list(walk) == ["line", "command", "ok", "seconds", "result"]
    assert walk["line"] == 8
    assert walk["result"]["steps"] == 4
    assert list(walk["result"]["end"])[:3] == ["step", "loss", "level"]
    assert objects[-1] == {
        "line": 10,
        "command": "walk",
        "ok": False,
        "error": {
            "file": "w.lss",
            "line": 10,
            "column": 14,
            "message": objects[-1]["error"]["message"],
        },
    }
    assert "into int" in objects[-1]["error"]["message"]


def test_a_failed_command_shows_place_and_caret_and_ends_the_run(lsshell, tmp_path):
    (tmp_path / "w.lss").write_text("seed 1\n\nwlak --steps 3\nseed 2\n")
    done = lsshell("run", "w.lss")
    assert done.returncode == 1
    assert "w.lss:3:1: wlak: unknown command wlak; did you mean walk?\n" in done.stderr
    assert "\n  wlak --steps 3\n  ^\n" in done.stderr
    assert "seed 2" not in done.stdout


def test_standard_input_is_a_script_too(lsshell):
    done = lsshell("run", "-", stdin="seed 1\nnonsense\n")
    assert done.returncode == 1
    assert "<stdin>:2:1:" in done.stderr
    assert lsshell("run", "-", stdin="seed 1\n# done\n").returncode == 0


def test_without_a_terminal_the_repl_reads_lines_until_the_first_error(lsshell):
    done = lsshell("repl", stdin="seed 1\nnonsense\nseed 2\n")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert "nonsense" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run"], 2, "requires an argument"),
        (["run", "nowhere.lss"], 1, "no script nowhere.lss"),
        (["run", "x.lss", "--bogus"], 2, "Unknown option"),
        (["rnu", "x.lss"], 2, "unknown command rnu; did you mean run?"),
        (["replay", "nowhere"], 1, "no session or script"),
        (["resume", "nowhere"], 1, "holds no session"),
        (["batch"], 2, "at least one script"),
        (["run", "-", "--set", "novalue"], 1, "NAME=VALUE"),
    ],
)
def test_wrong_usage_is_two_and_what_cannot_be_done_is_one(lsshell, words, code, message):
    done = lsshell(*words)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_version_are_quick_to_say(lsshell):
    assert "replay" in lsshell("--help").stdout
    assert lsshell("--version").stdout.strip() == "0.6.0"
    for command in ("repl", "run", "replay", "resume", "batch", "doctor"):
        assert f"Usage: lsshell {command}" in lsshell(command, "--help").stdout


def test_a_session_is_replayed_checked_and_a_changed_number_is_exit_three(lsshell, tmp_path):
    (tmp_path / "w.lss").write_text(SETUP + "walk --steps 4\n")
    assert lsshell("run", "w.lss", "--session", "s").returncode == 0
    done = lsshell("replay", "s", "--check")
    assert done.returncode == 0
    assert "identical: " in done.stderr
    script = tmp_path / "s" / "session.lss"
    script.write_text(script.read_text().replace("end.step=4", "end.step=5"))
    done = lsshell("replay", "s", "--check", "--quiet")
    assert done.returncode == 3
    assert "walk: end.step is 4, recorded as 5" in done.stderr
    assert done.stdout == ""


def test_resume_takes_commands_from_standard_input(lsshell, tmp_path):
    (tmp_path / "w.lss").write_text(SETUP + "walk --steps 4\n")
    lsshell("run", "w.lss", "--session", "s")
    done = lsshell("resume", "s", stdin="walk --steps 3\nstatus\n")
    assert done.returncode == 0
    assert "at step 4 of main" in done.stderr
    assert "step          7" in done.stdout
    assert lsshell("replay", "s", "--check").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_walk_at_a_valid_point(lsshell, tmp_path, number):
    (tmp_path / "w.lss").write_text(SETUP + "walk --steps 1000000 --method gradient\nseed 5\n")
    process = subprocess.Popen(
        [LSSHELL, "run", "w.lss", "--session", "s"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=surroundings(tmp_path),
    )
    steps = tmp_path / "s" / "steps.jsonl"
    while process.poll() is None and not (steps.exists() and b'"step": 3,' in steps.read_bytes()):
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "interrupted; `lsshell resume s` goes on" in err
    script = (tmp_path / "s" / "session.lss").read_text()
    assert 'reason="interrupted"' in script
    assert "seed 5" not in script
    assert lsshell("resume", "s", stdin="walk --steps 2\n").returncode == 0
    assert lsshell("replay", "s", "--check").returncode == 0


def test_a_reader_that_goes_away_is_no_traceback(lsshell, tmp_path):
    (tmp_path / "w.lss").write_text("help\n" * 2000)
    command = f"{LSSHELL} run w.lss | head -1"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False,
        env=surroundings(tmp_path),
    )  # fmt: skip
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", [">&-", "> /dev/full"])
def test_output_that_cannot_be_written_is_no_traceback(tmp_path, where):
    (tmp_path / "w.lss").write_text("help\n" * 200)
    done = subprocess.run(
        f"{LSSHELL} run w.lss {where}", shell=True, cwd=tmp_path, capture_output=True, text=True,
        check=False, env=surroundings(tmp_path),
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if where == ">&-" else 1)


def test_doctor_names_versions_devices_and_data(lsshell, tmp_path):
    done = lsshell("doctor")
    assert done.returncode == 0
    for word in ("torch", "cpu", "mnist-5k", "cifar10", "not found"):
        assert word in done.stdout


def test_the_package_runs_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "lsshell", "--version"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "0.6.0"


def test_shell_completion_can_be_installed(lsshell, tmp_path):
    done = lsshell("--install-completion", "--shell", "bash", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert any("lsshell" in p.read_text() for p in written)
