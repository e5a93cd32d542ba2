"""Files by CFDP class 2 (CCSDS 727.0-B-5): a sender and a receiver as state machines, fed packets and a clock.

Neither reads a port or a wall clock, so a pass may end at any packet: what was sent is sent, what is missing is asked
for in the next pass. A receiver can be saved and taken up again after a restart (``snapshot``). Packets are those of
``spacepackets``.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import deque
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from spacepackets.cfdp import ChecksumType, ConditionCode, CrcFlag, PduConfig, TransmissionMode
from spacepackets.cfdp.pdu import (
    AckPdu,
    DeliveryCode,
    DirectiveType,
    EofPdu,
    FileDataPdu,
    FileStatus,
    FinishedPdu,
    MetadataParams,
    MetadataPdu,
    NakPdu,
    PduFactory,
    TransactionStatus,
)
from spacepackets.cfdp.pdu.file_data import FileDataParams
from spacepackets.cfdp.pdu.finished import FinishedParams
from spacepackets.util import ByteFieldU8, ByteFieldU16

from cim.json_text import parse_json
from hil.errors import FileError

SEGMENT = 512  # bytes of the file in one packet
MOST_FILE = 1 << 28
CHECKSUMS = (ChecksumType.CRC_32, ChecksumType.MODULAR)
MOST_REQUESTS = 32  # missing parts that one packet asks for


@dataclass(frozen=True, slots=True)
class Transaction:
    """Who sends to whom, and the number of the transfer; ``crc``: whether each of our packets carries a checksum of its
    own, which some implementations do not take."""

    source: int
    destination: int
    number: int
    crc: bool = True

    def config(self) -> PduConfig:
        return PduConfig(
            source_entity_id=ByteFieldU8(self.source),
            dest_entity_id=ByteFieldU8(self.destination),
            transaction_seq_num=ByteFieldU16(self.number),
            trans_mode=TransmissionMode.ACKNOWLEDGED,
            crc_flag=CrcFlag.WITH_CRC if self.crc else CrcFlag.NO_CRC,
        )


@dataclass
class FileSender:
    """Sends one file. ``timeout_s``: after which an end of file that nobody acknowledged is sent again; ``checksum`` is
    CRC-32 or modular."""

    transaction: Transaction
    name: str
    data: bytes
    timeout_s: float
    segment: int = SEGMENT
    checksum: ChecksumType = ChecksumType.CRC_32
    sent: int = 0  # bytes of the first round
    done: bool = False
    acknowledged: bool = False  # the end of the file
    again: deque[tuple[int, int]] = field(default_factory=deque)
    metadata_due: bool = True
    eof_due_s: float = 0.0
    finished_due: bool = False

    def next_packet(self, now_s: float) -> bytes | None:
        """The next packet to send, None while there is nothing to say."""
        config = self.transaction.config()
        if self.finished_due:
            self.finished_due, self.done = False, True
            return bytes(
                AckPdu(config, DirectiveType.FINISHED_PDU, ConditionCode.NO_ERROR, TransactionStatus.ACTIVE).pack()
            )
        if self.done:
            return None
        if self.metadata_due:
            self.metadata_due = False
            params = MetadataParams(False, self.checksum, len(self.data), self.name, self.name)
            return bytes(MetadataPdu(config, params).pack())
        if self.again:
            start, end = self.again.popleft()
            if end - start > self.segment:
                self.again.appendleft((start + self.segment, end))
            return self._part(start, min(end, start + self.segment))
        if self.sent < len(self.data):
            start = self.sent
            self.sent = min(len(self.data), start + self.segment)
            return self._part(start, self.sent)
        if not self.acknowledged and now_s >= self.eof_due_s:
            self.eof_due_s = now_s + self.timeout_s
            return bytes(EofPdu(config, file_checksum(self.data, self.checksum), len(self.data)).pack())
        return None

    def take(self, packet: bytes, now_s: float) -> None:
        """A packet from the receiver; what is none of this transfer's is left alone."""
        pdu = _parsed(packet, self.transaction)
        if isinstance(pdu, AckPdu) and pdu.directive_code_of_acked_pdu == DirectiveType.EOF_PDU:
            self.acknowledged = True
        elif isinstance(pdu, NakPdu):
            for start, end in pdu.segment_requests:
                if (start, end) == (0, 0):
                    self.metadata_due = True
                elif 0 <= start < end <= len(self.data) and (start, end) not in self.again:
                    self.again.append((start, end))
        elif isinstance(pdu, FinishedPdu):
            self.finished_due = True

    def next_time_s(self) -> float | None:
        """When there is something to say that is not yet due."""
        waits = not self.done and not self.acknowledged and self.sent == len(self.data)
        return self.eof_due_s if waits else None

    def _part(self, start: int, end: int) -> bytes:
        return bytes(FileDataPdu(self.transaction.config(), FileDataParams(self.data[start:end], start)).pack())


