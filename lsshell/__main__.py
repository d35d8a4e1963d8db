"""`python -m lsshell`."""

from lsshell.cli import main

main()
