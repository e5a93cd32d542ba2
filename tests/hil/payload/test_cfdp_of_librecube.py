"""Our CFDP against LibreCube's (``cfdp``), both ways, over windows that lose packets.

It takes no packets with a checksum of their own and knows modular checksums of files only, and a receiver of it that
did not hear the first packet of a file never learns the file's name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("spacepackets")
pytest.importorskip("cfdp")

import cfdp
from cfdp.filestore import NativeFileStore
from cfdp.transport.base import Transport
from spacepackets.cfdp import ChecksumType

from hil.payload.passes.cfdp import FileReceiver, FileSender, Transaction, file_checksum

DATA = np.random.default_rng(1).integers(0, 256, 9001, dtype=np.uint8).tobytes()
DEADLINE_S = 300.0
TIMER_S = 0.02  # of the other side, which has a wall clock
CONTACT, PERIOD = 30, 40  # turns


class Air(Transport):
    """What the other side sends, until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[bytes] = []
        self.lock = threading.Lock()

    def request(self, data: bytes) -> None:
        with self.lock:
            self.waiting.append(bytes(data))

    def taken(self) -> list[bytes]:
        with self.lock:
            found, self.waiting = self.waiting, []
        return found


@pytest.fixture
def other(tmp_path: Path) -> Iterator[object]:
    """An entity of theirs, number 2, with files in the temporary folder."""
    limits = {"positive_ack_timer_expiration_limit": None, "nak_timer_expiration_limit": None}
    intervals = {"positive_ack_timer_interval": TIMER_S, "nak_timer_interval": TIMER_S}
    entity = cfdp.CfdpEntity(2, NativeFileStore(str(tmp_path)), Air(), **limits, **intervals)
    yield entity
    for machine in list(entity.machines.values()):
        for name in ("ack_timer", "nak_timer", "inactivity_timer"):
            if hasattr(machine, name):
                getattr(machine, name).shutdown()
    entity.shutdown()


def turns() -> Iterator[tuple[int, bool]]:
    """Turns until the deadline, and whether there is contact."""
    ends = time.monotonic() + DEADLINE_S
    turn = 0
    while time.monotonic() < ends:
        turn += 1
        yield turn, turn % PERIOD < CONTACT
    pytest.fail("the transfer does not end")


def test_a_modular_checksum_is_the_sum_of_words() -> None:
    assert file_checksum(bytes([1, 2, 3, 4, 5]), ChecksumType.MODULAR) == bytes([6, 2, 3, 4])
    assert file_checksum(b"\xff" * 8, ChecksumType.MODULAR) == b"\xff\xff\xff\xfe"


@pytest.mark.parametrize("lost", [0.0, 0.2])
def test_a_file_of_ours_arrives_at_theirs(lost: float, other, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(2)
    transaction = Transaction(1, 2, 1, crc=False)
    sender = FileSender(transaction, "there", DATA, timeout_s=20.0, checksum=ChecksumType.MODULAR)
    first = sender.next_packet(0.0)
    assert first is not None
    other.pdu_received(first)
    for turn, contact in turns():
        packet = sender.next_packet(float(turn))
        if packet is None:
            time.sleep(TIMER_S / 4)
        elif contact and rng.random() >= lost:
            other.pdu_received(packet)
        for answer in other.transport.taken():
            if contact and rng.random() >= lost:
                sender.take(answer, float(turn))
        if sender.done:
            break
    assert (tmp_path / "there").read_bytes() == DATA


@pytest.mark.parametrize("lost", [0.0, 0.2])
def test_a_file_of_theirs_arrives_at_ours(lost: float, other, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(3)
    (tmp_path / "here").write_bytes(DATA)
    number = other.put(1, "here", "there", transmission_mode=cfdp.TransmissionMode.ACKNOWLEDGED)[1]
    receiver = FileReceiver(Transaction(2, 1, number, crc=False), timeout_s=20.0)
    for turn, contact in turns():
        waiting = other.transport.taken()
        for packet in waiting:
            if contact and rng.random() >= lost:
                receiver.take(packet, float(turn))
        answer = receiver.next_packet(float(turn))
        if answer is not None and contact and rng.random() >= lost:
            other.pdu_received(answer)
        if receiver.done:
            break
        if not waiting:
            time.sleep(TIMER_S / 4)
    assert receiver.name == "there"
    assert bytes(receiver.data) == DATA
