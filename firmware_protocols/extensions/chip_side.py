"""What version 1.1 adds to the chip role: the memory of a board, divided, and the requests about it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from firmware_protocols.extensions.authority import RECORD_SPACE, ChipAuthority
from firmware_protocols.extensions.images import LEAST_SPACE, ImageStore
from firmware_protocols.extensions.journal import ChipJournal
from firmware_protocols.extensions.memory import BoardMemory
from firmware_protocols.extensions.messages import (
    AskJournal,
    Authorise,
    Challenge,
    DropAuthority,
    ImageBegin,
    ImageChunk,
    ImageCommit,
    ImageStatus,
)
from firmware_protocols.messages import Capability, Done, Reply, Request

OWN = Capability.JOURNAL | Capability.IMAGES | Capability.AUTHORITY | Capability.PACKED  # of the chip role itself


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a board keeps without power: a memory, its share for the journal, and perhaps a key of 32 bytes.

    ``slots`` is at least 2; with one more than the replies that a chip remembers, a host never waits for it. The rest
    of the memory holds a program image. ``epoch`` is asked at each start for a number (u64) that was never given
    before, whatever becomes of the memory: a random one, or a counter beside the key.
    """

    memory: BoardMemory
    slots: int
    slot_size: int  # bytes
    key: bytes | None = None
    epoch: Callable[[], int] = lambda: secrets.randbits(64)


@runtime_checkable
class KeepsWithoutPower(Protocol):
    """A chip that brings its own memory."""

    @property
    def keeping(self) -> Keeping | None: ...


def keeping_of(handlers: object) -> Keeping | None:
    """What a chip keeps without power, where it brings something to keep it in."""
    return handlers.keeping if isinstance(handlers, KeepsWithoutPower) else None


class Extras:
    """Journal, images and authority over what a board keeps; None: it has none of them."""

    def __init__(self, keeping: Keeping | None) -> None:
        self.journal: ChipJournal | None = None
        self.images: ImageStore | None = None
        self.authority: ChipAuthority | None = None
        if keeping is None:
            return
        journal_end = RECORD_SPACE + keeping.slots * keeping.slot_size
        self.journal = ChipJournal(keeping.memory, RECORD_SPACE, keeping.slots, keeping.slot_size)
        if len(keeping.memory) - journal_end >= LEAST_SPACE:
            self.images = ImageStore(keeping.memory, journal_end)
        if keeping.key is not None:
            self.authority = ChipAuthority(keeping.key, keeping.memory, 0, keeping.epoch())

    @property
    def last_time_ns(self) -> int:
        """Chip time of the last entry of the journal; 0: there is none."""
        return self.journal.last_time_ns if self.journal is not None else 0

    @property
    def capabilities(self) -> Capability:
        has = (self.journal, self.images, self.authority)
        bits = (Capability.JOURNAL, Capability.IMAGES, Capability.AUTHORITY)
        return Capability(sum(bit for bit, part in zip(bits, has, strict=True) if part is not None))

    def answer(self, request: Request[Any], host: int, now_s: float) -> Reply | None:
        """The reply to a request of version 1.1; None: it is not one. Raises ``Refusal``."""
        match request:
            case AskJournal() if self.journal:
                return self.journal.state()
            case ImageBegin() if self.images:
                return self.images.begin(request)
            case ImageStatus() if self.images:
                return self.images.state()
            case ImageChunk() if self.images:
                self.images.take(request)
            case ImageCommit() if self.images:
                self.images.commit(request.digest)
            case Challenge() if self.authority:
                return self.authority.challenge()
            case Authorise() if self.authority:
                self.authority.authorise(request, host, now_s)
            case DropAuthority() if self.authority:
                self.authority.drop()
            case _:
                return None
        return Done()
