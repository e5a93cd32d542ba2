"""Driven rows of each plane under every window, for one-bit units, in numpy words of eight bytes.

Eight codes lie in a word; a transposition of its 8 x 8 bits puts plane p of all eight into
byte p (H. S. Warren, Hacker's Delight, 7-3). The ones of each byte are counted, tile by tile,
and the counts added over the window, eight planes at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cim.chip.windows import Window
from cim.simulator.fast.row_cuts import RowCut

Words = NDArray[np.uint64]
_SWAPS = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))


def plane_words(driven: NDArray[np.int16]) -> Words:
    """Codes (…, channels) to words (⌈channels / 8⌉, …): bit c of byte p is plane p of channel c of the eight.

    Example: channels 5, 1 and 0 others: byte 0 is 0b11, byte 2 is 0b01.
    """
    channels = driven.shape[-1]
    codes = np.zeros((*driven.shape[:-1], -(-channels // 8) * 8), np.uint8)
    np.copyto(codes[..., :channels], driven, casting="unsafe")
    words = np.ascontiguousarray(np.moveaxis(codes.view("<u8"), -1, 0))
    step = np.empty_like(words)
    for shift, mask in _SWAPS:
        np.right_shift(words, np.uint64(shift), out=step)
        step ^= words
        step &= np.uint64(mask)
        words ^= step
        step <<= np.uint64(shift)
        words ^= step
    return words


def count_ones(words: Words, first: int, stop: int) -> Words:
    """Byte p: channels from ``first`` to ``stop`` whose plane p drives, fewer than 256: (…)."""
    total: Words | None = None
    for word in range(first // 8, -(-stop // 8)):
        inside = sum(1 << c for c in range(8) if first <= 8 * word + c < stop)
        bits = words[word] if inside == 255 else words[word] & np.uint64(inside * 0x0101010101010101)
        ones = np.bitwise_count(bits.view(np.uint8)).view(np.uint64)
        total = ones if total is None else np.add(total, ones, out=total)
    assert total is not None
    return total


def window_sums(counts: Words, window: Window) -> Words:
    """Sums of padded maps (n, height, width) under each kernel window, (n, out height, out width)."""
    for axis, (taps, gap, step, size) in enumerate(
        zip(window.kernel, window.dilation, window.stride, (window.out_height, window.out_width), strict=True), 1
    ):
        parts = []
        for tap in range(taps):
            reach = slice(tap * gap, tap * gap + (size - 1) * step + 1, step)
            parts.append(counts[:, reach] if axis == 1 else counts[:, :, reach])
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        counts = total
    return counts


def position_sums(counts: Words, window: Window, positions: range) -> Words:
    """The same over some positions of the kernel, numbered row by row."""
    total = np.zeros((len(counts), window.out_height, window.out_width), np.uint64)
    for position in positions:
        top, left = (p * gap for p, gap in zip(divmod(position, window.kernel[1]), window.dilation, strict=True))
        down, across = (
            slice(first, first + (size - 1) * step + 1, step)
            for first, size, step in zip((top, left), total.shape[1:], window.stride, strict=True)
        )
        total += counts[:, down, across]
    return total


def place_counts(driven: NDArray[np.int16], cuts: Sequence[RowCut], window: Window | None) -> Words:
    """Driven rows of each plane, a byte a plane, (tiles, places).

    Args:
        driven: codes with their padding, (n, height, width, channels), or (n, features).
        cuts: rows of each tile.
    """
    words = plane_words(driven)
    found = np.zeros((len(cuts), len(driven) * (1 if window is None else window.positions)), np.uint64)
    for total, cut in zip(found, cuts, strict=True):
        for channels, positions in cut.rectangles:
            counts = count_ones(words, channels.start, channels.stop)
            if window is not None:
                whole = len(positions) == cut.kernel
                counts = window_sums(counts, window) if whole else position_sums(counts, window, positions)
            total += counts.ravel()
    return found


def driving_planes(counts: Words) -> Words:
    """Bit p: byte p is not zero.

    Example: 0x0500000200 (bytes 1 and 4) gives 0b10010.
    """
    low = np.uint64(0x7F7F7F7F7F7F7F7F)
    there = counts & low
    there += low
    there |= counts
    there &= ~low
    there >>= np.uint64(7)
    there *= np.uint64(0x0102040810204080)  # bit 0 of byte p goes to bit p of the highest byte
    there >>= np.uint64(56)
    return there
