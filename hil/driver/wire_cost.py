"""Cost of messages on the wire, counted before anything is sent.

``wire_estimate`` counts single requests. ``CountingChip`` stands where an open chip does: the driver's own
verbs run on it, every request is encoded as it would be, and each answer is made up at its usual
size. So a plan costs what the same calls will send, framing included; acknowledgements, progress
and retransmissions come on top (about two bytes in a hundred, on a good line).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import code_limits, conversions, input_planes
from cim.chip.spec import ChipSpec
from cim.chip.windows import Window
from firmware_protocols.codec import encode
from firmware_protocols.frames import DEFAULT_PAYLOAD, encoded_size
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Describe,
    Description,
    Done,
    Hello,
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
    Status,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)
from firmware_protocols.plans.messages import LoadPlan, PlanResult, RunPlan
from hil.driver.chip_driver import ChipDriver
from hil.driver.loaded import Loaded
from hil.driver.session import Session

BITS_PER_BYTE = 10  # start, eight, stop
_INT32 = (-(1 << 31), (1 << 31) - 1)
_MAX_MESSAGE = 1 << 24
EVERYTHING = Capability((1 << 10) - 1) | Capability.REPEATED_READS | Capability.PLAN


@dataclass(frozen=True, slots=True)
class WireEstimate:
    """Messages and bytes each way, frames and their overhead included; no retransmissions."""

    requests: int = 0
    bytes_out: int = 0
    bytes_in: int = 0

    @property
    def bytes_both(self) -> int:
        return self.bytes_out + self.bytes_in

    def __add__(self, other: WireEstimate) -> WireEstimate:
        return WireEstimate(
            self.requests + other.requests, self.bytes_out + other.bytes_out, self.bytes_in + other.bytes_in
        )

    def __sub__(self, other: WireEstimate) -> WireEstimate:
        return self + other * -1

    def __mul__(self, times: int) -> WireEstimate:
        return WireEstimate(self.requests * times, self.bytes_out * times, self.bytes_in * times)

    def seconds(self, baud: int) -> float:
        """Time on a serial line, 8N1; both directions run at once, the longer one counts."""
        return max(self.bytes_out, self.bytes_in) * BITS_PER_BYTE / baud


def wire_estimate(spec: ChipSpec, requests: Iterable[Request[Any]], payload: int = DEFAULT_PAYLOAD) -> WireEstimate:
    """Bytes of ``requests`` (``hil.driver.requests`` makes them) and of answers of the usual size."""
    loaded = Loaded()
    return sum((_cost(request, _answer(spec, request, loaded), payload) for request in requests), WireEstimate())


def framed_bytes(message: int, payload: int = DEFAULT_PAYLOAD) -> int:
    """Most bytes on the wire of a message of so many bytes."""
    whole, rest = divmod(message, payload)
    return whole * encoded_size(payload) + (encoded_size(rest) if rest else 0)


@dataclass
class CountingChip:
    """A chip that only counts: ``driver`` has every verb, ``spent`` what its requests would have cost so far.

    Args:
        spec: what the chip would be.
        capabilities: what it could do; one without write-verify of its own is counted as if it had it.
        payload: of a frame, bytes.
    """

    spec: ChipSpec
    capabilities: Capability = EVERYTHING
    payload: int = DEFAULT_PAYLOAD
    spent: WireEstimate = field(default_factory=WireEstimate)
    _loaded: Loaded = field(default_factory=Loaded)

    def __post_init__(self) -> None:
        can = self.capabilities | Capability.PROGRAM_TILE
        session = _PaperSession(HelloReply(0x0100, 0, 0, self.payload, 16, _MAX_MESSAGE, can), self._ask)
        self.driver = ChipDriver(cast(Session, session), _description(self.spec), self.spec, sleep=lambda _: None)

    def count(self, work: Callable[[], Any]) -> WireEstimate:
        """What the requests of ``work`` cost."""
        before = self.spent
        work()
        return self.spent - before

    def _ask(self, request: Request[Any]) -> Reply:
        answer = _answer(self.spec, request, self._loaded)
        self.spent += _cost(request, answer, self.payload)
        if isinstance(answer, MvmResult):  # counted at its size, but nothing was multiplied
            return MvmResult(answer.returns, 0, 0, np.zeros_like(answer.values))
        if isinstance(answer, PlanResult):
            none = np.zeros_like(answer.saturated)
            return PlanResult(none, none, np.zeros_like(answer.values))
        return answer


def _description(spec: ChipSpec) -> Description:
    macro = spec.macro
    digest = bytes.fromhex(spec.digest)
    names = (spec.name, spec.revision, "SN-0000", "0.0", "paper")
    return Description(*names, spec.macros, macro.rows, macro.columns, digest, bytes(32))


@dataclass
class _PaperSession:
    """The part of ``hil.driver.session.Session`` that the driver's verbs use."""

    hello: HelloReply
    ask_one: Callable[[Request[Any]], Reply]
    chip_time_ns: int = 0
    closed: bool = False
    image: None = None
    counters: dict[str, int] = field(default_factory=lambda: {"requests": 0})

    def ask(self, request: Request[Any], *, allow_s: float = 0.0) -> Reply:
        if isinstance(request, Wait):
            self.chip_time_ns += request.duration_ns
        return self.ask_one(request)

    def ask_all(
        self, requests: Iterable[Request[Any]], watch: Callable[[Progress], None] | None = None
    ) -> Iterator[Reply]:
        return (self.ask_one(request) for request in requests)


