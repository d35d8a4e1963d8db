"""Sessions in this process, on small data: what the tests of sessions share."""

from lsshell.sessions.language import Line
from lsshell.sessions.session import Session

SETUP = """\
seed 3
data iris
model mlp 4-8-3
train --epochs 30 --rate 0.01
level
reg l2 on
"""


def say(session, text, source="test.lss"):
    """Executes lines; returns the outcomes, sourced ones too."""
    outcomes = []
    for number, line in enumerate(text.splitlines(), start=1):
        session.execute(Line(source, number, line), outcomes.append)
    return outcomes


def results(session, text):
    """The results of lines that must all succeed."""
    outcomes = say(session, text)
    failures = [str(o.failure) for o in outcomes if o.failure is not None]
    assert not failures, failures
    return [dict(o.reply.values) for o in outcomes]


def talk(folder, text, **kwargs):
    """A session in `folder` in which these lines were said, all with success, still open."""
    session = Session(folder, **kwargs)
    results(session, text)
    return session
