"""What a chip keeps without power: a stretch of bytes, and records in it that are written whole or not at all.

A record lies in a slot, with a number that only grows and a CRC over everything. A new one takes the slot of the
oldest, so that a loss of power at any byte leaves the one before it: two slots are enough.
"""

from __future__ import annotations

import google_crc32c
import numpy as np

from firmware_protocols.errors import LocalProtocolError
from firmware_protocols.layouts import layout

_SLOT = layout("slot")
SLOT_HEAD = _SLOT.size


class SupplyFailed(BaseException):
    """The supply failed while something was written: no code of the chip goes on."""


class BoardPower:
    """Power of a board. Whoever writes what must last calls ``spend`` at each step, and may not return."""

    def __init__(self) -> None:
        self.steps_left: int | None = None  # None: the supply holds

    def lasts(self, steps: int) -> int:
        """How many of the next ``steps`` there is power for."""
        return steps if self.steps_left is None else min(steps, self.steps_left)

    def spend(self, steps: int = 1) -> None:
        """Use power for so many indivisible steps (a slice of cells, a byte of memory).

        Raises ``SupplyFailed`` when there is not enough; the supply holds again afterwards.
        """
        if self.steps_left is None:
            return
        self.steps_left -= steps
        if self.steps_left < 0:
            self.steps_left = None
            raise SupplyFailed


class BoardMemory:
    """Bytes that outlive the power."""

    def __init__(self, size: int, power: BoardPower | None = None) -> None:
        self._bytes = np.zeros(size, np.uint8)
        self.power = BoardPower() if power is None else power

    def __len__(self) -> int:
        return len(self._bytes)

    def read(self, at: int, size: int) -> bytes:
        """Raises ``LocalProtocolError`` beyond the end."""
        self._check(at, size)
        return self._bytes[at : at + size].tobytes()

    def write(self, at: int, data: bytes) -> None:
        """Raises ``SupplyFailed`` when the supply fails on the way: then the first bytes are written, and no more."""
        self._check(at, len(data))
        lasting = self.power.lasts(len(data))
        self._bytes[at : at + lasting] = np.frombuffer(data, np.uint8, lasting)
        self.power.spend(len(data))

    def _check(self, at: int, size: int) -> None:
        if at < 0 or size < 0 or at + size > len(self._bytes):
            raise LocalProtocolError(f"{size} bytes at {at} of a memory of {len(self._bytes)}")


class SlotRing:
    """The last records of one kind, in ``count`` slots of ``size`` bytes each from ``at`` on."""

    def __init__(self, memory: BoardMemory, at: int, count: int, size: int) -> None:
        if count < 2 or size <= SLOT_HEAD:
            raise LocalProtocolError(f"{count} slots of {size} bytes keep nothing")
        self._memory, self._at, self._count, self._size = memory, at, count, size
        found = sorted((number, slot) for slot in range(count) if (number := self._number(slot)))
        self._order = [slot for _, slot in found]
        self._last = found[-1][0] if found else 0

    @property
    def room(self) -> int:
        """Longest record, bytes."""
        return self._size - SLOT_HEAD

    @property
    def depth(self) -> int:
        """Number of records that are stored at any time, whenever the power fails."""
        return self._count - 1

    def records(self) -> list[bytes]:
        """Whole records, oldest first."""
        return [self._memory.read(self._place(slot) + SLOT_HEAD, self._head(slot)[1]) for slot in self._order]

    def add(self, record: bytes) -> None:
        """Keep a record in place of the oldest. Raises ``LocalProtocolError`` when it is longer than ``room``."""
        if len(record) > self.room:
            raise LocalProtocolError(f"a record of {len(record)} bytes, a slot has {self.room}")
        free = [slot for slot in range(self._count) if slot not in self._order]
        slot = free[0] if free else self._order.pop(0)
        self._last += 1
        head = _SLOT.pack(self._last, len(record), _check(self._last, record))
        self._memory.write(self._place(slot), head + record)
        self._order.append(slot)

    def _place(self, slot: int) -> int:
        return self._at + slot * self._size

    def _head(self, slot: int) -> tuple[int, int, int]:
        number, size, check = _SLOT.unpack(self._memory.read(self._place(slot), SLOT_HEAD))
        return number, size, check

    def _number(self, slot: int) -> int:
        """Number of the record in a slot; 0: none, or one that was not finished."""
        number, size, check = self._head(slot)
        if size > self.room:
            return 0
        good = check == _check(number, self._memory.read(self._place(slot) + SLOT_HEAD, size))
        return number if good else 0


def _check(number: int, record: bytes) -> int:
    """CRC-32C over number, size and record."""
    head = _SLOT.pack(number, len(record), 0)[:8]
    return int(google_crc32c.extend(google_crc32c.value(head), record))
