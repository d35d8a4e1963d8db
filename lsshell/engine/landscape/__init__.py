"""Measures of the loss landscape around the path, a file each; none of them moves the walk."""
