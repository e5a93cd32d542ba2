"""The bytes of every message and kind of frame are locked by files that a C test can read too.

A file has ``name = value`` lines (numbers in decimal, arrays with their shape) and, after the
line ``bytes``, pairs of hex digits to its end; ``#`` starts a comment. A file that is missing
is written once (and the test fails); one that exists is never rewritten: its bytes are frozen.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware_protocols.codec import Op, decode, encode
from firmware_protocols.frames import Flag, Frame, FrameReader, encode_frame
from firmware_protocols.messages import Capability, ErrorCode, Hello

GOLDEN = Path(__file__).parent / "golden"
REQUEST_ID, CHIP_TIME_NS = 0x1234, 0x0102030405060708

HELLO = encode(Hello(0x0100, 0x0100, 512, 16, 0x5EED1234))
FRAMES = {
    "frame_hello": Frame(Flag.RESET | Flag.LAST, 0, 0x1234, 0, 0, 0, HELLO),
    "frame_unknown_session": Frame(Flag.RESET | Flag.ACK, 0, 0x1234, 0, 0, 0, b""),
    "frame_whole_message": Frame(Flag.LAST, 1, 0x1234, 0, 0, 0, encode(Hello(0, 0, 0, 0, 0))),
    "frame_fragment": Frame(0, 2, 0xFFFF, 0xFFFF, 0x8001, 0x80000001, bytes(range(1, 65))),
    "frame_acknowledgement": Frame(Flag.ACK, 0, 0x1234, 9, 7, 0b101, b""),
    "frame_probe": Frame(0, 0, 0x1234, 3, 4, 0, b""),
    "frame_zeros": Frame(Flag.LAST, 1, 1, 1, 0, 0, bytes(64)),
    "frame_long_run": Frame(Flag.LAST, 1, 0x0101, 0x0101, 0x0101, 0x01010101, b"\xff" * 512),
}


def lines(name: str, value: Any) -> Iterator[str]:
    """``name = value`` lines of one field, nested fields with dots; fields of later versions only off their default."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            own = getattr(value, field.name)
            if field.default is dataclasses.MISSING or own != field.default:
                yield from lines(f"{name}.{field.name}" if name else field.name, own)
    elif isinstance(value, np.ndarray):
        yield f"{name}.shape = {' '.join(map(str, value.shape))}"
        yield f"{name} = {' '.join(str(int(v)) for v in value.flat)}"
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        for index, item in enumerate(value):
            yield from lines(f"{name}.{index}", item)
    elif isinstance(value, tuple):
        yield f"{name} = {' '.join(map(str, value))}"
    elif isinstance(value, bytes):
        yield f"{name} = {value.hex()}"
    elif isinstance(value, str):
        yield f"{name} = {value}"
    elif value is None:
        yield f"{name} = none"
    else:
        yield f"{name} = {value if isinstance(value, float) else int(value)}"


def text(head: list[str], data: bytes) -> str:
    rows = [data[at : at + 16].hex(" ") for at in range(0, len(data), 16)]
    return "\n".join([*head, "bytes", *rows]) + "\n"


def check(name: str, expected: str) -> None:
    path = GOLDEN / f"{name}.hex"
    if not path.exists():
        path.write_text(expected, encoding="utf-8")
        pytest.fail(f"{path.name} was missing and has been written: read it, then commit it")
    assert path.read_text(encoding="utf-8") == expected


def golden_bytes(path: Path) -> bytes:
    return bytes.fromhex(path.read_text(encoding="utf-8").split("\nbytes\n")[1])


def test_a_message_has_the_frozen_bytes(sample: tuple[str, Any]) -> None:
    name, message = sample
    data = encode(message, REQUEST_ID, CHIP_TIME_NS)
    head = ["kind = message", f"message = {type(message).__name__}", f"op = {data[0]}", f"request_id = {REQUEST_ID}"]
    if data[0] & 0x80:
        head.append(f"chip_time_ns = {CHIP_TIME_NS}")
    check(name, text([*head, *lines("", message)], data))


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_a_frame_has_the_frozen_bytes(name: str) -> None:
    frame = FRAMES[name]
    data = encode_frame(frame)
    head = ["kind = frame", *(line for key, value in frame._asdict().items() for line in lines(key, value))]
    check(name, text(head, data))
    (read,) = FrameReader().feed(data)
    assert read == frame


def test_every_operation_has_a_vector() -> None:
    found = {golden_bytes(path)[0] for path in GOLDEN.glob("*.hex") if not path.name.startswith("frame_")}
    assert found == {int(op) for op in Op}


def test_frozen_messages_are_read_back(samples: dict[str, Any]) -> None:
    for name, message in samples.items():
        read = decode(golden_bytes(GOLDEN / f"{name}.hex"))
        assert list(lines("", read.message)) == list(lines("", message)), name
        assert read.request_id == REQUEST_ID


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def uncobs(data: bytes) -> bytes:
    out, at = bytearray(), 0
    while at < len(data):
        code = data[at]
        out += data[at + 1 : at + code]
        at += code
        if code < 255 and at < len(data):
            out.append(0)
    return bytes(out)


def test_frames_follow_the_text_of_the_specification() -> None:
    """Read the frozen frames with a decoder written from docs/file-formats.md, without our code."""
    assert crc32c(b"123456789") == 0xE3069283
    for name, frame in FRAMES.items():
        data = golden_bytes(GOLDEN / f"{name}.hex")
        assert (data[0], data[-1], 0 in data[1:-1]) == (0, 0, False)
        raw = uncobs(data[1:-1])
        assert int.from_bytes(raw[-4:], "little") == crc32c(raw[:-4])
        assert raw[0] == 0x10 | frame.flags
        assert raw[1] == frame.channel
        numbers = [int.from_bytes(raw[a:b], "little") for a, b in ((2, 4), (4, 6), (6, 8), (8, 12))]
        assert numbers == [frame.session, frame.sequence, frame.ack, frame.selective]
        assert raw[12:-4] == frame.payload


def test_the_page_lists_every_operation_and_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "file-formats.md").read_text(encoding="utf-8")
    listed = {(name, int(op, 16)) for op, name in re.findall(r"^\| 0x(\w\w) \| (\w+) \|", page, re.MULTILINE)}
    assert listed == {(op.name, int(op)) for op in Op}
    for code in ErrorCode:
        assert f"{int(code)} {code.name}" in page
    for capability in Capability:
        assert f"{capability.value.bit_length() - 1} {capability.name}" in page
