"""Table look-ups for eight planes at a time: sums over the driven cells of a read, and their loss along the wires.

Results go to pages of scratch, where ``cim.simulator.exact.lookup_kernels`` takes them plane by plane. Accumulators
stay in registers. Imports numba: import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cim.array.wire_segments import SEGMENT_ROWS
from cim.simd.floats import splat_i
from cim.simd.integers import (
    WIDTH,
    add_saturated,
    bytes_01,
    bytes_23,
    bytes_45,
    bytes_67,
    joined,
    left,
    load_longs,
    raised_halves,
    raised_shorts,
    right,
    rounded,
    splat_half_octets,
    splat_halves,
    splat_octets,
    splat_shorts,
    transposed,
    vadd,
    vand,
    vmul,
    vor,
)
from cim.simd.tables import (
    item,
    load_two_rows,
    look_half_octets,
    look_halves,
    look_octets,
    look_shorts,
    spread_halves,
    spread_shorts,
    store_two_rows,
)
from cim.simd.vectors import store
from cim.simulator.exact.lookup_noise import PLANES

HALF = WIDTH // 2
GROUP = 8  # rows of one look-up
# Pages of scratch, each (8 planes, 32): sums, normals, losses, loads beyond the mean; then factors of two places.
PAGE = PLANES * WIDTH
SUMS, NORMALS, LOSSES, EXTRAS, FACTORS = 0, PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE
SEGMENTS = 32  # at most
SEGMENT_WORDS = SEGMENT_ROWS // GROUP
# Where more planes than this are read, they are lifted to the top of eight. Those below it, of little weight, lose as
# evenly driven rows do that hang on the lines like those of the lowest upper plane.
UPPER = 4
FACTOR_ROW = 2 * SEGMENTS  # shorts of one plane's factors
SCRATCH = FACTORS + 2 * UPPER * FACTOR_ROW
FACTOR_BITS = 12  # fractional bits of the factors' tables
LOAD_BITS = 2  # what loads beyond the mean change is counted in units of 2^2 of the mean loss: few rows change it much

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_ZERO, _BYTE, _SHORT = np.int16(0), np.int64(255), np.int32(0xFFFF)
_BYTE_ZERO = np.int8(0)


@njit(inline="always", **_options)
def factors_of(
    counts: Any, at: Any, n: Any, lift: Any, fall: Any, rise: Any, upper: Any, scratch: Any, to: Any
) -> None:
    """Write the loss factors of all segments and four planes of a place to ``scratch[to:]``, each twice in 32 bits.

    Args:
        counts: from ``count_words``, those of this place from ``at`` on; ``n`` its last word, shifted by ``lift``.
        lift: left shift in bits that moves the planes to the highest bytes of a word.
        fall, rise: int32 (rows + 1, segments in eights) of ``cim.simulator.exact.lookup_wires``.
        upper: None for planes 0 to 3, else planes 4 to 7.
    """
    eights = fall.shape[1]
    falls, rises = fall.reshape(-1), rise.reshape(-1)
    for s in range(0, eights, 8):
        turned = transposed(left(load_longs(counts, at + s), lift))  # a plane's eight segments side by side
        here = to + 2 * s
        if upper is None:
            _two_planes(bytes_01(turned), n, eights, s, falls, rises, scratch, here)
            _two_planes(bytes_23(turned), n >> 16, eights, s, falls, rises, scratch, here + 2 * FACTOR_ROW)
        else:
            _two_planes(bytes_45(turned), n >> 32, eights, s, falls, rises, scratch, here)
            _two_planes(bytes_67(turned), n >> 48, eights, s, falls, rises, scratch, here + 2 * FACTOR_ROW)


@njit(inline="always", **_options)
def _two_planes(
    driven: Any, n: Any, eights: Any, s: Any, falls: Any, rises: Any, scratch: Any, to: Any
) -> None:  # fmt: skip
    """Write loss factors of eight segments, from ``s`` on, for the planes of the two lowest bytes of ``n``."""
    first, second = (n & _BYTE) * eights + s, ((n >> 8) & _BYTE) * eights + s
    factor = vadd(load_two_rows(falls, first, second), vmul(load_two_rows(rises, first, second), driven))
    factor = right(factor, np.int32(FACTOR_BITS))
    factor = vor(vand(factor, splat_i(_SHORT)), left(factor, np.int32(16)))
    store_two_rows(scratch, to, to + FACTOR_ROW, factor)


@njit(inline="always", **_options)
def look_up(
    words: Any, place: Any, places: Any, tables: Any, wires: Any, at: Any, patterns: Any, ends: Any, upper: Any,
    lift: Any, factors: Any, scratch: Any,
) -> None:  # fmt: skip
    """Write sums of one place and 32 columns to ``scratch``, with wire losses and loads of planes 0 to 3 or 4 to 7."""
    a = b = c = d = e = f = g = h = splat_shorts(_ZERO)
    ta = tb = tc = td = splat_octets(_BYTE_ZERO)
    la = lb = lc = ld = splat_shorts(_ZERO)
    step = patterns * WIDTH
    first = 0
    for s in range(ends.shape[0]):
        beyond = ends[s] if wires is None else first + SEGMENT_WORDS
        for group in range(first, beyond):
            w = item(words, group * places + place) << lift
            a = vadd(a, look_shorts(tables, at, w, 0))
            b = vadd(b, look_shorts(tables, at, w, 1))
            c = vadd(c, look_shorts(tables, at, w, 2))
            d = vadd(d, look_shorts(tables, at, w, 3))
            e = vadd(e, look_shorts(tables, at, w, 4))
            f = vadd(f, look_shorts(tables, at, w, 5))
            g = vadd(g, look_shorts(tables, at, w, 6))
            h = vadd(h, look_shorts(tables, at, w, 7))
            if wires is not None:
                top = w if upper is None else w >> (8 * UPPER)
                ta = vadd(ta, look_octets(wires[2], at, top, 0))
                tb = vadd(tb, look_octets(wires[2], at, top, 1))
                tc = vadd(tc, look_octets(wires[2], at, top, 2))
                td = vadd(td, look_octets(wires[2], at, top, 3))
            at += step
        first = beyond
        if wires is not None:
            near = factors + 2 * s
            if upper is None:
                la = add_saturated(la, rounded(a, spread_shorts(scratch, near + 0 * FACTOR_ROW)))
                lb = add_saturated(lb, rounded(b, spread_shorts(scratch, near + 1 * FACTOR_ROW)))
                lc = add_saturated(lc, rounded(c, spread_shorts(scratch, near + 2 * FACTOR_ROW)))
                ld = add_saturated(ld, rounded(d, spread_shorts(scratch, near + 3 * FACTOR_ROW)))
            else:
                la = add_saturated(la, rounded(e, spread_shorts(scratch, near + 0 * FACTOR_ROW)))
                lb = add_saturated(lb, rounded(f, spread_shorts(scratch, near + 1 * FACTOR_ROW)))
                lc = add_saturated(lc, rounded(g, spread_shorts(scratch, near + 2 * FACTOR_ROW)))
                ld = add_saturated(ld, rounded(h, spread_shorts(scratch, near + 3 * FACTOR_ROW)))
    store(scratch, SUMS + 0 * WIDTH, a)
    store(scratch, SUMS + 1 * WIDTH, b)
    store(scratch, SUMS + 2 * WIDTH, c)
    store(scratch, SUMS + 3 * WIDTH, d)
    store(scratch, SUMS + 4 * WIDTH, e)
    store(scratch, SUMS + 5 * WIDTH, f)
    store(scratch, SUMS + 6 * WIDTH, g)
    store(scratch, SUMS + 7 * WIDTH, h)
    if wires is not None:
        store(scratch, LOSSES + 0 * WIDTH, la)
        store(scratch, LOSSES + 1 * WIDTH, lb)
        store(scratch, LOSSES + 2 * WIDTH, lc)
        store(scratch, LOSSES + 3 * WIDTH, ld)
        store(scratch, EXTRAS + 0 * WIDTH, raised_shorts(ta))
        store(scratch, EXTRAS + 1 * WIDTH, raised_shorts(tb))
        store(scratch, EXTRAS + 2 * WIDTH, raised_shorts(tc))
        store(scratch, EXTRAS + 3 * WIDTH, raised_shorts(td))


@njit(inline="always", **_options)
def _half_sums(
    words: Any, place: Any, places: Any, tables: Any, wires: Any, at: Any, patterns: Any, ends: Any, upper: Any,
    lift: Any, factors: Any, scratch: Any,
) -> Any:  # fmt: skip
    """Sums of one place and 16 columns: eight vectors of sums, four of wire losses, four of line loads."""
    a = b = c = d = e = f = g = h = splat_halves(_ZERO)
    ta = tb = tc = td = splat_half_octets(_BYTE_ZERO)
    la = lb = lc = ld = splat_halves(_ZERO)
    step = patterns * HALF
    first = 0
    for s in range(ends.shape[0]):
        beyond = ends[s] if wires is None else first + SEGMENT_WORDS
        for group in range(first, beyond):
            w = item(words, group * places + place) << lift
            a = vadd(a, look_halves(tables, at, w, 0))
            b = vadd(b, look_halves(tables, at, w, 1))
            c = vadd(c, look_halves(tables, at, w, 2))
            d = vadd(d, look_halves(tables, at, w, 3))
            e = vadd(e, look_halves(tables, at, w, 4))
            f = vadd(f, look_halves(tables, at, w, 5))
            g = vadd(g, look_halves(tables, at, w, 6))
            h = vadd(h, look_halves(tables, at, w, 7))
            if wires is not None:
                top = w if upper is None else w >> (8 * UPPER)
                ta = vadd(ta, look_half_octets(wires[2], at, top, 0))
                tb = vadd(tb, look_half_octets(wires[2], at, top, 1))
                tc = vadd(tc, look_half_octets(wires[2], at, top, 2))
                td = vadd(td, look_half_octets(wires[2], at, top, 3))
            at += step
        first = beyond
        if wires is not None:
            near = factors + 2 * s
            if upper is None:
                la = add_saturated(la, rounded(a, spread_halves(scratch, near + 0 * FACTOR_ROW)))
                lb = add_saturated(lb, rounded(b, spread_halves(scratch, near + 1 * FACTOR_ROW)))
                lc = add_saturated(lc, rounded(c, spread_halves(scratch, near + 2 * FACTOR_ROW)))
                ld = add_saturated(ld, rounded(d, spread_halves(scratch, near + 3 * FACTOR_ROW)))
            else:
                la = add_saturated(la, rounded(e, spread_halves(scratch, near + 0 * FACTOR_ROW)))
                lb = add_saturated(lb, rounded(f, spread_halves(scratch, near + 1 * FACTOR_ROW)))
                lc = add_saturated(lc, rounded(g, spread_halves(scratch, near + 2 * FACTOR_ROW)))
                ld = add_saturated(ld, rounded(h, spread_halves(scratch, near + 3 * FACTOR_ROW)))
    return (
        a, b, c, d, e, f, g, h,
        la, lb, lc, ld,
        raised_halves(ta), raised_halves(tb), raised_halves(tc), raised_halves(td),
    )  # fmt: skip


@njit(inline="always", **_options)
def look_up_pair(
    words: Any, place: Any, other: Any, places: Any, tables: Any, wires: Any, at: Any, patterns: Any, ends: Any,
    upper: Any, lift: Any, factors: Any, scratch: Any,
) -> None:  # fmt: skip
    """Write sums, wire losses and line loads of two places and 16 columns to ``scratch``."""
    a, b, c, d, e, f, g, h, la, lb, lc, ld, ta, tb, tc, td = _half_sums(
        words, place, places, tables, wires, at, patterns, ends, upper, lift, factors, scratch
    )  # fmt: skip
    A, B, C, D, E, F, G, H, LA, LB, LC, LD, TA, TB, TC, TD = _half_sums(
        words, other, places, tables, wires, at, patterns, ends, upper, lift, factors + UPPER * FACTOR_ROW,
        scratch
    )  # fmt: skip
    store(scratch, SUMS + 0 * WIDTH, joined(a, A))
    store(scratch, SUMS + 1 * WIDTH, joined(b, B))
    store(scratch, SUMS + 2 * WIDTH, joined(c, C))
    store(scratch, SUMS + 3 * WIDTH, joined(d, D))
    store(scratch, SUMS + 4 * WIDTH, joined(e, E))
    store(scratch, SUMS + 5 * WIDTH, joined(f, F))
    store(scratch, SUMS + 6 * WIDTH, joined(g, G))
    store(scratch, SUMS + 7 * WIDTH, joined(h, H))
    if wires is not None:
        store(scratch, LOSSES + 0 * WIDTH, joined(la, LA))
        store(scratch, LOSSES + 1 * WIDTH, joined(lb, LB))
        store(scratch, LOSSES + 2 * WIDTH, joined(lc, LC))
        store(scratch, LOSSES + 3 * WIDTH, joined(ld, LD))
        store(scratch, EXTRAS + 0 * WIDTH, joined(ta, TA))
        store(scratch, EXTRAS + 1 * WIDTH, joined(tb, TB))
        store(scratch, EXTRAS + 2 * WIDTH, joined(tc, TC))
        store(scratch, EXTRAS + 3 * WIDTH, joined(td, TD))
