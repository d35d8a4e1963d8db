"""The vocabulary: one typed, documented function a command, over Session and Engine."""

from lsshell.sessions.commands import (  # noqa: F401 - register
    comparing,
    conversation,
    files,
    landscape,
    problem,
    views,
    walking,
    wandering,
)
from lsshell.sessions.vocabulary import VOCABULARY

__all__ = ["VOCABULARY"]
