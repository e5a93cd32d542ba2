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
    piece_size = uint64(parts.size // 4)
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


@njit(cache=True, nogil=True, error_model="numpy")
def _line_currents(parts: NDArray[np.int32], active: int, unit: Any, wire: Any, current: NDArray[np.float32]) -> None:
    """Currents at the converter, µS times input unit; parts (4, n + active), current (n,).

    The line is cut in four pieces of equal length, piece 0 next to the converter. With D_s
    the net and A_s the unsigned driven conductance of piece s, C_s = Σ_{t≥s} D_t flows
    through the start of piece s and lifts it on average by

        φ_s = ρ (Σ_{t<s} (C_t + C_{t+1}) / 2 + (2 C_s + C_{s+1}) / 6)
        I = Σ_s D_s − A_s φ_s / (1 + |φ_s|)

    ρ (``wire``) being the resistance of a piece, bit and source line, per input unit.
    """
    half, sixth = _HALF * wire, wire / np.float32(6.0)
    net0, net1, net2, net3 = parts[0], parts[1], parts[2], parts[3]
    all0, all1, all2, all3 = parts[0, active:], parts[1, active:], parts[2, active:], parts[3, active:]
    for i in range(current.size):
        d0, d1 = np.float32(net0[i]) * unit, np.float32(net1[i]) * unit
        d2, d3 = np.float32(net2[i]) * unit, np.float32(net3[i]) * unit
        a0, a1 = np.float32(all0[i]) * unit, np.float32(all1[i]) * unit
        a2, a3 = np.float32(all2[i]) * unit, np.float32(all3[i]) * unit
        c2 = d3 + d2
        c1 = c2 + d1
        c0 = c1 + d0
        end0 = half * (c0 + c1)
        end1 = end0 + half * (c1 + c2)
        end2 = end1 + half * (c2 + d3)
        phi0 = sixth * (c0 + c0 + c1)
        phi1 = end0 + sixth * (c1 + c1 + c2)
        phi2 = end1 + sixth * (c2 + c2 + d3)
        phi3 = end2 + sixth * (d3 + d3)
        near = a0 * (phi0 / (_1 + abs(phi0))) + a1 * (phi1 / (_1 + abs(phi1)))
        far = a2 * (phi2 / (_1 + abs(phi2))) + a3 * (phi3 / (_1 + abs(phi3)))
        current[i] = c0 - (near + far)


@njit(cache=True, nogil=True, error_model="numpy")
def _total_currents(parts: NDArray[np.int32], unit: Any, current: NDArray[np.float32]) -> None:
    """The same without wires."""
    for i in range(current.size):
        current[i] = np.float32(parts[0, i] + parts[1, i] + parts[2, i] + parts[3, i]) * unit


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
    """clip(⌊q + ½⌋), as ``cim.converters.quantise_adc``; gives how many lie at the end of the scale."""
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
    pieces: NDArray[np.int32],  # (groups,) piece of the line, 0..3
    lanes: tuple[int, int],  # bits of a plane's lane, bits of a row within it
    weights: NDArray[np.int32],  # (planes,)
    tables: NDArray[np.int32],  # (groups, patterns, pitch)
    squares: NDArray[np.int32],  # (patterns,) Σ u² of a group
    shape: tuple[int, int],  # column where unsigned currents start, column of the total or −1
    modes: tuple[int, int],  # from lines to conversions, from codes to sums
    units: NDArray[np.float32],  # line unit, total unit, wire, droop, read variance of a conversion
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
    parts = np.zeros((4, planes + 1, pitch), np.int32)  # one plane more, so that columns shifted by ``active`` exist
    driven = np.empty(planes, np.int32)
    flat, pieced, looked = parts.reshape(-1), parts.reshape(4, (planes + 1) * pitch), tables.reshape(-1)
    added = sums.reshape(-1)
    line = np.empty(planes * pitch, np.float32)
    position = np.zeros(planes * count, np.float32)
    random = np.empty(planes * count, np.uint32)
    found = np.empty(planes * count, np.int32)
    full = 0
    for v in range(codes.shape[0]):
        _pattern_words(codes[v], low_code, spread, groups, lanes[1], words)
        _gather(words, lanes[0], tables.shape[1], looked, pieces, planes, pitch, flat, squares, driven)
        if units[2] > _0:
            _line_currents(pieced, active, units[0], units[2], line)
        else:
            _total_currents(pieced, units[0], line)
        if units[4] > _0:
            _hash_words(uint32(keys[v] & uint64(0xFFFFFFFF)), uint32(keys[v] >> uint64(32)), random)
            _normals(random, position)
        for p in range(planes):
            sigma, keep = np.sqrt(np.float32(driven[p]) * units[4]), _1
            if extra >= 0:
                total = parts[0, p, extra] + parts[1, p, extra] + parts[2, p, extra] + parts[3, p, extra]
                keep = _1 / (_1 + units[3] * (np.float32(total) * units[1]))
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
