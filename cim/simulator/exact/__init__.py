"""Exact mode: every conversion of every input plane, by numba or torch."""
