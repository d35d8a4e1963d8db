"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import hessian  # noqa: F401
