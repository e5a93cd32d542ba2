"""Events of a layer for one image, counted: reads, cycles, conversions, sums, bits, nanoseconds.

Counts are exact: a chip that runs the same tiles counts the same reads and conversions. Prices
are in ``cim.cost.network_cost``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.blocks import blocks
from cim.chip.converters import conversions
from cim.chip.spec import ChipSpec, CostSpec, Encoding
from cim.cost.tile_reads import tile_reads
from cim.cost.workload import Executor, LayerWork, Tiles, WorkKind

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ADDING = (
    WorkKind.MAX_POOL, WorkKind.AVG_POOL, WorkKind.ADD, WorkKind.ELEMENT, WorkKind.REDUCE, WorkKind.RESAMPLE,
)  # fmt: skip
"""Kinds whose operations are priced as those of pools."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerEvents:
    """One layer, one image. ``…_ns`` are busy times of the busiest unit of a kind.

    ``macros``, ``macro_ns``: which macros the tiles use and how long each is busy reading.
    """

    reads: int = 0  # reads of a tile, one for each input plane
    row_cycles: int = 0  # word lines driven, times input cycles
    cell_cycles: int = 0  # cells under driven rows, times input cycles
    conversions: int = 0
    partial_sums: int = 0  # sums of tiles added to others
    cells: int = 0
    outputs: int = 0  # output codes made
    pooled: int = 0  # inputs of pools and additions
    multiplied: int = 0  # multiplications and additions of activations
    buffer_bits_written: float = 0.0
    buffer_bits_read: float = 0.0
    line_bits: float = 0.0  # capacity of the line buffers of all tiles
    array_ns: float = 0.0
    adc_ns: float = 0.0
    buffer_ns: float = 0.0
    digital_ns: float = 0.0
    host_bits: float = 0.0  # codes to the host and back
    host_ns: float = 0.0
    most_positions: int = 1  # of the copy that answers most
    macros: Ints | None = None
    macro_ns: Floats | None = None

    @property
    def read_ns(self) -> float:
        """Busy time of the busiest macro."""
        return float(self.macro_ns.max()) if self.macro_ns is not None else 0.0


def executor_of(layer: LayerWork, price: CostSpec | None) -> Executor:
    """The unit that runs a layer when the chip executes the network's plan by itself.

    Layers without weights in cells run in the chip's logic. The host runs those for which the chip has no operation, or
    its file no price of multiplying activations.
    """
    if layer.kind.on_cells:
        return Executor.ARRAY
    unpriced = layer.kind.multiplies and (price is None or price.multiply_pj is None)
    return Executor.HOST if layer.beyond_chip or unpriced else Executor.LOGIC


def host_bits(layer: LayerWork) -> int:
    """Bits of input and output codes that pass between chip and host for a layer that the host runs."""
    given = math.prod(layer.in_shape) * len(layer.inputs) * layer.input_bits
    return given + math.prod(layer.out_shape) * layer.output_bits


def count_events(layer: LayerWork, chip: ChipSpec, price: CostSpec) -> LayerEvents:
    """Count one layer. Layers off the cells work in the digital unit of one macro, or on the host."""
    buffer_bits_per_ns, ops_per_ns = price.buffer_bits_per_ns, price.digital_ops_per_ns
    if layer.kind.on_cells:
        if layer.tiles is None:
            raise ValueError(f"{layer.name}: no tiles; mapping.workload places them")
        return _on_cells(layer, layer.tiles, chip, buffer_bits_per_ns, ops_per_ns)
    if executor_of(layer, price) is Executor.HOST:
        bits = host_bits(layer)
        return LayerEvents(host_bits=bits, host_ns=bits / price.host_bits_per_ns, most_positions=layer.positions)
    if layer.kind is WorkKind.MOVE:
        return LayerEvents(most_positions=layer.positions)
    codes = math.prod(layer.out_shape)
    written = math.prod(layer.in_shape) * len(layer.inputs) * layer.input_bits
    window = math.prod(layer.kernel) if layer.kind in (WorkKind.MAX_POOL, WorkKind.AVG_POOL) else 1
    inputs = layer.operations or codes * window * (len(layer.inputs) if layer.kind is WorkKind.ADD else 1)
    read = inputs * layer.input_bits
    return LayerEvents(
        outputs=codes if layer.kind is not WorkKind.CONCAT else 0,
        pooled=inputs if layer.kind in _ADDING else 0,
        multiplied=inputs if layer.kind.multiplies else 0,
        buffer_bits_written=written,
        buffer_bits_read=read,
        line_bits=_line_rows(layer) * layer.in_shape[2] * layer.in_shape[0] * layer.input_bits,
        buffer_ns=max(written, read) / buffer_bits_per_ns,
        digital_ns=inputs / ops_per_ns,
        most_positions=layer.positions,
    )


