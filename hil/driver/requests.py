"""Calls as request messages: split so that request and answer fit the chip's longest message, limits checked first.

Pure functions of the specification, so a dry run counts the same messages that a real run sends.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import CodeOutOfRange, check_codes, conversions, input_planes
from cim.chip.encoding import TileOutOfMacro, cell_lines
from cim.chip.schema import READINGS_END
from cim.chip.spec import ChipSpec, MacroSpec, SignedInput
from cim.chip.windows import Window
from firmware_protocols import messages as wire
from firmware_protocols.extensions.write_rounds import LEAVE_ALONE
from firmware_protocols.messages import CellBlock, Mvm, ProgramTile, ReadCells, Returns, Sweep, TileAddress
from hil.errors import DeviceError, UsageError

_FIXED = 128  # more bytes than the fixed part of any message
RANGE_PARTS, GAP_PARTS = 1024, 32  # that rounded readings tell apart


@dataclass(frozen=True, slots=True)
class ReadMode:
    """How a product is driven and converted: the part that all compute requests share."""

    range_code: int
    input_bits: int
    input_signed: bool
    sample: int
    returns: Returns
    reads: int = 1  # whose sums are added up

    def returning(self, returns: Returns) -> ReadMode:
        return dataclasses.replace(self, returns=returns)

    def further(self, number: int) -> ReadMode:
        """One of several reads, by itself."""
        sample = (self.sample + number * wire.READ_STEP) % (1 << 64)
        return dataclasses.replace(self, reads=1, sample=sample)


# --- conductance ---------------------------------------------------------------------------


def conductance_unit_ns(spec: MacroSpec) -> int:
    """Nanosiemens of one count: the smallest whole unit in which 16 bits hold 1.6 times the highest level."""
    return max(1, math.ceil(READINGS_END * spec.levels_us[-1] * 1000 / (LEAVE_ALONE - 1)))


def reading_unit_ns(spec: MacroSpec) -> int:
    """Nanosiemens of one count of a rounded reading: finer digits are noise and would be most of the bytes.

    At most 1/1,024 of the range of levels and 1/32 of the gap between two, whatever the line; the request carries the
    unit, so that a wire log can be replayed.
    """
    part_us = min((spec.levels_us[-1] - spec.levels_us[0]) / RANGE_PARTS, spec.level_gap_us / GAP_PARTS)
    return max(conductance_unit_ns(spec), math.floor(1000 * part_us))


def to_counts(values_us: NDArray[np.floating], unit_ns: int) -> NDArray[np.uint16]:
    """Conductances in µS as counts; NaN becomes ``LEAVE_ALONE``."""
    counts = np.rint(np.nan_to_num(values_us.astype(np.float64), nan=0.0) * (1000 / unit_ns))
    return np.where(np.isnan(values_us), LEAVE_ALONE, np.clip(counts, 0, LEAVE_ALONE - 1)).astype(np.uint16)


def to_microsiemens(counts: NDArray[np.uint16], unit_ns: int) -> NDArray[np.float32]:
    return (counts * (unit_ns / 1000.0)).astype(np.float32)


# --- cells ---------------------------------------------------------------------------------


def program_requests(
    spec: ChipSpec, macro: int, targets_us: NDArray[np.floating], sample: int, max_message: int
) -> list[ProgramTile]:
    """Write-verify requests, a block of rows each, over the rectangle that holds all targets."""
    check_targets(spec, macro, targets_us)
    check_recipe(spec)
    counts = to_counts(targets_us, conductance_unit_ns(spec.macro))
    found = blocks(macro, np.isfinite(targets_us), max_message, bytes_per_cell=5)
    return [program_request(spec, block, counts[block_slices(block)], sample) for block in found]


def program_request(spec: ChipSpec, cells: CellBlock, targets: NDArray[np.uint16], sample: int) -> ProgramTile:
    """One write-verify request by the chip file's recipe; ``targets`` in counts, or ``LEAVE_ALONE``."""
    unit_ns, write = conductance_unit_ns(spec.macro), spec.write
    return ProgramTile(
        cells=cells,
        unit_ns=unit_ns,
        tolerance=round(spec.macro.tolerance_us * 1000 / unit_ns),
        max_pulses=min(write.max_pulses, spec.limits.pulses_per_cell),
        verify_reads=write.verify_reads,
        set_start_mv=_mv(write.set_start_v),
        set_step_mv=_mv(write.set_step_v),
        set_stop_mv=_mv(write.set_stop_v),
        reset_start_mv=_mv(write.reset_start_v),
        reset_step_mv=_mv(write.reset_step_v),
        reset_stop_mv=_mv(write.reset_stop_v),
        pulse_width_ns=round(write.pulse_width_ns),
        sample=sample,
        targets=targets,
    )


