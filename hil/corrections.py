"""Column corrections of every tile, from what calibration measured and nothing else.

The correction of a column is the least-squares line from the ADC sums that the record makes us
expect to the level sums that are wanted, over the stored training images. It holds column gain
and offset, the mean loss along the wires, the mean relaxation of each level at the age of use,
and cells known to be stuck; the same corrections serve the real chip and every virtual one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.calibration import CalibrationRecord
from cim.converters import to_offset
from cim.correction import Correction, digital_terms, float_correction, nominal_correction
from cim.spec import SignedInput
from hil.infer import Corrections
from hil.simulate import expected_cells_us, expected_sums
from hil.watch import Watch
from mapping.driven import tile_vectors
from mapping.execute import IdealMultiply, run
from mapping.program import ConductanceProgram, MatrixStep, Tile

IMAGES = 32
VECTORS = 2048  # sampled input vectors of a layer


def nominal_corrections(program: ConductanceProgram) -> dict[str, tuple[Correction, ...]]:
    """Corrections of a chip that does exactly what its file says."""
    spec = program.spec.macro
    return {
        step.name: tuple(
            nominal_correction(spec, step.group.range_code, t.levels, step.group.input_bits, step.group.input_signed)
            for t in step.group.tiles
        )
        for step in program.matrices
    }


def record_corrections(
    program: ConductanceProgram, record: CalibrationRecord, age_s: float, watch: Watch | None = None
) -> Corrections:
    """Corrections for a chip with this record, at ``age_s`` after programming."""
    inputs = _layer_inputs(program)
    cells = {macro: expected_cells_us(program, record, macro, age_s) for macro in program.macros}
    corrections = {}
    for done, step in enumerate(program.matrices):
        if watch:
            watch.step(done, len(program.matrices), step.name)
        codes = inputs[step.name]
        corrections[step.name] = tuple(
            tile_correction(
                program, record, step, tile, cells[tile.macro], tile_vectors(codes, step.group.window, tile, VECTORS)
            )
            for tile in step.group.tiles
        )
    return corrections


def _layer_inputs(program: ConductanceProgram) -> dict[str, NDArray[np.int16]]:
    """Input codes of every layer for the stored training images, exact execution."""
    inputs: dict[str, list[NDArray[np.int16]]] = {}

    def keep(step: MatrixStep, codes: NDArray[np.int16], sums: NDArray[np.int32]) -> None:
        inputs.setdefault(step.name, []).append(codes)

    run(program, program.calibration_images[:IMAGES], IdealMultiply(program), tap=keep)
    return {name: np.concatenate(parts) for name, parts in inputs.items()}


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
    nominal = spec.lsb_us(group.range_code) / spec.level_step_us
    weight = len(vectors) * float(4**group.input_bits - 1) / 3.0
    gain = ((x * y).sum(0) + weight * nominal) / ((x * x).sum(0) + weight)
    offset = wanted.mean(0) - gain * expected.mean(0)
    return float_correction(gain, offset, np.full(len(tile.outputs), rest))
