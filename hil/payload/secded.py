"""SECDED: words of 64 bits with 8 check bits: one upset is corrected, two are noticed (Hsiao, doi 10.1147/rd.144.0395).

Every data bit has a column of odd weight (56 of three ones, 8 of five), every check bit one of a single one. The
syndrome is the check byte of the data as they are, XOR the stored one:

    0              nothing was struck (or four bits or more were)
    a column       that bit was struck: it is turned back
    anything else  two bits, or an odd number that fits no bit: the word is lost

Example: of a word of zeros, check byte 0, bit 0 struck: the syndrome is column 0, and the word is zeros again.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORD_BYTES, CHECK_BITS = 8, 8
WORD_OPERATIONS = 2 * WORD_BYTES + 1  # of a host that reads one word: a look-up and an XOR a byte, a comparison


def _columns() -> NDArray[np.uint8]:
    """Check bits that each of the 64 data bits turns over; data bit i is bit 7 − i % 8 of byte i // 8."""
    weighted = [sum(1 << b for b in ones) for n in (3, 5) for ones in itertools.combinations(range(CHECK_BITS), n)]
    return np.array(weighted[: 8 * WORD_BYTES], np.uint8)


COLUMNS = _columns()
_NO_BIT = -1


def _byte_tables() -> NDArray[np.uint8]:
    """Check byte of every value of each data byte, (8, 256)."""
    values = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    parts = values[None] * COLUMNS.reshape(WORD_BYTES, 1, 8)
    return np.asarray(np.bitwise_xor.reduce(parts, axis=2), np.uint8)


def _struck_bits() -> NDArray[np.int16]:
    """The data bit that a syndrome names; 64 and more: a check bit; −1: none."""
    found = np.full(256, _NO_BIT, np.int16)
    found[COLUMNS] = np.arange(len(COLUMNS))
    found[1 << np.arange(CHECK_BITS)] = len(COLUMNS) + np.arange(CHECK_BITS)
    return found


TABLES, STRUCK = _byte_tables(), _struck_bits()


@dataclass(frozen=True, slots=True)
class CodedBytes:
    """Bytes with their check bytes. ``data``: (words, 8), the last word filled with zeros; ``check``: (words,)."""

    data: NDArray[np.uint8]
    check: NDArray[np.uint8]
    size: int

    @property
    def bits(self) -> int:
        """Stored bits, those of the check bytes after those of the data."""
        return 8 * (self.data.size + self.check.size)

    def struck(self, places: NDArray[np.integer]) -> CodedBytes:
        """The same with some of ``bits`` turned over; a place that stands twice is turned twice."""
        stored = np.unpackbits(np.concatenate([self.data.reshape(-1), self.check]))
        np.bitwise_xor.at(stored, places, 1)
        joined = np.packbits(stored)
        return CodedBytes(joined[: self.data.size].reshape(self.data.shape), joined[self.data.size :], self.size)


@dataclass(frozen=True, slots=True)
class CorrectedBytes:
    """What a reader gets: the bytes, words of which one bit was turned back, and words that are lost."""

    data: bytes
    corrected: int
    lost: int


def coded(data: bytes) -> CodedBytes:
    """Bytes with check bytes, one for eight."""
    words = -(-len(data) // WORD_BYTES)
    padded = np.zeros((words, WORD_BYTES), np.uint8)
    padded.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
    return CodedBytes(padded, check_bytes(padded), len(data))


def check_bytes(words: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Check byte of every word, (words,), of bytes (words, 8)."""
    return np.asarray(np.bitwise_xor.reduce(TABLES[np.arange(WORD_BYTES), words], axis=1), np.uint8)


def corrected(stored: CodedBytes) -> CorrectedBytes:
    """Read coded bytes: words with one struck bit are corrected, words with two are counted as lost and left."""
    syndrome = check_bytes(stored.data) ^ stored.check
    wrong = np.flatnonzero(syndrome)
    if not len(wrong):
        return CorrectedBytes(stored.data.tobytes()[: stored.size], 0, 0)
    bits = STRUCK[syndrome[wrong]]
    data = stored.data.copy()
    inside = (bits >= 0) & (bits < len(COLUMNS))
    rows, places = wrong[inside], bits[inside].astype(np.int64)
    data[rows, places // 8] ^= (0x80 >> (places % 8)).astype(np.uint8)
    lost = int((bits == _NO_BIT).sum())
    return CorrectedBytes(data.tobytes()[: stored.size], len(wrong) - lost, lost)
