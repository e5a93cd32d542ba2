"""The journal of a chip: its last answers to requests that changed something, kept without power.

A host that comes back with its nonce and repeats a request under its old id is answered from here, so that nothing
is written twice: not after a reset, a loss of power, or the end of the host's process.
"""

from __future__ import annotations

from firmware_protocols.extensions.memory import BoardMemory, SlotRing
from firmware_protocols.extensions.messages import ImageTile, JournalEntry, JournalState
from firmware_protocols.layouts import layout
from firmware_protocols.messages import HoldProgram, ProgramTile, Pulse, Wait

JOURNALLED = (ProgramTile, ImageTile, Pulse, Wait, HoldProgram)
_ENTRY = layout("journal_entry")
_HEAD, _TIME = layout("message"), layout("chip_time")


class ChipJournal:
    """Answers by nonce and request id, in ``slots`` slots of ``slot_size`` bytes from ``at`` on."""

    def __init__(self, memory: BoardMemory, at: int, slots: int, slot_size: int) -> None:
        self._ring = SlotRing(memory, at, slots, slot_size)

    @property
    def depth(self) -> int:
        return self._ring.depth

    @property
    def last_time_ns(self) -> int:
        """Chip time of the last answer; 0: there is none."""
        last = self._ring.records()[-1:]
        return int(_TIME.unpack_from(last[0], _ENTRY.size + _HEAD.size)[0]) if last else 0

    def add(self, nonce: int, request_id: int, op: int, reply: bytes) -> bool:
        """Keep an answer, ended when this returns; False: it is longer than a slot, and not kept."""
        if len(reply) + _ENTRY.size > self._ring.room:
            return False
        self._ring.add(_ENTRY.pack(nonce, request_id, op) + reply)
        return True

    def answers_to(self, nonce: int) -> dict[int, bytes]:
        """Answers to the host of this nonce by request id, oldest first."""
        found: dict[int, bytes] = {}
        for record in self._ring.records():
            its, request_id, _ = _ENTRY.unpack_from(record)
            if its == nonce:
                found.pop(request_id, None)
                found[request_id] = record[_ENTRY.size :]
        return found

    def state(self) -> JournalState:
        entries = tuple(JournalEntry(*_ENTRY.unpack_from(record)) for record in self._ring.records())
        return JournalState(self.depth, entries)
