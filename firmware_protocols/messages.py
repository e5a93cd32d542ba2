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
    """What a compute request brings back.

    Example:
        >>> [kind.name for kind in Returns]
        ['RAW', 'SUMS', 'LAYER']
    """

    RAW = 0  # (vectors, planes, conversions) codes
    SUMS = 1  # (vectors, outputs) shift-added, pair subtracted
    LAYER = 2  # (vectors, outputs) requantised activation codes


class Polarity(enum.IntEnum):
    """Direction of a pulse: SET raises a conductance, RESET lowers it.

    Example:
        >>> Polarity.SET, Polarity.RESET
        (<Polarity.SET: 0>, <Polarity.RESET: 1>)
    """

    SET = 0
    RESET = 1


class ErrorCode(enum.IntEnum):
    """Reason of an ``ErrorReply``.

    Example:
        >>> ErrorCode(4), ErrorCode.UNSUPPORTED.value
        (<ErrorCode.LIMIT: 4>, 1)
    """

    UNSUPPORTED = 1  # unknown operation or missing capability
    MALFORMED = 2  # body cannot be read
    OUT_OF_RANGE = 3  # address, count or size beyond the chip
    LIMIT = 4  # voltage, width or pulse count above an absolute limit
    BUSY = 5
    FAULT = 6  # the chip failed; outputs are off
    NOT_AUTHORISED = 7
    NO_SUCH_LAYER = 8
    STOPPED = 9  # ended before it finished: outputs off, or another host took over

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
    """Kernel geometry of a sweep; row order of a vector is (channel, kernel row, kernel column).

    Example:
        >>> window = KernelWindow(3, 32, 32, kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
        >>> window.channels * window.kernel[0] * window.kernel[1]  # rows that it drives
        27
    """

    channels: int
    height: int
    width: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TileAddress:
    """A rectangle of logical rows and outputs of one macro.

    Example:
        >>> TileAddress(macro=2, row0=0, rows=64, output0=16, outputs=10)
        TileAddress(macro=2, row0=0, rows=64, output0=16, outputs=10)
    """

    macro: int
    row0: int
    rows: int
    output0: int
    outputs: int


@dataclass(frozen=True, slots=True)
class CellBlock:
    """A rectangle of physical cells: word lines and bit lines of one macro.

    Example:
        >>> CellBlock(macro=0, row0=8, rows=2, column0=0, columns=4)
        CellBlock(macro=0, row0=8, rows=2, column0=0, columns=4)
    """

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
    """Accepted: version in use, sizes that the chip takes, and its capabilities.

    Example:
        >>> reply = HelloReply(0x0100, 1, 1, 512, 16, 65536, Capability.SWEEP | Capability.SUMS)
        >>> Capability.SWEEP in reply.capabilities
        True
    """

    version: int
    boot_id: int  # u32, new at each start
    reset_cause: int
    max_payload: int
    window: int
    max_message: int  # largest message body the chip takes, bytes
    capabilities: Capability


@dataclass(frozen=True, slots=True)
class HelloReject(Reply):
    """No common major version; the range that the chip speaks.

    Example:
        >>> HelloReject(version_min=0x0200, version_max=0x0201)
        HelloReject(version_min=512, version_max=513)
    """

    version_min: int
    version_max: int


@dataclass(frozen=True, slots=True)
class Description(Reply):
    """Identity of the chip: kind, serial number, geometry, and digests of its chip file and held program.

    Example:
        >>> told = Description("lab-128", "A", "board-7", "1.0", "silicon", 4, 128, 128, bytes(32), bytes(32))
        >>> decode(encode(told, request_id=3)).message.serial
        'board-7'
    """

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
    """Not an answer: a long request is still running.

    Example:
        >>> decode(encode(Progress(done=3, total=16, failed=0), request_id=4)).message
        Progress(done=3, total=16, failed=0)
    """

    done: int
    total: int
    failed: int


