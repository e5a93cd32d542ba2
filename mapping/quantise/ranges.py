"""Choice of the converter range of a layer: the least error on the network's own partial sums."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import code_limits, input_planes, split_planes
from cim.chip.encoding import encode_tile, tile_halves_us
from cim.chip.spec import Encoding, MacroSpec, PairSubtraction
from mapping.program.conductance import Tile, TileGroup
from mapping.program.driven import driven_codes, tile_vectors

VECTORS = 512  # input vectors of a tile that are multiplied, over images and positions
TILES = 8  # of those that share outputs and slice, evenly taken: the others err like them
ROUGH_TILES = 2  # where a guess will do
MOST_ENDS = 0.5  # share of conversions at an end of the scale, where rounding leaves nothing to choose by


@dataclass(frozen=True, slots=True)
class RangeErrors:
    """Errors of a layer under each range of the converter.

    ``squared_us2``: (ranges, outputs) mean square error of a sum over tiles and planes, in µS²
    of plane and slice weight 1; ``ends``: (ranges,) share of conversions at an end of the scale; ``power_us2``:
    (outputs,) mean square of the sums themselves.
    """

    squared_us2: NDArray[np.float64]
    ends: NDArray[np.float64]
    power_us2: NDArray[np.float64]

    def best(self, importance: NDArray[np.float64] | None = None) -> RangeChoice:
        """The range of least error over all outputs, each counting ``importance`` times, (outputs,).

        Where every range errs by more than the sums themselves, one that always answers 0 would have the least error
        and tell nothing: then it is the finest with at most ``MOST_ENDS`` of its conversions at an end.
        """
        shares = np.ones(self.squared_us2.shape[1]) if importance is None else importance / importance.mean()
        errors = self.squared_us2 @ shares
        code = int(np.argmin(errors))
        if errors[code] >= self.power_us2 @ shares:
            code = int(np.argmax(self.ends <= max(MOST_ENDS, self.ends.min())))
        return RangeChoice(code, float(self.squared_us2[code].mean()), float(self.ends[code]))


@dataclass(frozen=True, slots=True)
class RangeChoice:
    """A range, its mean squared error per output in µS² (of weighted sums), and the share at its ends."""

    range_code: int
    error_us2: float
    saturated_share: float


def range_errors(
    group: TileGroup, spec: MacroSpec, codes: NDArray[np.int16], noise_codes: float = 0.0, tiles: int = TILES
) -> RangeErrors:
    """Errors of a layer's partial sums under every range of the converter.

    Each tile and input plane is multiplied with target conductances; what the converter makes
    of each column (each half of it, where pairs meet after the converter) is compared with
    what it was given. Errors count with plane weight and slice multiplier, as they do in the
    layer's sum; every conversion adds (``noise_codes`` · lsb)².

    Args:
        codes: input codes of calibration images, (n, C, H, W) or (n, features).
        tiles: most that are looked at of those that share outputs and slice.
    """
    ranges = range(len(spec.adc.full_scales_us))
    squared, ends, count = np.zeros((len(ranges), group.outputs)), np.zeros(len(ranges)), 0
    power = np.zeros(group.outputs)
    driven, window = driven_codes(group, spec, codes)
    weights = np.array([p.weight for p in input_planes(spec.inputs, group.input_bits, group.input_signed)], np.float64)
    low, high = code_limits(spec.adc.bits, spec.adc_signed)
    lsb_us = np.array([spec.lsb_us(code) for code in ranges])
    noise_us2 = (noise_codes * lsb_us) ** 2
    from mapping.quantise.kernels import conversion_errors  # late: numba

    for _, alike in itertools.groupby(_looked_at(group, tiles), key=lambda seen: seen[0].inputs):
        units: NDArray[np.float32] | None = None  # of all tiles with the same inputs
        for tile, stands_for in alike:
            if units is None:
                vectors = tile_vectors(driven, window, tile, VECTORS)
                units = split_planes(vectors, spec.inputs, group.input_bits, group.input_signed).astype(np.float32)
            parts = converted_us(units, tile, spec)
            count += sum(part.size for part in parts)
            counts = weights * tile.multiplier
            plus, minus = parts if len(parts) == 2 else (parts[0], np.empty((0, 0, 0), np.float32))
            errors, at_end = conversion_errors(plus, minus, counts**2, lsb_us, low, high, spec.adc_signed)
            noise = len(parts) * noise_us2 * float(counts @ counts)
            squared[:, tile.outputs.start : tile.outputs.stop] += stands_for * (
                errors / units.shape[1] + noise[:, None]
            )
            ends += at_end
            sums = plus - minus if len(parts) == 2 else plus
            power[tile.outputs.start : tile.outputs.stop] += stands_for * (counts**2 @ np.square(sums).mean(axis=1))
    return RangeErrors(squared, ends / count, power)


def _looked_at(group: TileGroup, most: int) -> list[tuple[Tile, float]]:
    """Tiles whose conversions are looked at, those with the same inputs together, and how many tiles each stands
    for."""
    alike: dict[tuple[range, int], list[Tile]] = {}
    for tile in group.matrix_tiles:
        alike.setdefault((tile.outputs, tile.multiplier), []).append(tile)
    found = []
    for tiles in alike.values():
        some = tiles[:: -(-len(tiles) // most)]
        found += [(tile, len(tiles) / len(some)) for tile in some]
    return sorted(found, key=lambda seen: (seen[0].inputs.start, seen[0].inputs.stop))


def converted_us(units: NDArray[np.float32], tile: Tile, spec: MacroSpec) -> tuple[NDArray[np.float32], ...]:
    """Input of the converter, Σ_rows G · u in µS: one array (planes, vectors, outputs), or one for each half.

    Args:
        units: input units driven in each read, (planes, vectors, rows).
    """
    rows, outputs = tile.levels.shape
    cells = encode_tile(tile.levels, spec, tile.row0, tile.output0, tile.cells)
    array = np.zeros((spec.rows, spec.columns), np.float32)
    array[np.ix_(cells.word_lines, cells.bit_lines)] = cells.targets_us
    plus, minus = tile_halves_us(array, spec, tile.row0, rows, tile.output0, outputs)
    if spec.encoding is Encoding.SINGLE_ENDED:
        return (units @ plus,)
    if spec.paired and spec.pair_subtraction is PairSubtraction.ANALOG:
        return (units @ (plus - minus),)
    return units @ plus, units @ minus
