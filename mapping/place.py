"""Give every piece of every layer a place on a macro."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cim.encoding import encode_tile
from cim.spec import ChipSpec, MacroSpec
from mapping.program import ConductanceProgram
from mapping.tile import Piece


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece lies: its first logical row and output on a macro."""

    macro: int
    row0: int
    output0: int


def place(pieces: Sequence[Piece], spec: ChipSpec) -> tuple[Place, ...]:
    """One piece a macro, in order, while there are macros enough; else several share one.

    The result may name more macros than the chip has: ``mapping.compile`` reports that.
    """
    if len(pieces) <= spec.macros:
        return tuple(Place(i, 0, 0) for i in range(len(pieces)))
    by_rows, by_outputs = _shelves(pieces, spec.macro, along_rows=True), _shelves(pieces, spec.macro, along_rows=False)
    return min(by_rows, by_outputs, key=macros_needed)


def macros_needed(places: Sequence[Place]) -> int:
    return max((p.macro for p in places), default=-1) + 1


def macro_targets_us(program: ConductanceProgram, macro: int) -> NDArray[np.float32]:
    """Target conductance of every cell of a macro in µS, float32 (rows, columns); NaN where no tile lies."""
    spec = program.spec.macro
    targets = np.full((spec.rows, spec.columns), np.nan, np.float32)
    for step in program.matrices:
        for tile in step.group.tiles:
            if tile.macro == macro:
                cells = encode_tile(tile.levels, spec, tile.row0, tile.output0, tile.cells)
                targets[np.ix_(cells.word_lines, cells.bit_lines)] = cells.targets_us
    return targets


@dataclass(slots=True)
class _Shelf:
    """A strip of a macro, ``size`` thick from ``start``; filled lengthways up to ``used``."""

    macro: int
    start: int
    size: int
    used: int = 0


@dataclass(slots=True)
class _Packing:
    depth: int  # where shelves stack
    length: int  # along a shelf
    shelves: list[_Shelf] = field(default_factory=list)  # those that are not full
    open: list[int] = field(default_factory=list)  # macros that are not full
    filled: list[int] = field(default_factory=list)  # depth in use, by macro

    def put(self, thick: int, long: int) -> tuple[int, int, int]:
        """Macro, depth offset and length offset of the first shelf with room."""
        for shelf in self.shelves:
            if shelf.size >= thick and shelf.used + long <= self.length:
                break
        else:
            macro = next((m for m in self.open if self.filled[m] + thick <= self.depth), len(self.filled))
            if macro == len(self.filled):
                self.filled.append(0)
                self.open.append(macro)
            shelf = _Shelf(macro, self.filled[macro], thick)
            self.filled[macro] += thick
            self.shelves.append(shelf)
            if self.filled[macro] == self.depth:
                self.open.remove(macro)
        shelf.used += long
        if shelf.used == self.length:
            self.shelves.remove(shelf)
        return shelf.macro, shelf.start, shelf.used - long


def _shelves(pieces: Sequence[Piece], macro: MacroSpec, *, along_rows: bool) -> tuple[Place, ...]:
    """First-fit decreasing shelves: thickest pieces first, each on the first shelf that has room."""
    rows, outputs = len(macro.word_lines), macro.outputs
    packing = _Packing(rows, outputs) if along_rows else _Packing(outputs, rows)
    sizes = [(len(p.inputs), len(p.outputs)) if along_rows else (len(p.outputs), len(p.inputs)) for p in pieces]
    places: dict[int, Place] = {}
    for i in sorted(range(len(pieces)), key=lambda i: (-sizes[i][0], -sizes[i][1], i)):
        where, depth, length = packing.put(*sizes[i])
        places[i] = Place(where, depth, length) if along_rows else Place(where, length, depth)
    return tuple(places[i] for i in range(len(pieces)))
