"""Scores as pure functions on arrays and curves: no torch, no files, no global random state."""
