"""What an instrument has sent: bytes, lines and blocks, taken off its line one answer after the other."""

from __future__ import annotations

import time

from hil.server.bench.bench_file import InstrumentEntry
from hil.server.bench.faults import InstrumentFault, InstrumentSilent
from hil.transports.base import CHUNK, Transport

_END_OF_TEXT = b"\n"  # of a text that a board of words answers
_QUIET_S = 0.1  # after which nothing more of a broken exchange comes
_LOOK_S = 0.25


class Inbox:
    """Answers of one instrument. ``what`` is the order that is to be answered, for the errors.

    Every verb raises ``InstrumentSilent``: nothing, or half of an answer, within the time-out of the model.
    """

    def __init__(self, entry: InstrumentEntry, line: Transport) -> None:
        self._entry, self._link, self._line = entry, entry.model.link, line
        self._pending = bytearray()

    def clear(self) -> None:
        self._pending.clear()

    def wait_for_quiet(self) -> None:
        """Drop what comes until nothing comes any more; raises ``InstrumentFault`` where it does not end."""
        until_s = time.monotonic() + self._link.timeout_s
        while self._line.read(CHUNK, _QUIET_S):
            if time.monotonic() > until_s:
                raise InstrumentFault(
                    f"{self._entry.name} ({self._entry.model.name}) does not stop to send", where=self._entry.port
                )

    def take(self, size: int, what: str) -> bytes:
        deadline = time.monotonic() + self._link.timeout_s
        while len(self._pending) < size:
            self._more(deadline, size, what)
        data = bytes(self._pending[:size])
        del self._pending[:size]
        return data

    def line(self, what: str) -> bytes:
        """Up to the end of a line, without it."""
        end = _END_OF_TEXT if self._link.words else self._link.end
        deadline = time.monotonic() + self._link.timeout_s
        while (at := self._pending.find(end)) < 0:
            self._more(deadline, len(self._pending) + 1, what)
        data = bytes(self._pending[:at])
        del self._pending[: at + len(end)]
        return data

    def block(self, what: str, size: int) -> bytes:
        """A block of IEEE 488.2, of ``size`` bytes where it says no length; raises ``ValueError``: it is none."""
        head = self.take(2, what)
        if head[:1] != b"#" or not head[1:].isdigit():
            raise ValueError(f"{head!r} where a block begins")
        data = self.take(size if head == b"#0" else int(self.take(int(head[1:]), what)), what)
        self.line(what)
        return data

    def _more(self, deadline: float, size: int, what: str) -> None:
        data = self._line.read(max(CHUNK, size), max(0.0, min(_LOOK_S, deadline - time.monotonic())))
        self._pending += data
        if not data and time.monotonic() >= deadline:
            raise InstrumentSilent(
                f"{self._entry.name} ({self._entry.model.name}) does not answer {what} within "
                f"{self._link.timeout_s:g} s: {len(self._pending)} bytes of {size}",
                where=self._entry.port,
                likely="off or busy, another rate of the line, or it answers in another form than its model says",
                hint="hil bench check FILE.toml",
            )
