"""Answers checked against their requests, in one place: shapes, counts, units, texts, signs of progress.

A message that can be decoded may still be nonsense: rows and columns swapped, fewer vectors than
were asked for, a unit of 0, a name that clears the screen. Nothing of it reaches a caller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from cim.chip.converters import conversions, input_planes
from cim.chip.spec import ChipSpec
from cim.chip.windows import Window
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Description,
    HelloReply,
    LoadLayer,
    Mvm,
    MvmResult,
    ProgramTile,
    Progress,
    ReadCells,
    Reply,
    Request,
    Returns,
    StatusReply,
    Sweep,
    TileProgrammed,
)
from hil.driver.errors import describe_request, shown
from hil.errors import DeviceError, LinkError

LEAST_MESSAGE = 256  # bytes; below, not even a row of cells fits
MOST_TEXT = 256  # characters of a chip's name, serial number and so on
MOST_PROGRESS = 1 << 20  # signs of progress of one request


@dataclass
class ReplyChecks:
    """Facts about a chip that its answers are checked against.

    ``spec`` is set once the chip's description was compared with its file; before, and for
    requests that need it, only what the request itself says is checked.
    """

    address: str
    spec: ChipSpec | None = None
    _tells_temperature: bool = True
    _outputs: dict[int, int] = field(default_factory=dict)  # of loaded layers
    _progress: dict[int, tuple[int, int, int]] = field(default_factory=dict)  # by request: done, failed, how many

    def hello(self, hello: HelloReply) -> None:
        """Raises ``DeviceError`` when the chip takes no message of any use."""
        if hello.max_message < LEAST_MESSAGE:
            raise DeviceError(
                f"the chip takes messages of at most {hello.max_message} bytes; {LEAST_MESSAGE} are the least",
                where=self.address,
                likely="its firmware says a wrong max_message in HELLO_REPLY",
            )
        self._tells_temperature = Capability.TEMPERATURE in hello.capabilities

    def reply(self, request: Request[Any], reply: Reply) -> None:
        """Raises ``LinkError`` when a reply of the right class does not answer the request."""
        match request, reply:
            case ProgramTile(), TileProgrammed():
                shape = request.targets.shape
                self._unit(request, reply.unit_ns)
                for name in ("readings", "pulses", "reached"):
                    self._same(request, name, getattr(reply, name).shape, shape)
            case ReadCells(), CellReadings():
                self._unit(request, reply.unit_ns)
                self._same(request, "readings", reply.readings.shape, (request.cells.rows, request.cells.columns))
            case ((Mvm() | Sweep()), MvmResult()):
                self._products(request, reply)
            case _, Description():
                for name in ("name", "revision", "serial", "firmware", "kind"):
                    self._text(request, name, getattr(reply, name))
            case _, StatusReply():
                unknown = math.isnan(reply.temperature_c) and not self._tells_temperature
                good = unknown or math.isfinite(reply.temperature_c)
                self._need(good, request, f"a temperature of {reply.temperature_c}")
            case LoadLayer(), _:
                self._outputs[request.layer] = request.outputs

    def progress(self, request_id: int, said: Progress) -> bool:
        """Whether a sign of progress is one: more is done than before, and such signs come to an end."""
        done, failed, count = self._progress.get(request_id, (-1, -1, 0))
        new = (said.done, said.failed) > (done, failed) and said.done <= said.total and count < MOST_PROGRESS
        if new:
            self._progress[request_id] = (said.done, said.failed, count + 1)
        return new

    def answered(self, request_id: int) -> None:
        self._progress.pop(request_id, None)

    def _products(self, request: Mvm | Sweep, reply: MvmResult) -> None:
        asked, got = request.returns, reply.returns
        self._need(got is asked, request, f"{got.name} results, {asked.name} were asked for")
        vectors = len(request.codes)
        if isinstance(request, Sweep):
            w = request.window
            vectors *= Window(w.channels, w.height, w.width, w.kernel, w.stride, w.padding, w.dilation).positions
        outputs = self._outputs.get(request.layer) if request.tile is None else request.tile.outputs
        shape: tuple[int, ...] = (vectors, *reply.values.shape[1:])
        if asked is not Returns.RAW and outputs is not None:
            shape = (vectors, outputs)
        elif asked is Returns.RAW and outputs is not None and self.spec is not None:
            macro = self.spec.macro
            planes = input_planes(macro.inputs, request.input_bits, request.input_signed)
            shape = (vectors, len(planes), conversions(macro, outputs))
        self._same(request, "values", reply.values.shape, shape)
        text = f"{reply.saturated} saturated conversions of {reply.conversions}"
        self._need(reply.saturated <= reply.conversions, request, text)

    def _unit(self, request: Request[Any], unit_ns: int) -> None:
        self._need(unit_ns > 0, request, f"readings in units of {unit_ns} nS")

    def _same(self, request: Request[Any], what: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        self._need(got == wanted, request, f"{what} of shape {got}, {wanted} were asked for")

    def _text(self, request: Request[Any], name: str, text: str) -> None:
        good = len(text) <= MOST_TEXT and text.isprintable()
        self._need(good, request, f"a {name} of {len(text)} characters, not all of them printable: {shown(text)[:60]}")

    def _need(self, good: bool, request: Request[Any], text: str) -> None:
        if not good:
            raise LinkError(
                f"the chip answered {describe_request(request)} with {text}",
                where=self.address,
                likely="its firmware is broken or speaks another version",
            )
