"""Somebody in the line who changes what the chip says, with a right CRC and without a key."""

from __future__ import annotations

from collections.abc import Callable

from firmware_protocols.frames import Flag, Frame, FrameReader, encode_frame
from hil.transports.base import Transport

Forge = Callable[[bytes], bytes]
"""A whole message of the chip -> what the host gets in its place."""


class ForgingLine:
    """A transport whose replies of one frame pass through ``forge``."""

    def __init__(self, inner: Transport, forge: Forge) -> None:
        self._inner, self._forge = inner, forge
        self._reader = FrameReader()
        self._open: set[int] = set()  # channels in the middle of a longer message
        self.address = inner.address

    @property
    def max_payload(self) -> int:
        return self._inner.max_payload

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        frames = self._reader.feed(self._inner.read(max_bytes, timeout_s))
        return b"".join(encode_frame(self._changed(frame)) for frame in frames)

    def close(self) -> None:
        self._inner.close()

    def _changed(self, frame: Frame) -> Frame:
        if frame.flags & Flag.ACK or not frame.payload:
            return frame
        last, begun = frame.flags & Flag.LAST, frame.channel in self._open
        (self._open.discard if last else self._open.add)(frame.channel)
        return frame._replace(payload=self._forge(bytes(frame.payload))) if last and not begun else frame
