"""The inner loop of the emulated chip: input codes in, ADC codes out, vector by vector.

Conductances are integers on a binary grid (``tile_array``), so sums over the rows of a piece are exact and
independent of their order; each conversion is then a pure function of its sums and its noise key. Groups of rows are
looked up rather than multiplied: for every group the table holds the summed contribution of each input pattern.
Sixteen conversions at a time go from the tables to codes in registers (``cim.simd.floats``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from cim.simd.floats import (
    LANES,
    add,
    add_i,
    and_i,
    as_floats,
    as_ints,
    div,
    equal_i,
    floor,
    fma,
    kept_above,
    lanes,
    load,
    load_i,
    maximum,
    minimum,
    mul,
    mul_i,
    shift_right,
    splat,
    splat_i,
    sqrt,
    sub,
    sub_i,
    to_floats,
    to_ints,
    xor_i,
)
from cim.simd.vectors import store
from hil.emulator.noise import LN2, LOG, TAIL
from hil.emulator.tile_array import TileArray

# How sums follow from codes.
PLAIN, PAIR_OF_CODES, REFERENCE_CODE = 0, 1, 2
PIECES = 8  # of a bit line
SLOTS = 4  # rows of a group and groups of a quad
LINE_UNIT, TOTAL_UNIT, DROOP, READ_VARIANCE, GAP, LAST_GAP, SPREAD, CONVERSION_NOISE = range(
    8
)  # entries of ``TileArray.units``

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_inside: dict[str, Any] = {"forceinline": True, "error_model": "numpy"}
_f, _i = np.float32, np.int32
_SLOTS = uint64(SLOTS)


@njit(**_inside)
def _words(
    array: TileArray, codes: NDArray[np.int16], vector: Any, first: Any, places: NDArray[np.uint16], words: Any
) -> Any:
    """Pack the input patterns of each group of rows into a word, plane p in lane p; returns Σ ``squares[0]``."""
    rows, spread, slots, squares = array.rows, array.spread, array.slots, array.squares[0]
    for r in range(rows):
        places[r] = codes[vector, first + r] - array.low_code
    places[rows] = -array.low_code
    one, two, three = uint32(array.width), uint32(2 * array.width), uint32(3 * array.width)
    at, total = uint64(0), uint64(0)
    for g in range(uint64(slots.size) // _SLOTS):
        a, b = uint64(places[slots[at]]), uint64(places[slots[at + uint64(1)]])
        c, d = uint64(places[slots[at + uint64(2)]]), uint64(places[slots[at + uint64(3)]])
        words[g] = spread[a] | (spread[b] << one) | (spread[c] << two) | (spread[d] << three)
        total += (squares[a] + squares[b]) + (squares[c] + squares[d])
        at += _SLOTS
    return total


@njit(**_inside)
def _driven(array: TileArray, places: NDArray[np.uint16], total: Any, driven: NDArray[np.int32]) -> None:
    """Σ u² over the rows in each plane; ``squares`` packs several planes in a word, ``total`` sums the first words."""
    a_word, bits = 64 // array.square_bits, uint64(array.square_bits)
    mask = (uint64(1) << bits) - uint64(1)
    for w in range(array.squares.shape[0]):
        if w:
            total = uint64(0)
            for r in range(array.rows):
                total += array.squares[w, uint64(places[r])]
        for p in range(w * a_word, min((w + 1) * a_word, driven.size)):
            driven[p] = _i(total & mask)
            total >>= bits


@njit(**_inside)
def _entries(array: TileArray, words: NDArray[np.uint32], planes: Any, entries: NDArray[np.int32]) -> None:
    """Index of the table row of each group's pattern, (planes, groups)."""
    mask, pitch = splat_i(_i((1 << array.lane) - 1)), splat_i(_i(array.pitch))
    for g in range(0, words.size, LANES):
        word, base = load_i(words, g), load_i(array.bases, g)
        for p in range(planes):
            pattern = and_i(shift_right(word, _i(array.lane * p)), mask)
            store(entries, p * words.size + g, add_i(mul_i(pattern, pitch), base))


