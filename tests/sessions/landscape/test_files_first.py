"""Files that cannot be written are refused before the work of any measure, not after it."""

import pytest

from lsshell.sessions.commands import VOCABULARY
from lsshell.sessions.session import Session
from tests.sessions.conversation import say

MEASURES = sorted(c.name for c in VOCABULARY.commands.values() if c.kind == "landscape")
NEEDS = {"connect": "start", "interpolate": "init"}  # their first argument has no default


@pytest.mark.parametrize("name", MEASURES)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_looked_at(
    tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.png").mkdir()
    (tmp_path / "file").write_text("")
    session = Session(None, record=False)  # nothing is loaded: what looks for data says so
    command = f"{name} {NEEDS.get(name, '')}"
    for option, words in [
        ("--out none/a.png", "none/a.png cannot be written: there is no folder none"),
        ("--save none/a.csv", "none/a.csv cannot be written: there is no folder none"),
        ("--save file/a.json", "there is no folder file"),
        ("--out taken.png", "taken.png cannot be written: it is a folder"),
        ("--out ~nobody-here/a.png", "there is no home folder ~nobody-here"),
        (f"--out {'a' * 300}.png", "File name too long"),
    ]:
        (outcome,) = say(session, f"{command} {option}")
        assert words in outcome.failure.message
    session.close()


def test_the_plane_of_a_pattern_is_a_file_too():
    session = Session(None, record=False)
    (outcome,) = say(session, "pattern --save-plane none/a.safetensors")
    assert "there is no folder none" in outcome.failure.message
    session.close()
