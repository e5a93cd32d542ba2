"""Largest numbers that a program may hold, known without a program."""

from __future__ import annotations

MOST_RANK = 64  # of a digital adapter
MOST_RESIDUAL_COPIES = 64  # of the highest of residual slices
MOST_READS = 256  # of one product with the highest of residual slices
RESIDUAL_READS = 8  # of it by default: √8 takes two thirds of the noise of single reads away
