"""Bodies of the messages of version 1.1, one writer and one reader each; their fields are in docs/file-formats.md."""

from __future__ import annotations

import numpy as np

from firmware_protocols.errors import MalformedMessage
from firmware_protocols.extensions.messages import (
    CHUNK,
    NONCE_BYTES,
    PROOF_BYTES,
    Authorise,
    Challenged,
    ImageBegin,
    ImageChunk,
    ImageCommit,
    ImageState,
    ImageTile,
    JournalEntry,
    JournalState,
    Level,
)
from firmware_protocols.layouts import layout
from firmware_protocols.packing import BodyReader, BodyWriter

_SIZE = layout("length")
_IMAGE = layout("image_state")
_JOURNAL = layout("journal_state")
_ENTRY = layout("journal_entry")
_CHALLENGED = layout("challenged")
_AUTHORISE = layout("authorise")


def chunks_of(size: int) -> int:
    """Chunks of an image of so many bytes."""
    return -(-size // CHUNK)


def write_image_begin(w: BodyWriter, m: ImageBegin) -> None:
    w.digest(m.digest)
    w.fields(_SIZE, m.size)


def read_image_begin(r: BodyReader) -> ImageBegin:
    return ImageBegin(r.digest(), *r.fields(_SIZE))


def write_image_chunk(w: BodyWriter, m: ImageChunk) -> None:
    w.fields(_SIZE, m.offset)
    w.fields(_SIZE, len(m.data))
    w.raw(m.data, len(m.data))


def read_image_chunk(r: BodyReader) -> ImageChunk:
    (offset,), (size,) = r.fields(_SIZE), r.fields(_SIZE)
    if not size:
        raise MalformedMessage("a piece of an image holds no byte")
    return ImageChunk(offset, r.raw(size))


def write_image_commit(w: BodyWriter, m: ImageCommit) -> None:
    w.digest(m.digest)


def read_image_commit(r: BodyReader) -> ImageCommit:
    return ImageCommit(r.digest())


def write_image_tile(w: BodyWriter, m: ImageTile) -> None:
    w.digest(m.digest)
    w.fields(_SIZE, m.offset)


def read_image_tile(r: BodyReader) -> ImageTile:
    return ImageTile(r.digest(), *r.fields(_SIZE))


def write_image_state(w: BodyWriter, m: ImageState) -> None:
    w.digest(m.digest)
    w.fields(_IMAGE, m.size, m.room, m.complete)
    if m.size:
        w.bits(m.received, (chunks_of(m.size),))


def read_image_state(r: BodyReader) -> ImageState:
    digest = r.digest()
    size, room, complete = r.fields(_IMAGE)
    received = r.bits((chunks_of(size),)) if size else np.zeros(0, np.bool_)
    return ImageState(digest, size, room, bool(complete), received)


def write_journal_state(w: BodyWriter, m: JournalState) -> None:
    w.fields(_JOURNAL, m.depth, len(m.entries))
    for entry in m.entries:
        w.fields(_ENTRY, entry.nonce, entry.request_id, entry.op)


def read_journal_state(r: BodyReader) -> JournalState:
    depth, count = r.fields(_JOURNAL)
    return JournalState(depth, tuple(JournalEntry(*r.fields(_ENTRY)) for _ in range(count)))


def write_challenged(w: BodyWriter, m: Challenged) -> None:
    w.raw(m.nonce, NONCE_BYTES)
    w.fields(_CHALLENGED, m.counter, m.level, m.tries)


def read_challenged(r: BodyReader) -> Challenged:
    nonce = r.raw(NONCE_BYTES)
    counter, level, tries = r.fields(_CHALLENGED)
    return Challenged(nonce, counter, Level(level), tries)


def write_authorise(w: BodyWriter, m: Authorise) -> None:
    w.fields(_AUTHORISE, m.level)
    w.raw(m.proof, PROOF_BYTES)


def read_authorise(r: BodyReader) -> Authorise:
    (level,) = r.fields(_AUTHORISE)
    return Authorise(Level(level), r.raw(PROOF_BYTES))
