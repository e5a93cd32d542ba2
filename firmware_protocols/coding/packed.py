"""Messages with packed bodies: the header stays, the body is its length and its code (``body_coder``).

Flags of the header: bit 0, the body of this message is packed; bit 1, of requests, its reply may be.
"""

from __future__ import annotations

import numpy as np

from firmware_protocols.errors import MalformedMessage
from firmware_protocols.layouts import layout

PACKED, ANSWER_PACKED = 1, 2
LEAST = 64  # bytes of a body that is worth it
MOST = 1 << 24  # bytes of a body
_HEADER, _TIME, _LENGTH = layout("message"), layout("chip_time"), layout("length")


def asks_packed(message: bytes | memoryview) -> bool:
    """Whether the reply to a request may be packed."""
    return bool(message[1] & ANSWER_PACKED)


def packed(message: bytes) -> bytes:
    """The message with a packed body, or as it is where that is not shorter."""
    from firmware_protocols.coding.body_coder import coded  # numba is large

    start = _start(message)
    body = np.frombuffer(message, np.uint8, offset=start) if len(message) > start else np.zeros(0, np.uint8)
    if len(body) < LEAST:
        return message
    out = np.empty(len(body) - _LENGTH.size - 1, np.uint8)
    size = coded(body, out)
    if size < 0:
        return message
    return _with_flags(message[:start], message[1] | PACKED) + _LENGTH.pack(len(body)) + out[:size].tobytes()


def unpacked(message: bytes | memoryview, most: int = MOST) -> bytes | memoryview:
    """The message with its body as it was; any other message as it is.

    Raises:
        MalformedMessage: the code is not one of a body of that length, or the message would be longer than ``most``.
    """
    if len(message) < _HEADER.size or not message[1] & PACKED:
        return message
    op, flags, request_id = _HEADER.unpack_from(message)
    start = _start(message)
    if len(message) < start + _LENGTH.size:
        raise MalformedMessage("a packed body has a length", op, request_id)
    (length,) = _LENGTH.unpack_from(message, start)
    if start + length > most:
        raise MalformedMessage(f"a packed body of {length} bytes, at most {most} are taken", op, request_id)
    from firmware_protocols.coding.body_coder import decoded  # numba is large

    body = np.empty(length, np.uint8)
    if not decoded(np.frombuffer(message, np.uint8, offset=start + _LENGTH.size), body):
        raise MalformedMessage(f"a packed body is no code of {length} bytes", op, request_id)
    return _with_flags(bytes(message[:start]), flags & ~PACKED) + body.tobytes()


def _start(message: bytes | memoryview) -> int:
    """First byte of the body."""
    return _HEADER.size + (_TIME.size if message[0] & 0x80 else 0)


def _with_flags(message: bytes, flags: int) -> bytes:
    return message[:1] + bytes((flags,)) + message[2:]
