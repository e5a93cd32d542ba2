"""Vectors inside numba kernels: single-precision lanes, integers, pairs of 16-bit integers."""
