"""--out and --save of all landscape commands."""

import json
import math

import pytest

from lsshell.sessions.outputs import write_table
from tests.sessions.conversation import SETUP, results, say, talk

COMMANDS = {
    "allocation": "",
    "compress": "",
    "connect": "start --epochs 1 --points 3",
    "correlate": "--measures loss,l2",
    "hessian": "--k 1 --trace-probes 0 --density 3",
    "interpolate": "start --points 3",
    "kernel": "--examples 3",
    "pattern": "--text I --epochs 1 --examples 5 --padding 0",
    "phases": "--load width=2 --temperature batch=40 --seeds 2 --epochs 1 --curve-epochs 1"
    " --measured 9 --probes 2",
    "roughness": "--directions 2 --points 2",
    "similarity": "start",
    "slice": "--points 3",
    "topology": "--points 3",
}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    found = talk(tmp_path_factory.mktemp("outputs") / "s", SETUP + "walk --steps 4")
    yield found
    found.close()


@pytest.mark.parametrize("name", COMMANDS)
def test_files_are_named_in_the_result_and_not_compared(session, name, tmp_path):
    line = f"{name} {COMMANDS[name]} --out {tmp_path}/a.svg --save {tmp_path}/a.json"
    (outcome,) = say(session, line)
    assert outcome.ok, str(outcome.failure)
    reply = outcome.reply
    assert reply.values["file"] == f"{tmp_path}/a.svg"
    assert reply.values["saved"] == f"{tmp_path}/a.json"
    assert not {"file", "saved"} & set(reply.checked)
    assert reply.figure is None
    assert f"wrote {tmp_path}/a.svg" in reply.text and f"wrote {tmp_path}/a.json" in reply.text
    assert (tmp_path / "a.svg").stat().st_size > 1000
    json.loads((tmp_path / "a.json").read_text())


def test_what_is_no_number_is_empty_in_json(session, tmp_path):
    write_table(session, tmp_path / "t.json", [{"a": math.nan, "b": math.inf, "c": 1.5}])

    def refuse(word):
        raise AssertionError(word)

    read = json.loads((tmp_path / "t.json").read_text(), parse_constant=refuse)
    assert read == [{"a": None, "b": None, "c": 1.5}]


@pytest.mark.parametrize("line", ["slice --points 0", "topology --points 0"])
def test_no_points_are_refused(session, line):
    assert "--points" in say(session, line)[0].failure.message


@pytest.mark.parametrize("name", ["slice", "topology", "roughness"])
def test_a_range_that_no_float32_holds_is_refused_in_words(session, name):
    (outcome,) = say(session, f"{name} --range 1e300 --points 3")
    assert "a smaller --range" in outcome.failure.message


def test_two_maps_in_a_text_file_are_refused_before_the_work(session):
    (outcome,) = say(session, "slice --points 3 --on both --out a.txt")
    assert "two maps" in outcome.failure.message
    results(session, "slice --points 3 --dimensions 1 --on both")
