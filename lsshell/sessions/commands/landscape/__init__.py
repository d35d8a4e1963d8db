"""Measures of the landscape around the path: a command each."""

from lsshell.sessions.commands.landscape import allocation  # noqa: F401
from lsshell.sessions.commands.landscape import compress  # noqa: F401
from lsshell.sessions.commands.landscape import connect  # noqa: F401
from lsshell.sessions.commands.landscape import correlate  # noqa: F401
from lsshell.sessions.commands.landscape import kernel  # noqa: F401
from lsshell.sessions.commands.landscape import phases  # noqa: F401
from lsshell.sessions.commands.landscape import similarity  # noqa: F401
