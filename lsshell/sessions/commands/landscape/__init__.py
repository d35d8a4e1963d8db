"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import phases  # noqa: F401
