"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import (
    interpolate,  # noqa: F401
    roughness,  # noqa: F401
    slice,  # noqa: F401
)
