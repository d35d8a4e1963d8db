"""The scripts of landscape measures that users start from, a quarter as long."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lsshell.sessions.session import Session, read_lines

SCRIPTS = sorted((Path(__file__).parent.parent / "examples" / "landscape").glob("*.lss"))
LONG = re.compile(r"(--(?:steps|epochs|curve-epochs|points|directions)) (\d+)")


def shorter(line):
    """The same line, with fewer steps, epochs and points: whether it runs is what is asked."""
    text = LONG.sub(lambda m: f"{m[1]} {max(int(m[2]) // 4, min(int(m[2]), 3))}", line.text)
    return replace(line, text=text)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs_and_leaves_the_walk_where_it_was(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    session = Session(tmp_path / "s")
    session.begin_script(script)
    outcomes = []
    try:
        for line in map(shorter, read_lines(script)):
            before = None if session.has_engine is False else session.engine.path.here
            session.execute(line, outcomes.append)
            assert not outcomes or outcomes[-1].ok, str(outcomes[-1].failure)
            if outcomes and outcomes[-1].command == script.stem and before is not None:
                assert session.engine.path.here is before
    finally:
        session.close()
    assert any(o.command == script.stem for o in outcomes)
