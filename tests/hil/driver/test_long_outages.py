"""Minutes of silence, cables out of their sockets and round trips of seconds, on a clock that only the test moves."""

from __future__ import annotations

import random

import pytest

from firmware_protocols.chip import ChipServer
from firmware_protocols.connection import LinkLimits
from firmware_protocols.extensions.memory import BoardPower
from firmware_protocols.messages import Status
from hil.driver.reconnection import Reconnection
from hil.driver.session import Session
from hil.errors import LinkError, PortError
from tests.line_simulation.board import NotingChip
from tests.line_simulation.direction import LineDirection
from tests.line_simulation.faults import LineFaults


class VirtualCable:
    """A line to a chip role; reading it is what moves time."""

    address, max_payload = "virtual", 512

    def __init__(self, delay_s: float = 0.009) -> None:
        self.now_s, self.unplugged_until_s, self.said = 0.0, 0.0, list[str]()
        faults = LineFaults(delay_s=delay_s, bytes_per_s=92_160)
        self.to_chip, self.to_host = (LineDirection(faults, random.Random(0), {}) for _ in range(2))
        self.chip = NotingChip(BoardPower(), self.said.append)
        self.server = ChipServer(self.chip, boot_id=7, limits=LinkLimits(window=32, max_message=1 << 16))

    def session(self, reconnect_timeout_s: float = 0.0) -> Session:
        reconnection = Reconnection(
            reconnect_timeout_s, self.plug_in, self.said.append, clock=lambda: self.now_s, sleep=self.sleep
        )
        session = Session(self, clock=lambda: self.now_s, reconnection=reconnection)
        session.open()
        return session

    def stall(self, for_s: float) -> None:
        for way in (self.to_chip, self.to_host):
            way.stall(self.now_s + for_s, deaf=True)

    def unplug(self, for_s: float) -> None:
        self.unplugged_until_s = self.now_s + for_s
        self.to_chip.cut()
        self.to_host.cut()

    def plug_in(self) -> VirtualCable:
        if self.now_s < self.unplugged_until_s:
            raise PortError("no such port")
        return self

    def sleep(self, seconds: float) -> None:
        self.read(0, seconds)

    def _check(self) -> None:
        if self.now_s < self.unplugged_until_s:
            raise LinkError("connection to virtual lost: unplugged")

    def write(self, data: bytes) -> None:
        self._check()
        self.to_chip.put(data, self.now_s)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        end_s = self.now_s + timeout_s
        while True:
            self.to_host.put(self.server.data_to_send(self.now_s), self.now_s)
            data = b"".join(piece.data for piece in self.to_host.take(self.now_s)) if max_bytes else b""
            if data:
                return data
            times = (self.server.next_deadline(self.now_s), self.to_chip.next_s, self.to_host.next_s)
            due_s = min((time_s for time_s in times if time_s is not None), default=end_s)
            if due_s >= end_s or self.now_s >= end_s:
                self.now_s = end_s
                return b""
            self.now_s = max(self.now_s, due_s) if due_s > self.now_s else self.now_s + 1e-4
            for piece in self.to_chip.take(self.now_s):
                self.server.receive(piece.data, self.now_s)

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("fault", "for_s"), [("stall", 30.0), ("stall", 110.0), ("unplug", 0.1), ("unplug", 2.0), ("unplug", 30.0)]
)
def test_a_line_that_is_silent_or_gone_for_less_than_patience_costs_only_time(fault: str, for_s: float) -> None:
    cable = VirtualCable()
    session = cable.session(reconnect_timeout_s=120.0)
    getattr(cable, fault)(for_s)
    began_s = cable.now_s
    assert session.ask(Status()).temperature_c == 25.0
    assert for_s <= cable.now_s - began_s <= for_s + (12.0 if fault == "stall" else 10.0)
    for said in ("still waiting", "answers again") if fault == "stall" else ():
        assert any(said in text for text in cable.said)


@pytest.mark.parametrize("fault", ["stall", "unplug"])
def test_patience_ends_when_it_said(fault: str) -> None:
    cable = VirtualCable()
    session = cable.session(reconnect_timeout_s=20.0)
    getattr(cable, fault)(3600.0)
    began_s = cable.now_s
    with pytest.raises(LinkError):
        session.ask(Status())
    assert 20.0 <= cable.now_s - began_s <= 35.0


@pytest.mark.parametrize("round_trip_s", [0.5, 5.0])
def test_a_round_trip_of_seconds_is_not_a_lost_line(round_trip_s: float) -> None:
    cable = VirtualCable(delay_s=round_trip_s / 2)
    session = cable.session()
    for _ in range(5):
        assert session.ask(Status()).temperature_c == 25.0
    assert session.counters["resyncs"] == 0
    assert cable.now_s < 12 * round_trip_s
