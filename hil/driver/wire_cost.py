"""What messages will cost on the wire, counted before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cim.chip.spec import ChipSpec
from cim.chip.windows import Window
from firmware_protocols.codec import encode
from firmware_protocols.frames import DEFAULT_PAYLOAD, encoded_size
from firmware_protocols.messages import Mvm, ProgramTile, ReadCells, Request, Sweep
from hil.driver.requests import ReadMode, answer_bytes

_SHORT_REPLY = 16
_BITS_PER_BYTE = 10  # start, eight, stop


@dataclass(frozen=True, slots=True)
class WireEstimate:
    """Messages and bytes each way, frames and their overhead included; no retransmissions."""

    requests: int = 0
    bytes_out: int = 0
    bytes_in: int = 0

    def __add__(self, other: WireEstimate) -> WireEstimate:
        return WireEstimate(
            self.requests + other.requests, self.bytes_out + other.bytes_out, self.bytes_in + other.bytes_in
        )

    def __mul__(self, times: int) -> WireEstimate:
        return WireEstimate(self.requests * times, self.bytes_out * times, self.bytes_in * times)

    def seconds(self, baud: int) -> float:
        """Time on a serial line, 8N1; both directions run at once, the longer one counts."""
        return max(self.bytes_out, self.bytes_in) * _BITS_PER_BYTE / baud


def wire_estimate(spec: ChipSpec, requests: Iterable[Request[Any]], payload: int = DEFAULT_PAYLOAD) -> WireEstimate:
    """Bytes of ``requests`` (``hil.driver.requests`` makes them) and of their largest answers."""
    total = WireEstimate()
    for request in requests:
        out, back = len(encode(request)), _SHORT_REPLY + _answer(spec, request)
        total += WireEstimate(1, framed_bytes(out, payload), framed_bytes(back, payload))
    return total


def framed_bytes(message: int, payload: int = DEFAULT_PAYLOAD) -> int:
    """Most bytes on the wire of a message of so many bytes."""
    whole, rest = divmod(message, payload)
    return whole * encoded_size(payload) + (encoded_size(rest) if rest else 0)


def _answer(spec: ChipSpec, request: Request[Any]) -> int:
    match request:
        case ProgramTile():
            return 5 * request.cells.rows * request.cells.columns
        case ReadCells():
            return 2 * request.cells.rows * request.cells.columns
        case Mvm() if request.tile is not None:
            return len(request.codes) * answer_bytes(spec.macro, _reading(request), request.tile.outputs)
        case Sweep() if request.tile is not None:
            w = request.window
            window = Window(w.channels, w.height, w.width, w.kernel, w.stride, w.padding, w.dilation)
            vectors = len(request.codes) * window.positions
            return vectors * answer_bytes(spec.macro, _reading(request), request.tile.outputs)
        case _:
            return 0


def _reading(request: Mvm | Sweep) -> ReadMode:
    return ReadMode(request.range_code, request.input_bits, request.input_signed, request.sample, request.returns)
