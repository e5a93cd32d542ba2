"""Kinds of faults of a line and of a board, their chances, and how often each happened."""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass


class LineFault(enum.Enum):
    """What a simulated line or board does to those who use it."""

    LOSS = "lost frames"
    CORRUPT = "frames with one wrong bit"
    TRUNCATE = "frames cut short"
    BIT_ERROR = "bit errors"
    DROP = "lost bytes"
    INSERT = "stray bytes"
    DUPLICATE = "frames twice"
    REORDER = "frames overtaken"
    LATE = "late frames"
    BURST = "bursts of stray bytes"
    STALL = "stalls"
    UNPLUG = "disconnects"
    RESET = "chip resets"
    POWER = "losses of power in a write"
    KILL = "host kills"
    FORGE = "forged counters"


Counts = dict[LineFault, int]
"""Kind -> times that it happened."""


@dataclass(frozen=True, slots=True)
class LineFaults:
    """Chances of faults of one direction, and how long a frame takes.

    ``loss`` … ``late`` are chances of each frame, ``bit_errors`` of each bit, ``drop`` of each byte to vanish,
    ``insert`` of a stray byte before each byte; ``forge`` of each CHALLENGED to get another counter from somebody in
    the line, who has no key and makes a right CRC.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    truncate: float = 0.0
    reorder: float = 0.0  # up to eight delays late, alone
    late: float = 0.0  # up to ``late_s`` late, with all that follow
    bit_errors: float = 0.0
    drop: float = 0.0
    insert: float = 0.0
    delay_s: float = 0.005
    late_s: float = 0.5
    forge: float = 0.0
    ghost_s: float = 0.0  # by which the second copy of a frame may be late
    bytes_per_s: float = math.inf


class Gaps:
    """Independent events of chance ``p`` each, found by the gaps between them: cheap where they are rare."""

    def __init__(self, p: float, rng: random.Random) -> None:
        self._rng, self._log_miss = rng, math.log1p(-p) if p > 0 else 0.0
        self._left = self._gap()

    def _gap(self) -> int:
        """Trials that miss before the next hit."""
        if self._log_miss == 0.0:
            return 1 << 62
        return int(math.log(1.0 - self._rng.random()) / self._log_miss)

    def hits(self, trials: int) -> list[int]:
        """Which of the next ``trials`` hit, counted from 0."""
        found, at = [], self._left
        while at < trials:
            found.append(at)
            at += 1 + self._gap()
        self._left = at - trials
        return found