@dataclass(frozen=True, slots=True)
class TileProgrammed(Reply):
    """Last verify reading, pulses and outcome of each cell, (rows, columns).

    Example:
        >>> pulses, reached = np.array([[7, 21]], np.uint16), np.array([[True, False]])
        >>> done = TileProgrammed(100, np.array([[199, 260]], np.uint16), pulses, reached)
        >>> int(done.reached.sum()), int(done.pulses.max())
        (1, 21)
    """

    unit_ns: int
    readings: NDArray[np.uint16]
    pulses: NDArray[np.uint16]
    reached: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class CellReadings(Reply):
    """Mean readings of a cell block: uint16 counts of ``unit_ns``, (rows, columns).

    Example:
        >>> read = CellReadings(unit_ns=100, readings=np.array([[25, 400]], np.uint16))
        >>> read.readings * read.unit_ns / 1000  # µS
        array([[ 2.5, 40. ]])
    """

    unit_ns: int
    readings: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class MvmResult(Reply):
    """``values``: int32, shape as ``returns`` says; RAW (vectors, planes, conversions), else (vectors, outputs).

    Example:
        >>> got = MvmResult(Returns.SUMS, saturated=0, conversions=16, values=np.array([[12, -3]], np.int32))
        >>> got.values[0, 1], got.saturated
        (np.int32(-3), 0)
    """

    returns: Returns
    saturated: int  # conversions at the end of the scale
    conversions: int  # conversions made
    values: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class StatusReply(Reply):
    """State of the chip: temperature, outputs, cells programmed and pulses given since it was made.

    Example:
        >>> state = StatusReply(temperature_c=25.0, outputs_on=False, programmed_cells=64, pulses_total=812)
        >>> decode(encode(state, request_id=7)).message.pulses_total
        812
    """

    temperature_c: float
    outputs_on: bool
    programmed_cells: int
    pulses_total: int


@dataclass(frozen=True, slots=True)
class Done(Reply):
    """Accepted and finished, nothing to report.

    Example:
        >>> decode(encode(Done(), request_id=3)).message
        Done()
    """


@dataclass(frozen=True, slots=True)
class ErrorReply(Reply):
    """Refused or failed; ``value`` was asked for and ``limit`` is allowed, where there are such numbers.

    Example:
        >>> refused = ErrorReply(ErrorCode.LIMIT, "pulse of 4.2 V", value=4.2, limit=3.3)
        >>> decode(encode(refused, request_id=3)).message.limit
        3.3
    """

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
    """First message of a session: versions and sizes that the host takes.

    Example:
        >>> hello = Hello(version_min=0x0100, version_max=0x0104, max_payload=512, window=16, nonce=7)
        >>> decode(encode(hello, request_id=1)).message == hello
        True
    """

    version_min: int  # major << 8 | minor
    version_max: int
    max_payload: int  # largest frame payload the sender takes, bytes
    window: int  # frames the sender can hold out of order
    nonce: int  # u32


@dataclass(frozen=True, slots=True)
class Describe(Request[Description]):
    """Ask for the ``Description`` of the chip.

    Example:
        >>> decode(encode(Describe(), request_id=3)).message
        Describe()
    """

    reply_class = Description


