"""What lies in memory for years: levels, input table, corrections and rules of a program, bit by bit, with a code.

Bits lie in the order of the sites of a campaign (``hil.payload.radiation.space``), so that every site of a stored kind
is one bit and every bit one site. Words of 64 of them have a check byte each (``hil.payload.secded``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hil.payload.radiation.kinds import FaultKind
from hil.payload.radiation.space import OFFSET_BITS, SHIFT_BITS, SUM_BITS, Fault, FaultSpace, SiteBlock
from hil.payload.secded import CodedBytes, coded, corrected
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import Corrections

STORED = (FaultKind.IMAGE_LEVEL, FaultKind.IMAGE_TABLE, FaultKind.CORRECTION, FaultKind.REQUANTISE)
"""Kinds whose sites are bits of stored words."""


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
        """The fault that one wrong bit is: the inverse of ``bit_of``."""
        for kind, block, first in self.blocks:
            if first <= bit < first + block.sites:
                place, within = divmod(bit - first, block.bits)
                return Fault(kind, block.step, block.tile, place, within)
        raise KeyError(f"bit {bit} is beyond the last one")

    def read_after(self, places: Iterable[int]) -> CodedReading:
        """Strike bits of the coded words, decode them, and see what the reader gets.

        Args:
            places: numbers below ``coded.bits``; those from 8 · bytes of the data on are check bits.
        """
        found = corrected(self.coded.struck(np.fromiter(places, np.int64)))
        read = np.unpackbits(np.frombuffer(found.data, np.uint8))[: len(self.bits)]
        wrong = tuple(int(bit) for bit in np.flatnonzero(read != self.bits))
        return CodedReading(wrong, found.corrected, found.lost)


@dataclass(frozen=True, slots=True)
class CodedReading:
    """Bits that are wrong after the code has done its work, words that it corrected, words that it gave up."""

    wrong: tuple[int, ...]
    corrected: int
    lost: int

    @property
    def whole(self) -> bool:
        return not self.wrong

    @property
    def noticed(self) -> bool:
        return self.corrected > 0 or self.lost > 0


def stored_words(program: ConductanceProgram, corrections: Corrections, space: FaultSpace) -> StoredWords:
    """All stored words of a program on a chip with some corrections.

    Args:
        space: of the same program (``fault_space``).
    """
    parts: list[NDArray[np.uint8]] = []
    blocks = []
    first = 0
    for kind in STORED:
        for block in space.blocks[kind]:
            bits = _bits(program, corrections, kind, block)
            assert len(bits) == block.sites
            parts.append(bits)
            blocks.append((kind, block, first))
            first += len(bits)
    return StoredWords(np.concatenate(parts), tuple(blocks))


def _bits(
    program: ConductanceProgram, corrections: Corrections, kind: FaultKind, block: SiteBlock
) -> NDArray[np.uint8]:
    """Bits of one block, the lowest of each number first."""
    if kind is FaultKind.IMAGE_LEVEL:
        return _spread(program.layers[block.step].group.tiles[block.tile].levels, block.bits)
    if kind is FaultKind.IMAGE_TABLE:
        return _spread(program.input.table, block.bits)
    if kind is FaultKind.CORRECTION:
        own = corrections[block.step][block.tile]
        pair = _rows(own.gain, SUM_BITS), _rows(own.offset, OFFSET_BITS)
        return np.concatenate(pair, axis=1).reshape(-1)
    step = next(s for s in program.steps if s.name == block.step)
    rule, bias = getattr(step, "requantise"), getattr(step, "bias", None)  # noqa: B009  # of several classes of steps
    words = [] if bias is None else [_spread(bias, SUM_BITS)]
    return np.concatenate([*words, _spread(rule.multiplier, SUM_BITS), _spread(rule.shift, SHIFT_BITS)])


def _rows(values: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Bits of every number's two's complement, (numbers, bits), the lowest first."""
    flat = values.reshape(-1).astype(np.int64)[:, None]
    return ((flat >> np.arange(bits)) & 1).astype(np.uint8)


def _spread(values: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    return _rows(values, bits).reshape(-1)
