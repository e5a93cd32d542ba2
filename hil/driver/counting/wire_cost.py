"""Cost of messages on the wire, counted before anything is sent.

``wire_estimate`` counts single requests. ``CountingChip`` stands where an open chip does: the driver's own
verbs run on it, every request is encoded as it would be, and each answer is made up at its usual
size (``hil.driver.counting.made_up``). So a plan costs what the same calls will send, framing included;
acknowledgements, progress and retransmissions come on top (about two bytes in a hundred, on a good line).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from cim.chip.spec import ChipSpec
from firmware_protocols.capability import SINCE
from firmware_protocols.codec import encode
from firmware_protocols.coding.packed import packed
from firmware_protocols.frames import DEFAULT_PAYLOAD, encoded_size
from firmware_protocols.messages import Capability, HelloReply, MvmResult, Progress, Reply, Request, Wait
from firmware_protocols.plans.messages import PlanResult
from hil.driver.chip_driver import ChipDriver
from hil.driver.counting.made_up import MAX_MESSAGE, MadeUpAnswers, description
from hil.driver.program_image import SessionImage
from hil.errors import HilError

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
