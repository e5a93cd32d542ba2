"""B1530A through its maker's library (``wgfmu.dll``, Windows): lines of calls in, their status and results out.

A line is one call: a function of the library without ``WGFMU_``, and its arguments. Its answer is the status, 0 where
all is well, and what the call gives, or behind another status the library's text about it. ``identity`` names library
and address. The calls that an order may name are in ``CALLS``; there is no public protocol of the line below.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from hil.errors import PortError, UsageError
from hil.transports.base import Transport
from hil.transports.call_lines import CallLines

_I, _D, _S = ctypes.c_int, ctypes.c_double, ctypes.c_char_p
CALLS: Mapping[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {  # what each takes, and what it gives
    "initialize": ((), ()),
    "setTimeout": ((_D,), ()),
    "setOperationMode": ((_I, _I), ()),
    "setForceVoltageRange": ((_I, _I), ()),
    "setMeasureMode": ((_I, _I), ()),
    "setMeasureVoltageRange": ((_I, _I), ()),
    "setMeasureCurrentRange": ((_I, _I), ()),
    "setForceDelay": ((_I, _D), ()),
    "setMeasureDelay": ((_I, _D), ()),
    "connect": ((_I,), ()),
    "disconnect": ((_I,), ()),
    "clear": ((), ()),
    "createPattern": ((_S, _D), ()),
    "addVector": ((_S, _D, _D), ()),
    "addSequence": ((_I, _S, _D), ()),
    "update": ((), ()),
    "execute": ((), ()),
    "abort": ((), ()),
    "getStatus": ((), (_I, _D, _D)),
    "getChannelStatus": ((_I,), (_I, _D, _D)),
    "dcforceVoltage": ((_I, _D), ()),
    "dcmeasureValue": ((_I,), (_D,)),
    "dcmeasureAveragedValue": ((_I, _I, _I), (_D,)),
}
_MOST_TEXT = 1 << 16


def open_wgfmu(rest: str, *, baud: int, timeout_s: float) -> Transport:
    """The B1530A of ``wgfmu:RESOURCE?library=PATH``, as wgfmu:GPIB0::17::INSTR?library=wgfmu."""
    resource, _, query = rest.partition("?")
    values = dict(parse_qsl(query))
    if not resource or set(values) - {"library"}:
        raise PortError(f"wgfmu:{rest} names no instrument", hint="wgfmu:GPIB0::17::INSTR?library=wgfmu")
    path, address = values.get("library", "wgfmu"), f"wgfmu:{rest}"
    try:
        library = getattr(ctypes, "WinDLL", ctypes.CDLL)(path)
    except OSError as error:
        raise PortError(
            f"{address}: the library {path} cannot be loaded ({error})",
            where=address,
            hint="the maker's B1530A instrument library for Windows, and library=PATH",
        ) from error
    return WgfmuCalls(address, library, resource)


class WgfmuCalls(CallLines):
    """One session of the library as a line."""

    def __init__(self, address: str, library: Any, resource: str) -> None:
        super().__init__(address, self._call, self._end)
        self._library = library
        if status := int(library.WGFMU_openSession(_S(resource.encode()))):
            raise PortError(f"cannot open {address}: {status} {self._trouble()}".strip(), where=address)

    def _end(self) -> None:
        self._library.WGFMU_closeSession()

    def _call(self, line: str) -> str:
        name, *arguments = line.split()
        if name == "identity":
            return f"0 B1530A, WGFMU library, {self.address}"
        if name not in CALLS or len(arguments) != len(CALLS[name][0]):
            raise UsageError(f"{line!r:.60} is no call of the library that is known", hint=f"one of {', '.join(CALLS)}")
        takes, gives = CALLS[name]
        given = [_argument(kind, text) for kind, text in zip(takes, arguments, strict=True)]
        results = [kind() for kind in gives]
        status = int(getattr(self._library, f"WGFMU_{name}")(*given, *map(ctypes.byref, results)))
        if status:
            return f"{status} {self._trouble()}".strip()
        return " ".join(["0", *(f"{result.value:.9g}" for result in results)])

    def _trouble(self) -> str:
        """What the library says about its last error."""
        size = _I()
        if self._library.WGFMU_getErrorSize(ctypes.byref(size)) or not 0 < size.value < _MOST_TEXT:
            return ""
        text = ctypes.create_string_buffer(size.value + 1)
        self._library.WGFMU_getError(text, ctypes.byref(size))
        return " ".join(text.value.decode("latin-1").split())


def _argument(kind: Any, text: str) -> Any:
    try:
        return kind(text.encode()) if kind is _S else kind(int(text)) if kind is _I else kind(float(text))
    except ValueError:
        raise UsageError(f"{text!r:.60} is not a number that such a call takes") from None
