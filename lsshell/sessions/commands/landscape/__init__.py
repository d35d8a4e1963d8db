"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import (  # noqa: F401 - register
    connect,
    pattern,
    similarity,
)
