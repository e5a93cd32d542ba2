"""Build the tables of one tile for the compute kernel: sums of its cells for every input pattern, as integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import conversions, input_planes, split_planes
from cim.chip.encoding import tile_halves_us
from cim.chip.spec import CellIv, Encoding, InputCoding, MacroSpec, PairSubtraction, SignedInput
from cim.simd.floats import LANES
from firmware_protocols.messages import TileAddress
from hil.emulator.kernels import PAIR_OF_CODES, PIECES, PLAIN, REFERENCE_CODE, SLOTS
from hil.emulator.sample import SampleParameters
from hil.emulator.tile_array import TileArray

SQUARE_STEPS = 256  # of Σ u² in one squared unit, at most, where units are not whole numbers


def build_tile(
    macro: MacroSpec,
    cells_us: NDArray[np.float32],
    tile: TileAddress,
    input_bits: int,
    input_signed: bool,
    truth: SampleParameters,
    drive: NDArray[np.float64],
) -> TileArray:
    """Tables of one tile for one width of input.

    Args:
        cells_us: true conductances of the whole macro, (macro.rows, macro.columns).
        truth: wires, supply, crosstalk and noise of the chip.
        drive: what a row really gets for each input unit from 0 on; one-bit reads are exact whatever it says.

    Raises:
        cim.chip.encoding.TileOutOfMacro, cim.chip.converters.CodeOutOfRange.
    """
    ternary = macro.inputs.signed is SignedInput.TERNARY
    width = 2 if ternary else macro.inputs.bits_per_cycle
    low_code, fields, weights = _code_fields(macro, input_bits, input_signed)
    a_group = min(max(1, SLOTS // width), 32 // (len(weights) * width))
    lane = width * a_group
    slots, nearest, pieces, quads = _slots(macro, tile, a_group)

    units = np.array([0.0, 1.0, -1.0, 0.0]) if ternary else drive
    net, unsigned, from_codes = _lines(macro, _contributions_us(macro, cells_us, tile, units, truth.column_crosstalk))
    top = float((1 << macro.inputs.bits_per_cycle) - 1)
    total = unsigned.sum(2, keepdims=True)
    joined = macro.paired and macro.pair_subtraction is PairSubtraction.ANALOG  # two cells a row and conversion
    both_ways = ternary or (joined and macro.encoding is Encoding.ROW_PAIRS)
    line_grid, total_grid = _grid(unsigned), _grid(total)
    count = conversions(macro, tile.outputs)
    by_row, starts = _sections(
        [np.rint(net * line_grid), *([np.rint(unsigned * line_grid)] if both_ways else [])], count
    )
    if truth.supply_droop > 0.0:
        by_row = np.concatenate([by_row, np.pad(np.rint(total * total_grid), ((0, 0), (0, 0), (0, LANES - 1)))], axis=2)
    tables = _tables(by_row.astype(np.int32), slots.reshape(-1, SLOTS)[:, :a_group], width)
    middle = macro.levels_us[len(macro.levels_us) // 2]
    room = 2.0**30 / (tile.rows * float(np.max(units**2)))
    grain = 1 if np.all(units == np.rint(units)) else max(1, min(SQUARE_STEPS, int(room)))  # Σ u² in whole steps
    squares, square_bits = _squares(fields, np.rint(units**2 * grain).astype(np.int64), tile.rows)
    gap, last_gap, spread = _wire_pieces(macro, 2.0 * truth.wire_ohm * 1e-6 / top)
    scalars = [
        1.0 / line_grid,
        1.0 / total_grid,
        truth.supply_droop / (macro.rows * macro.columns * middle * top),
        truth.read_variance_us2 * (1.0 + joined) / grain,
        gap,
        last_gap + gap * nearest,
        spread,
        truth.conversion_noise_codes,
    ]
    groups = len(tables)
    bases = np.zeros(-(-groups // LANES) * LANES, np.int32)
    bases[:groups] = np.arange(groups) * (tables.shape[1] * tables.shape[2])
    lanes = lane * np.arange(len(weights))
    return TileArray(
        rows=tile.rows,
        conversions=count,
        low_code=low_code,
        width=width,
        lane=lane,
        spread=np.bitwise_or.reduce(fields << lanes, axis=1).astype(np.uint32),
        squares=squares,
        square_bits=square_bits,
        slots=slots,
        bases=bases,
        pieces=pieces,
        quads=quads,
        weights=weights,
        tables=_on_cache_lines(tables.reshape(-1)),
        pitch=tables.shape[2],
        second_column=starts[1] if net.shape[2] > count else 0,
        unsigned_column=starts[len(starts) // 2] if both_ways else 0,
        total_column=by_row.shape[2] - LANES if truth.supply_droop > 0.0 else -1,
        from_codes=from_codes,
        units=np.array(scalars, np.float32),
    )


def _code_fields(macro: MacroSpec, bits: int, signed: bool) -> tuple[int, NDArray[np.int64], NDArray[np.int32]]:
    """Lowest code, the value of each code in each bit plane (codes, planes), and the weights of the planes."""
    planes = input_planes(macro.inputs, bits, signed)
    below = signed and macro.inputs.signed is not SignedInput.OFFSET
    low = -(1 << (bits - 1)) if below else 0
    codes = np.arange(low, low + (1 << bits)).astype(np.int16)
    driven = split_planes(codes, macro.inputs, bits, signed).T
    fields = np.where(driven < 0, 2, driven).astype(np.int64)
    return low, fields, np.array([p.weight for p in planes], np.int32)


def _slots(macro: MacroSpec, tile: TileAddress, a_group: int) -> tuple[NDArray[np.uint16], int, int, int]:
    """Groups of tile rows that share a look-up, the nearest piece of the line, pieces, and quads of groups in each.

    Unused slots hold the number of rows, which stands for an input of zero.
    """
    lines = macro.word_lines[tile.row0 : tile.row0 + tile.rows]
    count = min(PIECES, macro.rows)
    piece = np.array([pair[0] * count // macro.rows for pair in lines])
    nearest, pieces = int(piece.min()), int(piece.max() - piece.min()) + 1
    quads = -(-int(np.bincount(piece).max()) // (SLOTS * a_group))
    slots = np.full((pieces, quads * SLOTS, SLOTS), tile.rows, np.uint16)
    for p in range(pieces):
        rows = np.flatnonzero(piece == nearest + pieces - 1 - p)
        filled = np.full(quads * SLOTS * a_group, tile.rows, np.uint16)
        filled[: len(rows)] = rows
        slots[p, :, :a_group] = filled.reshape(-1, a_group)
    return slots.reshape(-1), nearest, pieces, quads


def _squares(fields: NDArray[np.int64], by_field: NDArray[np.int64], rows: int) -> tuple[NDArray[np.uint64], int]:
    """u² of each code and plane, packed into words (words, codes), with the bits of a plane; sums over rows fit."""
    bits = max(1, int(rows * by_field.max()).bit_length())
    a_word = 64 // bits
    words = np.zeros((-(-fields.shape[1] // a_word), len(fields)), np.uint64)
    for plane, field in enumerate(fields.T):
        words[plane // a_word] |= by_field[field].astype(np.uint64) << np.uint64(bits * (plane % a_word))
    return words, bits


def _sections(kinds: list[NDArray[np.float64]], count: int) -> tuple[NDArray[np.float64], list[int]]:
    """Columns of each kind of current, cut and padded to sections of whole sixteens; first column of each."""
    parts = [kind[:, :, first : first + count] for kind in kinds for first in range(0, kind.shape[2], count)]
    wide = -(-count // LANES) * LANES
    padded = [np.pad(part, ((0, 0), (0, 0), (0, wide - count))) for part in parts]
    return np.concatenate(padded, axis=2), [wide * i for i in range(len(parts))]


def _on_cache_lines(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """A copy of the array that begins at a line of the cache (64 bytes)."""
    room = np.empty(values.size + LANES, np.int32)
    first = -room.ctypes.data % 64 // room.itemsize
    room[first : first + values.size] = values
    return room[first : first + values.size]


def _wire_pieces(macro: MacroSpec, ohm: float) -> tuple[float, float, float]:
    """Resistances of a line cut into pieces, Ω: between two middles of pieces, from the first middle to the converter,
    and a correction for cells that are spread over a piece. ``ohm``: of one pitch; the converter is one
    pitch from the first row."""
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


def _lines(macro: MacroSpec, halves: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Net and unsigned current of each wire (rows, units, lines), and how codes become sums."""
    plus, minus = halves
    if macro.encoding is Encoding.OFFSET_COLUMN:
        net, from_codes = np.concatenate([plus, minus[:, :, :1]], axis=2), REFERENCE_CODE
    elif macro.encoding is Encoding.SINGLE_ENDED:
        net, from_codes = plus, PLAIN
    elif macro.pair_subtraction is PairSubtraction.DIGITAL:
        net, from_codes = np.concatenate([plus, minus], axis=2), PAIR_OF_CODES
    elif macro.encoding is Encoding.ROW_PAIRS:  # one wire carries the difference
        return plus - minus, np.abs(plus) + np.abs(minus), PLAIN
    else:
        net, from_codes = np.concatenate([plus, minus], axis=2), PLAIN
    return net, np.abs(net), from_codes


def _grid(unsigned: NDArray[np.float64]) -> float:
    """Steps per µS, a power of two, so that no sum over rows of whole steps reaches 2^30."""
    largest = max(float(unsigned.max(1).sum(0).max()), 2.0**-10)
    return float(2.0 ** min(np.floor(29.0 - np.log2(largest)), 24.0))


def _tables(by_row: NDArray[np.int32], rows: NDArray[np.uint16], width: int) -> NDArray[np.int32]:
    """Sum the contributions (tile rows, field values, columns) of each group's rows for every pattern of its lane."""
    padded = np.concatenate([by_row, np.zeros_like(by_row[:1])])
    places = np.arange(rows.shape[1])
    fields = (np.arange(1 << (width * rows.shape[1]))[:, None] >> (width * places)) & ((1 << width) - 1)
    tables = np.zeros((len(rows), len(fields), by_row.shape[2]), np.int32)
    for place in places:
        tables += padded[rows[:, place]][:, fields[:, place]]
    return tables
