"""Cost of messages on the wire, counted before anything is sent.

``wire_estimate`` counts single requests. ``CountingChip`` stands where an open chip does: the driver's own
verbs run on it, every request is encoded as it would be, and each answer is made up at its usual
size. So a plan costs what the same calls will send, framing included;
acknowledgements, progress and retransmissions come on top (about two bytes in a hundred, on a good line).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import code_limits, conversions, input_planes
from cim.chip.spec import ChipSpec
from cim.chip.windows import Window
from firmware_protocols.capability import SINCE
from firmware_protocols.codec import encode
from firmware_protocols.coding.packed import packed
from firmware_protocols.extensions.write_rounds import LEAVE_ALONE
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
from hil.driver.program_image import SessionImage
from hil.driver.requests import block_slices, to_counts, to_microsiemens
from hil.errors import HilError

MAX_MESSAGE = 1 << 24
_INT32 = (-(1 << 31), (1 << 31) - 1)
CELL_SPREAD_US = 1.2  # of answers that are made up: an emulated lab-128 in a calibration and a deployment
PULSES = 9.0  # of a cell, mean
RAW_SPREAD = (4.0, 60.0)  # codes about their mean: with nothing driven, and more for each share of rows that are
SUM_SPREAD = 0.08  # of the ends of a layer's level sums


class MadeUpAnswers:
    """Makes up an answer for each request.

    Args:
        spread: numbers are drawn with a typical spread, which decides the size of packed bodies; else they lie
            at the ends of their scale.
    """

    def __init__(self, spec: ChipSpec, *, spread: bool = False) -> None:
        self.spec, self._loaded, self._rng = spec, Loaded(), np.random.default_rng(0)
        self._spread = spread
        self._cells: dict[int, NDArray[np.float32]] = {}  # targets of each macro as written last, µS

    def answer(self, request: Request[Any]) -> Reply:
        match request:
            case Hello():
                return HelloReply(0x0100, 0, 0, DEFAULT_PAYLOAD, 16, MAX_MESSAGE, Capability(0))
            case Describe():
                return description(self.spec)
            case Status():
                return StatusReply(0.0, False, 0, 0)
            case ProgramTile():
                return self._programmed(request)
            case ReadCells():
                return CellReadings(request.unit_ns, self._readings(request))
            case Mvm():
                return self._product(request, len(request.codes))
            case Sweep():
                w = request.window
                window = Window(w.channels, w.height, w.width, w.kernel, w.stride, w.padding, w.dilation)
                return self._product(request, len(request.codes) * window.positions)
            case LoadLayer() | LoadPlan():
                self._loaded.see(request)
                return Done()
            case RunPlan():
                return self._plan_result(request)
            case _:
                return Done()

    def _programmed(self, request: ProgramTile) -> TileProgrammed:
        targets = request.targets
        cells, used = self._macro(request.cells.macro), targets != LEAVE_ALONE
        at, reached = block_slices(request.cells), np.ones(targets.shape, np.bool_)
        cells[at] = np.where(used, to_microsiemens(targets, request.unit_ns), cells[at])
        if not self._spread:
            pulses = np.full(targets.shape, min(request.max_pulses, 255), np.uint16)
            return TileProgrammed(request.unit_ns, np.zeros(targets.shape, np.uint16), pulses, reached)
        pulses = np.minimum(self._rng.geometric(1 / PULSES, targets.shape), request.max_pulses).astype(np.uint16)
        readings = self._seen(cells[at], request.unit_ns)
        return TileProgrammed(request.unit_ns, np.where(used, readings, 0), np.where(used, pulses, 0), reached)

    def _readings(self, request: ReadCells) -> NDArray[np.uint16]:
        if not self._spread:
            cells = (request.cells.rows, request.cells.columns)
            return np.ones(cells, np.uint16)  # a chip that reads 0 alone is dead
        return self._seen(self._macro(request.cells.macro)[block_slices(request.cells)], request.unit_ns)

    def _macro(self, macro: int) -> NDArray[np.float32]:
        shape = (self.spec.macro.rows, self.spec.macro.columns)
        return self._cells.setdefault(macro, np.zeros(shape, np.float32))

    def _seen(self, cells_us: NDArray[np.float32], unit_ns: int) -> NDArray[np.uint16]:
        seen_us = cells_us + self._rng.normal(0.0, CELL_SPREAD_US, cells_us.shape)
        return to_counts(np.maximum(seen_us, 0.0), unit_ns)

    def _plan_result(self, request: RunPlan) -> PlanResult:
        """Answers of a plan, drawn over the range of its last layer's sums."""
        plan = self._loaded.plan
        assert plan is not None
        counts = np.full(len(plan.steps), (1 << 32) - 1, np.uint32)
        low, high = self._loaded.ends(self.spec)
        shape = (request.passes, len(request.pixels), plan.answer.size)
        return PlanResult(counts, counts, self._drawn(shape, low, high, SUM_SPREAD * (high - low)))

    def _product(self, request: Mvm | Sweep, vectors: int) -> MvmResult:
        macro = self.spec.macro
        low, high = code_limits(macro.adc.bits, macro.adc_signed)
        shape: tuple[int, ...]
        share = float(np.mean(request.codes != 0))
        spread = RAW_SPREAD[0] + RAW_SPREAD[1] * share
        if request.tile is None:
            layer = self._loaded.layers[request.layer]
            low, high, shape = layer.low, layer.high, (vectors, layer.outputs)
            spread = (high - low) / 4
        elif request.returns is Returns.RAW:
            planes = input_planes(macro.inputs, request.input_bits, request.input_signed)
            shape = (vectors, len(planes), conversions(macro, request.tile.outputs))
        else:  # weights of planes come to 2^bits, and typical sums stay well inside
            top = (1 << (request.input_bits - 1)) * request.reads
            low, high, shape = low * top, high * top, (vectors, request.tile.outputs)
            spread = SUM_SPREAD * (high - low)
        return MvmResult(request.returns, 0, 0, self._drawn(shape, low, high, spread))

    def _drawn(self, shape: tuple[int, ...], low: int, high: int, spread: float) -> NDArray[np.int32]:
        """Numbers spread about the middle of a scale, or at its ends."""
        low, high = max(low, _INT32[0]), min(high, _INT32[1])
        values: NDArray[np.int32] = np.full(shape, high, np.int32)
        if self._spread:
            drawn = self._rng.normal((low + high) / 2, spread, shape)
            values = np.clip(np.rint(drawn), low, high).astype(np.int32)
        values.flat[0] = low
        return values


