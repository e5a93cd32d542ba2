"""Exact mode: every conversion of every input plane."""