@njit(**_inside)
def _looked_up(tables: NDArray[np.int32], entries: NDArray[np.int32], at: Any, column: Any) -> Any:
    """Sums of sixteen columns over four groups of word lines, from the ``tables`` at each group's entry."""
    near = add_i(load_i(tables, uint64(entries[at]) + column), load_i(tables, uint64(entries[at + uint64(1)]) + column))
    far = add_i(
        load_i(tables, uint64(entries[at + uint64(2)]) + column),
        load_i(tables, uint64(entries[at + uint64(3)]) + column),
    )
    return add_i(near, far)


@njit(**_inside)
def _piece(tables: NDArray[np.int32], entries: NDArray[np.int32], at: Any, quads: Any, column: Any, unit: Any) -> Any:
    """Driven conductance of one piece of sixteen lines, µS times input unit."""
    total = _looked_up(tables, entries, at, column)
    for _ in range(1, quads):
        at += _SLOTS
        total = add_i(total, _looked_up(tables, entries, at, column))
    return mul(to_floats(total), unit)


@njit(**_inside)
def _line(
    tables: NDArray[np.int32], entries: NDArray[np.int32], at: Any, quads: Any, pieces: Any, column: Any,
    unsigned: Any, unit: Any, gap: Any, last: Any, spread: Any,
) -> Any:  # fmt: skip
    """Currents of sixteen lines at the converter, µS times input unit, as numerator and denominator.

    The line is a ladder of eight pieces of equal length, piece 0 next to the converter, cells of a
    piece together at its middle. From the far end on, with D_s the net and A_s the unsigned driven
    conductance of piece s, all beyond is one conductance Y and one current J:

        Y ← (Y + A_s (1 + σ A_s)) / (1 + ρ_s Y)        J ← (J + D_s (1 + σ A_s)) / (1 + ρ_s Y)

    with the new numerators in 1 + ρ_s Y. ρ_s (``gap``, of the nearest piece of the tile ``last``) is the resistance
    from the middle of the piece to the next middle or to the converter, bit and source line, per input unit.
    σ (``spread``) gives back what cells spread over a piece of m pitches lose less than cells at one place: two
    of them share the line from the nearer one on, (m² − 1) / 6m pitches less on average. As Y = n/d and J = j/d:

        n ← n + A_s (1 + σ A_s) d        j ← j + D_s (1 + σ A_s) d        d ← d + ρ_s n
    """
    step = _SLOTS * uint64(quads)
    n, j, d = splat(_f(0.0)), splat(_f(0.0)), splat(_f(1.0))
    for _ in range(pieces):
        d = fma(gap, n, d)
        a = _piece(tables, entries, at, quads, column + unsigned, unit)
        wide = fma(mul(a, spread), d, d)
        n = fma(a, wide, n)
        if unsigned != uint64(0):
            j = fma(_piece(tables, entries, at, quads, column, unit), wide, j)
        at += step
    return (j if unsigned != uint64(0) else n), fma(last, n, d)


@njit(**_inside)
def _pair(
    tables: NDArray[np.int32], entries: NDArray[np.int32], at: Any, quads: Any, pieces: Any, column: Any,
    second: Any, unit: Any, gap: Any, last: Any, spread: Any,
) -> Any:  # fmt: skip
    """Sixteen differences of two lines whose net currents are the unsigned ones: both of ``_line`` in one pass."""
    step = _SLOTS * uint64(quads)
    n, m, d, e = splat(_f(0.0)), splat(_f(0.0)), splat(_f(1.0)), splat(_f(1.0))
    for _ in range(pieces):
        d, e = fma(gap, n, d), fma(gap, m, e)
        a = _piece(tables, entries, at, quads, column, unit)
        b = _piece(tables, entries, at, quads, second, unit)
        n, m = fma(a, fma(mul(a, spread), d, d), n), fma(b, fma(mul(b, spread), e, e), m)
        at += step
    d, e = fma(last, n, d), fma(last, m, e)
    return sub(mul(n, e), mul(m, d)), mul(d, e)


@njit(**_inside)
def _mixed(x: Any) -> Any:
    x = mul_i(xor_i(x, shift_right(x, _i(16))), splat_i(_i(-2048144789)))
    x = mul_i(xor_i(x, shift_right(x, _i(13))), splat_i(_i(-1028477387)))
    return xor_i(x, shift_right(x, _i(16)))