def _cost(request: Request[Any], answer: Reply, payload: int) -> WireEstimate:
    return WireEstimate(1, framed_bytes(len(encode(request)), payload), framed_bytes(len(encode(answer)), payload))


def _answer(spec: ChipSpec, request: Request[Any], loaded: Loaded) -> Reply:
    """An answer of the usual size: its integers lie at the ends of their scale."""
    match request:
        case Hello():
            return HelloReply(0x0100, 0, 0, DEFAULT_PAYLOAD, 16, _MAX_MESSAGE, EVERYTHING)
        case Describe():
            return _description(spec)
        case Status():
            return StatusReply(0.0, False, 0, 0)
        case ProgramTile():
            shape = request.targets.shape
            pulses = np.full(shape, min(request.max_pulses, 255), np.uint16)
            return TileProgrammed(request.unit_ns, np.zeros(shape, np.uint16), pulses, np.ones(shape, np.bool_))
        case ReadCells():
            cells = (request.cells.rows, request.cells.columns)
            return CellReadings(request.unit_ns, np.ones(cells, np.uint16))  # a chip that reads 0 alone is dead
        case Mvm():
            return _product(spec, request, len(request.codes), loaded)
        case Sweep():
            w = request.window
            window = Window(w.channels, w.height, w.width, w.kernel, w.stride, w.padding, w.dilation)
            return _product(spec, request, len(request.codes) * window.positions, loaded)
        case LoadLayer() | LoadPlan():
            loaded.see(request)
            return Done()
        case RunPlan():
            return _plan_result(request, loaded)
        case _:
            return Done()


def _plan_result(request: RunPlan, loaded: Loaded) -> PlanResult:
    """Answers that reach over the scale of the layer that gives them."""
    assert loaded.plan is not None
    counts = np.full(len(loaded.plan.steps), (1 << 32) - 1, np.uint32)
    answer = loaded.plan.answer
    values = np.full((request.passes, len(request.pixels), answer.size), (1 << (8 * answer.item - 1)) - 1, np.int32)
    return PlanResult(counts, counts, values)


def _product(spec: ChipSpec, request: Mvm | Sweep, vectors: int, loaded: Loaded) -> MvmResult:
    macro = spec.macro
    low, high = code_limits(macro.adc.bits, macro.adc_signed)
    shape: tuple[int, ...]
    if request.tile is None:
        layer = loaded.layers[request.layer]
        low, high, shape = layer.low, layer.high, (vectors, layer.outputs)
    elif request.returns is Returns.RAW:
        planes = input_planes(macro.inputs, request.input_bits, request.input_signed)
        shape = (vectors, len(planes), conversions(macro, request.tile.outputs))
    else:  # weights of planes come to 2^bits, and typical sums stay well inside
        top = (1 << (request.input_bits - 1)) * request.reads
        low, high, shape = low * top, high * top, (vectors, request.tile.outputs)
    values: NDArray[np.int32] = np.full(shape, min(high, _INT32[1]), np.int32)
    values.flat[0] = max(low, _INT32[0])
    return MvmResult(request.returns, 0, 0, values)
