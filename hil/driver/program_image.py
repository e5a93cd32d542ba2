"""A program as the chip can hold it: all its writes in one image, sent once, in pieces that may come again."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from firmware_protocols.codec import encode
from firmware_protocols.extensions.messages import (
    CHUNK,
    ImageBegin,
    ImageChunk,
    ImageCommit,
    ImageState,
    ImageStatus,
    ImageTile,
)
from firmware_protocols.messages import ProgramTile, Reply, Request
from hil.transports.journal import digest_of

MOST_PIECES = 48  # messages of one image; a session has room for so many requests beside those of the run
_HEAD = 64  # more bytes than the fixed part of a piece and its seal
_LENGTH = struct.Struct("<I")
R = TypeVar("R", bound=Reply)


class AskAside(Protocol):
    """Asks a request that is not one of the run (``hil.driver.session.Session.ask_aside``)."""

    def __call__(self, request: Request[R], /) -> R: ...


@dataclass(frozen=True, slots=True)
class ProgramImage:
    """Write-verify requests in one row of bytes, each after its length, and the place of each by its digest."""

    data: bytes
    digest: bytes
    places: dict[bytes, int]

    @classmethod
    def of(cls, requests: Iterable[ProgramTile]) -> ProgramImage:
        parts, places, at = [], {}, 0
        for request in requests:
            message = encode(request)
            places[digest_of(request)] = at
            parts += [_LENGTH.pack(len(message)), message]
            at += _LENGTH.size + len(message)
        data = b"".join(parts)
        return cls(data, hashlib.sha256(data).digest(), places)

    def fits(self, state: ImageState, max_message: int) -> bool:
        """Whether the chip has room for it, in few enough pieces."""
        return 0 < len(self.data) <= state.room and len(self.data) <= MOST_PIECES * _piece(max_message)

    def missing(self, state: ImageState, max_message: int) -> Iterator[ImageChunk]:
        """What the chip does not hold of it, in pieces of whole chunks."""
        most = _piece(max_message) // CHUNK
        waiting = [number for number, there in enumerate(state.received) if not there]
        while waiting:
            first = waiting[0]
            run = [n for place, n in enumerate(waiting[:most]) if n == first + place]
            yield ImageChunk(first * CHUNK, self.data[first * CHUNK : (run[-1] + 1) * CHUNK])
            waiting = waiting[len(run) :]


class SessionImage:
    """The image of one session: brought to the chip before its first write, then named instead of sent."""

    def __init__(self, max_message: int, ask: AskAside) -> None:
        self._max_message, self._ask = max_message, ask
        self._image: ProgramImage | None = None
        self._there = False
        self.pieces = 0  # sent so far

    def offer(self, requests: Iterable[ProgramTile]) -> None:
        """The writes that come next; brought to the chip when the first of them is really asked."""
        self._image, self._there = ProgramImage.of(requests), False

    def instead_of(self, request: Request[Any]) -> Request[Any]:
        """The request that names its place in the image, for a write that is there; else the request itself."""
        if self._image is None or not isinstance(request, ProgramTile):
            return request
        place = self._image.places.get(digest_of(request))
        if place is None or not self._bring():
            return request
        return ImageTile(self._image.digest, place)

    def _bring(self) -> bool:
        """Send what the chip lacks; False: it has no room, and its writes go one by one."""
        image = self._image
        assert image is not None
        if self._there:
            return True
        if not image.fits(self._ask(ImageStatus()), self._max_message):
            self._image = None
            return False
        state = self._ask(ImageBegin(image.digest, len(image.data)))
        for piece in image.missing(state, self._max_message):
            self._ask(piece)
            self.pieces += 1
        if not state.complete:
            self._ask(ImageCommit(image.digest))
        self._there = True
        return True


def _piece(max_message: int) -> int:
    """Bytes of an image in one message: whole chunks."""
    return max(max_message - _HEAD, CHUNK) // CHUNK * CHUNK
