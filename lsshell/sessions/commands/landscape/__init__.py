"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import pattern  # noqa: F401
