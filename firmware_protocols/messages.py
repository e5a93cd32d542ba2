"""The message set: one frozen dataclass a message, meaning only; bytes are in ``firmware_protocols.codec``.

Conductances travel as unsigned 16-bit counts of ``unit_ns`` nanosiemens. ``sample`` numbers
one noisy observation (pass, image, repeat): an emulated chip keys its noise with it, a real
board ignores it. Every reply carries the chip's own time in nanoseconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from firmware_protocols.capability import Capability as Capability

MOST_READS = 256  # that a chip adds up for one request
READ_STEP = 1 << 44  # distance of the sample numbers of two of them


class Returns(enum.IntEnum):
    """The form of a compute request's results."""

    RAW = 0  # (vectors, planes, conversions) codes
    SUMS = 1  # (vectors, outputs) shift-added, pair subtracted
    LAYER = 2  # (vectors, outputs) requantised activation codes


class Polarity(enum.IntEnum):
    """Direction of a pulse: SET raises a conductance, RESET lowers it."""

    SET = 0
    RESET = 1


class ErrorCode(enum.IntEnum):
    """Reason of an ``ErrorReply``."""

    UNSUPPORTED = 1  # unknown operation or missing capability
    MALFORMED = 2  # body cannot be read
    OUT_OF_RANGE = 3  # address, count or size beyond the chip
    LIMIT = 4  # voltage, width or pulse count above an absolute limit
    BUSY = 5
    FAULT = 6  # the chip failed; its text says what is known of its outputs
    NOT_AUTHORISED = 7
    NO_SUCH_LAYER = 8
    STOPPED = 9  # ended before it finished: OUTPUTS_OFF came, or another host took over

    @classmethod
    def _missing_(cls, value: object) -> ErrorCode | None:
        """A code of a later version is a refusal all the same, named by its number."""
        if not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            return None
        code = int.__new__(cls, value)
        code._name_, code._value_ = f"CODE_{value}", value
        return code


@dataclass(frozen=True, slots=True)
class KernelWindow:
    """Kernel geometry of a sweep; row order of a vector is (channel, kernel row, kernel column)."""

    channels: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TileAddress:
    """A rectangle of logical rows and outputs of one macro."""

    macro: int
    row0: int
    rows: int
    output0: int
    outputs: int


@dataclass(frozen=True, slots=True)
class CellBlock:
    """A rectangle of physical cells: word lines and bit lines of one macro."""

    macro: int
    row0: int
    rows: int
    column0: int
    columns: int


# --- replies, chip to host --------------------------------------------------------------


class Reply:
    """A message of the chip."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class HelloReply(Reply):
    """Accepted: version in use, sizes that the chip takes, and its capabilities."""

    version: int
    boot_id: int  # u32, new at each start
    reset_cause: int
    max_payload: int
    window: int
    max_message: int  # largest message body the chip takes, bytes
    capabilities: Capability


@dataclass(frozen=True, slots=True)
class HelloReject(Reply):
    """No common major version; the range that the chip speaks."""

    version_min: int
    version_max: int


@dataclass(frozen=True, slots=True)
class Description(Reply):
    """Identity of the chip: kind, serial number, geometry, and digests of its chip file and held program."""

    name: str
    revision: str
    serial: str  # which chip of that kind
    firmware: str
    kind: str  # "silicon" or "emulated"
    macros: int
    rows: int
    columns: int
    spec_digest: bytes  # 32 bytes
    program_digest: bytes  # 32 bytes of the held program, zeros when none


@dataclass(frozen=True, slots=True)
class Progress(Reply):
    """Not an answer: a long request is still running."""

    done: int
    total: int
    failed: int


@dataclass(frozen=True, slots=True)
class TileProgrammed(Reply):
    """Last verify reading, pulses and outcome of each cell, (rows, columns)."""

    unit_ns: int
    readings: NDArray[np.uint16]
    pulses: NDArray[np.uint16]
    reached: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CellReadings(Reply):
    """Mean readings of a cell block: uint16 counts of ``unit_ns``, (rows, columns)."""

    unit_ns: int
    readings: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class MvmResult(Reply):
    """``values``: int32, shape as ``returns`` says; RAW (vectors, planes, conversions), else (vectors, outputs)."""

    returns: Returns
    saturated: int  # conversions at the end of the scale
    conversions: int  # conversions made
    values: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class StatusReply(Reply):
    """State of the chip: temperature, outputs, cells programmed and pulses given since it was made."""

    temperature_c: float
    outputs_on: bool
    programmed_cells: int
    pulses_total: int


@dataclass(frozen=True, slots=True)
class Done(Reply):
    """Accepted and finished, nothing to report."""


@dataclass(frozen=True, slots=True)
class ErrorReply(Reply):
    """Refused or failed; ``value`` was asked for and ``limit`` is allowed, where there are such numbers."""

    code: ErrorCode
    text: str
    value: float = 0.0
    limit: float = 0.0


# --- requests, host to chip -------------------------------------------------------------


R_co = TypeVar("R_co", bound=Reply, covariant=True)


class Request(Generic[R_co]):
    """A message of the host that the chip answers with one reply of class ``R_co``, or with ``ErrorReply``.

    ``reply_class`` is that class: what gives a request back (``hil.driver.session.Session.ask``) has
    the right type, and an answer of another class is recognised, by this one statement.
    """

    __slots__ = ()
    reply_class: type[R_co]


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of a session: versions and sizes that the host takes."""

    version_min: int  # major << 8 | minor
    version_max: int
    max_payload: int  # largest frame payload the sender takes, bytes
    window: int  # frames the sender can hold out of order
    nonce: int  # u32


