"""The scripts of landscape measures that users start from."""

from pathlib import Path

import pytest

from lsshell.sessions.session import Session, read_lines

SCRIPTS = sorted((Path(__file__).parent.parent / "examples" / "landscape").glob("*.lss"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs_and_leaves_the_walk_where_it_was(tmp_path, monkeypatch, script):
    monkeypatch.chdir(tmp_path)
    session = Session(tmp_path / "s")
    session.begin_script(script)
    outcomes = []
    try:
        for line in read_lines(script):
            session.execute(line, outcomes.append)
            assert not outcomes or outcomes[-1].ok, str(outcomes[-1].failure)
    finally:
        session.close()
    assert any(o.command == script.stem for o in outcomes)
