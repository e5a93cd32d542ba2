"""What a chip of some description refuses, for boards whose own SDK does not look: each refusal with its numbers.

``hil.server.board.Board`` lets all of it look at every request.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import CodeOutOfRange, check_codes, input_planes
from cim.chip.encoding import TileOutOfMacro, cell_lines
from cim.chip.spec import ChipSpec, SignedInput
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import (
    CellBlock,
    ErrorCode,
    LoadLayer,
    Mvm,
    Polarity,
    ProgramTile,
    Pulse,
    ReadCells,
    Request,
    Returns,
    Sweep,
    TileAddress,
)


def check_request(request: Request[Any], spec: ChipSpec) -> None:
    """Raises ``Refusal`` (OUT_OF_RANGE, LIMIT) for what a chip of this description must not do."""
    match request:
        case Pulse() | ProgramTile():
            check_pulses(request, spec)
        case ReadCells():
            check_cells(request.cells, spec)
            _at_least_one(("reads", request.reads), ("unit", request.unit_ns))
        case Mvm() | Sweep():
            if request.returns is Returns.LAYER and request.tile is None:
                _check_drive(request, spec)
            else:
                check_product(request, spec)
        case LoadLayer():
            for tile in request.tiles:
                _check_tile(tile.address, spec)


def check_cells(block: CellBlock, spec: ChipSpec) -> CellBlock:
    """Check that a block lies in a macro of the chip; raises ``Refusal`` (OUT_OF_RANGE)."""
    for what, end, limit in (
        ("macro", block.macro, spec.macros - 1),
        ("word lines", block.row0 + block.rows, spec.macro.rows),
        ("bit lines", block.column0 + block.columns, spec.macro.columns),
    ):
        if end > limit:
            raise Refusal(ErrorCode.OUT_OF_RANGE, f"{what} beyond the chip", end, limit)
    return block


def check_pulses(request: Pulse | ProgramTile, spec: ChipSpec) -> CellBlock:
    """The cells of a write within the absolute limits; raises ``Refusal`` (OUT_OF_RANGE, LIMIT) before any pulse."""
    limits = spec.limits
    if isinstance(request, Pulse):
        top = limits.set_v if request.polarity is Polarity.SET else limits.reset_v
        asked = [
            ("voltage", int(request.millivolts.max()) / 1e3, top),
            ("width", request.width_ns, limits.pulse_width_ns),
        ]
        _at_least_one(("width", request.width_ns))
    else:
        asked = [
            ("SET voltage", max(request.set_start_mv, request.set_stop_mv) / 1e3, limits.set_v),
            ("RESET voltage", max(request.reset_start_mv, request.reset_stop_mv) / 1e3, limits.reset_v),
            ("width", request.pulse_width_ns, limits.pulse_width_ns),
            ("pulses", request.max_pulses, limits.pulses_per_cell),
        ]
        _at_least_one(("unit", request.unit_ns), ("verify reads", request.verify_reads))
    block = check_cells(request.cells, spec)
    for what, value, limit in asked:
        if value > limit:
            raise Refusal(ErrorCode.LIMIT, f"{what} above the absolute limit", value, limit)
    return block


def _at_least_one(*asked: tuple[str, int]) -> None:
    for what, value in asked:
        if value < 1:
            raise Refusal(ErrorCode.OUT_OF_RANGE, f"{what} must be at least 1", value, 1)


def check_product(request: Mvm | Sweep, spec: ChipSpec) -> tuple[TileAddress, NDArray[np.integer]]:
    """Tile and codes of a product that the chip can drive and convert; raises ``Refusal`` (OUT_OF_RANGE)."""
    if request.tile is None:
        raise Refusal(ErrorCode.OUT_OF_RANGE, "no tile is named")
    _check_tile(request.tile, spec)
    _check_drive(request, spec)
    return request.tile, request.codes


def _check_tile(tile: TileAddress, spec: ChipSpec) -> None:
    if tile.macro >= spec.macros:
        raise Refusal(ErrorCode.OUT_OF_RANGE, "no such macro", tile.macro, spec.macros - 1)
    try:
        cell_lines(spec.macro, tile.row0, tile.rows, tile.output0, tile.outputs)
    except TileOutOfMacro as error:
        raise Refusal(ErrorCode.OUT_OF_RANGE, str(error)) from error


def _check_drive(request: Mvm | Sweep, spec: ChipSpec) -> None:
    macro, ranges = spec.macro, len(spec.macro.adc.full_scales_us)
    if request.range_code >= ranges:
        raise Refusal(ErrorCode.OUT_OF_RANGE, "no such converter range", request.range_code, ranges - 1)
    try:
        input_planes(macro.inputs, request.input_bits, request.input_signed)
        signed = request.input_signed and macro.inputs.signed is not SignedInput.OFFSET
        check_codes(request.codes, request.input_bits, signed)
    except CodeOutOfRange as error:
        raise Refusal(ErrorCode.OUT_OF_RANGE, str(error)) from error
