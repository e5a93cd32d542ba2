"""Messages and their bytes: one table of operations, one reader and writer each (docs/protocol.md).

A message is: op u8, flags u8 (0), request id u16; on replies (op >= 0x80) chip time u64 in ns;
then the body. Everything is little-endian.

    >>> decode(encode(Wait(1_000_000), request_id=5)).message
    Wait(duration_ns=1000000)
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from firmware_protocols.errors import LocalProtocolError, MalformedMessage, UnknownOperation
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    CellReadings,
    Describe,
    Description,
    Done,
    ErrorCode,
    ErrorReply,
    Hello,
    HelloReject,
    HelloReply,
    HoldProgram,
    LayerTile,
    LoadLayer,
    Message,
    Mvm,
    MvmResult,
    OutputsOff,
    Polarity,
    ProgramTile,
    Progress,
    Pulse,
    ReadCells,
    Reset,
    Returns,
    Status,
    StatusReply,
    Sweep,
    TileAddress,
    TileProgrammed,
    Wait,
    Window,
)
from firmware_protocols.packing import BodyReader, BodyWriter


class Op(enum.IntEnum):
    """Operations; bit 7 marks a reply. Ranges not listed are reserved (docs/protocol.md)."""

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


class Decoded(NamedTuple):
    message: Message
    request_id: int
    chip_time_ns: int  # 0 on requests


HEADER = struct.Struct("<BBH")
_TIME = struct.Struct("<Q")
_HELLO = struct.Struct("<HHHBxI")
_HELLO_REPLY = struct.Struct("<HHIIIBB")
_RANGE = struct.Struct("<HH")
_WAIT = struct.Struct("<Q")
_CELLS = struct.Struct("<5H")  # of a block of cells or of a tile
_PROGRAM = struct.Struct("<I9HIQ")
_PULSE = struct.Struct("<BxHIQ")
_READ = struct.Struct("<IHxxQ")
_COMPUTE = struct.Struct("<BBBBHxxQ")
_MVM = struct.Struct("<IIII")
_SWEEP = struct.Struct("<IIIHH8H")
_LAYER = struct.Struct("<HHIIii")
_LAYER_TILE = struct.Struct("<IIiBxxx")
_DESCRIPTION = struct.Struct("<HHH")
_PROGRESS = struct.Struct("<III")
_READINGS = struct.Struct("<IHH")
_RESULT = struct.Struct("<BBxxII")
_LENGTH = struct.Struct("<I")
_STATUS = struct.Struct("<dBxxxII")
_ERROR = struct.Struct("<Hdd")

_SIGNED, _HAS_TILE = 1, 2  # flags of a compute request


def encode(message: Message, request_id: int = 0, chip_time_ns: int = 0) -> bytes:
    """The bytes of a message. Raises ``LocalProtocolError`` when a field or an array does not fit."""
    entry = _WRITERS.get(type(message))
    if entry is None:
        raise LocalProtocolError(f"{type(message).__name__} is not a message")
    op, write = entry
    writer = BodyWriter()
    writer.fields(HEADER, op, 0, request_id)
    if op & 0x80:
        writer.fields(_TIME, chip_time_ns)
    write(writer, message)
    return writer.join()


def decode(data: bytes | memoryview) -> Decoded:
    """The message of some bytes; arrays may be read-only views of them.

    Raises:
        UnknownOperation: the op is not in the table.
        MalformedMessage: anything else is wrong; ``request_id`` tells whose it was, 0 if unknown.
    """
    if len(data) < HEADER.size:
        raise MalformedMessage(f"a message has at least {HEADER.size} bytes, not {len(data)}")
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


# --- parts --------------------------------------------------------------------------------


def _write_block(w: BodyWriter, cells: CellBlock) -> tuple[int, int]:
    w.fields(_CELLS, cells.macro, cells.row0, cells.rows, cells.column0, cells.columns)
    return cells.rows, cells.columns


def _read_block(r: BodyReader) -> CellBlock:
    return CellBlock(*r.fields(_CELLS))


def _write_tile(w: BodyWriter, tile: TileAddress | None) -> None:
    at = (0, 0, 0, 0, 0) if tile is None else (tile.macro, tile.row0, tile.rows, tile.output0, tile.outputs)
    w.fields(_CELLS, *at)


def _write_compute(w: BodyWriter, m: Mvm | Sweep) -> None:
    flags = (_SIGNED if m.input_signed else 0) | (_HAS_TILE if m.tile is not None else 0)
    w.fields(_COMPUTE, m.returns, flags, m.range_code, m.input_bits, m.layer, m.sample)
    _write_tile(w, m.tile)


def _read_compute(r: BodyReader) -> dict[str, Any]:
    returns, flags, range_code, input_bits, layer, sample = r.fields(_COMPUTE)
    tile = TileAddress(*r.fields(_CELLS))
    if not flags & _HAS_TILE and Returns(returns) is not Returns.LAYER:
        raise MalformedMessage("a tile address is needed unless a loaded layer is run")
    return {
        "returns": Returns(returns),
        "tile": tile if flags & _HAS_TILE else None,
        "layer": layer,
        "range_code": range_code,
        "input_bits": input_bits,
        "input_signed": bool(flags & _SIGNED),
        "sample": sample,
    }


# --- requests -----------------------------------------------------------------------------


def _write_hello(w: BodyWriter, m: Hello) -> None:
    w.fields(_HELLO, m.version_min, m.version_max, m.max_payload, m.window, m.nonce)


def _read_hello(r: BodyReader) -> Hello:
    return Hello(*r.fields(_HELLO))


def _write_program(w: BodyWriter, m: ProgramTile) -> None:
    shape = _write_block(w, m.cells)
    w.fields(
        _PROGRAM, m.unit_ns, m.tolerance, m.max_pulses, m.verify_reads, m.set_start_mv, m.set_step_mv, m.set_stop_mv,
        m.reset_start_mv, m.reset_step_mv, m.reset_stop_mv, m.pulse_width_ns, m.sample,
    )  # fmt: skip
    w.counts(m.targets, shape)


def _read_program(r: BodyReader) -> ProgramTile:
    cells = _read_block(r)
    unit_ns, tolerance, pulses, reads, s0, s1, s2, r0, r1, r2, width_ns, sample = r.fields(_PROGRAM)
    targets = r.counts((cells.rows, cells.columns))
    return ProgramTile(cells, unit_ns, tolerance, pulses, reads, s0, s1, s2, r0, r1, r2, width_ns, sample, targets)


def _write_pulse(w: BodyWriter, m: Pulse) -> None:
    shape = _write_block(w, m.cells)
    w.fields(_PULSE, m.polarity, 0, m.width_ns, m.sample)
    w.counts(m.millivolts, shape)


def _read_pulse(r: BodyReader) -> Pulse:
    cells = _read_block(r)
    polarity, _, width_ns, sample = r.fields(_PULSE)
    return Pulse(cells, Polarity(polarity), width_ns, sample, r.counts((cells.rows, cells.columns)))


def _write_read_cells(w: BodyWriter, m: ReadCells) -> None:
    _write_block(w, m.cells)
    w.fields(_READ, m.unit_ns, m.reads, m.sample)


def _read_read_cells(r: BodyReader) -> ReadCells:
    return ReadCells(_read_block(r), *r.fields(_READ))


def _write_mvm(w: BodyWriter, m: Mvm) -> None:
    if m.codes.ndim != 2:
        raise LocalProtocolError(f"codes of an Mvm are (vectors, rows), not {m.codes.shape}")
    _write_compute(w, m)
    w.fields(_MVM, m.vectors_per_sample, m.first_vector, *m.codes.shape)
    w.ints(m.codes, m.codes.shape, np.int16)


def _read_mvm(r: BodyReader) -> Mvm:
    common = _read_compute(r)
    per_sample, first, vectors, rows = r.fields(_MVM)
    if per_sample < 1:
        raise MalformedMessage("vectors_per_sample is 0")
    codes = r.ints((vectors, rows), np.int16)
    return Mvm(**common, vectors_per_sample=per_sample, first_vector=first, codes=codes)


def _write_sweep(w: BodyWriter, m: Sweep) -> None:
    v = m.window
    if m.codes.ndim != 4:
        raise LocalProtocolError(f"codes of a Sweep are (images, channels, height, width), not {m.codes.shape}")
    _write_compute(w, m)
    w.fields(
        _SWEEP, m.row_skip, m.codes.shape[0], v.channels, v.height, v.width,
        *v.kernel, *v.stride, *v.padding, *v.dilation,
    )  # fmt: skip
    w.ints(m.codes, (m.codes.shape[0], v.channels, v.height, v.width), np.int16)


def _read_sweep(r: BodyReader) -> Sweep:
    common = _read_compute(r)
    row_skip, images, channels, height, width, kh, kw, sh, sw, ph, pw, dh, dw = r.fields(_SWEEP)
    if 0 in (kh, kw, sh, sw, dh, dw):
        raise MalformedMessage("kernel, stride and dilation of a window must be at least 1")
    if dh * (kh - 1) + 1 > height + 2 * ph or dw * (kw - 1) + 1 > width + 2 * pw:
        raise MalformedMessage(f"kernel {kh} x {kw} does not fit the padded map of {height} x {width}")
    window = Window(channels, height, width, (kh, kw), (sh, sw), (ph, pw), (dh, dw))
    codes = r.ints((images, channels, height, width), np.int16)
    return Sweep(**common, window=window, row_skip=row_skip, codes=codes)


def _write_load_layer(w: BodyWriter, m: LoadLayer) -> None:
    w.fields(_LAYER, m.layer, len(m.tiles), m.inputs, m.outputs, m.low, m.high)
    for values in (m.bias, m.multiplier, m.shift):
        w.ints(values, (m.outputs,), np.int32)
    for tile in m.tiles:
        _write_tile(w, tile.address)
        w.fields(_LAYER_TILE, tile.first_input, tile.first_output, tile.multiplier, tile.shift)
        w.ints(tile.gain, (tile.address.outputs,), np.int32)
        w.ints(tile.offset, (tile.address.outputs,), np.int64)
        w.ints(tile.input_gain, (tile.address.outputs,), np.int32)


def _read_load_layer(r: BodyReader) -> LoadLayer:
    layer, count, inputs, outputs, low, high = r.fields(_LAYER)
    bias, multiplier, shift = (r.ints((outputs,), np.int32) for _ in range(3))
    tiles = tuple(_read_layer_tile(r) for _ in range(count))
    return LoadLayer(layer, inputs, outputs, low, high, bias, multiplier, shift, tiles)


def _read_layer_tile(r: BodyReader) -> LayerTile:
    address = TileAddress(*r.fields(_CELLS))
    first_input, first_output, multiplier, shift = r.fields(_LAYER_TILE)
    columns = (address.outputs,)
    gain, offset, input_gain = r.ints(columns, np.int32), r.ints(columns, np.int64), r.ints(columns, np.int32)
    return LayerTile(address, first_input, first_output, multiplier, shift, gain, offset, input_gain)


# --- replies ------------------------------------------------------------------------------


def _write_hello_reply(w: BodyWriter, m: HelloReply) -> None:
    w.fields(
        _HELLO_REPLY, m.version, m.max_payload, m.boot_id, m.max_message, m.capabilities, m.reset_cause, m.window
    )  # fmt: skip


def _read_hello_reply(r: BodyReader) -> HelloReply:
    version, max_payload, boot_id, max_message, capabilities, cause, window = r.fields(_HELLO_REPLY)
    return HelloReply(version, boot_id, cause, max_payload, window, max_message, Capability(capabilities))


def _write_description(w: BodyWriter, m: Description) -> None:
    w.fields(_DESCRIPTION, m.macros, m.rows, m.columns)
    w.digest(m.spec_digest)
    w.digest(m.program_digest)
    for text in (m.name, m.revision, m.serial, m.firmware, m.kind):
        w.text(text)


def _read_description(r: BodyReader) -> Description:
    macros, rows, columns = r.fields(_DESCRIPTION)
    spec_digest, program_digest = r.digest(), r.digest()
    name, revision, serial, firmware, kind = (r.text() for _ in range(5))
    return Description(name, revision, serial, firmware, kind, macros, rows, columns, spec_digest, program_digest)


def _write_tile_programmed(w: BodyWriter, m: TileProgrammed) -> None:
    shape = _write_readings(w, m)
    w.ints(m.pulses, shape, np.uint16)
    w.bits(m.reached, shape)


def _read_tile_programmed(r: BodyReader) -> TileProgrammed:
    unit_ns, *lengths = r.fields(_READINGS)
    shape = (lengths[0], lengths[1])
    return TileProgrammed(unit_ns, r.counts(shape), r.ints(shape, np.uint16), r.bits(shape))


def _write_readings(w: BodyWriter, m: CellReadings | TileProgrammed) -> tuple[int, ...]:
    if m.readings.ndim != 2:
        raise LocalProtocolError(f"readings are (rows, columns), not {m.readings.shape}")
    w.fields(_READINGS, m.unit_ns, *m.readings.shape)
    w.counts(m.readings, m.readings.shape)
    return m.readings.shape


def _read_cell_readings(r: BodyReader) -> CellReadings:
    unit_ns, rows, columns = r.fields(_READINGS)
    return CellReadings(unit_ns, r.counts((rows, columns)))


def _dimensions(returns: Returns) -> int:
    return 3 if returns is Returns.RAW else 2


def _write_mvm_result(w: BodyWriter, m: MvmResult) -> None:
    if m.values.ndim != _dimensions(m.returns):
        raise LocalProtocolError(f"{m.returns.name} values have {_dimensions(m.returns)} axes, not {m.values.shape}")
    w.fields(_RESULT, m.returns, m.values.ndim, m.saturated, m.conversions)
    for length in m.values.shape:
        w.fields(_LENGTH, length)
    w.ints(m.values, m.values.shape, np.int32)


def _read_mvm_result(r: BodyReader) -> MvmResult:
    code, dimensions, saturated, conversions = r.fields(_RESULT)
    returns = Returns(code)
    if dimensions != _dimensions(returns):
        raise MalformedMessage(f"{returns.name} values have {_dimensions(returns)} axes, not {dimensions}")
    shape = tuple(r.fields(_LENGTH)[0] for _ in range(dimensions))
    return MvmResult(returns, saturated, conversions, r.ints(shape, np.int32))


def _write_status(w: BodyWriter, m: StatusReply) -> None:
    w.fields(_STATUS, m.temperature_c, m.outputs_on, m.programmed_cells, m.pulses_total)


def _read_status(r: BodyReader) -> StatusReply:
    temperature_c, outputs_on, cells, pulses = r.fields(_STATUS)
    return StatusReply(temperature_c, bool(outputs_on), cells, pulses)


def _write_error(w: BodyWriter, m: ErrorReply) -> None:
    w.fields(_ERROR, m.code, m.value, m.limit)
    w.text(m.text)


def _read_error(r: BodyReader) -> ErrorReply:
    code, value, limit = r.fields(_ERROR)
    return ErrorReply(ErrorCode(code), r.text(), value, limit)


# --- the table ----------------------------------------------------------------------------


def _nothing(w: BodyWriter, m: object) -> None:
    """Write the body of a message without fields."""


_Writer = Callable[[BodyWriter, Any], object]
_Reader = Callable[[BodyReader], Message]

_TABLE: tuple[tuple[Op, type[Any], _Writer, _Reader], ...] = (
    (Op.HELLO, Hello, _write_hello, _read_hello),
    (Op.DESCRIBE, Describe, _nothing, lambda r: Describe()),
    (Op.STATUS, Status, _nothing, lambda r: Status()),
    (Op.WAIT, Wait, lambda w, m: w.fields(_WAIT, m.duration_ns), lambda r: Wait(*r.fields(_WAIT))),
    (Op.OUTPUTS_OFF, OutputsOff, _nothing, lambda r: OutputsOff()),
    (Op.RESET, Reset, _nothing, lambda r: Reset()),
    (Op.HOLD_PROGRAM, HoldProgram, lambda w, m: w.digest(m.digest), lambda r: HoldProgram(r.digest())),
    (Op.PROGRAM_TILE, ProgramTile, _write_program, _read_program),
    (Op.PULSE, Pulse, _write_pulse, _read_pulse),
    (Op.READ_CELLS, ReadCells, _write_read_cells, _read_read_cells),
    (Op.MVM, Mvm, _write_mvm, _read_mvm),
    (Op.SWEEP, Sweep, _write_sweep, _read_sweep),
    (Op.LOAD_LAYER, LoadLayer, _write_load_layer, _read_load_layer),
    (Op.HELLO_REPLY, HelloReply, _write_hello_reply, _read_hello_reply),
    (
        Op.HELLO_REJECT,
        HelloReject,
        lambda w, m: w.fields(_RANGE, m.version_min, m.version_max),
        lambda r: HelloReject(*r.fields(_RANGE)),
    ),
    (Op.DESCRIPTION, Description, _write_description, _read_description),
    (
        Op.PROGRESS,
        Progress,
        lambda w, m: w.fields(_PROGRESS, m.done, m.total, m.failed),
        lambda r: Progress(*r.fields(_PROGRESS)),
    ),
    (Op.TILE_PROGRAMMED, TileProgrammed, _write_tile_programmed, _read_tile_programmed),
    (Op.CELL_READINGS, CellReadings, _write_readings, _read_cell_readings),
    (Op.MVM_RESULT, MvmResult, _write_mvm_result, _read_mvm_result),
    (Op.STATUS_REPLY, StatusReply, _write_status, _read_status),
    (Op.DONE, Done, _nothing, lambda r: Done()),
    (Op.ERROR, ErrorReply, _write_error, _read_error),
)
_WRITERS: dict[type, tuple[Op, _Writer]] = {kind: (op, write) for op, kind, write, _ in _TABLE}
_READERS: dict[int, _Reader] = {int(op): read for op, _, _, read in _TABLE}
