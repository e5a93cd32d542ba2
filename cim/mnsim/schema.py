"""Schema of a configuration: the check of each field, and the rules that join several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from cim.chip.field_checks import Check, count, number, one_of
from cim.mnsim.config import (
    ArraySection,
    BufferSection,
    Cell,
    CellArea,
    ChipSection,
    ConverterSection,
    DeviceKind,
    DeviceSection,
    DigitalSection,
    MnsimConfig,
    MuxSection,
    Operation,
    PeSection,
    PoolingSection,
    SramRow,
    SramSection,
    TileConnection,
    TileSection,
)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _list_of(item: Check, shortest: int = 1) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or not shortest <= len(value) <= 4096:
            raise ValueError(f"is not a list of {shortest} to 4096 values")
        return tuple(item(v) for v in value)

    return check


def _sram_row(value: Any) -> SramRow:
    if isinstance(value, SramRow):
        return value
    if not isinstance(value, list) or len(value) != 7:
        raise ValueError(f"{value!r} is not a row of seven numbers")
    node, size, *rest = (number(0, 1e9)(v) for v in value)
    return SramRow(node, size or math.inf, int(rest[0]), *rest[1:])


NM = number(1, 10_000)
FREE = number(0, 1e9)
ABOVE = number(1e-12, 1e9)
_CONVERTER: Mapping[str, Check] = {
    "choice": count(-1, 4096),
    "bits": _list_of(count(1, 24)),
    "area_um2": _list_of(FREE),
    "power_w": _list_of(FREE),
    "rate_gs": _list_of(ABOVE),
    "cycles": _list_of(count(1, 1 << 24)),
    "own_bits": count(0, 24),
    **dict.fromkeys(("own_area_um2", "own_power_w", "own_rate_gs"), FREE),
}
SECTIONS: Mapping[str, tuple[type[Any], Mapping[str, Check]]] = {
    "chip": (
        ChipSection,
        {
            "tile_rows": count(1, 4096),
            "tile_columns": count(1, 4096),
            "tile_connection": one_of(TileConnection),
            "inter_tile_gbit_s": ABOVE,
            "pipeline": _flag,
            "element_wise_ns": FREE,
        },
    ),
    "tile": (
        TileSection,
        {
            "pe_rows": count(1, 256),
            "pe_columns": count(1, 256),
            "intra_tile_gbit_s": ABOVE,
            "output_buffer_kb": FREE,
        },
    ),
    "pe": (
        PeSection,
        {
            "operation": one_of(Operation),
            "polarity": count(1, 2),
            "sub_position": count(0, 1),
            "groups": count(1, 64),
            "dacs": count(1, 65536),
            "adcs": count(1, 65536),
            "input_buffer_kb": FREE,
        },
    ),
    "array": (
        ArraySection,
        {
            "rows": count(1, 65536),
            "columns": count(1, 65536),
            "subarray_rows": count(1, 65536),
            "cell": one_of(Cell),
            "transistor_nm": NM,
            "area": one_of(CellArea),
            "driver_um2_per_row": FREE,
            "digital_driver_um2_per_row": FREE,
            "cell_f2_0t1r": ABOVE,
            "cell_f2_1t1r": ABOVE,
            "wire_ns_per_kb2": FREE,
            "wire_ns_per_kb": FREE,
        },
    ),
    "device": (
        DeviceSection,
        {
            "kind": one_of(DeviceKind),
            "technology_nm": NM,
            "area_um2": ABOVE,
            "read_v": _list_of(number(-20, 20), 2),
            "read_latency_ns": ABOVE,
            "resistance_ohm": _list_of(number(1, 1e15), 2),
            **dict.fromkeys(("input_high_share", "low_resistance_share"), number(0, 1)),
            **dict.fromkeys(("unused_column_share", "full_array_low_share"), number(0, 1)),
            "sram_area_um2": ABOVE,
            "sram_read_w": FREE,
            "simulation_level": count(0, 1),
        },
    ),
    "dac": (ConverterSection, _CONVERTER),
    "adc": (ConverterSection, _CONVERTER),
    "mux": (
        MuxSection,
        {
            "transistors": _list_of(count(1, 1_000_000)),
            **dict.fromkeys(("f2_per_transistor", "power_w_per_transistor", "demux_level_ns", "mux_level_ns"), FREE),
        },
    ),
    "digital": (
        DigitalSection,
        {
            "frequency_mhz": ABOVE,
            "adder_nm": NM,
            "adder_bits": count(1, 64),
            "adder_f2_per_bit": FREE,
            "adder_w_per_bit": FREE,
            **{
                f"{part}_{unit}": NM if unit == "nm" else FREE
                for part in ("shift_register", "register", "joint")
                for unit in ("nm", "um2", "w")
            },
        },
    ),
    "pooling": (
        PoolingSection,
        {
            **dict.fromkeys(("rows", "columns"), count(1, 256)),
            "units": count(1, 65536),
            "technology_nm": NM,
            **dict.fromkeys(("area_um2", "power_w", "pass_ns"), FREE),
        },
    ),
    "buffer": (
        BufferSection,
        {"choice": count(1, 1), "technology_nm": NM, "bus_bits": count(1, 512), "word_ns": ABOVE},
    ),
    "sram": (SramSection, {"rows": _list_of(_sram_row)}),
}


def broken_rules(config: MnsimConfig) -> Iterator[tuple[str, str]]:
    """Field and reason of every rule that the whole configuration breaks."""
    array = config.array
    if array.rows % array.subarray_rows:
        yield "array.subarray_rows", f"{array.subarray_rows} does not divide the {array.rows} rows of the array"
    if config.tile.pes > 256:
        yield "tile.pe_rows", f"{config.tile.pes} PEs in a tile; 256 are possible"
    for name, part in (("dac", config.dac), ("adc", config.adc)):
        lengths = {len(c) for c in (part.bits, part.area_um2, part.power_w, part.rate_gs, part.cycles)}
        if len(lengths) > 1:
            yield f"{name}.bits", f"columns of the table have {sorted(lengths)} entries"
        elif part.choice == 0 or part.choice > len(part.bits):
            yield f"{name}.choice", f"{part.choice} is none of −1 (own values) and 1 to {len(part.bits)}"
        elif part.choice == -1 and (part.own_bits < 1 or part.own_rate_gs <= 0):
            yield f"{name}.own_bits", "own values need bits and a rate above zero"
