"""Transfers that are interrupted at random moments, a given number of times: their bytes must not differ.

A pass ends at a random moment, within a packet or between two, and the receiving computer restarts from its snapshot at
random packets; bits turn over, packets get lost and come late.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hil.errors import UsageError
from hil.payload.passes.transfer import plan_transfer, run_transfer
from hil.payload.passes.windows import ContactWindow
from hil.payload.settings import LinkFigures

RATE = 64_000.0  # bit/s
SHORTEST_S, LONGEST_S, APART_S = 0.3, 2.5, 60.0  # of a pass
MOST_PASSES = 4000
RESTART_SHARE = 0.05  # of packets that arrive
MOMENTS = 0x1A7E  # purpose tag of the host's seeds


@dataclass(frozen=True, slots=True)
class InterruptedTransfers:
    """Transfers up and down in turn, passes that ended within one, restarts, and transfers whose digests differ."""

    transfers: int
    ended_passes: int
    restarts: int
    different: int

    @property
    def identical(self) -> bool:
        return self.different == 0

    @property
    def text(self) -> str:
        end = "all digests identical" if self.identical else f"{self.different} transfers DIFFER"
        return (
            f"{self.ended_passes + self.restarts} interruptions ({self.ended_passes} passes that ended within a "
            f"transfer, {self.restarts} restarts) of {self.transfers} transfers: {end}"
        )


def interrupt(data: bytes, interruptions: int, *, seed: int = 0) -> InterruptedTransfers:
    """Send some bytes again and again, up and down, until there were so many interruptions.

    Raises:
        UsageError: no byte, or no interruption.
        LinkError: the passes end before a file is there.
    """
    if not data or interruptions < 1:
        raise UsageError(f"{interruptions} interruptions of a file of {len(data)} bytes")
    figures = LinkFigures(RATE, RATE, bit_errors=1e-5, delay_s=0.05, lost_share=0.03, reordered_share=0.1)
    transfers = ended = restarts = different = 0
    while ended + restarts < interruptions:
        rng = np.random.default_rng(np.random.SeedSequence([seed, MOMENTS, transfers]))
        lengths = rng.uniform(SHORTEST_S, LONGEST_S, MOST_PASSES)
        windows = tuple(ContactWindow(APART_S * i, APART_S * i + float(length)) for i, length in enumerate(lengths))
        up, number = transfers % 2 == 0, transfers % 60_000 + 1
        plan = plan_transfer("file", len(data), windows, figures, up=up)
        done = run_transfer(
            plan,
            data,
            windows,
            figures,
            seed=seed,
            number=number,
            up=up,
            restarts=lambda noise: bool(noise.random() < RESTART_SHARE),
        )
        transfers += 1
        ended, restarts = ended + done.passes - 1, restarts + done.restarts
        different += not done.identical
    return InterruptedTransfers(transfers, ended, restarts, different)