def read_requests(
    spec: ChipSpec, macro: int, reads: int, sample: int, max_message: int, lines: range | None, unit_ns: int
) -> list[ReadCells]:
    """Requests that read every cell of a macro, or of some word lines of it, in counts of ``unit_ns``."""
    check_macro(spec, macro)
    if not 1 <= reads <= 0xFFFF:
        raise UsageError(f"{reads} reads of each cell; 1 to 65535 are possible")
    wanted = np.zeros((spec.macro.rows, spec.macro.columns), np.bool_)
    wanted[slice(None) if lines is None else slice(lines.start, lines.stop)] = True
    return [ReadCells(b, unit_ns, reads, sample) for b in blocks(macro, wanted, max_message, bytes_per_cell=2)]


def blocks(macro: int, wanted: NDArray[np.bool_], max_message: int, bytes_per_cell: int) -> Iterator[CellBlock]:
    """Cut the smallest rectangle around ``wanted`` into blocks of whole rows; (rows, columns)."""
    rows, columns = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
    if not len(rows):
        return
    column0, width = int(columns[0]), int(columns[-1] - columns[0] + 1)
    height = (max_message - _FIXED) // (bytes_per_cell * width)
    if height < 1:
        raise too_large(f"one row of {width} cells", bytes_per_cell * width + _FIXED, max_message)
    end = int(rows[-1]) + 1
    for row0 in range(int(rows[0]), end, height):
        yield CellBlock(macro, row0, min(height, end - row0), column0, width)


def block_slices(block: CellBlock) -> tuple[slice, slice]:
    return slice(block.row0, block.row0 + block.rows), slice(block.column0, block.column0 + block.columns)


# --- products ------------------------------------------------------------------------------


def mvm_requests(
    spec: ChipSpec,
    tile: TileAddress | None,
    codes: NDArray[np.int16],
    reading: ReadMode,
    *,
    layer: int = 0,
    outputs: int,
    vectors_per_sample: int = 1,
    first_vector: int = 0,
    max_message: int,
) -> Iterator[Mvm]:
    """Multiply ``codes`` (vectors, rows), as many vectors a message as fit."""
    answer = answer_bytes(spec.macro, reading, outputs)
    per_message = _units(
        f"one vector of {codes.shape[1]} codes", item_bytes(codes) * codes.shape[1], answer, max_message
    )
    for start in range(0, len(codes), per_message):
        yield Mvm(
            returns=reading.returns,
            tile=tile,
            layer=layer,
            range_code=reading.range_code,
            input_bits=reading.input_bits,
            input_signed=reading.input_signed,
            sample=reading.sample,
            vectors_per_sample=vectors_per_sample,
            first_vector=first_vector + start,
            codes=codes[start : start + per_message],
            reads=reading.reads,
        )


def sweep_requests(
    spec: ChipSpec,
    tile: TileAddress | None,
    maps: NDArray[np.int16],
    window: Window,
    reading: ReadMode,
    *,
    layer: int = 0,
    row_skip: int = 0,
    outputs: int,
    max_message: int,
) -> Iterator[Sweep]:
    """Sweep ``maps`` (images, channels, height, width), as many images a message as fit."""
    answer = answer_bytes(spec.macro, reading, outputs) * window.positions
    question = item_bytes(maps) * window.channels * window.height * window.width
    per_message = _units("one feature map", question, answer, max_message)
    for start in range(0, len(maps), per_message):
        yield Sweep(
            returns=reading.returns,
            tile=tile,
            layer=layer,
            range_code=reading.range_code,
            input_bits=reading.input_bits,
            input_signed=reading.input_signed,
            window=wire.KernelWindow(**dataclasses.asdict(window)),
            row_skip=row_skip,
            sample=reading.sample + start,
            codes=maps[start : start + per_message],
            reads=reading.reads,
        )


def sweep_fits(
    spec: ChipSpec, maps: NDArray[np.int16], window: Window, reading: ReadMode, outputs: int, most: int
) -> bool:
    """Whether one feature map and its answer fit one message."""
    question = item_bytes(maps) * window.channels * window.height * window.width
    return max(question, answer_bytes(spec.macro, reading, outputs) * window.positions) + _FIXED <= most


def item_bytes(codes: NDArray[np.int16]) -> int:
    """Bytes of one code on the wire."""
    low, high = int(codes.min()), int(codes.max())
    return 1 if (low >= 0 and high <= 255) or (low >= -128 and high <= 127) else 2


