"""A program as one image in the chip's memory: all its writes, sent once in pieces, any of which may be repeated."""

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
    """Sends a request that is not part of the run (``hil.driver.session.Session.ask_aside``)."""

    def __call__(self, request: Request[R], /) -> R: ...


@dataclass(frozen=True, slots=True)
class ProgramImage:
    """Write-verify requests joined to one sequence of bytes, each with its length, and their offsets by digest."""

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
        """Whether the chip's memory holds the image, and few enough messages carry it."""
        return 0 < len(self.data) <= state.room and len(self.data) <= MOST_PIECES * _piece(max_message)

    def missing(self, state: ImageState, max_message: int) -> Iterator[ImageChunk]:
        """Pieces of the image, in whole chunks, that the chip has not received yet."""
        most = _piece(max_message) // CHUNK
        waiting = [number for number, there in enumerate(state.received) if not there]
        while waiting:
            first = waiting[0]
            run = [n for place, n in enumerate(waiting[:most]) if n == first + place]
            yield ImageChunk(first * CHUNK, self.data[first * CHUNK : (run[-1] + 1) * CHUNK])
            waiting = waiting[len(run) :]


class SessionImage:
    """The image of one session: sent to the chip before its first write; later writes only name an offset in it."""

    def __init__(self, max_message: int, ask: AskAside) -> None:
        self._max_message, self._ask = max_message, ask
        self._image: ProgramImage | None = None
        self._there = False
        self.pieces = 0  # sent so far

    def offer(self, requests: Iterable[ProgramTile]) -> None:
        """Announce the next writes; they are sent as one image when the first of them is requested."""
        self._image, self._there = ProgramImage.of(requests), False

    def instead_of(self, request: Request[Any]) -> Request[Any]:
        """A request that names the write's offset in the chip's image; for any other request, the request itself."""
        if self._image is None or not isinstance(request, ProgramTile):
            return request
        place = self._image.places.get(digest_of(request))
        if place is None or not self._bring():
            return request
        return ImageTile(self._image.digest, place)

    def _bring(self) -> bool:
        """Send the missing chunks; False: the chip has no room for the image, and writes go one by one."""
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
    """Bytes of an image that one message carries: whole chunks."""
    return max(max_message - _HEAD, CHUNK) // CHUNK * CHUNK
