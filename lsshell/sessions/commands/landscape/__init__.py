"""Measures of the landscape around the path: a command each."""
