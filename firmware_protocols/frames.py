"""Frames: ``00 | COBS(header 12 | payload 0..N | CRC-32C 4) | 00``, little-endian (docs/file-formats.md).

>>> reader = FrameReader()
>>> frame = Frame(Flag.LAST, channel=1, session=7, sequence=0, ack=0, selective=0, payload=b"hello")
>>> [f.payload for f in reader.feed(b"noise" + encode_frame(frame))]
[b'hello']
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

import google_crc32c
from cobs import cobs

from firmware_protocols.errors import LinkCounters
from firmware_protocols.layouts import layout

FRAME_MAJOR = 1  # of this header layout
HEADER = layout("frame")
CRC = struct.Struct("<I")
OVERHEAD = HEADER.size + CRC.size
MIN_PAYLOAD, DEFAULT_PAYLOAD, MAX_PAYLOAD = 64, 512, 4096  # limits and default of the negotiated size, bytes


class Flag(enum.IntFlag):
    RESET = 1  # hello, its answer, or the hint that a session is unknown; not numbered
    ACK = 2  # acknowledgement only; not numbered
    LAST = 4  # this payload ends a message
    AUTH = 8  # reserved: an authority trailer follows the payload


RESET_BIT, ACK_BIT, LAST_BIT, AUTH_BIT = (flag.value for flag in Flag)  # plain integers, for what is done per frame


class Frame(NamedTuple):
    """One frame. ``ack`` is the next sequence number expected; bit i of ``selective`` says ``ack + 1 + i`` is held."""

    flags: int
    channel: int
    session: int
    sequence: int
    ack: int
    selective: int
    payload: bytes | memoryview
    major: int = FRAME_MAJOR


def encode_frame(frame: Frame) -> bytes:
    """The bytes of one frame, both zero delimiters included."""
    flags, channel, session, sequence, ack, selective, payload, major = frame
    body = HEADER.pack(major << 4 | flags, channel, session, sequence, ack, selective) + payload
    encoded: bytes = cobs.encode(body + CRC.pack(google_crc32c.value(body)))
    return b"\0" + encoded + b"\0"


def encoded_size(payload: int) -> int:
    """Largest number of bytes on the wire of a frame with ``payload`` bytes, delimiters included."""
    raw = payload + OVERHEAD
    return raw + raw // 254 + 3


class FrameReader:
    """Finds frames in any bytes; drops and counts all else, holds at most one frame's worth of bytes."""

    def __init__(self, max_payload: int = MAX_PAYLOAD, counters: LinkCounters | None = None) -> None:
        self.counters = LinkCounters() if counters is None else counters
        self._longest = encoded_size(max_payload) - 2
        self._max_payload = max_payload
        self._open = bytearray()  # since the last zero byte
        self._lost = 0  # bytes dropped of a frame too long to be one, 0 = reading

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes, however cut; give the frames that they complete. Never raises."""
        self.counters.bytes_received += len(data)
        pieces = bytes(data).split(b"\0")
        last = pieces.pop()
        frames = []
        for piece in pieces:
            if self._open or self._lost:
                self._keep(piece)
                lost, piece = self._lost, bytes(self._open)
                self._open.clear()
                self._lost = 0
                if lost:
                    self._drop("bad_length", lost)
                    continue
            if piece:
                frame, why = self._decode(piece)
                if frame is None:
                    self._drop(why, len(piece))
                else:
                    frames.append(frame)
        self._keep(last)
        return frames

    def _keep(self, piece: bytes) -> None:
        if self._lost or len(self._open) + len(piece) > self._longest:
            self._lost += len(self._open) + len(piece)
            self._open.clear()
        else:
            self._open += piece

    def _decode(self, piece: bytes) -> tuple[Frame | None, str]:
        """The frame between two delimiters, or None and the counter of what is wrong with it."""
        if len(piece) > self._longest:
            return None, "bad_length"
        try:
            raw: bytes = cobs.decode(piece)
        except cobs.DecodeError:
            return None, "bad_cobs"
        size = len(raw) - OVERHEAD
        if not 0 <= size <= self._max_payload:
            return None, "bad_length"
        if CRC.unpack_from(raw, size + HEADER.size)[0] != google_crc32c.value(raw[: -CRC.size]):
            return None, "bad_crc"
        first, channel, session, sequence, ack, selective = HEADER.unpack_from(raw)
        flags, major = first & 15, first >> 4
        if flags & AUTH_BIT or (major != FRAME_MAJOR and not flags & RESET_BIT):
            return None, "bad_version"
        self.counters.frames_received += 1
        return Frame(flags, channel, session, sequence, ack, selective, raw[HEADER.size : -CRC.size], major), ""

    def _drop(self, why: str, size: int) -> None:
        setattr(self.counters, why, getattr(self.counters, why) + 1)
        self.counters.bytes_discarded += size
