"""Vectors inside numba kernels: their types, loads and stores; single precision, integers, pairs of them, look-ups."""