def description(spec: ChipSpec) -> Description:
    macro = spec.macro
    names = (spec.name, spec.revision, "SN-0000", "0.0", "paper")
    return Description(*names, spec.macros, macro.rows, macro.columns, bytes.fromhex(spec.digest), bytes(32))


R = TypeVar("R", bound=Reply)
BITS_PER_BYTE = 10  # start, eight, stop
EVERYTHING = Capability((1 << 10) - 1) | Capability.REPEATED_READS | Capability.PLAN
ON_SERIAL = EVERYTHING | Capability.PACKED  # bodies are packed on serial lines only


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
    made_up = MadeUpAnswers(spec)
    return sum((_cost(request, made_up.answer(request), payload) for request in requests), WireEstimate())


def framed_bytes(message: int, payload: int = DEFAULT_PAYLOAD) -> int:
    """Most bytes on the wire of a message of so many bytes."""
    whole, rest = divmod(message, payload)
    return whole * encoded_size(payload) + (encoded_size(rest) if rest else 0)


@dataclass
class CountingChip:
    """A chip that only counts: use ``driver`` as any other; ``spent`` is the wire cost of its requests so far.

    Args:
        spec: chip file of the imagined chip.
        capabilities: its capabilities; write-verify is counted as on the chip, also if the host would do it.
        payload: of a frame, bytes.
        address: address of the real chip, for error messages.
    """

    spec: ChipSpec
    capabilities: Capability = EVERYTHING
    payload: int = DEFAULT_PAYLOAD
    address: str = ""
    spent: WireEstimate = field(default_factory=WireEstimate)
    _made_up: MadeUpAnswers = field(init=False)

    def __post_init__(self) -> None:
        can = self.capabilities | Capability.PROGRAM_TILE
        self._made_up = MadeUpAnswers(self.spec, spread=self.packs)
        version = max([0x0100, *(since for capability, since in SINCE.items() if capability in can)])
        hello = HelloReply(version, 0, 0, self.payload, 16, MAX_MESSAGE, can)
        session = CountedSession(self.address, hello, self._ask)
        self.driver = ChipDriver(session, description(self.spec), self.spec, sleep=session.let_pass)

    @property
    def packs(self) -> bool:
        return Capability.PACKED in self.capabilities

    def count(self, work: Callable[[], Any]) -> WireEstimate:
        """Wire cost of the requests that ``work`` makes."""
        before = self.spent
        work()
        return self.spent - before

    def _ask(self, request: Request[Any]) -> Reply:
        answer = self._made_up.answer(request)
        self.spent += _cost(request, answer, self.payload, packs=self.packs)
        if isinstance(answer, MvmResult):  # counted at its size, but nothing was multiplied
            return MvmResult(answer.returns, 0, 0, np.zeros_like(answer.values))
        if isinstance(answer, PlanResult):
            none = np.zeros_like(answer.saturated)
            return PlanResult(none, none, np.zeros_like(answer.values))
        return answer


@dataclass
class CountedSession:
    """A session with a chip that is only counted; satisfies ``hil.driver.checked_chip.ChipSession``.

    Its chip time advances by waiting only, whether the chip waits or the host.
    """

    address: str
    hello: HelloReply
    answer: Callable[[Request[Any]], Reply]
    chip_time_ns: int = 0
    image: SessionImage | None = None
    closed: bool = False
    counters: dict[str, int] = field(default_factory=lambda: {"requests": 0})

    def ask(self, request: Request[R], *, allow_s: float = 0.0) -> R:
        if isinstance(request, Wait):
            self.chip_time_ns += request.duration_ns
        reply = self.answer(request)
        assert isinstance(reply, request.reply_class)
        return reply

    def ask_all(self, requests: Iterable[Request[R]], watch: Callable[[Progress], None] | None = None) -> Iterator[R]:
        return map(self.ask, requests)

    def let_pass(self, seconds: float) -> None:
        self.chip_time_ns += round(seconds * 1e9)

    def outputs_off(self) -> HilError | None:
        return None

    def close(self, ending: str = "") -> None:
        self.closed = True


def _cost(request: Request[Any], answer: Reply, payload: int, packs: bool = False) -> WireEstimate:
    sent = (encode(request), encode(answer))
    sizes = (framed_bytes(len(packed(one) if packs else one), payload) for one in sent)
    return WireEstimate(1, *sizes)
