"""Bytes coded by how often each came before: an arithmetic coder of bits with one model, the same in C.

A byte is eight decisions, the highest bit first. A decision in the byte at place i has a model of its own for each
i mod 4, highest bit of the byte before it (0 at the start: signs of long numbers), and value of the bits before it in
the byte: 4 · 2 · 256 models, each a probability p of a 1 (16 bits, from ½ on) and a count n (from 0 on). The interval
low … high (32 bits, from all on) is cut at

    middle = low + ⌊(high − low) · p / 2^16⌋

A 1 keeps low … middle and moves p by (2^16 − p) >> s, a 0 keeps middle + 1 … high and moves it by −(p >> s), with
s = 1 + ⌊n / 3⌋; n grows to 12. Whenever the top bytes of low and high are the same, that byte is sent, both are
shifted by it, and ones enter high. At the end come the four bytes of low.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

MODELS, PLACES = 256, 8  # places: i mod 4, twice
HALF, MOST = 1 << 15, 12
TOP, ALL = 0xFF000000, 0xFFFFFFFF

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@njit(cache=True, nogil=True)
def learned(chance: Numbers, count: Numbers, node: int, bit: int) -> int:
    """Move the chance of a 1 at ``node`` of a place towards the bit that came; the node after it."""
    p, n = chance[node], count[node]
    chance[node] = p + ((65536 - p) >> (1 + n // 3)) if bit else p - (p >> (1 + n // 3))
    count[node] = min(n + 1, MOST)
    return 2 * node + int(bit)


@njit(cache=True, nogil=True)
def coded(body: Bytes, out: Bytes) -> int:
    """Code ``body`` into ``out``; bytes written, or −1 where they are more than it holds."""
    chance = np.full((PLACES, MODELS), HALF, np.int64)
    count = np.zeros((PLACES, MODELS), np.int64)
    low, high, size, before = np.int64(0), np.int64(ALL), 0, 0
    for i in range(len(body)):
        place, node = 2 * (i % 4) + (before >> 7), 1
        before = int(body[i])
        for k in range(7, -1, -1):
            bit = (np.int64(body[i]) >> k) & 1
            middle = low + (((high - low) * chance[place, node]) >> 16)
            if bit:
                high = middle
            else:
                low = middle + 1
            node = learned(chance[place], count[place], node, bit)
            while ((low ^ high) & TOP) == 0:
                if size == len(out):
                    return -1
                out[size] = high >> 24
                size += 1
                low = (low << 8) & ALL
                high = ((high << 8) & ALL) | 0xFF
    if size + 4 > len(out):
        return -1
    for k in (24, 16, 8, 0):
        out[size] = (low >> k) & 0xFF
        size += 1
    return size


@njit(cache=True, nogil=True)
def decoded(code: Bytes, out: Bytes) -> bool:
    """Fill ``out`` from the whole of ``code``; whether that many bytes were in it and nothing else."""
    chance = np.full((PLACES, MODELS), HALF, np.int64)
    count = np.zeros((PLACES, MODELS), np.int64)
    low, high, value, at = np.int64(0), np.int64(ALL), np.int64(0), 4
    if len(code) < 4:
        return False
    for k in range(4):
        value = (value << 8) | np.int64(code[k])
    before = 0
    for i in range(len(out)):
        place, node = 2 * (i % 4) + (before >> 7), 1
        for _ in range(8):
            middle = low + (((high - low) * chance[place, node]) >> 16)
            bit = 1 if value <= middle else 0
            if bit:
                high = middle
            else:
                low = middle + 1
            node = learned(chance[place], count[place], node, bit)
            while ((low ^ high) & TOP) == 0:
                if at == len(code):
                    return False
                value = ((value << 8) & ALL) | np.int64(code[at])
                at += 1
                low = (low << 8) & ALL
                high = ((high << 8) & ALL) | 0xFF
        before = node & 0xFF
        out[i] = before
    return at == len(code) and value == low
