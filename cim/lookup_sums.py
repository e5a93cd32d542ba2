"""Look-ups of eight planes at a time: sums of a read's driven cells, and with wires what the line loses of them.

Results go to pages of scratch, where ``cim.lookup_kernels`` takes them plane by plane. Accumulators
stay in registers. Imports numba: import this module late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cim.lookup_noise import PLANES
from cim.simd_integers import (
    WIDTH,
    add_saturated,
    high,
    item,
    joined,
    left,
    load_integer_longs,
    load_longs,
    look_half_octets,
    look_halves,
    look_octets,
    look_shorts,
    product,
    raised_halves,
    raised_shorts,
    right,
    right_zero,
    splat_half_octets,
    splat_halves,
    splat_longs,
    splat_octets,
    splat_shorts,
    spread_halves,
    spread_shorts,
    store_integer_longs,
    store_shorts,
    vadd,
    vand,
    vor,
)

HALF = WIDTH // 2
# Pages of scratch, each (8 planes, 32): sums, normals, losses, loads beyond the mean; then factors of two places.
PAGE = PLANES * WIDTH
SUMS, NORMALS, LOSSES, EXTRAS, FACTORS = 0, PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE
SEGMENTS = 16  # at most
FACTOR_ROW = 2 * SEGMENTS  # shorts of one plane's factors
SCRATCH = FACTORS + 2 * PLANES * FACTOR_ROW
FACTOR_BITS = 12  # fractional bits of the factors' tables

_options: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_ZERO, _BYTE, _SHORT = np.int16(0), np.int64(255), np.int64(0xFFFF)
_BYTE_ZERO = np.int8(0)


@njit(inline="always", **_options)
def factors_of(counts: Any, at: Any, n: Any, fall: Any, rise: Any, scratch: Any, to: Any) -> None:
    """Factors of all segments and planes of one place, each twice in 32 bits, to ``scratch`` from ``to`` on.

    Args:
        counts: of ``count_words``, the place's from ``at`` on; ``n`` its last one.
        fall, rise: int32 (rows + 1, segments in eights) of ``cim.lookup_wires``.
    """
    eights = fall.shape[1]
    falls, rises = fall.reshape(-1), rise.reshape(-1)
    for s in range(0, eights, 8):
        driven = load_longs(counts, at + s)
        for plane in range(PLANES):
            row = ((n >> (8 * plane)) & _BYTE) * eights + s
            some = vand(right_zero(driven, np.int64(8 * plane)), splat_longs(_BYTE))
            factor = vadd(load_integer_longs(falls, row), product(load_integer_longs(rises, row), some))
            factor = right(factor, np.int64(FACTOR_BITS))
            factor = vor(vand(factor, splat_longs(_SHORT)), left(factor, np.int64(16)))
            store_integer_longs(scratch, to + plane * FACTOR_ROW + 2 * s, factor)


@njit(inline="always", **_options)
def look_up(
    words: Any, place: Any, places: Any, tables: Any, wires: Any, at: Any, patterns: Any, ends: Any, factors: Any,
    scratch: Any,
) -> None:  # fmt: skip
    """Sums, losses and loads of eight planes of one place and 32 columns, to ``scratch``."""
    a = b = c = d = e = f = g = h = splat_shorts(_ZERO)
    ta = tb = tc = td = te = tf = tg = th = splat_octets(_BYTE_ZERO)
    la = lb = lc = ld = le = lf = lg = lh = splat_shorts(np.int16(ends.shape[0] >> 1))  # products lose ½ each
    step = patterns * WIDTH
    first = 0
    for s in range(ends.shape[0]):
        for group in range(first, ends[s]):
            w = item(words, group * places + place)
            a = vadd(a, look_shorts(tables, at, w, 0))
            b = vadd(b, look_shorts(tables, at, w, 1))
            c = vadd(c, look_shorts(tables, at, w, 2))
            d = vadd(d, look_shorts(tables, at, w, 3))
            e = vadd(e, look_shorts(tables, at, w, 4))
            f = vadd(f, look_shorts(tables, at, w, 5))
            g = vadd(g, look_shorts(tables, at, w, 6))
            h = vadd(h, look_shorts(tables, at, w, 7))
            if wires is not None:
                ta = vadd(ta, look_octets(wires[2], at, w, 0))
                tb = vadd(tb, look_octets(wires[2], at, w, 1))
                tc = vadd(tc, look_octets(wires[2], at, w, 2))
                td = vadd(td, look_octets(wires[2], at, w, 3))
                te = vadd(te, look_octets(wires[2], at, w, 4))
                tf = vadd(tf, look_octets(wires[2], at, w, 5))
                tg = vadd(tg, look_octets(wires[2], at, w, 6))
                th = vadd(th, look_octets(wires[2], at, w, 7))
            at += step
        first = ends[s]
        if wires is not None:
            near = factors + 2 * s
            la = add_saturated(la, high(a, spread_shorts(scratch, near + 0 * FACTOR_ROW)))
            lb = add_saturated(lb, high(b, spread_shorts(scratch, near + 1 * FACTOR_ROW)))
            lc = add_saturated(lc, high(c, spread_shorts(scratch, near + 2 * FACTOR_ROW)))
            ld = add_saturated(ld, high(d, spread_shorts(scratch, near + 3 * FACTOR_ROW)))
            le = add_saturated(le, high(e, spread_shorts(scratch, near + 4 * FACTOR_ROW)))
            lf = add_saturated(lf, high(f, spread_shorts(scratch, near + 5 * FACTOR_ROW)))
            lg = add_saturated(lg, high(g, spread_shorts(scratch, near + 6 * FACTOR_ROW)))
            lh = add_saturated(lh, high(h, spread_shorts(scratch, near + 7 * FACTOR_ROW)))
    store_shorts(scratch, SUMS + 0 * WIDTH, a)
    store_shorts(scratch, SUMS + 1 * WIDTH, b)
    store_shorts(scratch, SUMS + 2 * WIDTH, c)
    store_shorts(scratch, SUMS + 3 * WIDTH, d)
    store_shorts(scratch, SUMS + 4 * WIDTH, e)
    store_shorts(scratch, SUMS + 5 * WIDTH, f)
    store_shorts(scratch, SUMS + 6 * WIDTH, g)
    store_shorts(scratch, SUMS + 7 * WIDTH, h)
    if wires is not None:
        store_shorts(scratch, LOSSES + 0 * WIDTH, la)
        store_shorts(scratch, LOSSES + 1 * WIDTH, lb)
        store_shorts(scratch, LOSSES + 2 * WIDTH, lc)
        store_shorts(scratch, LOSSES + 3 * WIDTH, ld)
        store_shorts(scratch, LOSSES + 4 * WIDTH, le)
        store_shorts(scratch, LOSSES + 5 * WIDTH, lf)
        store_shorts(scratch, LOSSES + 6 * WIDTH, lg)
        store_shorts(scratch, LOSSES + 7 * WIDTH, lh)
        store_shorts(scratch, EXTRAS + 0 * WIDTH, raised_shorts(ta))
        store_shorts(scratch, EXTRAS + 1 * WIDTH, raised_shorts(tb))
        store_shorts(scratch, EXTRAS + 2 * WIDTH, raised_shorts(tc))
        store_shorts(scratch, EXTRAS + 3 * WIDTH, raised_shorts(td))
        store_shorts(scratch, EXTRAS + 4 * WIDTH, raised_shorts(te))
        store_shorts(scratch, EXTRAS + 5 * WIDTH, raised_shorts(tf))
        store_shorts(scratch, EXTRAS + 6 * WIDTH, raised_shorts(tg))
        store_shorts(scratch, EXTRAS + 7 * WIDTH, raised_shorts(th))


@njit(inline="always", **_options)
def _half_sums(
    words: Any, place: Any, places: Any, tables: Any, wires: Any, at: Any, patterns: Any, ends: Any, factors: Any,
    scratch: Any,
) -> Any:  # fmt: skip
    """The same of one place and 16 columns: eight sums, eight losses, eight loads."""
    a = b = c = d = e = f = g = h = splat_halves(_ZERO)
    ta = tb = tc = td = te = tf = tg = th = splat_half_octets(_BYTE_ZERO)
    la = lb = lc = ld = le = lf = lg = lh = splat_halves(np.int16(ends.shape[0] >> 1))  # products lose ½ each
    step = patterns * HALF
    first = 0
    for s in range(ends.shape[0]):
        for group in range(first, ends[s]):
            w = item(words, group * places + place)
            a = vadd(a, look_halves(tables, at, w, 0))
            b = vadd(b, look_halves(tables, at, w, 1))
            c = vadd(c, look_halves(tables, at, w, 2))
            d = vadd(d, look_halves(tables, at, w, 3))
            e = vadd(e, look_halves(tables, at, w, 4))
            f = vadd(f, look_halves(tables, at, w, 5))
            g = vadd(g, look_halves(tables, at, w, 6))
            h = vadd(h, look_halves(tables, at, w, 7))
            if wires is not None:
                ta = vadd(ta, look_half_octets(wires[2], at, w, 0))
                tb = vadd(tb, look_half_octets(wires[2], at, w, 1))
                tc = vadd(tc, look_half_octets(wires[2], at, w, 2))
                td = vadd(td, look_half_octets(wires[2], at, w, 3))
                te = vadd(te, look_half_octets(wires[2], at, w, 4))
                tf = vadd(tf, look_half_octets(wires[2], at, w, 5))
                tg = vadd(tg, look_half_octets(wires[2], at, w, 6))
                th = vadd(th, look_half_octets(wires[2], at, w, 7))
            at += step
        first = ends[s]
        if wires is not None:
            near = factors + 2 * s
            la = add_saturated(la, high(a, spread_halves(scratch, near + 0 * FACTOR_ROW)))
            lb = add_saturated(lb, high(b, spread_halves(scratch, near + 1 * FACTOR_ROW)))
            lc = add_saturated(lc, high(c, spread_halves(scratch, near + 2 * FACTOR_ROW)))
            ld = add_saturated(ld, high(d, spread_halves(scratch, near + 3 * FACTOR_ROW)))
            le = add_saturated(le, high(e, spread_halves(scratch, near + 4 * FACTOR_ROW)))
            lf = add_saturated(lf, high(f, spread_halves(scratch, near + 5 * FACTOR_ROW)))
            lg = add_saturated(lg, high(g, spread_halves(scratch, near + 6 * FACTOR_ROW)))
            lh = add_saturated(lh, high(h, spread_halves(scratch, near + 7 * FACTOR_ROW)))
    return (
        a, b, c, d, e, f, g, h,
        la, lb, lc, ld, le, lf, lg, lh,
        raised_halves(ta), raised_halves(tb), raised_halves(tc), raised_halves(td),
        raised_halves(te), raised_halves(tf), raised_halves(tg), raised_halves(th),
    )  # fmt: skip


@njit(inline="always", **_options)
def look_up_pair(
    words: Any, place: Any, other: Any, places: Any, tables: Any, wires: Any, at: Any, patterns: Any, ends: Any,
    factors: Any, scratch: Any,
) -> None:  # fmt: skip
    """Sums, losses and loads of two places and 16 columns, to ``scratch``."""
    a, b, c, d, e, f, g, h, la, lb, lc, ld, le, lf, lg, lh, ta, tb, tc, td, te, tf, tg, th = _half_sums(
        words, place, places, tables, wires, at, patterns, ends, factors, scratch
    )  # fmt: skip
    A, B, C, D, E, F, G, H, LA, LB, LC, LD, LE, LF, LG, LH, TA, TB, TC, TD, TE, TF, TG, TH = _half_sums(
        words, other, places, tables, wires, at, patterns, ends, factors + PLANES * FACTOR_ROW, scratch
    )  # fmt: skip
    store_shorts(scratch, SUMS + 0 * WIDTH, joined(a, A))
    store_shorts(scratch, SUMS + 1 * WIDTH, joined(b, B))
    store_shorts(scratch, SUMS + 2 * WIDTH, joined(c, C))
    store_shorts(scratch, SUMS + 3 * WIDTH, joined(d, D))
    store_shorts(scratch, SUMS + 4 * WIDTH, joined(e, E))
    store_shorts(scratch, SUMS + 5 * WIDTH, joined(f, F))
    store_shorts(scratch, SUMS + 6 * WIDTH, joined(g, G))
    store_shorts(scratch, SUMS + 7 * WIDTH, joined(h, H))
    if wires is not None:
        store_shorts(scratch, LOSSES + 0 * WIDTH, joined(la, LA))
        store_shorts(scratch, LOSSES + 1 * WIDTH, joined(lb, LB))
        store_shorts(scratch, LOSSES + 2 * WIDTH, joined(lc, LC))
        store_shorts(scratch, LOSSES + 3 * WIDTH, joined(ld, LD))
        store_shorts(scratch, LOSSES + 4 * WIDTH, joined(le, LE))
        store_shorts(scratch, LOSSES + 5 * WIDTH, joined(lf, LF))
        store_shorts(scratch, LOSSES + 6 * WIDTH, joined(lg, LG))
        store_shorts(scratch, LOSSES + 7 * WIDTH, joined(lh, LH))
        store_shorts(scratch, EXTRAS + 0 * WIDTH, joined(ta, TA))
        store_shorts(scratch, EXTRAS + 1 * WIDTH, joined(tb, TB))
        store_shorts(scratch, EXTRAS + 2 * WIDTH, joined(tc, TC))
        store_shorts(scratch, EXTRAS + 3 * WIDTH, joined(td, TD))
        store_shorts(scratch, EXTRAS + 4 * WIDTH, joined(te, TE))
        store_shorts(scratch, EXTRAS + 5 * WIDTH, joined(tf, TF))
        store_shorts(scratch, EXTRAS + 6 * WIDTH, joined(tg, TG))
        store_shorts(scratch, EXTRAS + 7 * WIDTH, joined(th, TH))
