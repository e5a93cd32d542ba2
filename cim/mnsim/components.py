"""Area, power and delay of single components, and what a tile is made of.

Symbols: F transistor node in µm, s size of an array in kB of one-bit cells, V read voltages
(first and last of the list), R_H and R_L highest and lowest resistance.
Source: MNSIM 2.0, Zhu et al., GLSVLSI 2020; constants in ``cim/chips/mnsim-default.toml``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cim.mnsim.buffers import Sram, sram
from cim.mnsim.by_component import ByComponent, summed
from cim.mnsim.config import Cell, CellArea, Converter, DeviceKind, MnsimConfig, Operation
from cim.mnsim.mapping import ChipMapping


@dataclass(frozen=True, slots=True)
class Components:
    """Components of every PE and tile of one chip. ``demux``, ``mux``: fans of inputs and outputs."""

    dac: Converter
    adc: Converter
    dacs: int
    adcs: int
    demux: int
    mux: int
    demux_w: float
    mux_w: float
    demux_ns: float
    mux_ns: float
    array_ns: float
    shift_register_w: float
    register_w: float
    adder_w: float
    joint_w: float
    pooling_w: float
    input_buffer: Sram
    output_buffer: Sram
    tile_area_um2: ByComponent


def components(config: MnsimConfig, mapping: ChipMapping) -> Components:
    """Components of one chip.

    demux = ⌈subarray rows / DACs⌉, mux = ⌈columns / (ADCs / subarrays) · (1 + sub_position)⌉. Tile area =
    PEs · (arrays + ADCs + DACs + registers + (de)muxes + input buffer) + joint modules + output
    buffer + pooling. Quirk: every tile has a pooling block, and pooling layers pay for idle arrays.
    """
    pe, array, digital = config.pe, config.array, config.digital
    dacs, adcs = pe.dacs, pe.adcs
    demux = math.ceil(array.subarray_rows / pe.dacs)
    mux = math.ceil(array.columns * array.subarrays / pe.adcs * (1 + pe.sub_position))
    dac, adc = config.dac.chosen, config.adc.chosen
    input_buffer, output_buffer = sram(mapping.input_buffer_kb, config), sram(mapping.output_buffer_kb, config)
    per_register, per_joint = digital.register_nm, digital.joint_nm
    a_pe = ByComponent(
        array=array_um2(config) * pe.polarity * pe.groups,
        dac=dac.area_um2 * dacs * pe.groups,
        adc=adc.area_um2 * adcs * pe.groups,
        input_register=at_node(digital.register_um2, per_register) * dacs * pe.groups,
        output_register=at_node(digital.register_um2, per_register) * adcs * pe.groups,
        input_demux=_mux_um2(demux, config) * dacs * pe.groups,
        output_mux=_mux_um2(mux, config) * adcs * pe.groups,
        shift_register=at_node(digital.shift_register_um2, digital.shift_register_nm) * adcs * pe.groups,
        adder=adder_um2(digital.adder_bits, config) * adcs * (pe.groups - 1),
        buffer=input_buffer.area_um2,
    )
    shared = ByComponent(
        joint=at_node(digital.joint_um2, per_joint) * config.tile.tree_nodes * adcs * pe.groups,
        buffer=output_buffer.area_um2,
        pooling=at_node(config.pooling.area_um2, config.pooling.technology_nm),
    )
    return Components(
        dac=dac,
        adc=adc,
        dacs=dacs,
        adcs=adcs,
        demux=demux,
        mux=mux,
        demux_w=_transistors(demux, config) * config.mux.power_w_per_transistor,
        mux_w=_transistors(mux, config) * config.mux.power_w_per_transistor,
        demux_ns=_levels(demux) * config.mux.demux_level_ns,
        mux_ns=_levels(mux) * config.mux.mux_level_ns,
        array_ns=_array_ns(config),
        shift_register_w=at_node(digital.shift_register_w, digital.shift_register_nm),
        register_w=at_node(digital.register_w, per_register),
        adder_w=digital.adder_w_per_bit * digital.adder_bits,
        joint_w=at_node(digital.joint_w, per_joint),
        pooling_w=at_node(config.pooling.power_w, config.pooling.technology_nm),
        input_buffer=input_buffer,
        output_buffer=output_buffer,
        tile_area_um2=summed((a_pe * config.tile.pes, shared)),
    )


def at_node(value_65nm: float, node_nm: float) -> float:
    """value · (node / 65)². Example: a register of 1.4256 um2 is 0.6833 um2 at 45 nm."""
    return value_65nm * (node_nm / 65) ** 2


def adder_um2(bits: int, config: MnsimConfig) -> float:
    """14 transistors of 10 F² a bit. 8 bits at 45 nm: 2.268 um2."""
    return config.digital.adder_f2_per_bit * (config.digital.adder_nm * 1e-3) ** 2 * bits


def array_um2(config: MnsimConfig) -> float:
    """rows · columns · cell + rows · driver.

    The driver is 1150 um2, in digital operation (7.3 · 2.7 + 9.5 · 3.8) (F / 65 nm)². From the
    technology a cell is 4 F² (0T1R, device node), 12 F² (1T1R, transistor node) or 5 um2 (SRAM)
    and there are no drivers. Default: 388,771.84 um2.
    """
    array, device = config.array, config.device
    cells = array.rows * array.columns
    if array.area is CellArea.TECHNOLOGY:
        if device.kind is DeviceKind.SRAM:
            return cells * device.sram_area_um2
        if array.cell is Cell.ONE_RESISTOR:
            return cells * array.cell_f2_0t1r * (device.technology_nm * 1e-3) ** 2
        return cells * array.cell_f2_1t1r * (array.transistor_nm * 1e-3) ** 2
    if config.pe.operation is Operation.DIGITAL:
        driver = at_node(array.digital_driver_um2_per_row, array.transistor_nm)
    else:
        driver = array.driver_um2_per_row
    return cells * device.area_um2 + array.rows * driver


def array_read_w(rows: int, columns: int, config: MnsimConfig) -> float:
    """Power of one array read with ``rows`` x ``columns`` of its cells in use.

    p = V² / R with V² = 0.9 V_0² + 0.1 V_1² and R = R_H R_L / (0.67 R_L + 0.33 R_H); 0T1R adds
    a quarter of V² / R_H for the unused columns. Default cell: 0.00225 V² / 29,700 Ω = 75.8 nW.
    Simulation level 1 reads the whole array, V² / (2 R_L) a cell.
    """
    array, device = config.array, config.device
    high, low = device.resistance_ohm[0], device.resistance_ohm[-1]
    v2 = (1 - device.input_high_share) * device.read_v[0] ** 2 + device.input_high_share * device.read_v[-1] ** 2
    if device.simulation_level == 1:
        rows, columns = array.rows, array.columns
        per_cell = v2 * device.full_array_low_share / low
    else:
        per_cell = v2 * ((1 - device.low_resistance_share) / high + device.low_resistance_share / low)
    if device.kind is DeviceKind.SRAM:
        return rows * columns * device.sram_read_w
    power = rows * columns * per_cell
    if array.cell is Cell.ONE_RESISTOR:
        power += device.unused_column_share * rows * (array.columns - columns) * v2 / high
    return power


def _array_ns(config: MnsimConfig) -> float:
    """Device latency + 2e-7 s² + 5e-9 s ns, s = rows · columns / 8192. Quirk: wire R and C are not used."""
    s = config.array.rows * config.array.columns / 8192
    return config.device.read_latency_ns + config.array.wire_ns_per_kb2 * s * s + config.array.wire_ns_per_kb * s


def _transistors(fan: int, config: MnsimConfig) -> int:
    """Transistors of one (de)multiplexer: 8 · 3^(⌈log2 fan⌉ − 1), fans up to 2, 4, … 64. Quirk: larger fans cost as
    64."""
    table = config.mux.transistors
    return table[min(max((fan - 1).bit_length(), 1), len(table)) - 1]


def _mux_um2(fan: int, config: MnsimConfig) -> float:
    return _transistors(fan, config) * config.mux.f2_per_transistor * (config.array.transistor_nm * 1e-3) ** 2


def _levels(fan: int) -> int:
    """1 + the number of floor divisions by 8 until the fan is 0: 2 up to a fan of 7, 3 up to 63."""
    levels = 1
    while fan > 0:
        fan //= 8
        levels += 1
    return levels
