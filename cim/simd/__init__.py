"""Vectors inside numba kernels: types, loads and stores of floats and integers, and table look-ups."""