def answer_bytes(spec: MacroSpec, reading: ReadMode, outputs: int) -> int:
    """Most bytes of the answer to one vector."""
    if reading.returns is Returns.RAW:
        planes = len(input_planes(spec.inputs, reading.input_bits, reading.input_signed))
        code = 1 if spec.adc.bits <= 8 else 2 if spec.adc.bits <= 16 else 4
        return planes * conversions(spec, outputs) * code
    return 4 * outputs


def _units(what: str, question: int, answer: int, max_message: int) -> int:
    """How many units of so many bytes fit a message and its answer."""
    largest = max(question, answer)
    fitting = (max_message - _FIXED) // largest
    if fitting < 1:
        raise too_large(what, largest + _FIXED, max_message)
    return fitting


# --- checks, before anything is sent -------------------------------------------------------


def check_macro(spec: ChipSpec, macro: int) -> None:
    if not 0 <= macro < spec.macros:
        raise UsageError(f"macro {macro} is not on {spec.name}, which has {spec.macros}")


def check_targets(spec: ChipSpec, macro: int, targets_us: NDArray[np.floating]) -> None:
    check_macro(spec, macro)
    shape = (spec.macro.rows, spec.macro.columns)
    if targets_us.shape != shape:
        raise UsageError(f"targets are {targets_us.shape}, a macro of {spec.name} is {shape} (rows, columns)")
    used = targets_us[~np.isnan(targets_us)]
    low, high = spec.macro.levels_us[0], spec.macro.levels_us[-1]
    margin = spec.macro.tolerance_us
    if used.size and not (low - margin <= used.min() and used.max() <= high + margin):
        raise UsageError(
            f"targets of {used.min():g} to {used.max():g} µS on macro {macro}",
            likely=f"cells of {spec.name} are written from {low:g} to {high:g} µS",
        )


def check_recipe(spec: ChipSpec) -> None:
    """Refuse a write recipe above an absolute limit; the chip would refuse it too."""
    write, limits = spec.write, spec.limits
    form = spec.form
    for what, value, limit, unit in (
        ("forming voltage", max(form.start_v, form.stop_v) if form else 0.0, limits.set_v, "V"),
        ("forming pulse width", form.pulse_width_ns if form else 0.0, limits.pulse_width_ns, "ns"),
        ("SET voltage", max(write.set_start_v, write.set_stop_v), limits.set_v, "V"),
        ("RESET voltage", max(write.reset_start_v, write.reset_stop_v), limits.reset_v, "V"),
        ("pulse width", write.pulse_width_ns, limits.pulse_width_ns, "ns"),
        ("read voltage", spec.macro.v_read_v, limits.read_v, "V"),
    ):
        if value > limit:
            raise DeviceError(
                f"{what} of {value:g} {unit} is above the absolute limit of {limit:g} {unit}; nothing was sent",
                where=spec.source,
                hint=f"hil chip show {spec.name}",
            )


def check_reading(spec: MacroSpec, tile: TileAddress | None, codes: NDArray[np.integer], reading: ReadMode) -> None:
    """Refuse codes, ranges and tiles that the chip cannot drive or convert."""
    if not 0 <= reading.range_code < len(spec.adc.full_scales_us):
        raise UsageError(f"ADC range {reading.range_code}; this chip has 0 to {len(spec.adc.full_scales_us) - 1}")
    if not 0 <= reading.sample < 1 << 64:
        raise UsageError(f"sample {reading.sample} is not a 64-bit number")
    if not 1 <= reading.reads <= wire.MOST_READS:
        raise UsageError(f"{reading.reads} reads of one product, 1 to {wire.MOST_READS} can be added up")
    if reading.reads > 1 and reading.returns is not Returns.SUMS:
        raise UsageError(f"{reading.reads} reads are added up as SUMS, not as {reading.returns.name}")
    try:
        if tile is not None:
            cell_lines(spec, tile.row0, tile.rows, tile.output0, tile.outputs)
        input_planes(spec.inputs, reading.input_bits, reading.input_signed)
        raised = spec.inputs.signed is SignedInput.OFFSET  # an offset makes codes that are already unsigned
        check_codes(codes, reading.input_bits, reading.input_signed and not raised)
    except (TileOutOfMacro, CodeOutOfRange) as error:
        raise UsageError(str(error)) from error


def too_large(what: str, needed: int, max_message: int) -> DeviceError:
    return DeviceError(
        f"{what} takes {needed:,} bytes, the chip takes messages of {max_message:,}; nothing was sent",
        likely="the board's firmware has little memory",
        hint="build the firmware with a larger max_message",
    )


def _mv(volts: float) -> int:
    return round(volts * 1000)
