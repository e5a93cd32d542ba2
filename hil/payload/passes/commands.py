"""Commands and telemetry by the packet utilisation standard (ECSS-E-ST-70-41C), and the flight computer that answers.

    TC 8,1    a function: number 1 byte, arguments         TM 1,1 and 1,7, or 1,2 and 1,8 with a reason
    TC 17,1   are you there                                TM 17,2
    TM 3,25   housekeeping                                 TM 5,3  a program or an update was refused

Function 1 takes the uplinked program, function 2 the uplinked update, function 16 hands a message of the wire protocol
to the chip and answers with TM 8,129. A refusal leaves what was on board as it was.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from spacepackets.ecss.tc import PusTc
from spacepackets.ecss.tm import PusTm

from cim.chip.spec import ChipSpec
from hil.errors import DeviceError, FileError, HilError, MismatchError, NotAuthorised
from hil.payload.passes.flight_image import load_image
from hil.payload.passes.lossy_link import APID_COMMANDS
from hil.payload.passes.update import apply_update
from hil.payload.secded import CodedBytes, coded, corrected
from mapping.program.conductance import ConductanceProgram

TAKE_PROGRAM, TAKE_UPDATE, CHIP_MESSAGE = 1, 2, 16
TIME_BYTES = 4  # seconds of chip time
HOUSEKEEPING = struct.Struct(">BIIIhQ")
HOUSEKEEPING_FIELDS = (
    ("SERVING", 8, False),
    ("UPDATE_COUNTER", 32, False),
    ("IMAGES", 32, False),
    ("ALARMS", 32, False),
    ("TEMPERATURE_CENTI_C", 16, True),
    ("PROGRAM_DIGEST", 64, False),
)
"""Name, bits and sign of every field of TM 3,25, in order."""
REASONS: dict[type[HilError], int] = {FileError: 1, MismatchError: 2, NotAuthorised: 3}
UNKNOWN_FUNCTION, NOTHING_THERE = 4, 5
MOST_MESSAGE = 4096


def function_call(number: int, arguments: bytes, sequence: int) -> bytes:
    """The bytes of a TC 8,1."""
    return bytes(_command(8, 1, bytes([number]) + arguments, sequence).pack())


def ping(sequence: int) -> bytes:
    """The bytes of a TC 17,1."""
    return bytes(_command(17, 1, b"", sequence).pack())


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One telemetry packet: service, subservice, content."""

    service: int
    subservice: int
    content: bytes


def read_telemetry(packet: bytes) -> Telemetry:
    """Read a telemetry packet.

    Raises:
        FileError: no such packet, or a wrong checksum.
    """
    try:
        tm = PusTm.unpack(packet, TIME_BYTES)
    except Exception as error:  # its parser raises many kinds
        raise FileError(f"{len(packet)} bytes are no telemetry", likely=str(error)) from error
    return Telemetry(tm.service, tm.message_subtype, bytes(tm.source_data))


@dataclass
class FlightComputer:
    """The computer beside the chip: files by name under a SECDED code, the program on board, counters.

    ``chip`` answers a message.
    """

    spec: ChipSpec
    chip: Callable[[bytes], bytes] | None = None
    files: dict[str, CodedBytes] = field(default_factory=dict)
    program: ConductanceProgram | None = None
    update_counter: int = 0
    images: int = 0
    alarms: int = 0
    temperature_c: float = 25.0
    time_s: int = 0
    sent: int = 0

    def take(self, packet: bytes) -> list[bytes]:
        """Telemetry that answers a command; what is no command, or damaged, is not answered."""
        try:
            command = PusTc.unpack(packet)
        except Exception:  # its parser raises many kinds
            return []
        request = bytes(packet[:4])  # packet id and sequence control name the command
        key = (command.service, command.message_subtype)
        if key == (17, 1):
            return [self._tm(1, 1, request), self._tm(17, 2, b""), self._tm(1, 7, request)]
        if key != (8, 1) or not command.app_data:
            return [self._tm(1, 2, request + bytes([UNKNOWN_FUNCTION]))]
        number, arguments = command.app_data[0], bytes(command.app_data[1:])
        if number not in (TAKE_PROGRAM, TAKE_UPDATE, CHIP_MESSAGE):
            return [self._tm(1, 2, request + bytes([UNKNOWN_FUNCTION]))]
        accepted = self._tm(1, 1, request)
        try:
            more = self._function(number, arguments)
        except HilError as error:
            reason = next((code for kind, code in REASONS.items() if isinstance(error, kind)), NOTHING_THERE)
            failed = self._tm(1, 8, request + bytes([reason]))
            return [accepted, failed, self._tm(5, 3, bytes([number, reason]))]
        return [accepted, *more, self._tm(1, 7, request)]

    def housekeeping(self) -> bytes:
        """Housekeeping report, PUS service 3, subtype 25."""
        digest = 0 if self.program is None else int(self.program.digest[:16], 16)
        centi = max(-32768, min(32767, round(100 * self.temperature_c)))
        serving = int(self.program is not None)
        content = HOUSEKEEPING.pack(serving, self.update_counter, self.images, self.alarms, centi, digest)
        return self._tm(3, 25, content)

    def keep(self, name: str, data: bytes) -> None:
        """Store a file under its code."""
        self.files[name] = coded(data)

    def file(self, name: str) -> bytes:
        """Read a stored file: words with one upset bit are corrected, written back and counted as alarms.

        Raises:
            DeviceError: no such file.
            FileError: a word with more upset bits than the code corrects.
        """
        if name not in self.files:
            raise DeviceError(f"no file {name!r:.40} on board")
        found = corrected(self.files[name])
        self.alarms += found.corrected + found.lost
        if found.lost:
            raise FileError(
                f"{name!r:.40}: {found.lost} stored words have more upset bits than their code corrects",
                likely="too long since the file was read through",
                hint="send it again",
            )
        self.keep(name, found.data)
        return found.data

    def _function(self, number: int, arguments: bytes) -> list[bytes]:
        if number == CHIP_MESSAGE:
            if self.chip is None or len(arguments) > MOST_MESSAGE:
                raise DeviceError("no chip, or too long a message")
            return [self._tm(8, 129, self.chip(arguments))]
        name = arguments.decode("utf-8", "replace")
        data = self.file(name)
        if number == TAKE_PROGRAM:
            self.program = load_image(data, self.spec)
        elif self.program is None:
            raise DeviceError("no program on board")
        else:
            self.program, self.update_counter = apply_update(self.program, data, self.update_counter)
        return []

    def _tm(self, service: int, subservice: int, content: bytes) -> bytes:
        stamp = struct.pack(">I", self.time_s & 0xFFFFFFFF)
        counter = self.sent & 0x3FFF
        self.sent += 1
        packet = PusTm(
            service=service,
            message_subtype=subservice,
            timestamp=stamp,
            source_data=content,
            apid=APID_COMMANDS,
            seq_count=counter,
        )
        return bytes(packet.pack())


def _command(service: int, subservice: int, content: bytes, sequence: int) -> PusTc:
    return PusTc(
        service=service, message_subtype=subservice, app_data=content, apid=APID_COMMANDS, seq_count=sequence & 0x3FFF
    )
