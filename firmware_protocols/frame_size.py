"""Length of frames by what the line does to them: shorter where bits get lost, long again where it is clean.

A frame of L payload bytes that arrives with probability s carries s · L / (L + OVERHEAD) of the line's bytes. Bit
errors leave short frames more of it, whole lost frames do not. So half the length is tried where too many get lost,
and stays if it carries clearly more (short frames also fill a window less); twice the length elsewhere, and where half
of it gained nothing.

>>> size = FrameSize(512)
>>> for _ in range(40):
...     size.lost(512)
>>> size.payload
256
"""

from __future__ import annotations

from firmware_protocols.frames import MIN_PAYLOAD

OVERHEAD = 22  # bytes of a frame without its payload, delimiters included
ENOUGH, ENOUGH_OF_A_BAD_LINE, BAD = 128, 40, 0.5  # transmissions of one length that say how many get lost
GAIN = 1.12  # by which shorter frames must be better to stay
MANY_LOST = 0.12
HOLD = 256  # transmissions after a trial that gained nothing, doubled each time
MOST_HOLD = 1 << 14


class FrameSize:
    """The payload of new frames, at most ``most``; told what became of each transmission of a full one."""

    def __init__(self, most: int) -> None:
        self._most = self.payload = most
        self._arrived = self._gone = 0  # at this length
        self._before: tuple[int, float] | None = None  # length that was left for this one, and its share
        self._hold, self._next_hold = 0, HOLD
        self._longer_next = False  # on a bad line: shorter frames gained nothing

    def limit(self, most: int) -> None:
        """A new session: frames of at most ``most``; what was learned of the line stays."""
        self._most = most
        if self.payload > most:
            self._take(most)

    def halve(self) -> None:
        """A frame never got through: shorter ones are sent from now on."""
        self._before = None
        self._take(max(self.payload // 2, MIN_PAYLOAD))

    def arrived(self, payload: int) -> None:
        """Count a frame with ``payload`` bytes that was acknowledged."""
        self._count(payload, 1, 0)

    def lost(self, payload: int) -> None:
        """A frame has to be transmitted again."""
        self._count(payload, 0, 1)

    def _count(self, payload: int, arrived: int, gone: int) -> None:
        if payload != self.payload:
            return  # a short last frame, or one cut before the length changed
        self._arrived += arrived
        self._gone += gone
        self._hold = max(0, self._hold - 1)
        sent = self._arrived + self._gone
        share = self._gone / sent
        if sent < (ENOUGH_OF_A_BAD_LINE if share > BAD else ENOUGH):
            return
        if self._before is not None:
            self._judge(share)
        elif not self._hold and self._other(share) != self.payload:
            self._before = (self.payload, self._worth(share))
            self._take(self._other(share))
        elif sent >= 2 * ENOUGH:
            self._arrived, self._gone = self._arrived // 2, self._gone // 2  # what was long ago counts less

    def _other(self, lost_share: float) -> int:
        """The length to try where so many get lost: on a line neither clean nor bad the longer, on a bad one either."""
        longer, shorter = min(2 * self.payload, self._most), max(self.payload // 2, MIN_PAYLOAD)
        if lost_share > BAD:
            return shorter
        return shorter if lost_share > MANY_LOST and not self._longer_next else longer

    def _judge(self, lost_share: float) -> None:
        """Is this length better than the one before?"""
        assert self._before is not None
        (length, worth), self._before = self._before, None
        if self._worth(lost_share) > worth * (GAIN if self.payload < length else 1.0):
            self._next_hold = HOLD
            self._arrived = self._gone = 0
            return
        self._longer_next = self.payload < length
        self._take(min(length, self._most))
        self._hold, self._next_hold = self._next_hold, min(2 * self._next_hold, MOST_HOLD)

    def _worth(self, lost_share: float) -> float:
        """Share of the line's bytes that are payload and arrive."""
        return (1.0 - lost_share) * self.payload / (self.payload + OVERHEAD)

    def _take(self, payload: int) -> None:
        self.payload = payload
        self._arrived = self._gone = 0
