"""Data sets: bundled with packages, official files under a folder, the user's own files."""

from lsshell.engine.data.dataset import DataSet
from lsshell.engine.data.load import load_data

__all__ = ["DataSet", "load_data"]
