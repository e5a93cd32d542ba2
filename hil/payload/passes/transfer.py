"""One file over contact windows: how many passes it should need, and a run of it that ends with the same bytes."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hil.errors import LinkError
from hil.payload.passes.cfdp import SEGMENT, FileReceiver, FileSender, Transaction
from hil.payload.passes.lossy_link import APID_FILES, RadioDirection, opened
from hil.payload.passes.windows import ContactWindow
from hil.payload.settings import FRAME_BYTES, LinkFigures

PDU_BYTES = 12  # header, offset and checksum of a packet of file data
GROUND, SPACECRAFT = 1, 2
STREAM = 0x9A55  # purpose tag of the host's seeds
LEAST_WAIT_S = 0.2
MOST_EVENTS = 20_000_000


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What a transfer should need: seconds on the air of its data and of the answers that it waits for, and passes."""

    name: str
    bytes: int
    packets: int
    on_air_s: float
    waits_s: float
    passes: int | None  # None: more than there are


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What one did. ``passes`` in which something was sent; ``end_s`` when the sender knew that all is there."""

    plan: TransferPlan
    passes: int
    on_air_s: float
    end_s: float
    packets: int
    lost: int
    digest_sent: str
    digest_received: str
    restarts: int

    @property
    def identical(self) -> bool:
        return self.digest_sent == self.digest_received

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.plan.name,
            "bytes": self.plan.bytes,
            "planned_passes": self.plan.passes,
            "planned_on_air_s": self.plan.on_air_s,
            "passes": self.passes,
            "on_air_s": self.on_air_s,
            "end_s": self.end_s,
            "packets": self.packets,
            "lost": self.lost,
            "restarts": self.restarts,
            "digest_sent": self.digest_sent,
            "digest_received": self.digest_received,
            "identical": self.identical,
        }


def plan_transfer(
    name: str,
    size: int,
    windows: Sequence[ContactWindow],
    figures: LinkFigures,
    *,
    up: bool = True,
    after_s: float = 0.0,
) -> TransferPlan:
    """Plan a file beforehand.

    Packets are sent 1 / (1 − p) times on average; every round of asking for what is missing waits for a round trip and
    a time-out, and as many rounds are needed as it takes until less than half a packet is missing.
    """
    packets = max(1, -(-size // SEGMENT)) + 2
    chance = figures.lost_chance(SEGMENT + PDU_BYTES)
    rate = figures.up_bit_per_s if up else figures.down_bit_per_s
    sent = size + packets * (PDU_BYTES + FRAME_BYTES)
    on_air_s = 8 * sent / rate / (1.0 - chance)
    rounds = 1 if chance == 0 else max(1, math.ceil(math.log(2 * packets) / -math.log(chance)))
    waits_s = figures.round_trip_s + (rounds - 1) * (figures.round_trip_s + timeout_of(figures))
    left = on_air_s + waits_s
    number: int | None = None
    for count, window in enumerate((w for w in windows if w.end_s > after_s), 1):
        left -= max(0.0, window.end_s - max(window.start_s, after_s) - figures.round_trip_s / 2)
        if left <= 0:
            number = count
            break
    return TransferPlan(name, size, packets, on_air_s, waits_s, number)


def timeout_of(figures: LinkFigures) -> float:
    """Time after which an answer counts as lost, s."""
    slowest = 8 * (SEGMENT + PDU_BYTES + FRAME_BYTES) / min(figures.up_bit_per_s, figures.down_bit_per_s)
    return max(LEAST_WAIT_S, 1.5 * figures.round_trip_s + 2 * slowest)


def run_transfer(
    plan: TransferPlan,
    data: bytes,
    windows: Sequence[ContactWindow],
    figures: LinkFigures,
    *,
    seed: int,
    number: int = 1,
    up: bool = True,
    after_s: float = 0.0,
    restarts: Callable[[np.random.Generator], bool] | None = None,
) -> TransferResult:
    """Send a file, pass after pass.

    Args:
        number: of the transaction; other numbers have noise of their own.
        after_s: when the link is free.
        restarts: asked before every packet that arrives: whether the receiving computer restarts from its snapshot.

    Raises:
        LinkError: the passes end before the file is there.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM, number]))
    pair = (GROUND, SPACECRAFT) if up else (SPACECRAFT, GROUND)
    transaction, wait_s = Transaction(*pair, number), timeout_of(figures)
    rates = (figures.up_bit_per_s, figures.down_bit_per_s)
    forth, back = (RadioDirection(figures, rate, rng) for rate in (rates if up else rates[::-1]))
    link = _RadioLink(
        FileSender(transaction, plan.name, data, wait_s), FileReceiver(transaction, wait_s), forth, back, rng, restarts
    )
    passes, end_s = 0, after_s
    for window in windows:
        if window.end_s <= after_s:
            continue
        before = link.packets
        end_s = link.use(max(window.start_s, after_s), window.end_s)
        passes += link.packets > before
        if link.sender.done:
            break
    receiver = link.receiver
    if not (link.sender.done or receiver.complete):
        there = sum(b - a for a, b in receiver.parts)
        raise LinkError(
            f"{plan.name}: the passes end with {there:,} of {len(data):,} bytes on the other side",
            likely=f"the plan needs {plan.passes or 'more'} passes of those in the file",
            hint="more or longer passes, a higher rate; what is there is kept and the transfer continues",
        )
    received = bytes(receiver.data)
    return TransferResult(
        plan,
        passes,
        forth.on_air_s,
        end_s,
        link.packets,
        forth.lost + back.lost,
        hashlib.sha256(data).hexdigest(),
        hashlib.sha256(received).hexdigest(),
        link.restarted,
    )


