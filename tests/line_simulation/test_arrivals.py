"""What an end of a simulated line must acknowledge: frames that came while it was in their session, in its window."""

from __future__ import annotations

from firmware_protocols.connection import LinkLimits
from firmware_protocols.frames import Frame, encode_frame
from firmware_protocols.states import State
from tests.line_simulation.arrivals import EndArrivals
from tests.line_simulation.firmware_board import FirmwareConnection

SESSION, WINDOW = 7, 16


def frame(sequence: int) -> bytes:
    return encode_frame(Frame(0, 1, SESSION, sequence, 0, 0, b"codes"))[1:-1]


def test_a_frame_that_came_before_its_session_was_open_moves_no_window() -> None:
    broken: list[str] = []
    arrivals, limits = EndArrivals("chip", broken.append), LinkLimits(512, WINDOW)
    closed, opened = FirmwareConnection(limits), FirmwareConnection(limits, State.UP, SESSION)
    arrivals.arrived(frame(0), unharmed=True, connection=closed, now_s=0.0)
    arrivals.arrived(frame(WINDOW), unharmed=True, connection=opened, now_s=1.0)  # dropped: too far ahead of frame 0
    arrivals.check(opened, 2.0, 0.0)
    assert not broken
    arrivals.arrived(frame(WINDOW - 1), unharmed=True, connection=opened, now_s=3.0)
    arrivals.check(opened, 4.0, 0.0)
    assert broken == ["the chip does not acknowledge a frame that arrived"]


def test_what_lies_in_a_port_until_the_session_is_open_counts_as_arrived() -> None:
    broken: list[str] = []
    arrivals, limits = EndArrivals("host", broken.append, reads_later=True), LinkLimits(512, WINDOW)
    arrivals.arrived(frame(0), unharmed=True, connection=FirmwareConnection(limits), now_s=0.0)
    arrivals.said(encode_frame(Frame(0, 1, SESSION, 0, 1, 0, b"")))
    assert not broken
