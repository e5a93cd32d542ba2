"""Requests to an emulated chip, written short, for its tests."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import encode_tile
from firmware_protocols.messages import (
    CellBlock,
    Mvm,
    MvmResult,
    ProgramTile,
    ReadCells,
    Returns,
    TileAddress,
    TileProgrammed,
    Wait,
)
from hil.driver.requests import conductance_unit_ns
from hil.emulator.chip import EmulatedChip

QUIET = {
    "stuck_low_share": 0.0,
    "stuck_high_share": 0.0,
    "unreached_share": 0.0,
    "column_gain_sigma": 0.0,
    "adc_offset_codes": 0.0,
    "inl_lsb": 0.0,
    "read_variance_us2": 0.0,
    "relaxation": 0.0,
    "wire_ohm": 0.0,
    "sense_gain_sigma": 0.0,
    "pulse_step_us": 0.0,
}
"""Sample overrides that switch every non-ideality off, for tests of one at a time."""


def finish(answer: Any) -> Any:
    """The reply at the end of an answer that may be a generator."""
    if not isinstance(answer, Generator):
        return answer
    while True:
        try:
            next(answer)
        except StopIteration as end:
            return end.value


def program_request(
    chip: EmulatedChip, targets_us: NDArray[np.floating], *, macro: int = 0, row0: int = 0, sample: int = 0
) -> ProgramTile:
    """Write-verify of word lines ``row0`` onwards with the recipe of the chip file; NaN leaves a cell alone."""
    write, unit_ns = chip.spec.write, conductance_unit_ns(chip.spec.macro)
    counts = np.where(np.isnan(targets_us), 0xFFFF, np.rint(np.nan_to_num(targets_us) * 1e3 / unit_ns))
    rows, columns = counts.shape
    millivolts = {
        f"{way}_{part}_mv": round(getattr(write, f"{way}_{part}_v") * 1e3)
        for way in ("set", "reset")
        for part in ("start", "step", "stop")
    }
    return ProgramTile(
        cells=CellBlock(macro, row0, rows, 0, columns),
        unit_ns=unit_ns,
        tolerance=round(chip.spec.macro.tolerance_us * 1e3 / unit_ns),
        max_pulses=write.max_pulses,
        verify_reads=write.verify_reads,
        **millivolts,
        pulse_width_ns=round(write.pulse_width_ns),
        sample=sample,
        targets=counts.astype(np.uint16),
    )


def write_cells(chip: EmulatedChip, targets_us: NDArray[np.floating], **place: int) -> TileProgrammed:
    result: TileProgrammed = finish(chip.program_tile(program_request(chip, targets_us, **place)))
    return result


def write_levels(
    chip: EmulatedChip, levels: NDArray[np.int8], *, row0: int = 0, output0: int = 0, macro: int = 0
) -> TileAddress:
    """Write one tile of signed levels; its address."""
    spec = chip.spec.macro
    cells = encode_tile(levels, spec, row0, output0)
    targets = np.full((spec.rows, spec.columns), np.nan, np.float32)
    targets[np.ix_(cells.word_lines, cells.bit_lines)] = cells.targets_us
    write_cells(chip, targets, macro=macro)
    return TileAddress(macro, row0, levels.shape[0], output0, levels.shape[1])


def multiply(
    chip: EmulatedChip,
    tile: TileAddress,
    codes: NDArray[np.int16],
    *,
    returns: Returns = Returns.SUMS,
    range_code: int = 0,
    bits: int = 8,
    signed: bool = False,
    sample: int = 0,
    per_sample: int = 1,
    first: int = 0,
) -> MvmResult:
    request = Mvm(returns, tile, 0, range_code, bits, signed, sample, per_sample, first, codes.astype(np.int16))
    result: MvmResult = finish(chip.mvm(request))
    return result


def read_us(chip: EmulatedChip, rows: int, columns: int, *, reads: int = 1, sample: int = 0) -> NDArray[np.float64]:
    """Cell readings of macro 0 from its first cell on, µS (rows, columns)."""
    unit_ns = conductance_unit_ns(chip.spec.macro)
    reply = chip.read_cells(ReadCells(CellBlock(0, 0, rows, 0, columns), unit_ns, reads, sample))
    return reply.readings * (reply.unit_ns * 1e-3)


def wait_s(chip: EmulatedChip, seconds: float) -> None:
    chip.wait(Wait(round(seconds * 1e9)))
