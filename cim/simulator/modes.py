"""Mode and engine of a simulation: what is computed, and who computes it."""

from __future__ import annotations

import enum
import importlib.util


class SimulationMode(enum.StrEnum):
    """What is computed for a layer of a virtual chip."""

    EXACT = "exact"  # every conversion of every input plane
    FAST = "fast"  # one product for all planes, noise of matched moments


class SimulationEngine(enum.StrEnum):
    """The library that computes a simulation; each repeats its own bits from a key, the noise of the two differs."""

    NUMBA = "numba"  # kernels for one CPU core
    TORCH = "torch"  # any device, without numba too


def choose_engine(device: str) -> SimulationEngine:
    """Numba on a CPU that has it, else torch."""
    if device != "cpu" or importlib.util.find_spec("numba") is None:
        return SimulationEngine.TORCH
    return SimulationEngine.NUMBA
