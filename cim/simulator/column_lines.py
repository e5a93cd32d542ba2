"""The correction of one tile's columns, from the record of its macro and cells as they were read.

The correction of a column is the least-squares line from expected ADC sums, by record and readings, to the wanted level
sums. It compensates column gain and offset, mean wire loss, and deviations of the column's cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import to_offset
from cim.chip.correction import SHIFT, Correction, digital_terms, float_correction
from cim.chip.spec import MacroSpec, SignedInput
from cim.record.calibration import CalibrationRecord
from cim.record.device import Columns
from cim.simulator.layer import NoiseKey, simulated_tile
from cim.simulator.simulator import LayerSimulator


@dataclass(frozen=True, slots=True)
class ColumnReads:
    """Tile on its macro: place, intended levels (rows, outputs), and input bits of its reads.

    ``signs``: −1 for outputs whose cells hold the negated weights, (outputs,); None: no output is negated.
    """

    macro: int
    row0: int
    output0: int
    levels: NDArray[np.integer] | NDArray[np.floating]
    signs: NDArray[np.int8] | None
    range_code: int
    input_bits: int
    input_signed: bool


def tile_correction(
    spec: MacroSpec,
    record: CalibrationRecord,
    tile: ColumnReads,
    cells_us: NDArray[np.floating],
    vectors: NDArray[np.int16],
) -> Correction:
    """Least-squares line of each column of one tile; a column that hardly varies keeps the nominal slope.

    Minimises Σ (gain · sum + offset − wanted)² + w (gain − nominal)² over the vectors, with
    wanted the exact level sums, w the square sum of one code in every plane of every vector.

    Args:
        cells_us: of the whole macro, (rows, columns); NaN only beside the tile.
        vectors: input codes, (vectors, rows of the tile).
    """
    expected = expected_sums(spec, record, tile, cells_us, vectors)
    _, rest = digital_terms(spec, tile.levels, tile.input_bits, tile.input_signed)
    offset_inputs = tile.input_signed and spec.inputs.signed is SignedInput.OFFSET
    wanted = _level_sums(vectors, tile.levels, tile.input_bits)
    if rest:
        driven = to_offset(vectors, tile.input_bits) if offset_inputs else vectors
        wanted -= rest * driven.sum(1, dtype=np.float64)[:, None]
    middle, aim = expected.mean(0), wanted.mean(0)
    x, y = np.subtract(expected, middle, out=expected), np.subtract(wanted, aim, out=wanted)
    nominal = spec.lsb_us(tile.range_code) / spec.level_step_us * (1 if tile.signs is None else tile.signs)
    weight = len(vectors) * float(4**tile.input_bits - 1) / 3.0
    gain = (np.multiply(x, y, out=y).sum(0) + weight * nominal) / (np.multiply(x, x, out=x).sum(0) + weight)
    offset = aim - gain * middle
    return float_correction(gain, offset, np.full(tile.levels.shape[1], rest))


def _level_sums(
    vectors: NDArray[np.int16], levels: NDArray[np.integer] | NDArray[np.floating], bits: int
) -> NDArray[np.float64]:
    """vectors · levels; in single precision where every partial sum is a whole number that it holds."""
    exact = levels.dtype.kind == "i" and int(np.abs(levels).sum(0, dtype=np.int64).max(initial=0)) << bits < 1 << 24
    kind = np.float32 if exact else np.float64
    return np.asarray(vectors.astype(kind) @ levels.astype(kind), np.float64)


def expected_sums(
    spec: MacroSpec,
    record: CalibrationRecord,
    tile: ColumnReads,
    cells_us: NDArray[np.floating],
    vectors: NDArray[np.int16],
) -> NDArray[np.float64]:
    """Noise-free ADC sums (vectors, outputs) of one tile, for input codes ``vectors`` (vectors, rows of the tile)."""
    part = record.macro(tile.macro)
    columns = Columns(part.gain, part.offset_codes, np.zeros_like(part.gain), part.adc, part.inl_codes)
    inputs, outputs = tile.levels.shape
    none = np.zeros(outputs, np.int64)
    simulated = simulated_tile(
        spec,
        cells_us,
        columns,
        Correction(np.full(outputs, 1 << SHIFT, np.int32), none, none.astype(np.int32), SHIFT),
        inputs=range(inputs),
        outputs=range(outputs),
        multiplier=1,
        row0=tile.row0,
        output0=tile.output0,
    )
    levels = record.read_noise.levels_us
    layer = LayerSimulator(
        spec,
        [simulated],
        window=None,
        inputs=inputs,
        outputs=outputs,
        range_code=tile.range_code,
        input_bits=tile.input_bits,
        input_signed=tile.input_signed,
        read_noise=ReadNoise(levels, np.zeros_like(levels), np.zeros_like(levels)),
        wire=Wire(record.wire.ohm, 0.0, record.wire.end),
        drive=record.drive,
    )
    sums, _ = layer.level_sums(vectors, NoiseKey(0))
    return sums.astype(np.float64)