@dataclass
class FileReceiver:
    """Receives one file. ``timeout_s``: after which missing parts are asked for, and the end is told, again."""

    transaction: Transaction
    timeout_s: float
    most_bytes: int = MOST_FILE
    name: str | None = None
    size: int | None = None
    checksum: bytes | None = None
    checksum_kind: int = ChecksumType.CRC_32
    parts: list[tuple[int, int]] = field(default_factory=list)  # ascending, apart
    data: bytearray = field(default_factory=bytearray)
    complete: bool = False
    done: bool = False  # the sender knows
    eof_ack_due: bool = False
    ask_due_s: float = 0.0
    refused: str = ""

    def next_packet(self, now_s: float) -> bytes | None:
        config = self.transaction.config()
        if self.eof_ack_due:
            self.eof_ack_due = False
            return bytes(AckPdu(config, DirectiveType.EOF_PDU, ConditionCode.NO_ERROR, TransactionStatus.ACTIVE).pack())
        if self.done or self.checksum is None or now_s < self.ask_due_s:
            return None
        self.ask_due_s = now_s + self.timeout_s
        if self.complete:
            params = FinishedParams(ConditionCode.NO_ERROR, DeliveryCode.DATA_COMPLETE, FileStatus.FILE_RETAINED)
            return bytes(FinishedPdu(config, params).pack())
        assert self.size is not None
        requests = ([(0, 0)] if self.name is None else []) + self.missing()
        return bytes(NakPdu(config, 0, self.size, requests[:MOST_REQUESTS]).pack())

    def take(self, packet: bytes, now_s: float) -> None:
        """A packet from the sender; what is none of this transfer's, or cannot be, is left alone."""
        pdu = _parsed(packet, self.transaction)
        if isinstance(pdu, MetadataPdu) and self.name is None and self._fits(pdu.file_size):
            if pdu.params.checksum_type not in CHECKSUMS:
                self.refused = f"a checksum of kind {int(pdu.params.checksum_type)}"
                return
            self.name, self.size = pdu.dest_file_name or "", pdu.file_size
            self.checksum_kind = int(pdu.params.checksum_type)
        elif isinstance(pdu, FileDataPdu) and not self.complete:
            self._keep(pdu.offset, bytes(pdu.file_data))
        elif isinstance(pdu, EofPdu) and self._fits(pdu.file_size):
            self.eof_ack_due = True
            if self.checksum is None:
                self.size, self.checksum, self.ask_due_s = pdu.file_size, bytes(pdu.file_checksum), now_s
        elif isinstance(pdu, AckPdu) and pdu.directive_code_of_acked_pdu == DirectiveType.FINISHED_PDU:
            self.done = self.complete
        self._finish(now_s)

    def next_time_s(self) -> float | None:
        return None if self.done or self.checksum is None else self.ask_due_s

    def missing(self) -> list[tuple[int, int]]:
        """Parts that are not there yet."""
        found, at = [], 0
        for start, end in [*self.parts, (self.size or 0, self.size or 0)]:
            if start > at:
                found.append((at, start))
            at = max(at, end)
        return found

    def snapshot(self) -> bytes:
        """All that a restart needs, as bytes."""
        about: dict[str, Any] = {
            "transaction": list(astuple(self.transaction)),
            "timeout_s": self.timeout_s,
            "most_bytes": self.most_bytes,
            "name": self.name,
            "size": self.size,
            "checksum": None if self.checksum is None else self.checksum.hex(),
            "checksum_kind": self.checksum_kind,
            "parts": self.parts,
            "complete": self.complete,
            "done": self.done,
        }
        text = json.dumps(about).encode()
        body = struct.pack(">I", len(text)) + text + bytes(self.data)
        return body + struct.pack(">I", zlib.crc32(body))

    @classmethod
    def restore(cls, saved: bytes) -> FileReceiver:
        """The inverse of ``snapshot``.

        Raises:
            FileError: damaged.
        """
        try:
            if struct.unpack(">I", saved[-4:])[0] != zlib.crc32(saved[:-4]):
                raise ValueError("its checksum does not fit")
            (length,) = struct.unpack_from(">I", saved)
            about = parse_json(saved[4 : 4 + length])
            receiver = cls(Transaction(*about["transaction"]), about["timeout_s"], about["most_bytes"])
            receiver.name, receiver.size = about["name"], about["size"]
            receiver.checksum = None if about["checksum"] is None else bytes.fromhex(about["checksum"])
            receiver.checksum_kind = int(about["checksum_kind"])
            receiver.parts = [(int(a), int(b)) for a, b in about["parts"]]
            receiver.complete, receiver.done = about["complete"], about["done"]
            receiver.data = bytearray(saved[4 + length : -4])
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise FileError("a saved transfer is damaged", likely=str(error), hint="begin it again") from error
        return receiver

    def _fits(self, size: int) -> bool:
        if size > self.most_bytes:
            self.refused = f"a file of {size:,} bytes, over {self.most_bytes:,}"
        return size <= self.most_bytes and (self.size is None or self.size == size)

    def _keep(self, start: int, data: bytes) -> None:
        end = start + len(data)
        if not data or end > (self.most_bytes if self.size is None else self.size):
            return
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        self.data[start:end] = data
        merged: list[tuple[int, int]] = []
        for low, high in sorted([*self.parts, (start, end)]):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        self.parts = merged

    def _finish(self, now_s: float) -> None:
        if self.complete or self.checksum is None or self.name is None or self.missing():
            return
        if file_checksum(bytes(self.data), self.checksum_kind) == self.checksum:
            self.complete, self.ask_due_s = True, now_s
        else:  # nothing says which part is wrong
            self.parts = []


def file_checksum(data: bytes, kind: int) -> bytes:
    """Checksum of a file, four bytes: CRC-32, or the sum of its words modulo 2^32 (CCSDS 727.0-B-5, annex F).

    Example: the modular sum of 01 02 03 04 05 is 01020304 + 05000000 = 06020304.
    """
    if kind == ChecksumType.CRC_32:
        return struct.pack(">I", zlib.crc32(data))
    words = np.frombuffer(data + bytes(-len(data) % 4), ">u4")
    return struct.pack(">I", int(words.sum(dtype=np.uint64)) & 0xFFFFFFFF)


def _parsed(packet: bytes, transaction: Transaction) -> Any:
    """The packet, if it is one of this transfer."""
    try:
        pdu = PduFactory.from_raw(packet)
    except Exception:  # whatever its parser trips over, the packet is of no use
        return None
    if pdu is None:
        return None
    known = transaction.config()
    own = (pdu.source_entity_id.value, pdu.dest_entity_id.value, pdu.transaction_seq_num.value)
    return pdu if own == (known.source_entity_id.value, known.dest_entity_id.value, transaction.number) else None
