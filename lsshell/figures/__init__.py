"""Figures: one description of each, drawn in terminals by plotext and in files by matplotlib."""
