"""The vocabulary: one typed, documented function a command, over Session and Engine."""

from lsshell.sessions.commands import conversation, problem, views, walking  # noqa: F401 - register
from lsshell.sessions.vocabulary import VOCABULARY

__all__ = ["VOCABULARY"]