@dataclass
class _RadioLink:
    """Both ends of a transfer and what is under way between them."""

    sender: FileSender
    receiver: FileReceiver
    forth: RadioDirection
    back: RadioDirection
    rng: np.random.Generator
    restarts: Callable[[np.random.Generator], bool] | None
    arriving: list[tuple[float, int, bool, bytes]] = field(default_factory=list)  # when, order, to the receiver, frame
    events: int = 0
    restarted: int = 0

    @property
    def packets(self) -> int:
        return self.forth.packets + self.back.packets

    def use(self, now: float, end_s: float) -> float:
        """Send and take packets from ``now`` to the end of a pass, or until the sender is done: when that was."""
        while True:
            self.events += 1
            if self.events > MOST_EVENTS:
                raise LinkError("the transfer does not come to an end", hint="fewer bit errors, or a higher rate")
            self._deliver(now)
            if now >= end_s:
                return now
            self._send(now, end_s)
            if self.sender.done:
                return now
            now = _next_event(now, end_s, self.sender, self.receiver, self.forth, self.back, self.arriving)

    def _deliver(self, now: float) -> None:
        """Give each side what has arrived by ``now`` unharmed."""
        while self.arriving and self.arriving[0][0] <= now:
            _, _, to_receiver, frame = heapq.heappop(self.arriving)
            content = opened(frame)
            if content is None:
                continue
            if not to_receiver:
                self.sender.take(content, now)
                continue
            if self.restarts is not None and self.restarts(self.rng):
                self.receiver = FileReceiver.restore(self.receiver.snapshot())
                self.restarted += 1
            self.receiver.take(content, now)

    def _send(self, now: float, end_s: float) -> None:
        """Let each side send a packet where its direction is free and the pass long enough."""
        for who, way, to_receiver in ((self.sender, self.forth, True), (self.receiver, self.back, False)):
            if way.free_s > now or way.sends_until(SEGMENT + PDU_BYTES, now) > end_s:
                continue
            packet = who.next_packet(now)
            if packet is not None:
                at, frame = way.send(packet, APID_FILES, now)
                heapq.heappush(self.arriving, (at, self.events, to_receiver, frame))


def _next_event(
    now: float,
    end_s: float,
    sender: FileSender,
    receiver: FileReceiver,
    forth: RadioDirection,
    back: RadioDirection,
    arriving: list[tuple[float, int, bool, bytes]],
) -> float:
    """When something can happen next: a direction is free again, a frame arrives, a time-out ends."""
    times = [at for at in (forth.free_s, back.free_s) if at > now]
    times += [arriving[0][0]] if arriving else []
    times += [at for at in (sender.next_time_s(), receiver.next_time_s()) if at is not None and at > now]
    return min([*times, end_s], default=end_s)
