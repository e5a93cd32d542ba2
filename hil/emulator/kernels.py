"""The inner loop of the emulated chip: input codes in, ADC codes out, vector by vector.

Conductances are integers on a binary grid (``array.TileArray``), so sums over rows are exact
and independent of their order; each conversion is then a pure function of its sums and its
noise key. Groups of rows are looked up rather than multiplied: for every group the table
holds the summed contribution of each input pattern, and one 64-bit word per group carries
the patterns of all planes. Every stage is a loop over few flat arrays, long enough for
numba's vectoriser, and all planes of one vector stay in the first-level cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, uint32, uint64
from numpy.typing import NDArray

from hil.emulator.noise import hash_word, word_to_normal

# How conversions follow from lines, and sums from codes.
LINES, ANALOG_PAIR = 0, 1
PLAIN, PAIR_OF_CODES, REFERENCE_CODE = 0, 1, 2
PIECES = 8  # of a bit line

_0, _1, _HALF = np.float32(0.0), np.float32(1.0), np.float32(0.5)


@njit(cache=True, nogil=True, error_model="numpy")
def _pattern_words(
    codes: NDArray[np.int16],
    low: int,
    spread: NDArray[np.uint64],
    groups: NDArray[np.int32],
    step: int,
    words: NDArray[np.uint64],
) -> None:
    """One word per group of rows; lane p of a word is the group's input pattern in plane p."""
    for g in range(groups.shape[0]):
        word = uint64(0)
        for r in range(groups.shape[1]):
            row = groups[g, r]
            if row >= 0:
                word |= spread[codes[row] - low] << uint64(step * r)
        words[g] = word


@njit(cache=True, nogil=True, error_model="numpy")
def _add_entry(tables: NDArray[np.int32], entry: Any, parts: NDArray[np.int32], part: Any, pitch: Any) -> None:
    for i in range(pitch):  # unsigned indices: no wrap-around test in the loop
        parts[part + i] += tables[entry + i]


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(
    words: NDArray[np.uint64],
    lane: int,
    patterns: int,
    tables: NDArray[np.int32],
    pieces: NDArray[np.int32],
    planes: int,
    pitch: int,
    parts: NDArray[np.int32],
    squares: NDArray[np.int32],
    driven: NDArray[np.int32],
) -> None:
    """Sums over the rows of each piece of the line, and Σ u² of each plane; tables and parts are flat."""
    mask, shift, width = uint64((1 << lane) - 1), uint64(lane), uint64(pitch)
    piece_size = uint64(parts.size // PIECES)
    parts[:] = 0
    driven[:] = 0
    for g in range(words.size):
        word = words[g]
        part = uint64(pieces[g]) * piece_size
        entries = uint64(g) * uint64(patterns)
        for p in range(planes):
            pattern = word & mask
            if pattern != uint64(0):
                _add_entry(tables, (entries + pattern) * width, parts, part, width)
                driven[p] += squares[pattern]
            word >>= shift
            part += width


@njit(inline="always", error_model="numpy")
def _along(y: Any, steps: Any, spread: Any, rho: Any) -> Any:
    a = np.float32(steps)
    y += a * (_1 + spread * a)
    return y / (_1 + rho * y)


@njit(inline="always", error_model="numpy")
def _along_both(y: Any, j: Any, net: Any, every: Any, spread: Any, rho: Any) -> Any:
    a = np.float32(every)
    wide = _1 + spread * a
    y += a * wide
    fall = _1 / (_1 + rho * y)
    return y * fall, (j + np.float32(net) * wide) * fall


@njit(cache=True, nogil=True, error_model="numpy")
def _line_currents(
    parts: NDArray[np.int32], active: int, unit: Any, wire: NDArray[np.float32], current: NDArray[np.float32]
) -> None:
    """Currents at the converter, µS times input unit; parts (8, n + active), current (n,).

    The line is a ladder of eight pieces of equal length, piece 0 next to the converter, cells of a
    piece together at its middle. From the far end on, with D_s the net and A_s the unsigned driven
    conductance of piece s, all beyond is one conductance Y and one current J:

        Y ← (Y + A_s (1 + σ A_s)) / (1 + ρ_s Y)        J ← (J + D_s (1 + σ A_s)) / (1 + ρ_s Y)

    ρ_s (``wire[0]``, of piece 0 ``wire[1]``) is the resistance from the middle of the piece to the
    next middle or to the converter, bit and source line, per input unit. σ (``wire[2]``) gives back what
    cells spread over a piece of m pitches lose less than cells at one place: two of them share
    the line from the nearer one on, (m² − 1) / 6m pitches less on average.
    """
    rho, last, spread = wire[0] * unit, wire[1] * unit, wire[2] * unit  # per step of the grid
    n0, n1, n2, n3, n4, n5, n6, n7 = parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6], parts[7]
    if active == 0:  # what is driven is what flows: J = Y
        for i in range(current.size):
            y = _along(_0, n7[i], spread, rho)
            y = _along(y, n6[i], spread, rho)
            y = _along(y, n5[i], spread, rho)
            y = _along(y, n4[i], spread, rho)
            y = _along(y, n3[i], spread, rho)
            y = _along(y, n2[i], spread, rho)
            y = _along(y, n1[i], spread, rho)
            current[i] = _along(y, n0[i], spread, last) * unit
        return
    for i in range(current.size):
        y, j = _along_both(_0, _0, n7[i], n7[i + active], spread, rho)
        y, j = _along_both(y, j, n6[i], n6[i + active], spread, rho)
        y, j = _along_both(y, j, n5[i], n5[i + active], spread, rho)
        y, j = _along_both(y, j, n4[i], n4[i + active], spread, rho)
        y, j = _along_both(y, j, n3[i], n3[i + active], spread, rho)
        y, j = _along_both(y, j, n2[i], n2[i + active], spread, rho)
        y, j = _along_both(y, j, n1[i], n1[i + active], spread, rho)
        y, j = _along_both(y, j, n0[i], n0[i + active], spread, last)
        current[i] = j * unit