def positions_by_copy(layer: LayerWork, copies: int) -> Ints:
    """Output positions that each copy answers: those of its block of the output map."""
    return np.array([len(rows) * len(columns) for rows, columns in blocks(*layer.out_shape[1:], copies)], np.int64)


def _on_cells(
    layer: LayerWork, tiles: Tiles, chip: ChipSpec, buffer_bits_per_ns: float, ops_per_ns: float
) -> LayerEvents:
    macro, timing = chip.macro, chip.timing
    band = positions_by_copy(layer, tiles.copies)
    once = band[tiles.copy]  # positions by tile
    answered = once * tiles.reads
    asked = tile_reads(macro, layer.input_bits, layer.input_signed, answered, tiles.outputs)
    planes, cycles = asked.planes, asked.cycles
    by_output = int(answered @ tiles.outputs)
    row_positions = answered * tiles.rows
    by_row, by_cell = int(row_positions.sum()), int(row_positions @ tiles.outputs)
    extra = int(macro.encoding is Encoding.OFFSET_COLUMN)  # the reference column
    per_weight = 2 if macro.paired else 1
    per_output = conversions(macro, 2) - conversions(macro, 1)
    serial = np.minimum(per_output * tiles.outputs + extra, macro.adc.shared_by)
    array_ns = planes * timing.row_setup_ns + cycles * timing.input_cycle_ns
    adc_ns = planes * timing.conversion_ns * serial
    codes = layer.input_bits / math.prod(layer.kernel)  # bits of a pixel, by row
    written = codes * layer.in_shape[1] * layer.in_shape[2] / layer.positions
    fresh = min(layer.stride[1], layer.kernel[1]) / layer.kernel[1]  # of a window that moves along its row
    read = layer.input_bits * (fresh + (1 - fresh) / layer.out_shape[2])
    on_macro = np.bincount(tiles.macro, answered)
    converting_ns = np.bincount(tiles.macro, answered * adc_ns)
    used = np.flatnonzero(on_macro)
    outputs = math.prod(layer.out_shape)
    return LayerEvents(
        reads=int(asked.reads.sum()),
        row_cycles=by_row * cycles * (2 if macro.encoding is Encoding.ROW_PAIRS else 1),
        cell_cycles=(by_cell * per_weight + by_row * extra) * cycles,
        conversions=int(asked.conversions.sum()),
        partial_sums=by_output - outputs,
        cells=0 if layer.shares else int(tiles.rows @ tiles.outputs) * per_weight + int(tiles.rows.sum()) * extra,
        outputs=outputs,
        buffer_bits_written=int(once @ tiles.rows) * written,
        buffer_bits_read=by_row * read,
        line_bits=int(tiles.rows.sum()) * codes * _line_rows(layer) * layer.in_shape[2],
        array_ns=float(on_macro.max()) * array_ns,
        adc_ns=float(converting_ns.max()),
        buffer_ns=float(np.bincount(tiles.macro, row_positions).max()) * max(written, read) / buffer_bits_per_ns,
        digital_ns=int(tiles.outputs.max()) * int(band.max()) / ops_per_ns,
        most_positions=int(band.max()),
        macros=used,
        macro_ns=(on_macro * array_ns + converting_ns)[used].astype(np.float64),
    )


def _line_rows(layer: LayerWork) -> int:
    """Rows of the input that wait in a line buffer: the window's reach and the rows it steps by."""
    reach = layer.dilation[0] * (layer.kernel[0] - 1) + layer.stride[0]
    return min(reach, layer.in_shape[1])
