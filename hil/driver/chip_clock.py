"""Chip time for the ages of cells: the chip's clock while it agrees with the host's, else the host's clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SLACK_S = 0.5  # of a jump that is no difference
RATE = 0.05  # by which the rate of a board's clock may be off


@dataclass
class ComparedClock:
    """The clock of silicon, compared with the host's at each reply.

    A reading belongs to an instant between the request, sent at s, and the reply, heard at r. Since the first reading
    the host's clock has therefore moved by s − r₀ to r − s₀, and so must the chip's, within ``RATE`` and ``SLACK_S``.

    Args:
        first_ns, sent_s, heard_s: the first reading.
        report: called once with the difference.
    """

    first_ns: int
    sent_s: float
    heard_s: float
    report: Callable[[str], None]
    differs: bool = False

    def __post_init__(self) -> None:
        self._last_ns = self.first_ns

    def checked_ns(self, chip_ns: int, sent_s: float, heard_s: float) -> int:
        """The time of a reply by the clock that counts, ns."""
        moved_s, back_s = (chip_ns - self.first_ns) * 1e-9, (self._last_ns - chip_ns) * 1e-9
        least_s, most_s = sent_s - self.heard_s, heard_s - self.sent_s
        self._last_ns = chip_ns
        if not self.differs and back_s > SLACK_S:
            self._found(f"was set back by {back_s:.3g} s")
        elif not self.differs and not (1 - RATE) * least_s - SLACK_S <= moved_s <= (1 + RATE) * most_s + SLACK_S:
            self._found(f"moved by {moved_s:.3g} s in {most_s:.3g} s of the host's")
        return self.first_ns + round((heard_s - self.heard_s) * 1e9) if self.differs else chip_ns

    def _found(self, what: str) -> None:
        self.differs = True
        self.report(f"clock: the chip's {what}; times and ages are by the host's clock")