@njit(inline="always")
def _whole(parts: Any, i: Any) -> Any:
    near = parts[0, i] + parts[1, i] + parts[2, i] + parts[3, i]
    return near + (parts[4, i] + parts[5, i] + parts[6, i] + parts[7, i])


@njit(cache=True, nogil=True, error_model="numpy")
def _total_currents(parts: NDArray[np.int32], unit: Any, current: NDArray[np.float32]) -> None:
    """The same without wires."""
    for i in range(current.size):
        current[i] = np.float32(_whole(parts, i)) * unit


@njit(cache=True, nogil=True, error_model="numpy")
def _hash_words(low: Any, high: Any, words: NDArray[np.uint32]) -> None:
    for i in range(words.size):
        words[i] = hash_word(low, high, i)


@njit(cache=True, nogil=True, error_model="numpy")
def _normals(words: NDArray[np.uint32], normals: NDArray[np.float32]) -> None:
    for i in range(normals.size):
        normals[i] = word_to_normal(words[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _read(
    line: NDArray[np.float32],
    first: Any,
    position: NDArray[np.float32],
    start: Any,
    count: Any,
    pair: bool,
    sigma: Any,
    keep: Any,
) -> None:
    """position <- (plus − minus + sigma z) keep, or (line + sigma z) keep; position holds z before."""
    if pair:
        for i in range(count):
            position[start + i] = (line[first + i] - line[first + count + i] + sigma * position[start + i]) * keep
    else:
        for i in range(count):
            position[start + i] = (line[first + i] + sigma * position[start + i]) * keep


@njit(cache=True, nogil=True, error_model="numpy")
def _transfer_errors(current: NDArray[np.float32], transfer: NDArray[np.float32], low: int, high: int) -> None:
    """Positions on the scale, in codes, in place of currents.

    q = k·I + o; t = q on −1..1 over the scale; then q += a + b t + c t² + d t³ + e [t > 0] + f ([t > ½] + [t > −½]).
    """
    middle, scale = np.float32(0.5 * (low + high + 1)), np.float32(2.0 / (high + 1 - low))
    for i in range(current.size):
        q = transfer[0, i] * current[i] + transfer[1, i]
        t = min(max((q - middle) * scale, np.float32(-1.0)), _1)
        bend = transfer[2, i] + t * (transfer[3, i] + t * (transfer[4, i] + t * transfer[5, i]))
        first = transfer[6, i] if t > _0 else _0
        upper = transfer[7, i] if t > _HALF else _0
        lower = transfer[7, i] if t > np.float32(-0.5) else _0
        current[i] = q + (bend + (first + (upper + lower)))


@njit(cache=True, nogil=True, error_model="numpy")
def _nominal_transfer(position: NDArray[np.float32], table: NDArray[np.float32], low: Any, high: Any) -> None:
    """Codes of a converter whose nominal transfer is a table over the scale."""
    steps = np.float32(table.size - 1)
    for i in range(position.size):
        x = (position[i] - np.float32(low)) / np.float32(high + 1 - low)
        x = min(max(x, _0), _1) * steps
        left = min(int(x), table.size - 2)
        position[i] = table[left] + (x - np.float32(left)) * (table[left + 1] - table[left])


@njit(cache=True, nogil=True, error_model="numpy")
def _round_codes(position: NDArray[np.float32], low: int, high: int, codes: NDArray[np.int32]) -> int:
    """clip(⌊q + ½⌋), as ``cim.chip.converters.quantise_adc``; gives how many lie at the end of the scale."""
    bottom, top, full = np.float32(low), np.float32(high), 0
    last = np.int32(low if low < 0 else -1)
    for i in range(codes.size):
        codes[i] = np.int32(min(max(np.floor(position[i] + _HALF), bottom), top))
    for i in range(codes.size):
        full += (codes[i] == np.int32(high)) | (codes[i] == last)
    return full


@njit(cache=True, nogil=True, error_model="numpy")
def _shift_add(
    codes: NDArray[np.int32], start: Any, mode: int, weight: Any, sums: NDArray[np.int32], first: Any, count: Any
) -> None:
    if mode == PLAIN:
        for i in range(count):
            sums[first + i] += weight * codes[start + i]
    elif mode == PAIR_OF_CODES:
        for i in range(count):
            sums[first + i] += weight * (codes[start + i] - codes[start + count + i])
    else:
        for i in range(count):
            sums[first + i] += weight * (codes[start + i] - codes[start + count])


@njit(cache=True, nogil=True, error_model="numpy")
def convert_vectors(
    codes: NDArray[np.int16],  # (vectors, rows)
    keys: NDArray[np.uint64],  # (vectors,)
    low_code: int,
    spread: NDArray[np.uint64],  # (input codes,)
    groups: NDArray[np.int32],  # (groups, rows a group), −1 = none
    pieces: NDArray[np.int32],  # (groups,) piece of the line that each is on
    lanes: tuple[int, int],  # bits of a plane's lane, bits of a row within it
    weights: NDArray[np.int32],  # (planes,)
    tables: NDArray[np.int32],  # (groups, patterns, pitch)
    squares: NDArray[np.int32],  # (patterns,) Σ u² of a group
    shape: tuple[int, int],  # column where unsigned currents start, column of the total or −1
    modes: tuple[int, int],  # from lines to conversions, from codes to sums
    units: NDArray[
        np.float32
    ],  # line unit, total unit, droop, read variance of a conversion, three of ``_line_currents``
    transfer: NDArray[np.float32],  # (8, planes x conversions)
    table: NDArray[np.float32],
    limits: tuple[int, int],
    sums: NDArray[np.int32],  # (vectors, outputs), zeros, added to
    raw: NDArray[np.int32],  # (vectors, planes x conversions) or (0, 0), written
) -> int:
    """Convert every plane of every vector; gives the conversions at the end of the scale."""
    active, extra = shape
    planes, pitch = weights.size, tables.shape[2]
    count, outputs = transfer.shape[1] // planes, sums.shape[1]
    words = np.empty(groups.shape[0], np.uint64)
    parts = np.zeros(
        (PIECES, planes + 1, pitch), np.int32
    )  # one plane more, so that columns shifted by ``active`` exist
    driven = np.empty(planes, np.int32)
    flat, pieced, looked = parts.reshape(-1), parts.reshape(PIECES, (planes + 1) * pitch), tables.reshape(-1)
    added = sums.reshape(-1)
    line = np.empty(planes * pitch, np.float32)
    wire = units[4:]
    position = np.zeros(planes * count, np.float32)
    random = np.empty(planes * count, np.uint32)
    found = np.empty(planes * count, np.int32)
    full = 0
    for v in range(codes.shape[0]):
        _pattern_words(codes[v], low_code, spread, groups, lanes[1], words)
        _gather(words, lanes[0], tables.shape[1], looked, pieces, planes, pitch, flat, squares, driven)
        if wire[0] > _0:
            _line_currents(pieced, active, units[0], wire, line)
        else:
            _total_currents(pieced, units[0], line)
        if units[3] > _0:
            _hash_words(uint32(keys[v] & uint64(0xFFFFFFFF)), uint32(keys[v] >> uint64(32)), random)
            _normals(random, position)
        for p in range(planes):
            sigma, keep = np.sqrt(np.float32(driven[p]) * units[3]), _1
            if extra >= 0:
                total = _whole(pieced, p * pitch + extra)
                keep = _1 / (_1 + units[2] * (np.float32(total) * units[1]))
            start, first = uint64(p * count), uint64(p * pitch)
            _read(line, first, position, start, uint64(count), modes[0] == ANALOG_PAIR, sigma, keep)
        _transfer_errors(position, transfer, limits[0], limits[1])
        if table.size:
            _nominal_transfer(position, table, limits[0], limits[1])
        full += _round_codes(position, limits[0], limits[1], found)
        for p in range(planes):
            start, first = uint64(p * count), uint64(v * outputs)
            _shift_add(found, start, modes[1], weights[p], added, first, uint64(outputs))
        if raw.size:
            raw[v] = found
        position[:] = _0
    return full
