"""How fast a line to an open chip carries input codes of products and images of a plan, beside what it can carry."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from firmware_protocols.messages import Capability, LayerTile, LoadLayer, TileAddress
from firmware_protocols.plans.instructions import ReshapeCodes, RunLayers
from firmware_protocols.plans.plan import PIXELS, Plan, PlanStep, PlanValue
from hil.driver.chip_driver import ChipDriver
from hil.driver.counting.wire_cost import BITS_PER_BYTE
from hil.errors import BeyondLimit, UsageError

FIRST_VECTORS, MOST_VECTORS = 32, 1 << 17
MOST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class LinkRate:
    """Bytes of input codes, or of images, that arrived in ``seconds``.

    Codes of fewer bits count as these, since a line may pack them.

    ``vectors``: input vectors of products, or images. ``wire_bytes_per_s``: what the line can carry, 0 where nothing is
    known of it. ``sent``, ``received``: bytes on it.
    """

    vectors: int
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

    def lines(self, name: str) -> list[str]:
        """For people; ``name``: of what was sent."""
        share = "" if self.share is None else f", {100 * self.share:.1f} % of {self.wire_bytes_per_s / 1e3:.1f} kB/s"
        return [
            f"{name}: {self.code_bytes_per_s / 1e3:.1f} kB/s in {self.seconds:.1f} s{share}; "
            f"{self.vectors / self.seconds:,.0f} a second",
            f"{name}: {self.sent:,} bytes sent, {self.received:,} received, {self.repeated:,} frames repeated",
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "vectors": self.vectors,
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
    rows, bits = driver.spec.macro.logical_rows, driver.spec.macro.inputs.bits
    codes = np.random.default_rng(0).integers(0, 1 << bits, (MOST_VECTORS, rows)).astype(np.int16)  # no code packs them

    def send(vectors: int) -> None:
        driver.mvm(TileAddress(0, 0, rows, 0, 1), codes[:vectors], input_bits=bits, input_signed=False)

    return _rate(driver, send, rows * bits, seconds, baud, clock)


def plan_goodput(
    driver: ChipDriver,
    seconds: float,
    *,
    baud: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LinkRate | None:
    """Run images through a plan of one layer of one output for about ``seconds``; no cell is written.

    An image has a pixel for each word line of macro 0. None: the chip runs no plans, or has no room for this one.

    Args:
        baud: of a serial line, bit/s; None: the line's rate is not known.

    Raises:
        UsageError: ``seconds`` is not between 0 and an hour.
    """
    if Capability.PLAN | Capability.LAYER not in driver.capabilities:
        return None
    rows = driver.spec.macro.logical_rows
    try:
        driver.load_layer(_one_output(rows))
        driver.load_plan(_one_layer(rows, min(driver.spec.macro.inputs.bits, 8)))
    except BeyondLimit:
        return None
    pixels = np.random.default_rng(0).integers(0, PIXELS, (MOST_VECTORS, rows, 1, 1)).astype(np.uint8)
    return _rate(driver, lambda images: driver.run_plan(pixels[:images]), rows * 8, seconds, baud, clock)


def _one_output(rows: int) -> LoadLayer:
    none, one = np.zeros(1, np.int32), np.ones(1, np.int32)
    tile = LayerTile(TileAddress(0, 0, rows, 0, 1), 0, 0, 1, 0, one, np.zeros(1, np.int64), none)
    return LoadLayer(0, rows, 1, -128, 127, none, one, none, (tile,))


def _one_layer(rows: int, bits: int) -> Plan:
    """Pixels, as many as word lines, each an input code of the layer."""
    values = (PlanValue(0, 4, (1, rows, 1)), PlanValue(4 * rows, 4, (rows,)), PlanValue(8 * rows, 4, (1,)))
    none, part = np.zeros(0, np.int32), np.array([0, 0, 1, 0, 1], np.int32)
    product = RunLayers(0, bits, 0, 0, 0, none, none, none, part)
    table = (np.arange(PIXELS) % (1 << bits)).astype(np.int16)[None]
    return Plan(8 * rows + 4, table, values, (PlanStep(ReshapeCodes(), (0,), 1), PlanStep(product, (1,), 2)))


def _rate(
    driver: ChipDriver,
    send: Callable[[int], object],
    vector_bits: int,
    seconds: float,
    baud: int | None,
    clock: Callable[[], float],
) -> LinkRate:
    """Rate of what ``send`` sends of so many vectors, until about ``seconds`` have gone."""
    if not 0 < seconds <= MOST_SECONDS:
        raise UsageError(f"{seconds:g} s is not between 0 and {MOST_SECONDS:g} s", hint="hil bench link --seconds 10")

    def timed(vectors: int) -> float:
        start_s = clock()
        send(vectors)
        return max(clock() - start_s, 1e-6)

    timed(1)  # what only the first one takes
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
        total,
        total * vector_bits // 8,
        spent_s,
        seen["bytes_sent"],
        seen["bytes_received"],
        seen["retransmissions"] + seen["fast_retransmissions"],
        (baud or 0) / BITS_PER_BYTE,
    )
