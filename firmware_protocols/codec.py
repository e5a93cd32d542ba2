"""Messages and their bytes: one table of operations, one reader and writer each (docs/file-formats.md).

A message is: op u8, flags u8 (``firmware_protocols.coding.packed``), request id u16; on replies (op >= 0x80) chip time
u64 in ns; then the body. Everything is little-endian.

    >>> decode(encode(Wait(1_000_000), request_id=5)).message
    Wait(duration_ns=1000000)
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

from firmware_protocols import reply_bodies, request_bodies
from firmware_protocols.coding.packed import unpacked
from firmware_protocols.errors import LocalProtocolError, MalformedMessage, UnknownOperation
from firmware_protocols.extensions import bodies
from firmware_protocols.extensions import messages as later
from firmware_protocols.layouts import layout
from firmware_protocols.messages import (
    CellReadings,
    Describe,
    Description,
    Done,
    ErrorReply,
    Hello,
    HelloReject,
    HelloReply,
    HoldProgram,
    LoadLayer,
    Message,
    Mvm,
    MvmResult,
    OutputsOff,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Reset,
    Status,
    StatusReply,
    Sweep,
    TileProgrammed,
    Wait,
)
from firmware_protocols.packing import BodyReader, BodyWriter
from firmware_protocols.plans import bodies as plan_bodies
from firmware_protocols.plans import messages as plans


class Op(enum.IntEnum):
    """Operations; bit 7 marks a reply. Ranges not listed are reserved (docs/file-formats.md)."""

    HELLO = 0x01
    DESCRIBE = 0x02
    STATUS = 0x03
    WAIT = 0x04
    OUTPUTS_OFF = 0x05
    RESET = 0x06
    HOLD_PROGRAM = 0x07
    PROGRAM_TILE = 0x10
    PULSE = 0x11
    READ_CELLS = 0x12
    MVM = 0x20
    SWEEP = 0x21
    LOAD_LAYER = 0x22
    LOAD_PLAN = 0x23
    RUN_PLAN = 0x24
    CHALLENGE = 0x30
    AUTHORISE = 0x31
    DROP_AUTHORITY = 0x32
    IMAGE_BEGIN = 0x40
    IMAGE_CHUNK = 0x41
    IMAGE_STATUS = 0x42
    IMAGE_COMMIT = 0x43
    IMAGE_TILE = 0x44
    JOURNAL = 0x48
    HELLO_REPLY = 0x81
    DESCRIPTION = 0x82
    STATUS_REPLY = 0x83
    DONE = 0x84
    PROGRESS = 0x85
    ERROR = 0x86
    HELLO_REJECT = 0x87
    TILE_PROGRAMMED = 0x90
    CELL_READINGS = 0x92
    MVM_RESULT = 0xA0
    PLAN_RESULT = 0xA4
    CHALLENGED = 0xB0
    IMAGE_STATE = 0xC0
    JOURNAL_STATE = 0xC8


class Decoded(NamedTuple):
    message: Message
    request_id: int
    chip_time_ns: int  # 0 on requests


HEADER = layout("message")
_TIME = layout("chip_time")
_RANGE = layout("hello_reject")
_WAIT = layout("wait")
_PROGRESS = layout("progress")


def encode(message: Message, request_id: int = 0, chip_time_ns: int = 0, flags: int = 0) -> bytes:
    """The bytes of a message. Raises ``LocalProtocolError`` when a field or an array does not fit.

    Args:
        message: to send.
        request_id: number that its reply repeats; 0: none.
        chip_time_ns: clock of the chip, of replies, ns.
        flags: bits of the header (docs/file-formats.md).

    Returns:
        the body of a frame.

    Example:
        >>> encode(Status(), request_id=1).hex()
        '03000100'
    """
    entry = _WRITERS.get(type(message))
    if entry is None:
        raise LocalProtocolError(f"{type(message).__name__} is not a message")
    op, write = entry
    writer = BodyWriter()
    writer.fields(HEADER, op, flags, request_id)
    if op & 0x80:
        writer.fields(_TIME, chip_time_ns)
    write(writer, message)
    return writer.join()


def decode(data: bytes | memoryview) -> Decoded:
    """The message of some bytes, packed or not; arrays may be read-only views of them.

    Args:
        data: body of a frame.

    Returns:
        message, request id and chip time.

    Raises:
        UnknownOperation: the op is not in the table.
        MalformedMessage: anything else is wrong; ``request_id`` tells whose it was, 0 if unknown.

    Example:
        >>> decode(encode(Status(), request_id=1)).message
        Status()
    """
    if len(data) < HEADER.size:
        raise MalformedMessage(f"a message has at least {HEADER.size} bytes, not {len(data)}")
    data = unpacked(data)
    op, _, request_id = HEADER.unpack_from(data)
    read = _READERS.get(op)
    if read is None:
        raise UnknownOperation(op, request_id)
    reader = BodyReader(data)
    reader.fields(HEADER)
    try:
        chip_time_ns = reader.fields(_TIME)[0] if op & 0x80 else 0
        message = read(reader)
        reader.skip_options()
    except MalformedMessage as error:
        raise MalformedMessage(error.text, op, request_id) from None
    except ValueError as error:  # an enumeration value that does not exist
        raise MalformedMessage(str(error), op, request_id) from None
    return Decoded(message, request_id, chip_time_ns)


def _nothing(w: BodyWriter, m: object) -> None:
    """Write the body of a message without fields."""


def _empty(kind: Callable[[], Message]) -> _Reader:
    """The reader of a message without fields."""

    def read(_: BodyReader) -> Message:
        return kind()

    return read


def _write_wait(w: BodyWriter, m: Wait) -> None:
    w.fields(_WAIT, m.duration_ns)


def _read_wait(r: BodyReader) -> Wait:
    return Wait(*r.fields(_WAIT))


def _write_hold_program(w: BodyWriter, m: HoldProgram) -> None:
    w.digest(m.digest)


def _read_hold_program(r: BodyReader) -> HoldProgram:
    return HoldProgram(r.digest())


def _write_hello_reject(w: BodyWriter, m: HelloReject) -> None:
    w.fields(_RANGE, m.version_min, m.version_max)


def _read_hello_reject(r: BodyReader) -> HelloReject:
    return HelloReject(*r.fields(_RANGE))


def _write_progress(w: BodyWriter, m: Progress) -> None:
    w.fields(_PROGRESS, m.done, m.total, m.failed)


def _read_progress(r: BodyReader) -> Progress:
    return Progress(*r.fields(_PROGRESS))


_Writer = Callable[[BodyWriter, Any], object]
_Reader = Callable[[BodyReader], Message]

_TABLE: tuple[tuple[Op, type[Any], _Writer, _Reader], ...] = (
    (Op.HELLO, Hello, request_bodies.write_hello, request_bodies.read_hello),
    (Op.DESCRIBE, Describe, _nothing, _empty(Describe)),
    (Op.STATUS, Status, _nothing, _empty(Status)),
    (Op.WAIT, Wait, _write_wait, _read_wait),
    (Op.OUTPUTS_OFF, OutputsOff, _nothing, _empty(OutputsOff)),
    (Op.RESET, Reset, _nothing, _empty(Reset)),
    (Op.HOLD_PROGRAM, HoldProgram, _write_hold_program, _read_hold_program),
    (Op.PROGRAM_TILE, ProgramTile, request_bodies.write_program, request_bodies.read_program),
    (Op.PULSE, Pulse, request_bodies.write_pulse, request_bodies.read_pulse),
    (Op.READ_CELLS, ReadCells, request_bodies.write_read_cells, request_bodies.read_read_cells),
    (Op.MVM, Mvm, request_bodies.write_mvm, request_bodies.read_mvm),
    (Op.SWEEP, Sweep, request_bodies.write_sweep, request_bodies.read_sweep),
    (Op.LOAD_LAYER, LoadLayer, request_bodies.write_load_layer, request_bodies.read_load_layer),
    (Op.HELLO_REPLY, HelloReply, reply_bodies.write_hello_reply, reply_bodies.read_hello_reply),
    (Op.HELLO_REJECT, HelloReject, _write_hello_reject, _read_hello_reject),
    (Op.DESCRIPTION, Description, reply_bodies.write_description, reply_bodies.read_description),
    (Op.PROGRESS, Progress, _write_progress, _read_progress),
    (Op.TILE_PROGRAMMED, TileProgrammed, reply_bodies.write_tile_programmed, reply_bodies.read_tile_programmed),
    (Op.CELL_READINGS, CellReadings, reply_bodies.write_readings, reply_bodies.read_cell_readings),
    (Op.MVM_RESULT, MvmResult, reply_bodies.write_mvm_result, reply_bodies.read_mvm_result),
    (Op.STATUS_REPLY, StatusReply, reply_bodies.write_status, reply_bodies.read_status),
    (Op.DONE, Done, _nothing, _empty(Done)),
    (Op.ERROR, ErrorReply, reply_bodies.write_error, reply_bodies.read_error),
    (Op.LOAD_PLAN, plans.LoadPlan, plan_bodies.write_load_plan, plan_bodies.read_load_plan),
    (Op.RUN_PLAN, plans.RunPlan, plan_bodies.write_run_plan, plan_bodies.read_run_plan),
    (Op.PLAN_RESULT, plans.PlanResult, plan_bodies.write_plan_result, plan_bodies.read_plan_result),
    (Op.CHALLENGE, later.Challenge, _nothing, _empty(later.Challenge)),
    (Op.AUTHORISE, later.Authorise, bodies.write_authorise, bodies.read_authorise),
    (Op.DROP_AUTHORITY, later.DropAuthority, _nothing, _empty(later.DropAuthority)),
    (Op.IMAGE_BEGIN, later.ImageBegin, bodies.write_image_begin, bodies.read_image_begin),
    (Op.IMAGE_CHUNK, later.ImageChunk, bodies.write_image_chunk, bodies.read_image_chunk),
    (Op.IMAGE_STATUS, later.ImageStatus, _nothing, _empty(later.ImageStatus)),
    (Op.IMAGE_COMMIT, later.ImageCommit, bodies.write_image_commit, bodies.read_image_commit),
    (Op.IMAGE_TILE, later.ImageTile, bodies.write_image_tile, bodies.read_image_tile),
    (Op.JOURNAL, later.AskJournal, _nothing, _empty(later.AskJournal)),
    (Op.CHALLENGED, later.Challenged, bodies.write_challenged, bodies.read_challenged),
    (Op.IMAGE_STATE, later.ImageState, bodies.write_image_state, bodies.read_image_state),
    (Op.JOURNAL_STATE, later.JournalState, bodies.write_journal_state, bodies.read_journal_state),
)
_WRITERS: dict[type, tuple[Op, _Writer]] = {kind: (op, write) for op, kind, write, _ in _TABLE}
_READERS: dict[int, _Reader] = {int(op): read for op, _, _, read in _TABLE}
