"""A layer in the fast mode, for all its engines: moments of tiles, groups of tiles, and terms of the input codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import max_unit
from cim.chip.spec import SignedInput
from cim.simulator.fast.moments import DrivenLine, PlaceTerms, TileMoments, loses_by_plane, place_terms, tile_moments
from cim.simulator.fast.row_cuts import RowCut
from cim.simulator.layer import PreparedTile, SimulatedLayer, SimulatedTile

ACTIVITY = 0.2  # mean |unit| of a plane that INL lines and static wire losses are taken at


class FastLayer:
    """A layer in the fast mode without cells: engines hold those as ``groups`` of tile moments.

    ``weights`` of the planes, ``sum_limits`` of shift-added sums; ``tables`` and ``by_plane`` see
    ``product_inputs``. ``activity``: mean |unit| of a plane at which INL lines and static wire losses are taken.
    """

    def __init__(self, layer: SimulatedLayer, activity: float = ACTIVITY) -> None:
        self.layer, self.activity = layer.without_tiles(), activity
        self.weights = np.array([p.weight for p in layer.planes], np.float64)
        positive, negative = self.weights[self.weights > 0].sum(), self.weights[self.weights < 0].sum()
        low, high = layer.limits
        self.sum_limits = (low * positive + high * negative, high * positive + low * negative)
        self.tables = self._code_tables(any(t.cubic is not None for t in layer.tiles))
        self.by_plane = any(loses_by_plane(layer, tile) for tile in layer.tiles)

    def counts_rows(self, tile: SimulatedTile) -> bool:
        """Whether driven rows of a tile are counted in the feature map itself: one-bit units, fewer than 256 rows."""
        inputs = self.layer.spec.inputs
        one_bit = inputs.signed is not SignedInput.TERNARY and inputs.bits_per_cycle == 1
        return one_bit and self.tables is None and len(tile.inputs) < 256

    def reads_in_place(self, tile: SimulatedTile) -> bool:
        """Whether engines also multiply a tile's codes in the feature map itself, without gathering them."""
        return self.counts_rows(tile) and not self.by_plane

    def cut(self, tile: SimulatedTile) -> RowCut:
        """Input channels and kernel positions of a tile's rows."""
        return RowCut(tile.inputs, self.kernel_size)

    def groups(self, tiles: Sequence[PreparedTile]) -> list[list[TileMoments]]:
        """Moments of tiles, grouped by outputs; tiles that are not read in place (``reads_in_place``) share a group
        only if their rows have the same inputs in the same order along the line.

        A tile whose halves are subtracted after the converter is a group of its own.
        """
        together: dict[object, list[TileMoments]] = {}
        for number, tile in enumerate(tiles):
            m = tile_moments(self.layer, tile, self.weights, self.activity)
            alone = m.cells.shape[1] != len(m.tile.outputs)
            rows = None if self.reads_in_place(m.tile) else (m.tile.inputs, m.line.order.tobytes())
            together.setdefault(number if alone else (m.tile.outputs, rows), []).append(m)
        return list(together.values())

    @property
    def kernel_size(self) -> int:
        """Word lines that one input channel takes: height times width of the kernel."""
        down, across = self.layer.map_window.kernel
        return down * across

    @property
    def driven_top(self) -> int:
        """Largest magnitude of a driven code."""
        return 1 << (self.layer.input_bits - self.layer.driven_signed)

    def _code_tables(self, cubic: bool) -> NDArray[np.float32] | None:
        """Factors of cells by driven code, from the lowest code on, (1 or 2, codes): Σ w u with real drive, and Σ w
        u³ / U² for cubic cells. None where the codes themselves are the factors."""
        layer = self.layer
        if layer.drive is None and not cubic:
            return None
        below = self.driven_top if layer.driven_signed else 0
        units = layer.units(np.arange(-below, self.driven_top, dtype=np.int16)).astype(np.float64)
        powers = [units, units**3 / max_unit(layer.spec) ** 2][: 1 + cubic]
        return np.stack([self.weights @ power for power in powers]).astype(np.float32)

    @property
    def product_top(self) -> float:
        """Largest magnitude of ``product_inputs``."""
        return float(self.driven_top if self.tables is None else np.abs(self.tables).max())

    def product_inputs(self, rows: NDArray[np.int16], line: DrivenLine) -> NDArray[np.int16] | NDArray[np.float32]:
        """Factors of ``TileMoments.cells`` for driven codes (places, rows): (places, len(cells)).

        The codes as row drivers give them; for cubic cells also their cubes; ``by_plane`` also Σ_p w_p s_pr u_pr, s_pr
        the wire loss of row r in plane p relative to that with all rows driven (``DrivenLine.shares``).

        Example: units 1 and 3 driven as 1.1 and 3, code 13 = 3 · 4 + 1 of two planes of two bits: 13.1.
        """
        if self.tables is None:
            parts = [rows]
        else:
            at = rows + (self.tables.shape[1] - self.driven_top)
            parts = [table[at] for table in self.tables]
        if self.by_plane:
            units = self.layer.units(rows)
            parts.append(np.einsum("pnr,p->nr", units * line.shares(units), self.weights).astype(np.float32))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def terms(self, rows: NDArray[np.int16], bend: float) -> PlaceTerms:
        """``PlaceTerms`` of driven codes (places, rows), for any input coding."""
        units = self.layer.units(rows)
        sums, driven, squares = (np.ascontiguousarray(u.sum(2).T) for u in (units, np.abs(units), units**2))
        typical = self.typical(rows.shape[1], bend)
        even = not self.layer.spec.adc_signed
        terms = place_terms(sums, driven, squares, self.weights, typical=typical, bend=bend, even=even)
        return terms if self.layer.drive is None else replace(terms, driven=rows.sum(1, dtype=np.float32))

    def typical(self, rows: int, bend: float) -> float:
        """Effective number of driven rows n / (1 + bend · n) of a plane at mean activity, n = activity · rows."""
        n = self.activity * rows
        return n / (1.0 + bend * n)
