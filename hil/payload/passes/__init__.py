"""Passes over a ground station: files and commands that end with the same bytes, however often a pass ends first."""
