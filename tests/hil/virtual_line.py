"""A line whose waits pass at once, so that how long a host waits does not depend on how busy this machine is."""

from __future__ import annotations

import time

from hil.transports.base import Transport

READ_S = 0.01  # what a read that brings bytes takes


class VirtualLine:
    """A line and its clock: a read that brings nothing sets the clock on by all that it was to wait.

    ``skip`` begins that; before, line and clock are the real ones, for a far side that answers in its own time.
    """

    def __init__(self, line: Transport) -> None:
        self._line = line
        self._now_s: float | None = None

    def skip(self) -> VirtualLine:
        self._now_s = time.monotonic()
        return self

    def clock(self) -> float:
        return time.monotonic() if self._now_s is None else self._now_s

    def sleep(self, seconds: float) -> None:
        if self._now_s is None:
            time.sleep(seconds)
        else:
            self._now_s += seconds

    @property
    def address(self) -> str:
        return self._line.address

    @property
    def max_payload(self) -> int:
        return self._line.max_payload

    def write(self, data: bytes) -> None:
        self._line.write(data)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        if self._now_s is None:
            return self._line.read(max_bytes, timeout_s)
        data = self._line.read(max_bytes, 0.0)
        self._now_s += READ_S if data else timeout_s
        return data

    def close(self) -> None:
        self._line.close()