@njit(**_inside)
def _normals(low: Any, high: Any, index: Any) -> Any:
    """Sixteen normals for ``index`` and the next fifteen, as ``noise.word_to_normal`` of ``noise.hash_word`` gives."""
    places = mul_i(add_i(lanes(), splat_i(_i(index))), splat_i(_i(-1640531535)))
    word = _mixed(add_i(_mixed(xor_i(places, low)), high))
    tail = add(to_floats(and_i(word, splat_i(_i(0x7FFFFFFF)))), splat(_f(0.5)))
    p = mul(tail, splat(_f(2.0**-32)))
    exponent = and_i(sub_i(as_ints(p), splat_i(_i(0x3F2AAAAB))), splat_i(_i(-(1 << 23))))  # times 2^23
    m = sub(as_floats(sub_i(as_ints(p), exponent)), splat(_f(1.0)))
    f = splat(LOG[0])
    for c in LOG[1:]:
        f = fma(f, m, splat(c))
    s = sqrt(sub(splat(_f(0.0)), fma(to_floats(exponent), splat(_f(LN2 * 2.0**-23)), mul(f, m))))
    z = splat(TAIL[0])
    for c in TAIL[1:]:
        z = fma(z, s, splat(c))
    return as_floats(xor_i(as_ints(z), and_i(word, splat_i(_i(-(1 << 31))))))


@njit(**_inside)
def _with_errors(q: Any, middle: Any, scale: Any, bow: Any) -> Any:
    """Positions on the scale, in codes, with the converter's errors: ``bow``: coefficients a to f.

    t = q on −1..1 over the scale; then q += a + b t + c t² + d t³ + e [t > 0] + f ([t > ½] + [t > −½]).
    """
    a, b, c, d, e, f = bow
    t = minimum(maximum(mul(sub(q, middle), scale), splat(_f(-1.0))), splat(_f(1.0)))
    steps = add(kept_above(t, splat(_f(0.5)), f), kept_above(t, splat(_f(-0.5)), f))
    bend = fma(fma(fma(d, t, c), t, b), t, a)
    return add(q, add(bend, add(kept_above(t, splat(_f(0.0)), e), steps)))


@njit(**_options)
def _nominal_transfer(position: NDArray[np.float32], table: NDArray[np.float32], low: Any, high: Any) -> None:
    """Codes of a converter whose nominal transfer is a table over the scale."""
    steps = _f(table.size - 1)
    for i in range(position.size):
        x = (position[i] - _f(low)) / _f(high + 1 - low)
        x = min(max(x, _f(0.0)), _f(1.0)) * steps
        left = min(int(x), table.size - 2)
        position[i] = table[left] + (x - _f(left)) * (table[left + 1] - table[left])


@njit(**_inside)
def _kept_share(array: TileArray, entries: NDArray[np.int32], first: Any, count: Any) -> Any:
    """Share of a current that remains under supply droop: 1 / (1 + droop Σ driven conductance of the tile)."""
    total = 0
    for g in range(first, first + count):
        total += array.tables[entries[g] + array.total_column]
    return _f(1.0) / (_f(1.0) + array.units[DROOP] * (_f(total) * array.units[TOTAL_UNIT]))


