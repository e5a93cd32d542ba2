"""Requests that a chip refuses, emulated or of a user's board, each with the requested number and the allowed one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import CodeOutOfRange, check_codes, conversions, input_planes
from cim.chip.encoding import TileOutOfMacro, cell_lines
from cim.chip.spec import ChipSpec, Limits, SignedInput
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import (
    Capability,
    CellBlock,
    ErrorCode,
    LoadLayer,
    Mvm,
    Polarity,
    ProgramTile,
    Pulse,
    Returns,
    Sweep,
    TileAddress,
)

if TYPE_CHECKING:
    from hil.emulator.compute import Drive

RETURNS = {Returns.RAW: Capability.RAW, Returns.SUMS: Capability.SUMS, Returns.LAYER: Capability.LAYER}


def need(capabilities: Capability, one: Capability) -> None:
    if one not in capabilities:
        raise Refusal(ErrorCode.UNSUPPORTED, f"this chip cannot {(one.name or str(one)).lower()}")


def returns(kind: Returns, capabilities: Capability) -> None:
    need(capabilities, RETURNS[kind])


def at_least_one(value: int, what: str) -> int:
    if value < 1:
        raise Refusal(ErrorCode.OUT_OF_RANGE, f"{what} must be at least 1", value, 1)
    return value


def macro_index(macro: int, spec: ChipSpec) -> None:
    if not 0 <= macro < spec.macros:
        raise Refusal(ErrorCode.OUT_OF_RANGE, f"macro {macro}: there are {spec.macros}", macro, spec.macros - 1)


def cells(block: CellBlock, spec: ChipSpec, shape: tuple[int, ...] | None = None) -> None:
    """Check that a block lies in its macro and that its data, if there are some, have its shape."""
    macro_index(block.macro, spec)
    for name, first, count, limit in (
        ("word lines", block.row0, block.rows, spec.macro.rows),
        ("bit lines", block.column0, block.columns, spec.macro.columns),
    ):
        if first < 0 or count < 1 or first + count > limit:
            raise Refusal(ErrorCode.OUT_OF_RANGE, f"{name} {first}+{count} of {limit}", first + count, limit)
    if shape not in (None, (block.rows, block.columns)):
        raise Refusal(ErrorCode.MALFORMED, f"data of shape {shape} for {block.rows} x {block.columns} cells")


def write_limits(request: ProgramTile, limits: Limits) -> None:
    at_least_one(request.unit_ns, "unit")
    at_least_one(request.verify_reads, "verify reads")
    for name, asked, allowed in (
        ("SET voltage", max(request.set_start_mv, request.set_stop_mv) / 1e3, limits.set_v),
        ("RESET voltage", max(request.reset_start_mv, request.reset_stop_mv) / 1e3, limits.reset_v),
        ("pulse width in ns", request.pulse_width_ns, limits.pulse_width_ns),
        ("pulses per cell", request.max_pulses, limits.pulses_per_cell),
    ):
        _limit(name, asked, allowed)


def pulse_limits(request: Pulse, limits: Limits) -> None:
    top = limits.set_v if request.polarity is Polarity.SET else limits.reset_v
    _limit(f"{request.polarity.name} voltage", int(request.millivolts.max(initial=0)) / 1e3, top)
    _limit("pulse width in ns", at_least_one(request.width_ns, "pulse width"), limits.pulse_width_ns)


def wear(pulses: int, life_pulses: int | None) -> None:
    """Refuse more pulses than a cell may take in its life."""
    if life_pulses is not None:
        _limit("pulses of a cell in its life", pulses, life_pulses)


def _limit(name: str, asked: float, allowed: float) -> None:
    if asked > allowed:
        raise Refusal(ErrorCode.LIMIT, f"{name} {asked:g} is above the limit of {allowed:g}", asked, allowed)


def tile(address: TileAddress | None, spec: ChipSpec) -> TileAddress:
    if address is None:
        raise Refusal(ErrorCode.MALFORMED, "a tile is needed unless a layer is returned")
    macro_index(address.macro, spec)
    try:
        cell_lines(spec.macro, address.row0, address.rows, address.output0, address.outputs)
    except TileOutOfMacro as error:
        raise Refusal(ErrorCode.OUT_OF_RANGE, str(error)) from None
    return address


def drive(codes: NDArray[np.int16], how: Drive | Mvm | Sweep, spec: ChipSpec) -> None:
    ranges = len(spec.macro.adc.full_scales_us)
    if not 0 <= how.range_code < ranges:
        raise Refusal(
            ErrorCode.OUT_OF_RANGE, f"ADC range {how.range_code}: there are {ranges}", how.range_code, ranges - 1
        )
    try:
        input_planes(spec.macro.inputs, how.input_bits, how.input_signed)
        check_codes(codes, how.input_bits, how.input_signed and spec.macro.inputs.signed is not SignedInput.OFFSET)
    except CodeOutOfRange as error:
        raise Refusal(ErrorCode.OUT_OF_RANGE, str(error)) from None


def plane_count(how: Drive, spec: ChipSpec) -> int:
    return len(input_planes(spec.macro.inputs, how.input_bits, how.input_signed))


def conversion_count(address: TileAddress, spec: ChipSpec) -> int:
    return conversions(spec.macro, address.outputs)


def vectors(codes: NDArray[np.int16]) -> NDArray[np.int16]:
    if codes.ndim != 2:
        raise Refusal(ErrorCode.MALFORMED, f"codes of shape {codes.shape}; vectors x rows are needed")
    return np.ascontiguousarray(codes, np.int16)


def width(codes: NDArray[np.int16], rows: int) -> None:
    if codes.shape[1] != rows:
        raise Refusal(ErrorCode.MALFORMED, f"vectors of {codes.shape[1]} codes for {rows} rows", codes.shape[1], rows)


def tile_rows(codes: NDArray[np.int16], skip: int, address: TileAddress) -> NDArray[np.int16]:
    if skip < 0 or skip + address.rows > codes.shape[1]:
        text = f"rows {skip}+{address.rows} of windows of {codes.shape[1]} codes"
        raise Refusal(ErrorCode.OUT_OF_RANGE, text, skip + address.rows, codes.shape[1])
    return np.ascontiguousarray(codes[:, skip : skip + address.rows])


def loaded(layers: Mapping[int, LoadLayer], layer: int) -> LoadLayer:
    if layer not in layers:
        raise Refusal(ErrorCode.NO_SUCH_LAYER, f"layer {layer} is not loaded", layer)
    return layers[layer]


def layer(request: LoadLayer, spec: ChipSpec) -> None:
    """Every tile exists, lies inside the layer, and all tables have one entry per output."""
    for t in request.tiles:
        tile(t.address, spec)
        for name, first, count, limit in (
            ("inputs", t.first_input, t.address.rows, request.inputs),
            ("outputs", t.first_output, t.address.outputs, request.outputs),
        ):
            if first < 0 or first + count > limit:
                raise Refusal(ErrorCode.OUT_OF_RANGE, f"{name} {first}+{count} of {limit}", first + count, limit)
        if not t.gain.shape == t.offset.shape == t.input_gain.shape == (t.address.outputs,):
            raise Refusal(ErrorCode.MALFORMED, f"a correction of {t.gain.shape} for {t.address.outputs} outputs")
        _shifts(np.array([t.shift]))
    tables = (request.bias.shape, request.multiplier.shape, request.shift.shape)
    if not request.tiles or set(tables) != {(request.outputs,)}:
        raise Refusal(
            ErrorCode.MALFORMED, f"tables of {tables} and {len(request.tiles)} tiles for {request.outputs} outputs"
        )
    _shifts(request.shift)


def _shifts(shift: NDArray[np.integer]) -> None:
    if shift.size and (int(shift.min()) < 0 or int(shift.max()) > 62):
        raise Refusal(ErrorCode.OUT_OF_RANGE, "shifts are 0 to 62", float(shift.max()), 62)
