"""How fast a line to an open chip carries input codes, beside what it can carry at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from firmware_protocols.messages import TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.driver.counting.wire_cost import BITS_PER_BYTE
from hil.errors import UsageError

FIRST_VECTORS, MOST_VECTORS = 32, 1 << 17
MOST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class LinkRate:
    """Bytes of input codes that arrived in ``seconds``; codes of fewer bits count as these, since a line may pack them.

    ``wire_bytes_per_s``: what the line can carry, 0 where nothing is known of it. ``sent``, ``received``: bytes on it.
    """

    code_bytes: int
    seconds: float
    sent: int
    received: int
    repeated: int  # frames
    wire_bytes_per_s: float

    @property
    def code_bytes_per_s(self) -> float:
        return self.code_bytes / self.seconds

    @property
    def share(self) -> float | None:
        """Bytes of input codes a second as a share of what the line can carry; None where that is not known."""
        return self.code_bytes_per_s / self.wire_bytes_per_s if self.wire_bytes_per_s else None

    def lines(self) -> list[str]:
        share = "" if self.share is None else f", {100 * self.share:.1f} % of {self.wire_bytes_per_s / 1e3:.1f} kB/s"
        return [
            f"{self.code_bytes_per_s / 1e3:.1f} kB/s of input codes in {self.seconds:.1f} s{share}",
            f"{self.sent:,} bytes sent, {self.received:,} received, {self.repeated:,} frames repeated",
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "code_bytes": self.code_bytes,
            "seconds": self.seconds,
            "code_bytes_per_s": self.code_bytes_per_s,
            "wire_bytes_per_s": self.wire_bytes_per_s or None,
            "share": self.share,
            "bytes_sent": self.sent,
            "bytes_received": self.received,
            "frames_repeated": self.repeated,
        }


def measured_goodput(
    driver: ChipDriver,
    seconds: float,
    *,
    baud: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LinkRate:
    """Multiply vectors by one output of macro 0 for about ``seconds``; no cell is written.

    Args:
        baud: of a serial line, bit/s; None: the line's rate is not known.

    Raises:
        UsageError: ``seconds`` is not between 0 and an hour.
    """
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError(f"{seconds:g} s is not between 0 and {MOST_SECONDS:g} s", hint="hil bench link --seconds 10")
    rows, bits = driver.spec.macro.logical_rows, driver.spec.macro.inputs.bits
    tile = TileAddress(0, 0, rows, 0, 1)
    codes = np.random.default_rng(0).integers(0, 1 << bits, (MOST_VECTORS, rows)).astype(np.int16)  # no code packs them

    def timed(vectors: int) -> float:
        start_s = clock()
        driver.mvm(tile, codes[:vectors], input_bits=bits, input_signed=False)
        return max(clock() - start_s, 1e-6)

    timed(1)  # what only the first product takes
    count = FIRST_VECTORS
    while (took_s := timed(count)) < min(0.2, seconds / 4) and count < MOST_VECTORS:
        count *= 4
    before = driver.counters
    total, spent_s = 0, 0.0
    while spent_s < seconds:
        count = int(np.clip(count * (seconds - spent_s) / took_s, 1, MOST_VECTORS))
        took_s = timed(count)
        total, spent_s = total + count, spent_s + took_s
        if spent_s > 0.95 * seconds:
            break
    after = driver.counters
    seen = {name: after[name] - before[name] for name in after}
    return LinkRate(
        total * rows * bits // 8,
        spent_s,
        seen["bytes_sent"],
        seen["bytes_received"],
        seen["retransmissions"] + seen["fast_retransmissions"],
        (baud or 0) / BITS_PER_BYTE,
    )