@dataclass(frozen=True, slots=True)
class Describe(Request[Description]):
    """Ask for the ``Description`` of the chip."""

    reply_class = Description


@dataclass(frozen=True, slots=True)
class ProgramTile(Request[TileProgrammed]):
    """Write-verify these cells. ``targets``: uint16 counts (rows, columns); 0xFFFF leaves a cell alone."""

    reply_class = TileProgrammed

    cells: CellBlock
    unit_ns: int
    tolerance: int  # counts
    max_pulses: int
    verify_reads: int
    set_start_mv: int
    set_step_mv: int
    set_stop_mv: int
    reset_start_mv: int
    reset_step_mv: int
    reset_stop_mv: int
    pulse_width_ns: int
    sample: int
    targets: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Pulse(Request[Done]):
    """One pulse on each selected cell. ``millivolts``: uint16 (rows, columns), 0 = none."""

    reply_class = Done

    cells: CellBlock
    polarity: Polarity
    width_ns: int
    sample: int
    millivolts: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class ReadCells(Request[CellReadings]):
    """Read each cell ``reads`` times through the chip's read path; the reply is the mean."""

    reply_class = CellReadings

    cells: CellBlock
    unit_ns: int
    reads: int
    sample: int


@dataclass(frozen=True, slots=True)
class Mvm(Request[MvmResult]):
    """Multiply input vectors by one tile (or by a loaded layer when ``returns`` is LAYER).

    ``codes``: int16 (vectors, rows). Vector j belongs to sample ``sample + (first_vector + j)
    // vectors_per_sample`` and is its position ``(first_vector + j) % vectors_per_sample``.
    ``reads``: SUMS are those of so many reads added up; read k is of sample + k · ``READ_STEP``.
    """

    reply_class = MvmResult

    returns: Returns
    tile: TileAddress | None
    layer: int  # used with LAYER, else 0
    range_code: int
    input_bits: int
    input_signed: bool
    sample: int
    vectors_per_sample: int
    first_vector: int
    codes: NDArray[np.int16]
    reads: int = 1


@dataclass(frozen=True, slots=True)
class Sweep(Request[MvmResult]):
    """Step a window over feature maps and multiply each unfolded vector.

    ``codes``: int16 (images, channels, height, width). With a tile, ``row_skip`` leading
    entries of each unfolded vector are dropped and the next ``tile.rows`` drive its rows.
    Image i is sample ``sample + i``; its positions count row by row. ``reads`` as in ``Mvm``.
    """

    reply_class = MvmResult

    returns: Returns
    tile: TileAddress | None
    layer: int
    range_code: int
    input_bits: int
    input_signed: bool
    window: KernelWindow
    row_skip: int
    sample: int
    codes: NDArray[np.int16]
    reads: int = 1


@dataclass(frozen=True, slots=True)
class LayerTile:
    """One tile of a loaded layer with the correction of its columns.

    level_sum = round((gain · sum + n · (offset + input_gain · Σ inputs)) / 2^shift), half away from
    zero, of n = ``reads`` reads added up; then times ``multiplier`` · N / n into the accumulators
    ``first_output`` onwards, N being the most reads of a tile of the layer and a multiple of each n.
    The tile's rows take unfolded inputs from ``first_input``.
    """

    address: TileAddress
    first_input: int
    first_output: int
    multiplier: int
    shift: int
    gain: NDArray[np.int32]  # (outputs,)
    offset: NDArray[np.int64]
    input_gain: NDArray[np.int32]
    reads: int = 1


@dataclass(frozen=True, slots=True)
class LoadLayer(Request[Done]):
    """Give the chip a layer: tiles, bias and requantisation (docs/file-formats.md).

    Accumulators are divided by the most reads of a tile, halves away from zero, before the bias is added.
    """

    reply_class = Done

    layer: int
    inputs: int
    outputs: int
    low: int
    high: int
    bias: NDArray[np.int32]  # (outputs,)
    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    tiles: tuple[LayerTile, ...]


@dataclass(frozen=True, slots=True)
class HoldProgram(Request[Done]):
    """All tiles of this program are written; remember its SHA-256 (32 bytes). Any write forgets it."""

    reply_class = Done

    digest: bytes


@dataclass(frozen=True, slots=True)
class Status(Request[StatusReply]):
    """Ask for a ``StatusReply``."""

    reply_class = StatusReply


@dataclass(frozen=True, slots=True)
class Wait(Request[Done]):
    """Let chip time pass: an emulated chip advances its clock, a board waits."""

    reply_class = Done

    duration_ns: int


@dataclass(frozen=True, slots=True)
class OutputsOff(Request[Done]):
    """Switch all outputs off and stop what is under way."""

    reply_class = Done


@dataclass(frozen=True, slots=True)
class Reset(Request[Done]):
    """Restart the chip; what it holds in its cells stays."""

    reply_class = Done


Message = Hello | Request[Any] | Reply
