"""Rate at which an open chip takes input codes of products, for studies of lines."""

from __future__ import annotations

import time

import numpy as np

from firmware_protocols.messages import TileAddress
from hil.driver.chip_driver import ChipDriver

FIRST_VECTORS, MOST_VECTORS = 32, 1 << 17


def code_bytes_per_s(driver: ChipDriver, seconds: float) -> float:
    """Multiply vectors by one output of macro 0 for about ``seconds``; no cell is written.

    Codes are random, because a serial line packs others. Codes of fewer than eight bits count as these bits.
    """
    rows, bits = driver.spec.macro.logical_rows, driver.spec.macro.inputs.bits
    codes = np.random.default_rng(0).integers(0, 1 << bits, (MOST_VECTORS, rows)).astype(np.int16)

    def timed(vectors: int) -> float:
        start_s = time.monotonic()
        driver.mvm(TileAddress(0, 0, rows, 0, 1), codes[:vectors], input_bits=bits, input_signed=False)
        return max(time.monotonic() - start_s, 1e-6)

    timed(1)  # what only the first one takes
    count = FIRST_VECTORS
    while (took_s := timed(count)) < min(0.2, seconds / 4) and count < MOST_VECTORS:
        count *= 4
    total, spent_s = 0, 0.0
    while spent_s < 0.95 * seconds:
        count = int(np.clip(count * (seconds - spent_s) / took_s, 1, MOST_VECTORS))
        took_s = timed(count)
        total, spent_s = total + count, spent_s + took_s
    return total * rows * bits / 8 / spent_s
