"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import (
    correlate,  # noqa: F401
    phases,  # noqa: F401
)
