"""ArC TWO through its maker's library: lines of calls in, their answers out.

A line is one call or several, ``;`` between them: a method of ``pyarc2.Instrument`` and its arguments, numbers or runs
of channels ``FIRST:COUNT``. The last one's answer, if it has one, is a line: numbers with commas between them, channels
that were not asked for left out. ``identity`` names the library and the address.
"""

from __future__ import annotations

from collections import deque
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from hil.errors import PortError, UsageError
from hil.transports.base import CLEAN_PAYLOAD, Transport, lost

_BETWEEN = ";"


def open_arc_two(rest: str, *, baud: int, timeout_s: float) -> Transport:
    """The instrument of ``arc2:ID?firmware=PATH``; ID is a number of ``pyarc2.find_ids``."""
    number, _, query = rest.partition("?")
    values = dict(parse_qsl(query))
    if not number.isdecimal() or set(values) != {"firmware"}:
        raise PortError(f"arc2:{rest} names no instrument", hint="arc2:0?firmware=efm03.bin, or a number of find_ids()")
    try:
        import pyarc2
    except ImportError as error:
        raise PortError(f"ArC TWO needs pyarc2, which is not installed ({error})", hint="pip install pyarc2") from error
    try:
        instrument = pyarc2.Instrument(int(number), values["firmware"])
    except Exception as error:  # of the library, or of the USB below it
        raise PortError(f"cannot open arc2:{rest}: {error}", where=f"arc2:{rest}", hint="pyarc2.find_ids()") from error
    return ArcTwoCalls(f"arc2:{rest}", instrument)


class ArcTwoCalls:
    """One ArC TWO as a line: an order is a call of its library, an answer what the call gives."""

    max_payload = CLEAN_PAYLOAD

    def __init__(self, address: str, instrument: Any) -> None:
        self.address, self._instrument = address, instrument
        self._pending, self._answers = bytearray(), deque[bytes]()

    def write(self, data: bytes) -> None:
        *lines, rest = (self._pending + data).split(b"\n")
        self._pending = bytearray(rest)
        for line in lines:
            try:
                answer = self._call(line.decode("ascii"))
            except UsageError:
                raise
            except Exception as error:
                raise lost(self.address, error) from error
            if answer is not None:
                self._answers.append(answer.encode() + b"\n")

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        return self._answers.popleft() if self._answers else b""

    def close(self) -> None:
        self._instrument = None  # the library gives the instrument free with its object

    def _call(self, line: str) -> str | None:
        answer: Any = None
        for call in line.split(_BETWEEN):
            name, *arguments = call.split()
            if name == "identity":
                answer = f"ArC TWO, pyarc2, {self.address}"
            else:
                answer = _method(self._instrument, name)(*map(_argument, arguments))
        return _answered(answer)


def _method(instrument: Any, name: str) -> Any:
    if name.startswith("_") or not callable(found := getattr(instrument, name, None)):
        raise UsageError(f"{name!r:.60} is no call of pyarc2.Instrument", hint="help(pyarc2.Instrument)")
    return found


def _argument(text: str) -> Any:
    if ":" in text:
        first, count = map(int, text.split(":"))
        return np.arange(first, first + count, dtype=np.uint64)
    return int(text) if text.isdecimal() else float(text)


def _answered(answer: Any) -> str | None:
    """Answer of a call of the library as text; None for calls that give back the instrument, whose work has only
    begun."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, bool | int | float | np.ndarray):
        numbers = np.atleast_1d(np.asarray(answer, np.float64))
        return ",".join(f"{x:.9g}" for x in numbers[~np.isnan(numbers)])
    return None
