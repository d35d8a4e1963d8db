"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import connect, hessian, phases, similarity  # noqa: F401
