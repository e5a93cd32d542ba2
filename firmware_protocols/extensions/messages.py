"""Messages of version 1.1: program images, the journal of the chip, and who may do what (docs/file-formats.md)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.messages import Done, Reply, Request, TileProgrammed

CHUNK = 1024  # bytes of an image that are told apart
NONCE_BYTES, PROOF_BYTES = 16, 32


class Level(enum.IntEnum):
    """Levels of requests that a host may send; each includes those below it."""

    OBSERVE = 0  # describe, status
    RUN = 1  # reads, products, layers, waiting
    PROGRAM = 2  # write-verify, images, resets
    SERVICE = 3  # single pulses of any allowed voltage


# --- replies ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageState(Reply):
    """The image that the chip holds or takes; ``received``: bool of each ``CHUNK`` bytes, empty without an image."""

    digest: bytes  # SHA-256, zeros: none
    size: int  # bytes
    room: int  # longest image that the chip takes, bytes
    complete: bool  # all of it is there and has this digest
    received: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A request that the chip finished: whose it was (nonce of the host), its id, its operation."""

    nonce: int
    request_id: int
    op: int


@dataclass(frozen=True, slots=True)
class JournalState(Reply):
    """Entries of the journal, oldest first; ``depth``: so many last answers outlive a loss of power."""

    depth: int
    entries: tuple[JournalEntry, ...]


@dataclass(frozen=True, slots=True)
class Challenged(Reply):
    """What an ``Authorise`` must prove the key on; ``counter``: the last one taken of a sealed message."""

    nonce: bytes  # 16 bytes, never given twice
    counter: int
    level: Level  # held now
    tries: int  # wrong proofs left before the chip locks itself


# --- requests ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageBegin(Request[ImageState]):
    """Take an image of this digest and size; what is there of the same one stays, another is forgotten."""

    reply_class = ImageState

    digest: bytes
    size: int


@dataclass(frozen=True, slots=True)
class ImageChunk(Request[Done]):
    """Bytes of the image from ``offset`` on, a multiple of ``CHUNK``; whole chunks, or up to the image's end."""

    reply_class = Done

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ImageStatus(Request[ImageState]):
    """Ask for an ``ImageState``."""

    reply_class = ImageState


@dataclass(frozen=True, slots=True)
class ImageCommit(Request[Done]):
    """All of it was sent: compare the digest. An image with another one is refused and forgotten."""

    reply_class = Done

    digest: bytes


@dataclass(frozen=True, slots=True)
class ImageTile(Request[TileProgrammed]):
    """Carry out the PROGRAM_TILE at ``offset`` of the image of this digest."""

    reply_class = TileProgrammed

    digest: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class AskJournal(Request[JournalState]):
    """Ask for a ``JournalState``."""

    reply_class = JournalState


@dataclass(frozen=True, slots=True)
class Challenge(Request[Challenged]):
    """Ask for a nonce to prove the key on."""

    reply_class = Challenged


@dataclass(frozen=True, slots=True)
class Authorise(Request[Done]):
    """Prove the key and take a level, until the session's host changes or the chip restarts."""

    reply_class = Done

    level: Level
    proof: bytes  # 32 bytes


@dataclass(frozen=True, slots=True)
class DropAuthority(Request[Done]):
    """Drop the granted level: only requests that need no key remain."""

    reply_class = Done
