"""Fields of a message body: fixed structs, short texts and packed arrays, with every size checked first.

Integer arrays carry one *item* byte (low nibble: bytes per element, bit 7: signed), then the
elements in row-major order, little-endian, in the smallest item that holds them all.
Booleans are bits, first element in bit 0. A body may end in optional fields, each
type u8, length u16, value; unknown types are skipped.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.errors import LocalProtocolError, MalformedMessage

Scalar = TypeVar("Scalar", bound=np.generic)

SIGNED = 0x80
_ITEMS = {1: "<u1", 2: "<u2", 4: "<u4", 0x81: "<i1", 0x82: "<i2", 0x84: "<i4", 0x88: "<i8"}
_BY_NEED = tuple((item, np.iinfo(_ITEMS[item])) for item in (1, 0x81, 2, 0x82, 4, 0x84, 0x88))
_OPTION = struct.Struct("<BH")


class BodyWriter:
    """Collects the parts of one message."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []

    def fields(self, layout: struct.Struct, *values: Any) -> None:
        try:
            self._parts.append(layout.pack(*values))
        except struct.error as error:
            raise LocalProtocolError(f"a field is out of range: {error} (values {values})") from error

    def text(self, text: str) -> None:
        data = text.encode()
        if len(data) > 0xFFFF:
            raise LocalProtocolError(f"a text has {len(data)} bytes, at most 65535 can be sent")
        self._parts += (len(data).to_bytes(2, "little"), data)

    def digest(self, digest: bytes) -> None:
        self.raw(digest, 32)

    def raw(self, data: bytes, size: int) -> None:
        """Bytes as they are; their number stands elsewhere, or is fixed."""
        if len(data) != size:
            raise LocalProtocolError(f"{len(data)} bytes stand where {size} belong")
        self._parts.append(data)

    def ints(self, values: NDArray[np.integer], shape: tuple[int, ...], dtype: type[np.integer]) -> None:
        """An integer array that the far side unpacks as ``dtype``, in the smallest item that holds it."""
        _check_shape(values, shape)
        if values.dtype.kind not in "iu":
            raise LocalProtocolError(f"an integer array is needed, not {values.dtype}")
        low, high = int(values.min()), int(values.max())
        fits = (code for code, info in _BY_NEED if info.min <= low and high <= info.max)
        item = next((code for code in fits if np.can_cast(_ITEMS[code], dtype)), None)
        if item is None:
            raise LocalProtocolError(f"array values {low}..{high} do not fit {np.dtype(dtype)}")
        self._parts += (bytes((item,)), _data(values, _ITEMS[item]))

    def counts(self, values: NDArray[np.uint16], shape: tuple[int, ...]) -> None:
        """Unsigned 16-bit counts, no item byte."""
        _check_shape(values, shape)
        if values.dtype != np.uint16:
            raise LocalProtocolError(f"counts are uint16, not {values.dtype}")
        self._parts.append(_data(values, "<u2"))

    def bits(self, values: NDArray[np.bool_], shape: tuple[int, ...]) -> None:
        _check_shape(values, shape)
        if values.dtype != np.bool_:
            raise LocalProtocolError(f"flags are bool, not {values.dtype}")
        self._parts.append(_data(np.packbits(values, axis=None, bitorder="little"), "u1"))

    def join(self) -> bytes:
        return b"".join(self._parts)


class BodyReader:
    """Takes fields from one message; raises ``MalformedMessage`` before reading or allocating beyond it."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._view = memoryview(data)
        self._at = 0

    def _take(self, size: int, what: str) -> memoryview:
        left = len(self._view) - self._at
        if size > left:
            raise MalformedMessage(f"{what} needs {size} bytes, {left} are left")
        start, self._at = self._at, self._at + size
        return self._view[start : self._at]

    def fields(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self._take(layout.size, "the fixed part"))

    def text(self) -> str:
        size = int.from_bytes(self._take(2, "a text"), "little")
        try:
            return str(self._take(size, "a text"), "utf-8")
        except UnicodeDecodeError as error:
            raise MalformedMessage(f"a text is not UTF-8: {error.reason}") from error

    def digest(self) -> bytes:
        return bytes(self._take(32, "a digest"))

    def raw(self, size: int) -> bytes:
        return bytes(self._take(size, "bytes"))

    def ints(self, shape: tuple[int, ...], dtype: type[Scalar]) -> NDArray[Scalar]:
        item = self._take(1, "an item size")[0]
        wire = _ITEMS.get(item)
        if wire is None or not np.can_cast(wire, dtype):
            raise MalformedMessage(f"item 0x{item:02X} is not one for {np.dtype(dtype)} values")
        return self._array(shape, wire).astype(dtype, copy=False)

    def counts(self, shape: tuple[int, ...]) -> NDArray[np.uint16]:
        return self._array(shape, "<u2").astype(np.uint16, copy=False)

    def bits(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        count = _size(shape)
        packed = np.frombuffer(self._take((count + 7) // 8, "a bit array"), dtype=np.uint8)
        return np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_).reshape(shape)

    def _array(self, shape: tuple[int, ...], wire: str) -> NDArray[Any]:
        size = _size(shape) * np.dtype(wire).itemsize
        return np.frombuffer(self._take(size, f"an array of {shape}"), dtype=wire).reshape(shape)

    def skip_options(self) -> None:
        """Pass over optional fields, all unknown so far; what is left must be well-formed."""
        while self._at < len(self._view):
            _, size = _OPTION.unpack(self._take(_OPTION.size, "an optional field"))
            self._take(size, "an optional field")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        if length < 1:
            raise MalformedMessage(f"an array has shape {shape}: every length must be at least 1")
        size *= length
    return size


def _check_shape(values: NDArray[Any], shape: tuple[int, ...]) -> None:
    if values.shape != shape or values.size == 0:
        raise LocalProtocolError(f"an array has shape {values.shape}, the message says {shape} (no length may be 0)")


def _data(values: NDArray[Any], wire: str) -> memoryview:
    return np.ascontiguousarray(values, dtype=wire).reshape(-1).view(np.uint8).data