@njit(**_options)
def convert_vectors(
    array: TileArray,
    codes: NDArray[np.int16],  # (vectors, inputs)
    first_input: int,  # of the tile's rows
    keys: NDArray[np.uint64],  # (vectors,)
    transfer: NDArray[np.float32],  # (8, wide): gain, offset and ``_with_errors``; 0 past the conversions
    table: NDArray[np.float32],
    limits: tuple[int, int],
    sums: NDArray[np.int32],  # (vectors, outputs), written
    raw: NDArray[np.int32],  # (vectors, planes x conversions) or (0, 0), written
) -> int:
    """Convert every plane of every vector; returns the number of saturated conversions."""
    planes, wide, outputs, groups = array.weights.size, transfer.shape[1], sums.shape[1], array.bases.size
    low, high = limits
    tables, units, conversions = array.tables, array.units, array.conversions
    places, words = np.empty(array.rows + 1, np.uint16), np.zeros(groups, np.uint32)
    entries, driven = np.empty(planes * groups, np.int32), np.empty(planes, np.int32)
    found, added = np.empty(planes * wide, np.int32), np.empty(wide, np.int32)
    spare, ended = np.empty(LANES, np.float32), np.empty(LANES, np.int32)
    unit, gap, last, spread = splat(units[LINE_UNIT]), splat(units[GAP]), splat(units[LAST_GAP]), splat(units[SPREAD])
    bottom, top, half = splat(_f(low)), splat(_f(high)), splat(_f(0.5))
    middle, scale = splat(_f(0.5 * (low + high + 1))), splat(_f(2.0 / (high + 1 - low)))
    lowest, highest = splat_i(_i(low if low < 0 else -1)), splat_i(_i(high))
    quads, pieces, unsigned = array.quads, array.pieces, uint64(array.unsigned_column)
    noisy, full = units[READ_VARIANCE] > _f(0.0), splat_i(_i(0))
    restless, jitter = units[CONVERSION_NOISE] > _f(0.0), splat(units[CONVERSION_NOISE])
    for v in range(codes.shape[0]):
        _driven(array, places, _words(array, codes, v, first_input, places, words), driven)
        _entries(array, words, planes, entries)
        key_low, key_high = splat_i(_i(keys[v] & uint64(0xFFFFFFFF))), splat_i(_i(keys[v] >> uint64(32)))
        for block in range(0, wide, LANES):
            gain, offset = load(transfer, block), load(transfer, wide + block)
            bow = (
                load(transfer, 2 * wide + block), load(transfer, 3 * wide + block), load(transfer, 4 * wide + block),
                load(transfer, 5 * wide + block), load(transfer, 6 * wide + block), load(transfer, 7 * wide + block),
            )  # fmt: skip
            total = splat_i(_i(0))
            for p in range(planes):
                current = splat(_f(0.0))
                if driven[p]:  # high planes of small codes often drive nothing
                    at, column, second = uint64(p * groups), uint64(block), uint64(block + array.second_column)
                    if array.second_column and not array.unsigned_column:
                        n, d = _pair(tables, entries, at, quads, pieces, column, second, unit, gap, last, spread)
                    else:
                        n, d = _line(tables, entries, at, quads, pieces, column, unsigned, unit, gap, last, spread)
                        if array.second_column:
                            m, e = _line(tables, entries, at, quads, pieces, second, unsigned, unit, gap, last, spread)
                            n, d = sub(mul(n, e), mul(m, d)), mul(d, e)
                    current = div(n, d)
                    if noisy:
                        sigma = np.sqrt(_f(driven[p]) * units[READ_VARIANCE])
                        current = fma(splat(sigma), _normals(key_low, key_high, p * conversions + block), current)
                if array.total_column >= 0:
                    current = mul(current, splat(_kept_share(array, entries, p * groups, groups)))
                position = _with_errors(fma(gain, current, offset), middle, scale, bow)
                if table.size:
                    store(spare, 0, position)
                    _nominal_transfer(spare, table, low, high)
                    position = load(spare, 0)
                if restless:
                    z = _normals(key_low, key_high, (planes + p) * conversions + block)
                    position = fma(jitter, z, position)
                code = to_ints(minimum(maximum(floor(add(position, half)), bottom), top))
                full = add_i(full, add_i(equal_i(code, highest), equal_i(code, lowest)))
                total = add_i(total, mul_i(code, splat_i(array.weights[p])))
                store(found, p * wide + block, code)
            store(added, block, total)
        if array.from_codes == PLAIN:
            for i in range(outputs):
                sums[v, i] = added[i]
        else:
            for i in range(outputs):
                sums[v, i] = added[i] - added[outputs + i if array.from_codes == PAIR_OF_CODES else outputs]
        if raw.size:
            for p in range(planes):
                for i in range(conversions):
                    raw[v, p * conversions + i] = found[p * wide + i]
    store(ended, 0, full)
    return int(ended.sum())
