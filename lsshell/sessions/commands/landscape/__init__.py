"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import (
    allocation,  # noqa: F401
    compress,  # noqa: F401
    connect,  # noqa: F401
    correlate,  # noqa: F401
    hessian,  # noqa: F401
    interpolate,  # noqa: F401
    kernel,  # noqa: F401
    phases,  # noqa: F401
    roughness,  # noqa: F401
    similarity,  # noqa: F401
    slice,  # noqa: F401
    topology,  # noqa: F401
)
