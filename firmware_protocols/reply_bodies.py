"""Bodies of the replies, one writer and one reader each; tables of the fields are in docs/file-formats.md."""

from __future__ import annotations

import numpy as np

from firmware_protocols.errors import LocalProtocolError, MalformedMessage
from firmware_protocols.layouts import layout
from firmware_protocols.messages import (
    Capability,
    CellReadings,
    Description,
    ErrorCode,
    ErrorReply,
    HelloReply,
    MvmResult,
    Returns,
    StatusReply,
    TileProgrammed,
)
from firmware_protocols.packing import BodyReader, BodyWriter

_HELLO_REPLY = layout("hello_reply")
_DESCRIPTION = layout("description")
_READINGS = layout("readings")
_RESULT = layout("mvm_result")
_LENGTH = layout("length")
_STATUS = layout("status")
_ERROR = layout("error")


def write_hello_reply(w: BodyWriter, m: HelloReply) -> None:
    w.fields(
        _HELLO_REPLY, m.version, m.max_payload, m.boot_id, m.max_message, m.capabilities, m.reset_cause, m.window
    )  # fmt: skip


def read_hello_reply(r: BodyReader) -> HelloReply:
    version, max_payload, boot_id, max_message, capabilities, cause, window = r.fields(_HELLO_REPLY)
    return HelloReply(version, boot_id, cause, max_payload, window, max_message, Capability(capabilities))


def write_description(w: BodyWriter, m: Description) -> None:
    w.fields(_DESCRIPTION, m.macros, m.rows, m.columns)
    w.digest(m.spec_digest)
    w.digest(m.program_digest)
    for text in (m.name, m.revision, m.serial, m.firmware, m.kind):
        w.text(text)


def read_description(r: BodyReader) -> Description:
    macros, rows, columns = r.fields(_DESCRIPTION)
    spec_digest, program_digest = r.digest(), r.digest()
    name, revision, serial, firmware, kind = (r.text() for _ in range(5))
    return Description(name, revision, serial, firmware, kind, macros, rows, columns, spec_digest, program_digest)


def write_tile_programmed(w: BodyWriter, m: TileProgrammed) -> None:
    shape = write_readings(w, m)
    w.ints(m.pulses, shape, np.uint16)
    w.bits(m.reached, shape)


def read_tile_programmed(r: BodyReader) -> TileProgrammed:
    unit_ns, *lengths = r.fields(_READINGS)
    shape = (lengths[0], lengths[1])
    return TileProgrammed(unit_ns, r.counts(shape), r.ints(shape, np.uint16), r.bits(shape))


def write_readings(w: BodyWriter, m: CellReadings | TileProgrammed) -> tuple[int, ...]:
    if m.readings.ndim != 2:
        raise LocalProtocolError(f"readings are (rows, columns), not {m.readings.shape}")
    w.fields(_READINGS, m.unit_ns, *m.readings.shape)
    w.counts(m.readings, m.readings.shape)
    return m.readings.shape


def read_cell_readings(r: BodyReader) -> CellReadings:
    unit_ns, rows, columns = r.fields(_READINGS)
    return CellReadings(unit_ns, r.counts((rows, columns)))


def _dimensions(returns: Returns) -> int:
    return 3 if returns is Returns.RAW else 2


def write_mvm_result(w: BodyWriter, m: MvmResult) -> None:
    if m.values.ndim != _dimensions(m.returns):
        raise LocalProtocolError(f"{m.returns.name} values have {_dimensions(m.returns)} axes, not {m.values.shape}")
    w.fields(_RESULT, m.returns, m.values.ndim, m.saturated, m.conversions)
    for length in m.values.shape:
        w.fields(_LENGTH, length)
    w.ints(m.values, m.values.shape, np.int32)


def read_mvm_result(r: BodyReader) -> MvmResult:
    code, dimensions, saturated, conversions = r.fields(_RESULT)
    returns = Returns(code)
    if dimensions != _dimensions(returns):
        raise MalformedMessage(f"{returns.name} values have {_dimensions(returns)} axes, not {dimensions}")
    shape = tuple(r.fields(_LENGTH)[0] for _ in range(dimensions))
    return MvmResult(returns, saturated, conversions, r.ints(shape, np.int32))


def write_status(w: BodyWriter, m: StatusReply) -> None:
    w.fields(_STATUS, m.temperature_c, m.outputs_on, m.programmed_cells, m.pulses_total)


def read_status(r: BodyReader) -> StatusReply:
    temperature_c, outputs_on, cells, pulses = r.fields(_STATUS)
    return StatusReply(temperature_c, bool(outputs_on), cells, pulses)


def write_error(w: BodyWriter, m: ErrorReply) -> None:
    w.fields(_ERROR, m.code, m.value, m.limit)
    w.text(m.text)


def read_error(r: BodyReader) -> ErrorReply:
    code, value, limit = r.fields(_ERROR)
    return ErrorReply(ErrorCode(code), r.text(), value, limit)
