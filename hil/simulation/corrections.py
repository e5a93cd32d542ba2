"""Column corrections of every tile, from what calibration measured and from cells as they were read back.

The correction of a column is the least-squares line from the ADC sums that record and
readings make us expect to the level sums that are wanted, over the stored training images. It
holds column gain and offset, the mean loss along the wires, and what the cells of the column
became. A virtual chip that was programmed again is corrected from simulated readings of its
own cells, as the real one is; nobody is corrected with the truth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import to_offset
from cim.chip.correction import SHIFT, Correction, digital_terms, float_correction
from cim.chip.spec import SignedInput
from cim.record.calibration import CalibrationRecord
from cim.record.device import Columns
from cim.simulator.simulator import LayerSimulator, NoiseKey, simulated_tile
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile
from mapping.program.corrections import Corrections
from mapping.program.driven import tile_vectors
from mapping.program.training_inputs import LayerInputs

VECTORS = 1024  # sampled input vectors of a tile


def column_corrections(
    program: ConductanceProgram,
    record: CalibrationRecord,
    readings_us: Mapping[int, NDArray[np.floating]],
    inputs: LayerInputs,
) -> Corrections:
    """Corrections for a chip with this record whose cells were read as ``readings_us``.

    Args:
        readings_us: slot -> (rows, columns) µS; cells that are not used do not matter.
        inputs: ``training_inputs`` of the program.
    """
    cells = {slot: np.nan_to_num(np.asarray(readings_us[slot], np.float64)) for slot in program.slots}
    return {
        step.name: tuple(
            tile_correction(
                program,
                record,
                step,
                tile,
                cells[program.slot(tile)],
                tile_vectors(inputs[step.name], step.group.window, tile, VECTORS),
            )
            for tile in step.group.tiles
        )
        for step in program.matrices
    }


def tile_correction(
    program: ConductanceProgram,
    record: CalibrationRecord,
    step: MatrixStep,
    tile: Tile,
    cells_us: NDArray[np.float64],
    vectors: NDArray[np.int16],
) -> Correction:
    """The least-squares line of each column of one tile; where a column hardly varies, the nominal slope stands.

    Minimises Σ (gain · sum + offset − wanted)² + w (gain − nominal)² over the vectors, with
    wanted the exact level sums, w the square sum of one code in every plane of every vector.
    """
    spec, group = program.spec.macro, step.group
    expected = expected_sums(program, record, step, tile, cells_us, vectors)
    _, rest = digital_terms(spec, tile.levels, group.input_bits, group.input_signed)
    offset_inputs = group.input_signed and spec.inputs.signed is SignedInput.OFFSET
    driven = to_offset(vectors, group.input_bits) if offset_inputs else vectors
    wanted = vectors.astype(np.float64) @ tile.levels.astype(np.float64)
    wanted -= rest * driven.sum(1, dtype=np.float64)[:, None]
    x, y = expected - expected.mean(0), wanted - wanted.mean(0)
    nominal = spec.lsb_us(group.range_code) / spec.level_step_us * (1 if tile.signs is None else tile.signs)
    weight = len(vectors) * float(4**group.input_bits - 1) / 3.0
    gain = ((x * y).sum(0) + weight * nominal) / ((x * x).sum(0) + weight)
    offset = wanted.mean(0) - gain * expected.mean(0)
    return float_correction(gain, offset, np.full(len(tile.outputs), rest))


def expected_sums(
    program: ConductanceProgram,
    record: CalibrationRecord,
    step: MatrixStep,
    tile: Tile,
    cells_us: NDArray[np.float64],
    vectors: NDArray[np.int16],
) -> NDArray[np.float64]:
    """ADC sums (vectors, outputs) of one tile without noise, for input codes (vectors, rows)."""
    spec, group, part = program.spec.macro, step.group, record.macro(tile.macro)
    columns = Columns(part.gain, part.offset_codes, np.zeros_like(part.gain), part.adc, part.inl_codes)
    outputs = len(tile.outputs)
    none = np.zeros(outputs, np.int64)
    simulated = simulated_tile(
        spec,
        cells_us,
        columns,
        Correction(np.full(outputs, 1 << SHIFT, np.int32), none, none.astype(np.int32), SHIFT),
        inputs=range(len(tile.inputs)),
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
        inputs=len(tile.inputs),
        outputs=outputs,
        range_code=group.range_code,
        input_bits=group.input_bits,
        input_signed=group.input_signed,
        read_noise=ReadNoise(levels, np.zeros_like(levels), np.zeros_like(levels)),
        wire=Wire(record.wire.ohm, 0.0, record.wire.end),
        drive=record.drive,
    )
    sums, _ = layer.level_sums(vectors, NoiseKey(0))
    return sums.astype(np.float64)
