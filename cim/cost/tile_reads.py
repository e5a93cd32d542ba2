"""Work of a tile for one image: reads, input cycles, conversions; costs, placement and dry runs count by it.

A read drives one input plane through one tile; its input cycles are 2^width − 1 where pulses are
counted, else one. The counts are those of the emulated chip, exactly (tests compare).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import conversions, input_cycles, input_planes
from cim.chip.spec import MacroSpec

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class TileDemand:
    """Work of each tile for an image, arrays (tiles,): ``reads`` = vectors · planes, ``conversions`` of all columns."""

    planes: int
    cycles: int  # of one vector
    reads: Ints
    input_cycles: Ints
    conversions: Ints


def tile_reads(macro: MacroSpec, input_bits: int, input_signed: bool, vectors: Ints, outputs: Ints) -> TileDemand:
    """Count the tiles of one layer.

    Args:
        vectors: output positions of one image that each tile answers, (tiles,).
        outputs: columns of each tile, (tiles,).
    """
    planes = input_planes(macro.inputs, input_bits, input_signed)
    cycles = sum(input_cycles(macro.inputs, plane) for plane in planes)
    reads = vectors * len(planes)
    sizes, which = np.unique(outputs, return_inverse=True)
    by_read = np.array([conversions(macro, int(n)) for n in sizes], np.int64)[which]
    return TileDemand(len(planes), cycles, reads, vectors * cycles, reads * by_read)
