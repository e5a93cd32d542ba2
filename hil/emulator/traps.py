"""Random telegraph noise: traps beside the filament of a written cell, each charged or empty.

A cell has one trap for each decade from 1 ms to 10⁶ s. Trap k keeps a dwell τ_k of its decade (log-uniform), a step a_k
(exponential) and an occupancy p_k (uniform), drawn anew at each write. Time is cut in slots of τ_k, at a place of the
trap's own; in each the trap is full with chance p_k, whatever it was before:

    ΔG(t) = √(G / G_top) · Σ_k a_k (full_k(t_w) − full_k(t)),    mean of a_k = √3 · ``lasting_noise_us``

t_w the time of the write, whose verify saw the traps as they were then. Two reads of a cell at G_top that lie a decade
farther apart differ by 2 · ``lasting_noise_us``² more; few cells have most of it, in steps that can be seen.

The traps of a chip stand still while it computes: between two products of one batch nothing may depend on how it was
cut. They move with the chip's clock at each write, wait and reading of cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hil.emulator.noise import TRAP, fold_key, hashed_uniforms
from hil.emulator.radiation import lots

DECADES = 9
SHORTEST_NS = 1_000_000

Floats = NDArray[np.floating]


def shift_us(
    g_us: Floats,
    numbers: NDArray[np.int64],
    written_ns: NDArray[np.int64],
    now_ns: int,
    seed: int,
    macro: int,
    size_us: float,
    top_us: float,
) -> NDArray[np.float64]:
    """Change of conductance by traps since each cell was written, µS; arrays of one shape."""
    lot = lots(numbers, written_ns)
    total = np.zeros(g_us.shape)
    for decade in range(DECADES):
        where, begins, size, share = (
            hashed_uniforms(fold_key(seed, TRAP, macro, decade, drawn), lot) for drawn in range(4)
        )
        dwell_ns = SHORTEST_NS * 10.0 ** (decade + where)
        slots = [np.floor(ns / dwell_ns + begins).astype(np.int64) for ns in (written_ns, np.int64(now_ns))]
        key = fold_key(seed, TRAP, macro, decade, 4)
        before, now = (hashed_uniforms(key, lots(lot, slot)) < share for slot in slots)
        total -= np.log1p(-size) * (before.astype(np.float64) - now)
    return np.asarray(np.sqrt(3.0) * size_us * np.sqrt(np.maximum(g_us, 0.0) / top_us) * total)
