"""lsshell: walk neural networks along the level sets of their training loss."""

__version__ = "0.6.0"
