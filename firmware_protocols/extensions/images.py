"""The program image of a chip: a row of PROGRAM_TILE messages, each after its length u32, kept without power."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.errors import MalformedMessage
from firmware_protocols.extensions.bodies import chunks_of
from firmware_protocols.extensions.memory import SLOT_HEAD, BoardMemory, SlotRing
from firmware_protocols.extensions.messages import CHUNK, ImageBegin, ImageChunk, ImageState
from firmware_protocols.handlers import Refusal
from firmware_protocols.layouts import layout
from firmware_protocols.messages import ErrorCode

NONE = bytes(32)
_LENGTH = layout("length")
_RING = 2 * (SLOT_HEAD + len(NONE) + _LENGTH.size)  # bytes of the two records that say which image it is


LEAST_SPACE = _RING + 2 + CHUNK


class ImageStore:
    """One image in a memory from ``at`` on: which it is, a mark for each chunk and for the whole, then its bytes.

    A chunk is marked when it has been written, so that what a loss of power cut is sent again.
    """

    def __init__(self, memory: BoardMemory, at: int) -> None:
        self._memory = memory
        self._ring = SlotRing(memory, at, 2, _RING // 2)
        space = len(memory) - at - _RING - 1
        self.room = max(space // (CHUNK + 1), 0) * CHUNK
        self._whole = at + _RING  # the mark of a whole image
        self._marks = self._whole + 1
        self._data = self._marks + chunks_of(self.room)
        self._digest, self._size = NONE, 0
        for record in self._ring.records()[-1:]:
            self._digest, (self._size,) = record[: len(NONE)], _LENGTH.unpack_from(record, len(NONE))

    @property
    def complete(self) -> bool:
        return self._size > 0 and self._memory.read(self._whole, 1) == b"\1"

    def state(self) -> ImageState:
        return ImageState(self._digest, self._size, self.room, self.complete, self._received())

    def begin(self, request: ImageBegin) -> ImageState:
        """Raises ``Refusal`` for an image that does not fit."""
        if not 1 <= request.size <= self.room:
            raise Refusal(ErrorCode.LIMIT, "bytes of a program image", request.size, self.room)
        if (request.digest, request.size) != (self._digest, self._size):
            self._forget()
            self._ring.add(request.digest + _LENGTH.pack(request.size))
            self._digest, self._size = request.digest, request.size
        return self.state()

    def take(self, request: ImageChunk) -> None:
        """Write chunks that are not there yet. Raises ``Refusal`` outside the image."""
        first, end = request.offset // CHUNK, request.offset + len(request.data)
        if end > self._size:
            raise Refusal(ErrorCode.OUT_OF_RANGE, "bytes beyond the program image", end, self._size)
        if request.offset % CHUNK or (end % CHUNK and end != self._size):
            raise Refusal(ErrorCode.OUT_OF_RANGE, "an image comes in whole chunks", request.offset, CHUNK)
        received = self._received()
        for number in range(first, chunks_of(end)):
            if not received[number]:
                piece = request.data[(number - first) * CHUNK : (number - first + 1) * CHUNK]
                self._memory.write(self._data + number * CHUNK, piece)
                self._memory.write(self._marks + number, b"\1")

    def commit(self, digest: bytes) -> None:
        """Raises ``Refusal`` when chunks are missing, or when what is there has another digest: it is forgotten."""
        received = self._received()
        if digest != self._digest or not self._size:
            raise Refusal(ErrorCode.OUT_OF_RANGE, "no image of this digest was begun")
        if not received.all():
            raise Refusal(ErrorCode.OUT_OF_RANGE, "chunks are missing", int(received.sum()), len(received))
        if hashlib.sha256(self._memory.read(self._data, self._size)).digest() != digest:
            self._forget()
            raise Refusal(ErrorCode.MALFORMED, "the image has another digest than it was begun with; send it again")
        self._memory.write(self._whole, b"\1")

    def message(self, digest: bytes, offset: int) -> bytes:
        """The message whose length stands at ``offset``; raises ``Refusal`` when there is none."""
        if digest != self._digest or not self.complete:
            raise Refusal(ErrorCode.OUT_OF_RANGE, "this image is not held")
        if offset + _LENGTH.size > self._size:
            raise Refusal(ErrorCode.OUT_OF_RANGE, "no tile there in the image", offset, self._size)
        (size,) = _LENGTH.unpack(self._memory.read(self._data + offset, _LENGTH.size))
        if size > self._size - offset - _LENGTH.size:
            raise MalformedMessage(f"a tile of {size} bytes at {offset} of an image of {self._size}")
        return self._memory.read(self._data + offset + _LENGTH.size, size)

    def _received(self) -> NDArray[np.bool_]:
        marks = self._memory.read(self._marks, chunks_of(self._size))
        return np.frombuffer(marks, np.uint8).astype(np.bool_)

    def _forget(self) -> None:
        self._memory.write(self._whole, b"\0")
        self._memory.write(self._marks, bytes(chunks_of(self._size)))
