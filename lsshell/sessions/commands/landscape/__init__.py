"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import (  # noqa: F401 - register
    allocation,
    compress,
    connect,
    correlate,
    hessian,
    interpolate,
    kernel,
    pattern,
    phases,
    roughness,
    similarity,
    slice,
    topology,
)
