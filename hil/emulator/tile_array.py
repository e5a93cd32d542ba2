"""A tile as arrays for the kernel of the emulated chip."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class TileArray(NamedTuple):
    """A tile's tables, as ``kernels.convert_vectors`` takes them.

    Conductances are multiples of 2^−n µS with the largest n that keeps every sum over rows below 2^30: sums are
    exact in int32, whatever their order. Rows of ``tables`` (int32, flat, ``pitch`` a row, one for each pattern of
    each group) hold the net current of each line, those of the second line of a pair from ``second_column`` on (0:
    one line a conversion), unsigned currents ``unsigned_column`` further (0: they are the net ones), and the total of
    the tile in ``total_column`` (−1: it does not matter). Sections begin at multiples of sixteen.

    Groups lie in quads, those in pieces of the line from the far end on, ``quads`` each, as far as the tile reaches;
    ``slots`` (uint16) gives the tile row of each place of a group, or the number of rows for none. ``spread`` (uint32)
    has the field of each code in every plane, ``squares`` (uint64, (words, codes)) Σ u² of one, so many bits a plane.
    """

    rows: int
    conversions: int
    low_code: int
    width: int  # bits of a row in a plane's lane of a word
    lane: int  # bits of a lane
    spread: NDArray[np.uint32]
    squares: NDArray[np.uint64]
    square_bits: int
    slots: NDArray[np.uint16]
    bases: NDArray[np.int32]  # of each group's rows in ``tables``, groups padded to a multiple of sixteen
    pieces: int
    quads: int
    weights: NDArray[np.int32]  # of the planes
    tables: NDArray[np.int32]
    pitch: int
    second_column: int
    unsigned_column: int
    total_column: int
    from_codes: int
    units: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return self.tables.nbytes
