"""Belief about one chip: the calibration record, its file, and virtual chips drawn from it."""
