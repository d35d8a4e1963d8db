"""`python -m lsshell`."""

from lsshell.entry import main

main()
