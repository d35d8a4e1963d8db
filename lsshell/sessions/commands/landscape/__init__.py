"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import (
    allocation,  # noqa: F401
    compress,  # noqa: F401
    kernel,  # noqa: F401
)
