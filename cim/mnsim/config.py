"""The configuration of MNSIM 2.0 as types: what ``cim/chips/mnsim-default.toml`` holds, section by section.

Nothing here has a default; the file is the one source of every value.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from cim.errors import CannotExpress


class MnsimError(CannotExpress):
    """MNSIM 2.0 cannot express this network on this configuration; the text holds the numbers."""


class TileConnection(enum.StrEnum):
    """The curve along which tiles of the grid are numbered (see ``cim.mnsim.mapping``)."""

    ROWS = "rows"
    SNAKE = "snake"
    FOLD = "fold"
    ZIGZAG = "zigzag"


class Operation(enum.StrEnum):
    ANALOG = "analog"
    DIGITAL = "digital"


class Cell(enum.StrEnum):
    ONE_RESISTOR = "0T1R"
    ONE_TRANSISTOR = "1T1R"


class CellArea(enum.StrEnum):
    GIVEN = "given"
    TECHNOLOGY = "technology"


class DeviceKind(enum.StrEnum):
    NVM = "nvm"
    SRAM = "sram"


@dataclass(frozen=True, slots=True)
class ChipSection:
    tile_rows: int
    tile_columns: int
    tile_connection: TileConnection
    inter_tile_gbit_s: float
    pipeline: bool
    element_wise_ns: float


@dataclass(frozen=True, slots=True)
class TileSection:
    pe_rows: int
    pe_columns: int
    intra_tile_gbit_s: float
    output_buffer_kb: float

    @property
    def pes(self) -> int:
        return self.pe_rows * self.pe_columns

    @property
    def tree_levels(self) -> int:
        """Levels of the H-tree that joins the PEs of a tile: ⌈log2 PEs⌉."""
        return (self.pes - 1).bit_length()

    @property
    def tree_nodes(self) -> int:
        """Joint modules a converter, Σ over levels of ⌊n/2⌋ + n mod 2, until one is left. Four PEs: 2 + 1."""
        total, left = 0, self.pes
        while left > 1:
            left = left // 2 + left % 2
            total += left
        return total


@dataclass(frozen=True, slots=True)
class PeSection:
    operation: Operation
    polarity: int
    sub_position: int
    groups: int
    dacs: int
    adcs: int
    input_buffer_kb: float


@dataclass(frozen=True, slots=True)
class ArraySection:
    rows: int
    columns: int
    subarray_rows: int
    cell: Cell
    transistor_nm: float
    area: CellArea
    driver_um2_per_row: float
    digital_driver_um2_per_row: float
    cell_f2_0t1r: float
    cell_f2_1t1r: float
    wire_ns_per_kb2: float
    wire_ns_per_kb: float

    @property
    def subarrays(self) -> int:
        return self.rows // self.subarray_rows


@dataclass(frozen=True, slots=True)
class DeviceSection:
    kind: DeviceKind
    technology_nm: float
    area_um2: float
    read_v: tuple[float, ...]
    read_latency_ns: float
    resistance_ohm: tuple[float, ...]
    input_high_share: float
    low_resistance_share: float
    unused_column_share: float
    full_array_low_share: float
    sram_area_um2: float
    sram_read_w: float
    simulation_level: int


@dataclass(frozen=True, slots=True)
class Converter:
    """The chosen DAC or ADC."""

    bits: int
    area_um2: float
    power_w: float
    latency_ns: float


@dataclass(frozen=True, slots=True)
class ConverterSection:
    """A table of DACs or ADCs, numbered from 1; choice −1 takes the ``own_`` values."""

    choice: int
    bits: tuple[int, ...]
    area_um2: tuple[float, ...]
    power_w: tuple[float, ...]
    rate_gs: tuple[float, ...]
    cycles: tuple[int, ...]
    own_bits: int
    own_area_um2: float
    own_power_w: float
    own_rate_gs: float

    @property
    def chosen(self) -> Converter:
        """The chosen converter: latency in ns = cycles / rate in GS/s, or (bits + 2) / rate with ``own_`` values."""
        if self.choice == -1:
            latency_ns = (self.own_bits + 2) / self.own_rate_gs
            return Converter(self.own_bits, self.own_area_um2, self.own_power_w, latency_ns)
        i = self.choice - 1
        return Converter(self.bits[i], self.area_um2[i], self.power_w[i], self.cycles[i] / self.rate_gs[i])


@dataclass(frozen=True, slots=True)
class MuxSection:
    transistors: tuple[int, ...]
    f2_per_transistor: float
    power_w_per_transistor: float
    demux_level_ns: float
    mux_level_ns: float


@dataclass(frozen=True, slots=True)
class DigitalSection:
    frequency_mhz: float
    adder_nm: float
    adder_bits: int
    adder_f2_per_bit: float
    adder_w_per_bit: float
    shift_register_nm: float
    shift_register_um2: float
    shift_register_w: float
    register_nm: float
    register_um2: float
    register_w: float
    joint_nm: float
    joint_um2: float
    joint_w: float

    @property
    def period_ns(self) -> float:
        return 1e3 / self.frequency_mhz


@dataclass(frozen=True, slots=True)
class PoolingSection:
    rows: int
    columns: int
    units: int
    technology_nm: float
    area_um2: float
    power_w: float
    pass_ns: float


@dataclass(frozen=True, slots=True)
class BufferSection:
    choice: int
    technology_nm: float
    bus_bits: int
    word_ns: float


@dataclass(frozen=True, slots=True)
class SramRow:
    """One buffer of the table; for nodes from ``node_nm`` up, sizes up to ``size_kb``, buses up to ``bus_bits``."""

    node_nm: float
    size_kb: float
    bus_bits: int
    area_um2: float
    read_nj: float
    write_nj: float
    leakage_mw: float


@dataclass(frozen=True, slots=True)
class SramSection:
    rows: tuple[SramRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MnsimConfig:
    """One whole configuration. ``provenance``: source of each ``section.field``."""

    chip: ChipSection
    tile: TileSection
    pe: PeSection
    array: ArraySection
    device: DeviceSection
    dac: ConverterSection
    adc: ConverterSection
    mux: MuxSection
    digital: DigitalSection
    pooling: PoolingSection
    buffer: BufferSection
    sram: SramSection
    source: str
    provenance: Mapping[str, str] = field(compare=False, repr=False)
