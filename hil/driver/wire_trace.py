"""A wire log as lines for people: one message each, with its time, direction, number and content in short."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from firmware_protocols import codec
from firmware_protocols.errors import ProtocolError
from firmware_protocols.messages import Message, Request
from hil.driver.errors import describe_request, shown
from hil.transports.wire_log import Entry, Recording

MOST_TEXT = 60  # characters of one value


def trace_lines(recording: Recording) -> Iterator[str]:
    """Lines of a recording: "  0.012340 >   17 ReadCells on macro 0, rows 0 to 127  unit_ns 1, reads 4".

    ``>`` goes to the chip, ``<`` comes from it. Of a long request the log keeps only size and digest.
    """
    for entry in recording.entries:
        yield f"{entry.time_s:11.6f} {'>' if entry.sent else '<'} {entry.request_id:5d} {_content(entry)}"
    yield f"ended: {shown(recording.ending)}" if recording.ending else "ended: closed in order"


def _content(entry: Entry) -> str:
    if entry.data is None:
        return f"a message of {entry.size:,} bytes, digest {shown(entry.digest, 16)}"
    try:
        message, _, chip_time_ns = codec.decode(entry.data)
    except ProtocolError as error:
        return f"{entry.size:,} bytes that cannot be read: {shown(str(error))}"
    name = describe_request(message) if isinstance(message, Request) else type(message).__name__
    time = "" if isinstance(message, Request) else f"  chip time {chip_time_ns * 1e-9:.6f} s"
    return "  ".join(part for part in (name, _values(message)) if part) + time


def _values(message: Message) -> str:
    """Fields of a message, each shortened to a few characters."""
    return ", ".join(f"{f.name} {_short(getattr(message, f.name))}" for f in fields(message))  # type: ignore[arg-type]


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        size = " x ".join(map(str, value.shape))
        return f"[{size}] {value.min()} to {value.max()}" if value.size else f"[{size}]"
    if isinstance(value, bytes):
        return value.hex()[:16] + ("…" if len(value) > 8 else "")
    if isinstance(value, tuple) and len(value) > 3:
        return f"{len(value)} of them"
    return shown(str(value), MOST_TEXT)
