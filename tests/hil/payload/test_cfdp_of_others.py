"""Our CFDP against another implementation (cfdp-py), both ways, over windows that lose packets."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("spacepackets")
pytest.importorskip("cfdppy")

from cfdppy import IndicationConfig, LocalEntityConfig, RemoteEntityConfig, RemoteEntityConfigTable
from cfdppy.exceptions import InvalidNakPdu, PduIgnoredForDest, PduIgnoredForSource
from cfdppy.handler.dest import DestHandler
from cfdppy.handler.source import SourceHandler
from cfdppy.mib import CheckTimerProvider, DefaultFaultHandlerBase
from cfdppy.request import PutRequest
from cfdppy.user import CfdpUserBase
from spacepackets.cfdp import ChecksumType, TransmissionMode
from spacepackets.cfdp.pdu import PduFactory
from spacepackets.countdown import Countdown
from spacepackets.seqcount import SeqCountProvider
from spacepackets.util import ByteFieldU8

from hil.payload.passes.cfdp import FileReceiver, FileSender, Transaction

DATA = np.random.default_rng(1).integers(0, 256, 9000, dtype=np.uint8).tobytes()
MOST_TURNS = 20_000
ALWAYS_S = 0.001  # time-outs of the other side, which has a wall clock


class Faults(DefaultFaultHandlerBase):
    def notice_of_suspension_cb(self, transaction_id, cond, progress):  # type: ignore[no-untyped-def]
        raise AssertionError(cond)

    notice_of_cancellation_cb = abandoned_cb = ignore_cb = notice_of_suspension_cb


class Timers(CheckTimerProvider):
    def provide_check_timer(self, local_entity_id, remote_entity_id, entity_type):  # type: ignore[no-untyped-def]
        return Countdown.from_seconds(ALWAYS_S)


class User(CfdpUserBase):
    """Hears of everything and does nothing."""

    def transaction_indication(self, *_):  # type: ignore[no-untyped-def]
        pass

    eof_sent_indication = transaction_finished_indication = metadata_recv_indication = transaction_indication
    file_segment_recv_indication = report_indication = suspended_indication = transaction_indication
    resumed_indication = fault_indication = abandoned_indication = eof_recv_indication = transaction_indication


def entity(number: int, other: int) -> tuple[LocalEntityConfig, RemoteEntityConfigTable]:
    remote = RemoteEntityConfig(
        entity_id=ByteFieldU8(other),
        max_file_segment_len=512,
        max_packet_len=1024,
        closure_requested=False,
        crc_on_transmission=True,
        default_transmission_mode=TransmissionMode.ACKNOWLEDGED,
        crc_type=ChecksumType.CRC_32,
        positive_ack_timer_interval_seconds=ALWAYS_S,
        positive_ack_timer_expiration_limit=1 << 30,
        nak_timer_interval_seconds=ALWAYS_S,
        nak_timer_expiration_limit=1 << 30,
        immediate_nak_mode=False,
    )
    return LocalEntityConfig(ByteFieldU8(number), IndicationConfig(), Faults()), RemoteEntityConfigTable([remote])


class OtherSide:
    """A handler of cfdp-py, fed packets and asked for some."""

    def __init__(self, handler) -> None:  # type: ignore[no-untyped-def]
        self.handler = handler
        self.waiting: list[bytes] = []

    def feed(self, packet: bytes | None) -> None:
        with contextlib.suppress(InvalidNakPdu, PduIgnoredForDest, PduIgnoredForSource):  # not wanted in its state
            self.handler.state_machine(None if packet is None else PduFactory.from_raw(packet))
        while (holder := self.handler.get_next_packet()) is not None:
            self.waiting.append(bytes(holder.pack()))


@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_a_file_of_ours_arrives_at_the_other_implementation(lost: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    local, table = entity(2, 1)
    other = OtherSide(DestHandler(local, User(), table, Timers()))
    target = tmp_path / "there"
    sender = FileSender(Transaction(1, 2, 1), str(target), DATA, timeout_s=3.0)
    now = 0.0
    first = sender.next_packet(now)  # a receiver that hears of a file from its middle takes no name of it later
    assert first is not None
    other.feed(first)
    for _ in range(MOST_TURNS):
        now += 1.0
        packet = sender.next_packet(now)
        window = int(now) % 40 < 30  # contact, and none
        other.feed(packet if packet and window and rng.random() >= lost else None)
        for answer in other.waiting:
            if window and rng.random() >= lost:
                sender.take(answer, now)
        other.waiting.clear()
        if sender.done:
            break
    assert sender.done
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_a_file_of_the_other_implementation_arrives_at_ours(lost: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    source = tmp_path / "here"
    source.write_bytes(DATA)
    local, table = entity(1, 2)
    other = OtherSide(SourceHandler(local, User(), table, Timers(), SeqCountProvider(16)))
    request = PutRequest(ByteFieldU8(2), source, tmp_path / "there", None, None)
    assert other.handler.put_request(request)
    number = None
    receiver = None
    now = 0.0
    for _ in range(MOST_TURNS):
        now += 1.0
        window = int(now) % 40 < 30
        other.feed(None)
        for packet in other.waiting[:]:
            if number is None:
                number = PduFactory.from_raw(packet).transaction_seq_num.value
                receiver = FileReceiver(Transaction(1, 2, number), timeout_s=3.0)
            if window and rng.random() >= lost:
                assert receiver is not None
                receiver.take(packet, now)
        other.waiting.clear()
        answer = None if receiver is None else receiver.next_packet(now)
        if answer is not None and window and rng.random() >= lost:
            other.feed(answer)
        if receiver is not None and receiver.complete:
            break
    assert receiver is not None
    assert receiver.complete
    assert bytes(receiver.data) == DATA
