"""The conversation itself: set, source, history, help, quit."""

from __future__ import annotations

from pathlib import Path

from lsshell.sessions.reply import Reply
from lsshell.sessions.vocabulary import VOCABULARY, FromSession


@VOCABULARY.command("setup", "set")
def set_variable(assignment: str, /, *, session: FromSession) -> Reply:
    """Set a variable for ${name} in later lines: set lr=0.01.

    Parameters
    ----------
    assignment
        NAME=VALUE.
    """
    name, value = session.set_variable(assignment)
    return Reply({name: value})


@VOCABULARY.command("talk")
def source(file: Path, /, *, session: FromSession) -> Reply:
    """Run the lines of a script here.

    Parameters
    ----------
    file
        A .lss script, from the working directory or beside the script that names it.
    """
    return session.source(file)


@VOCABULARY.command("talk")
def history(*, session: FromSession) -> Reply:
    """Show what was said in this session."""
    return Reply({"history": list(session.history)}, "\n".join(session.history))


@VOCABULARY.command("talk", "help")
def show_help(command: str | None = None, /, *, session: FromSession) -> Reply:
    """List the commands, or explain one.

    Parameters
    ----------
    command
        The command to explain.
    """
    text = VOCABULARY.help(command)
    return Reply({"help": text}, text)


@VOCABULARY.command("talk", "quit")
def leave(*, session: FromSession) -> Reply:
    """Leave; the session is on disk already."""
    return Reply(quits=True)
