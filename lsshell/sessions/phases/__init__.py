"""Phase tables in sessions: grids that are measured cell by cell, and their figures."""