@dataclass(frozen=True, slots=True)
class ProgramTile(Request[TileProgrammed]):
    """Write-verify these cells. ``targets``: uint16 counts (rows, columns); 0xFFFF leaves a cell alone.

    Example:
        >>> cells = CellBlock(macro=0, row0=0, rows=1, column0=0, columns=2)
        >>> targets = np.array([[200, 0xFFFF]], np.uint16)  # the second cell is left alone
        >>> write = ProgramTile(cells, 100, 10, 50, 1, 800, 50, 2000, 900, 50, 2200, 100, 0, targets)
        >>> decode(encode(write, request_id=4)).message.targets
        array([[  200, 65535]], dtype=uint16)
    """

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
    """One pulse on each selected cell. ``millivolts``: uint16 (rows, columns), 0 = none.

    Example:
        >>> one = CellBlock(macro=0, row0=3, rows=1, column0=5, columns=1)
        >>> pulse = Pulse(one, Polarity.SET, width_ns=100, sample=0, millivolts=np.array([[1200]], np.uint16))
        >>> decode(encode(pulse, request_id=4)).message.millivolts
        array([[1200]], dtype=uint16)
    """

    reply_class = Done

    cells: CellBlock
    polarity: Polarity
    width_ns: int
    sample: int
    millivolts: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class ReadCells(Request[CellReadings]):
    """Read each cell ``reads`` times through the chip's read path; the reply is the mean.

    Example:
        >>> ask = ReadCells(CellBlock(macro=0, row0=0, rows=2, column0=0, columns=2), unit_ns=100, reads=8, sample=0)
        >>> decode(encode(ask, request_id=5)).message.reads
        8
    """

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

    Example:
        >>> tile = TileAddress(macro=0, row0=0, rows=4, output0=0, outputs=2)
        >>> ask = Mvm(Returns.SUMS, tile, 0, 1, 8, False, 0, 1, 0, codes=np.ones((1, 4), np.int16))
        >>> decode(encode(ask, request_id=2)).message.codes
        array([[1, 1, 1, 1]], dtype=int16)
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

    Example:
        >>> tile = TileAddress(macro=0, row0=0, rows=9, output0=0, outputs=4)
        >>> window = KernelWindow(1, 8, 8, kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))
        >>> ask = Sweep(Returns.SUMS, tile, 0, 1, 8, False, window, 0, 0, codes=np.zeros((2, 1, 8, 8), np.int16))
        >>> decode(encode(ask, request_id=8)).message.codes.shape
        (2, 1, 8, 8)
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

    Example:
        >>> where = TileAddress(macro=0, row0=0, rows=27, output0=0, outputs=2)
        >>> gain, none = np.full(2, 1 << 8, np.int32), np.zeros(2, np.int32)
        >>> tile = LayerTile(where, 0, 0, 1, shift=8, gain=gain, offset=none.astype(np.int64), input_gain=none)
        >>> tile.gain / 2**tile.shift
        array([1., 1.])
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
    """Give the chip a layer: tiles, bias and requantisation (docs/digital_ops.md).

    Accumulators are divided by the most reads of a tile, halves away from zero, before the bias is added.

    Example:
        >>> bias, multiplier, shift = np.zeros(2, np.int32), np.full(2, 1 << 14, np.int32), np.full(2, 15, np.int32)
        >>> layer = LoadLayer(0, 27, 2, 0, 255, bias, multiplier, shift, tiles=())
        >>> layer.multiplier / 2.0**layer.shift
        array([0.5, 0.5])
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
    """All tiles of this program are written; remember its SHA-256 (32 bytes). Any write forgets it.

    Example:
        >>> decode(encode(HoldProgram(bytes(32)), request_id=3)).message.digest == bytes(32)
        True
    """

    reply_class = Done

    digest: bytes


@dataclass(frozen=True, slots=True)
class Status(Request[StatusReply]):
    """Ask for a ``StatusReply``.

    Example:
        >>> decode(encode(Status(), request_id=7)).message
        Status()
    """

    reply_class = StatusReply


@dataclass(frozen=True, slots=True)
class Wait(Request[Done]):
    """Let chip time pass: an emulated chip advances its clock, a board waits.

    Example:
        >>> decode(encode(Wait(duration_ns=3_600_000_000_000), request_id=9)).message
        Wait(duration_ns=3600000000000)
    """

    reply_class = Done

    duration_ns: int


@dataclass(frozen=True, slots=True)
class OutputsOff(Request[Done]):
    """Switch all outputs off and stop what is under way.

    Example:
        >>> decode(encode(OutputsOff(), request_id=9)).message
        OutputsOff()
    """

    reply_class = Done


@dataclass(frozen=True, slots=True)
class Reset(Request[Done]):
    """Restart the chip; what it holds in its cells stays.

    Example:
        >>> decode(encode(Reset(), request_id=6)).message
        Reset()
    """

    reply_class = Done


Message = Hello | Request[Any] | Reply
