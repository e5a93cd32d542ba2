"""Words in memory for years: levels, input table, corrections and rules of a program, bit by bit, with a code.

Bits lie in the order of the sites of a campaign (``hil.payload.radiation.faults``), so that every site of a stored kind
is one bit and every bit one site. SECDED: words of 64 bits with 8 check bits; one upset is corrected, two are noticed
(Hsiao, doi 10.1147/rd.144.0395). Every data bit has a column of odd weight (56 of three ones, 8 of five), every check
bit one of a single one. The syndrome is the check byte of the data as they are, XOR the stored one:

    0              nothing was struck (or four bits or more were)
    a column       that bit was struck: it is corrected
    anything else  two bits, or an odd number that fits no bit: the word is lost
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hil.payload.radiation.faults import OFFSET_BITS, STORED, SUM_BITS, Fault, FaultSpace, SiteBlock, rule_words
from hil.payload.settings import FaultKind
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections

WORD_BYTES, CHECK_BITS = 8, 8
WORD_OPERATIONS = 2 * WORD_BYTES + 1  # of a host that reads one word: a look-up and an XOR a byte, a comparison
CODE_SHARE = CHECK_BITS / (8 * WORD_BYTES)  # check bits of a word over those of its data
_NO_BIT = -1


def _tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int16]]:
    """Tables of the code. Check bits that each of the 64 data bits flips (data bit i is bit 7 − i % 8 of byte i // 8);
    check byte of every value of each data byte, (8, 256); the data bit that a syndrome names (64 on: a check bit)."""
    weighted = [sum(1 << b for b in ones) for n in (3, 5) for ones in itertools.combinations(range(CHECK_BITS), n)]
    columns = np.array(weighted[: 8 * WORD_BYTES], np.uint8)
    values = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    parts = values[None] * columns.reshape(WORD_BYTES, 1, 8)
    struck = np.full(256, _NO_BIT, np.int16)
    struck[columns] = np.arange(len(columns))
    struck[1 << np.arange(CHECK_BITS)] = len(columns) + np.arange(CHECK_BITS)
    return columns, np.asarray(np.bitwise_xor.reduce(parts, axis=2), np.uint8), struck


COLUMNS, TABLES, STRUCK = _tables()


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
        """The bytes with the bits at ``places`` flipped; a bit named twice is flipped twice."""
        stored = np.unpackbits(np.concatenate([self.data.reshape(-1), self.check]))
        np.bitwise_xor.at(stored, places, 1)
        joined = np.packbits(stored)
        return CodedBytes(joined[: self.data.size].reshape(self.data.shape), joined[self.data.size :], self.size)


def coded(data: bytes) -> CodedBytes:
    """Bytes with check bytes, one for eight."""
    padded = np.zeros((-(-len(data) // WORD_BYTES), WORD_BYTES), np.uint8)
    padded.reshape(-1)[: len(data)] = np.frombuffer(data, np.uint8)
    return CodedBytes(padded, _check_bytes(padded), len(data))


def _check_bytes(words: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Check byte of every word, (words,), of bytes (words, 8)."""
    return np.asarray(np.bitwise_xor.reduce(TABLES[np.arange(WORD_BYTES), words], axis=1), np.uint8)


def corrected(stored: CodedBytes) -> tuple[bytes, int, int]:
    """Read coded bytes: the decoded bytes, the number of corrected words, and the number of words that are lost."""
    syndrome = _check_bytes(stored.data) ^ stored.check
    wrong = np.flatnonzero(syndrome)
    bits = STRUCK[syndrome[wrong]]
    data = stored.data.copy()
    inside = (bits >= 0) & (bits < len(COLUMNS))
    rows, places = wrong[inside], bits[inside].astype(np.int64)
    data[rows, places // 8] ^= (0x80 >> (places % 8)).astype(np.uint8)
    lost = int((bits == _NO_BIT).sum())
    return data.tobytes()[: stored.size], len(wrong) - lost, lost


@dataclass(frozen=True, slots=True)
class CodedReading:
    """Result of decoding: wrong bits that remain, corrected words, lost words."""

    wrong: tuple[int, ...]
    corrected: int
    lost: int

    @property
    def mended(self) -> bool:
        """Whether the code noticed an error and restored every word."""
        return not self.wrong and self.corrected + self.lost > 0


@dataclass(frozen=True)
class StoredWords:
    """Bits (n,) of 0 and 1 in order of their sites; ``blocks``: kind, block and number of its first bit."""

    bits: NDArray[np.uint8]
    blocks: tuple[tuple[FaultKind, SiteBlock, int], ...]

    @cached_property
    def coded(self) -> CodedBytes:
        return coded(np.packbits(self.bits).tobytes())

    def bit_of(self, fault: Fault) -> int:
        """Number of the bit that a fault strikes.

        Raises:
            KeyError: its kind is not stored, or the program has no such site.
        """
        for kind, block, first in self.blocks:
            if (kind, block.step, block.tile) == (fault.kind, fault.step, fault.tile):
                return first + fault.place * block.bits + fault.bit
        raise KeyError(f"{fault.kind} of {fault.step} is not stored")

    def fault_of(self, bit: int) -> Fault:
        """The fault that a wrong bit stands for: the inverse of ``bit_of``."""
        kind, block, first = next(one for one in reversed(self.blocks) if one[2] <= bit)
        return Fault(kind, block.step, block.tile, *divmod(bit - first, block.bits))

    def read_after(self, places: Iterable[int]) -> CodedReading:
        """Flip bits of the coded words and decode them: what a reader gets.

        Args:
            places: numbers below ``coded.bits``; those from 8 · bytes of the data on are check bits.
        """
        data, mended, lost = corrected(self.coded.struck(np.fromiter(places, np.int64)))
        read = np.unpackbits(np.frombuffer(data, np.uint8))[: len(self.bits)]
        return CodedReading(tuple(int(bit) for bit in np.flatnonzero(read != self.bits)), mended, lost)


def stored_words(program: ConductanceProgram, corrections: Corrections, space: FaultSpace) -> StoredWords:
    """All stored words of a program on a chip with given corrections.

    Args:
        space: sites of the same program (``fault_space``).
    """
    parts: list[NDArray[np.uint8]] = []
    blocks = []
    first = 0
    for kind in STORED:
        for block in space.blocks[kind]:
            parts.append(_bits(program, corrections, kind, block))
            assert len(parts[-1]) == block.sites
            blocks.append((kind, block, first))
            first += block.sites
    return StoredWords(np.concatenate(parts), tuple(blocks))


def _bits(
    program: ConductanceProgram, corrections: Corrections, kind: FaultKind, block: SiteBlock
) -> NDArray[np.uint8]:
    """Bits of one block, the lowest of each number first."""
    if kind is FaultKind.IMAGE_LEVEL:
        return _rows(program.layers[block.step].group.tiles[block.tile].levels, block.bits).reshape(-1)
    if kind is FaultKind.IMAGE_TABLE:
        return _rows(program.input.table, block.bits).reshape(-1)
    if kind is FaultKind.CORRECTION:
        own = corrections[block.step][block.tile]
        return np.concatenate([_rows(own.gain, SUM_BITS), _rows(own.offset, OFFSET_BITS)], axis=1).reshape(-1)
    step = next(s for s in program.steps if s.name == block.step)
    return np.concatenate([_rows(values, bits).reshape(-1) for _, values, bits in rule_words(step)])


def _rows(values: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Bits of every number's two's complement, (numbers, bits), the lowest first."""
    return ((values.reshape(-1).astype(np.int64)[:, None] >> np.arange(bits)) & 1).astype(np.uint8)
