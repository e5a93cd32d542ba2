"""Column corrections of every tile, from what calibration measured and from cells as they were read back.

The correction of a column is the least-squares line from the ADC sums that record and
readings make us expect to the level sums that are wanted, over the stored training images. It
holds column gain and offset, the mean loss along the wires, and what the cells of the column
became. A virtual chip that was programmed again is corrected from simulated readings of its
own cells, as the real one is; nobody is corrected with the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cim.chip.correction import Correction
from cim.record.calibration import CalibrationRecord
from cim.simulator.column_lines import ColumnReads, tile_correction
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile
from mapping.program.corrections import Corrections
from mapping.program.driven import tile_vectors
from mapping.program.training_inputs import VECTORS, LayerInputs


def column_corrections(
    program: ConductanceProgram,
    record: CalibrationRecord,
    readings_us: Mapping[int, NDArray[np.floating]],
    inputs: LayerInputs,
    wanted: Mapping[str, Sequence[NDArray[np.floating]]] | None = None,
) -> Corrections:
    """Corrections for a chip with this record whose cells were read as ``readings_us``.

    Args:
        readings_us: slot -> (rows, columns) µS; cells that are not used do not matter.
        inputs: ``training_inputs`` of the program.
        wanted: by layer, levels that each of its tiles stands for (rows, outputs); None: the program's.
    """
    found: dict[str, tuple[Correction, ...]] = {}
    for step in program.matrices:
        vectors: dict[range, NDArray[np.int16]] = {}  # tiles of other outputs have the same
        corrections = []
        for number, tile in enumerate(step.group.tiles):
            if tile.inputs not in vectors:
                vectors[tile.inputs] = tile_vectors(inputs[step.name], step.group.window, tile, VECTORS)
            reads = tile_reads(step, tile, None if wanted is None else wanted[step.name][number])
            cells = readings_us[program.slot(tile)]
            corrections.append(tile_correction(program.spec.macro, record, reads, cells, vectors[tile.inputs]))
        found[step.name] = tuple(corrections)
    return found


def tile_reads(step: MatrixStep, tile: Tile, wanted: NDArray[np.floating] | None = None) -> ColumnReads:
    """A tile of a program as the simulator takes it; ``wanted``: levels that it stands for instead of its own."""
    group = step.group
    return ColumnReads(
        tile.macro,
        tile.row0,
        tile.output0,
        tile.levels if wanted is None else wanted,
        tile.signs,
        group.range_code,
        group.input_bits,
        group.input_signed,
    )
