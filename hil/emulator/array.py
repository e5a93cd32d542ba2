"""One tile as its converters see it: cells on a binary grid, summed ahead for every input pattern."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import input_planes, split_planes
from cim.chip.encoding import tile_halves_us
from cim.chip.spec import CellIv, Encoding, InputCoding, MacroSpec, PairSubtraction, SignedInput
from firmware_protocols.messages import TileAddress
from hil.emulator.kernels import ANALOG_PAIR, LINES, PAIR_OF_CODES, PIECES, PLAIN, REFERENCE_CODE

LANE_BITS = 6  # rows looked up together x bits of each
SQUARE_STEPS = 256  # of Σ u² in one squared unit, at most, where units are not whole numbers


@dataclass(frozen=True, slots=True)
class TileArray:
    """A tile's tables; arguments of ``kernels.convert_vectors``.

    Conductances are multiples of 2^−n µS with the largest n that keeps every sum over rows
    below 2^30: sums are exact in int32, whatever their order. ``tables`` int32 (groups,
    patterns, pitch): columns hold the net current of each line, then (when currents of both
    signs meet on a line) the unsigned current of each, then the total of the tile when it matters.
    """

    low_code: int
    spread: NDArray[np.uint64]
    groups: NDArray[np.int32]
    pieces: NDArray[np.int32]
    lanes: tuple[int, int]
    weights: NDArray[np.int32]
    tables: NDArray[np.int32]
    squares: NDArray[np.int32]
    shape: tuple[int, int]
    modes: tuple[int, int]
    units: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return self.tables.nbytes


def build_tile(
    macro: MacroSpec,
    cells_us: NDArray[np.float32],
    tile: TileAddress,
    input_bits: int,
    input_signed: bool,
    *,
    wire_ohm: float,
    droop: float,
    crosstalk: float,
    read_variance_us2: float,
    drive: NDArray[np.float64],
) -> TileArray:
    """Tables of one tile for one width of input.

    Args:
        cells_us: true conductances of the whole macro, (macro.rows, macro.columns).
        drive: what a row really gets for each input unit from 0 on; one-bit reads are exact whatever it says.

    Raises:
        cim.chip.encoding.TileOutOfMacro, cim.chip.converters.CodeOutOfRange.
    """
    ternary = macro.inputs.coding is InputCoding.TERNARY
    width = 2 if ternary else macro.inputs.bits_per_cycle
    low_code, spread, weights = _spread_codes(macro, input_bits, input_signed, width)
    a_group = min(max(1, LANE_BITS // width), 64 // (len(weights) * width))
    lane = width * a_group
    groups, pieces = _row_groups(macro, tile, a_group)
    lanes = np.uint64(lane) * np.arange(len(weights), dtype=np.uint64)
    packed = np.bitwise_or.reduce(spread << lanes, axis=1)

    units = np.array([0.0, 1.0, -1.0, 0.0]) if ternary else drive
    net, unsigned, modes = _lines(macro, _contributions_us(macro, cells_us, tile, units, crosstalk))
    top = float((1 << macro.inputs.bits_per_cycle) - 1)
    total = unsigned.sum(2, keepdims=True)
    joined = macro.paired and macro.pair_subtraction is PairSubtraction.ANALOG  # two cells a row and conversion
    both_ways = ternary or (joined and macro.encoding is Encoding.ROW_PAIRS)
    line_grid, total_grid = _grid(unsigned), _grid(total)
    columns = [np.rint(net * line_grid), *([np.rint(unsigned * line_grid)] if both_ways else [])]
    columns += [np.rint(total * total_grid)] if droop > 0.0 else []
    by_row = np.concatenate(columns, axis=2).astype(np.int32)
    lines = net.shape[2]
    middle = macro.levels_us[len(macro.levels_us) // 2]
    room = 2.0**30 / (tile.rows * float(np.max(units**2)))
    grain = 1 if np.all(units == np.rint(units)) else max(1, min(SQUARE_STEPS, int(room)))  # Σ u² in whole steps
    scalars = np.array(
        [
            1.0 / line_grid,
            1.0 / total_grid,
            droop / (macro.rows * macro.columns * middle * top),
            read_variance_us2 * (1.0 + joined) / grain,
            *_wire_pieces(macro, 2.0 * wire_ohm * 1e-6 / top),
        ],
        np.float32,
    )
    fields = (np.arange(1 << lane)[:, None] >> (width * np.arange(a_group))) & ((1 << width) - 1)  # (patterns, rows)
    return TileArray(
        low_code=low_code,
        spread=packed,
        groups=groups,
        pieces=pieces,
        lanes=(lane, width),
        weights=weights,
        tables=_tables(by_row, groups, fields),
        squares=np.rint((units[fields] ** 2).sum(1) * grain).astype(np.int32),
        shape=(lines if both_ways else 0, lines * (1 + both_ways) if droop > 0.0 else -1),
        modes=modes,
        units=scalars,
    )


def _spread_codes(
    macro: MacroSpec, bits: int, signed: bool, width: int
) -> tuple[int, NDArray[np.uint64], NDArray[np.int32]]:
    """Lowest code, the field of each code in each plane (codes, planes), and the weights of the planes."""
    planes = input_planes(macro.inputs, bits, signed)
    below = signed and macro.inputs.signed is not SignedInput.OFFSET
    low = -(1 << (bits - 1)) if below else 0
    codes = np.arange(low, low + (1 << bits)).astype(np.int16)
    driven = split_planes(codes, macro.inputs, bits, signed).T
    fields = np.where(driven < 0, 2, driven).astype(np.uint64)
    return low, fields, np.array([p.weight for p in planes], np.int32)


def _row_groups(macro: MacroSpec, tile: TileAddress, a_group: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tile rows looked up together, (groups, a_group) with −1 for none, and the piece of the line of each group."""
    lines = macro.word_lines[tile.row0 : tile.row0 + tile.rows]
    count = min(PIECES, macro.rows)
    piece = np.array([pair[0] * count // macro.rows for pair in lines])
    groups, pieces = [], []
    for p in range(count):
        rows = np.flatnonzero(piece == p)
        padded = np.full(-(-len(rows) // a_group) * a_group, -1, np.int32)
        padded[: len(rows)] = rows
        groups.append(padded.reshape(-1, a_group))
        pieces += [p] * len(groups[-1])
    return np.ascontiguousarray(np.concatenate(groups)), np.array(pieces, np.int32)


def _wire_pieces(macro: MacroSpec, ohm: float) -> tuple[float, float, float]:
    """From middle to middle of two pieces, from the first middle to the converter, and what cells
    spread over a piece lose less; of ``ohm`` per pitch. The converter is one pitch from the first row."""
    length = macro.rows / min(PIECES, macro.rows)
    return ohm * length, ohm * (length + 1.0) / 2.0, ohm * (length - 1.0 / length) / 6.0


def _contributions_us(
    macro: MacroSpec,
    cells_us: NDArray[np.float32],
    tile: TileAddress,
    units: NDArray[np.float64],
    crosstalk: float = 0.0,
) -> NDArray[np.float64]:
    """What each cell adds for each input unit, µS times unit: (2, rows, units, outputs).

    Cells add G u. Where the unit is a voltage, V = v_read u / u_max, cubic ones add

        G u (1 + k V²) / (1 + k V_read²)

    k by conductance: G is what the chip's own reads and verifies see, at the read voltage. Pulses all have
    that voltage. With crosstalk χ a column adds χ of the one before it, as far as the tile reads that too.
    """
    g = tile_halves_us(cells_us, macro, tile.row0, tile.rows, tile.output0, tile.outputs).astype(np.float64)
    g[:, :, 1:] += crosstalk * g[:, :, :-1].copy()
    u = units[None, None, :, None]
    if macro.cell_iv is CellIv.LINEAR or macro.inputs.coding is not InputCoding.AMPLITUDE:
        return g[:, :, None, :] * u
    k = np.interp(g, macro.levels_us, macro.cell_iv_k_per_v2)[:, :, None, :]
    volts = macro.v_read_v * u / ((1 << macro.inputs.bits_per_cycle) - 1)
    return g[:, :, None, :] * u * (1.0 + k * volts**2) / (1.0 + k * macro.v_read_v**2)


def _lines(
    macro: MacroSpec, halves: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int]]:
    """Net and unsigned current of each wire (rows, units, lines), and how lines become codes and sums."""
    plus, minus = halves
    if macro.encoding is Encoding.OFFSET_COLUMN:
        net, modes = np.concatenate([plus, minus[:, :, :1]], axis=2), (LINES, REFERENCE_CODE)
    elif macro.encoding is Encoding.SINGLE_ENDED:
        net, modes = plus, (LINES, PLAIN)
    elif macro.pair_subtraction is PairSubtraction.DIGITAL:
        net, modes = np.concatenate([plus, minus], axis=2), (LINES, PAIR_OF_CODES)
    elif macro.encoding is Encoding.ROW_PAIRS:  # one wire carries the difference
        return plus - minus, np.abs(plus) + np.abs(minus), (LINES, PLAIN)
    else:
        net, modes = np.concatenate([plus, minus], axis=2), (ANALOG_PAIR, PLAIN)
    return net, np.abs(net), modes


def _grid(unsigned: NDArray[np.float64]) -> float:
    """Steps per µS, a power of two, so that no sum over rows of whole steps reaches 2^30."""
    largest = max(float(unsigned.max(1).sum(0).max()), 2.0**-10)
    return float(2.0 ** min(np.floor(29.0 - np.log2(largest)), 24.0))


def _tables(by_row: NDArray[np.int32], groups: NDArray[np.int32], fields: NDArray[np.int64]) -> NDArray[np.int32]:
    """Sum the contributions (rows, field values, columns) of each group for every pattern of its lane."""
    rows, values, columns = by_row.shape
    pitch = -(-columns // 16) * 16
    padded = np.zeros((rows + 1, values, pitch), np.int32)
    padded[:rows, :, :columns] = by_row
    tables = np.zeros((len(groups), len(fields), pitch), np.int32)
    for place in range(groups.shape[1]):
        tables += padded[groups[:, place]][:, fields[:, place]]
    return tables
