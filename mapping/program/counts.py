"""Work of one image, counted from the program: reads, input cycles, conversions by tile.

The count itself is ``cim.cost.tile_reads``. Vectors of a tile are the output positions that its copy answers, as
often as they are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cim.chip.spec import ChipSpec
from cim.cost.tile_reads import tile_reads
from mapping.program.conductance import ConductanceProgram
from mapping.program.copies import copies_of


@dataclass(frozen=True, slots=True)
class TileCount:
    """One tile, one image: ``reads`` = vectors · planes, ``conversions`` of all its columns."""

    layer: str
    copy: int
    round: int
    macro: int
    vectors: int
    reads: int
    input_cycles: int
    conversions: int


@dataclass(frozen=True, slots=True)
class Count:
    """Sums over tiles."""

    reads: int
    input_cycles: int
    conversions: int


def tile_counts(program: ConductanceProgram) -> tuple[TileCount, ...]:
    """Every tile of a program, in the order of its layers and groups."""
    spec, uses, found = program.spec.macro, program.uses, []
    for step in program.matrices:
        for copy in copies_of(step.group):
            group, tiles = copy.group, copy.group.tiles
            each = uses[step.name] * (1 if group.window is None else group.window.positions)
            vectors = each * np.array(group.reads, np.int64)
            asked = tile_reads(
                spec,
                group.input_bits,
                group.input_signed,
                vectors,
                np.array([len(tile.outputs) for tile in tiles], np.int64),
            )
            for i, tile in enumerate(tiles):
                where = (step.name, copy.number, tile.round, tile.macro)
                counts = (int(asked.reads[i]), int(asked.input_cycles[i]), int(asked.conversions[i]))
                found.append(TileCount(*where, int(vectors[i]), *counts))
    return tuple(found)


def total(counts: Iterable[TileCount]) -> Count:
    reads = cycles = converted = 0
    for c in counts:
        reads, cycles, converted = reads + c.reads, cycles + c.input_cycles, converted + c.conversions
    return Count(reads, cycles, converted)


def by_layer(counts: Iterable[TileCount]) -> dict[str, Count]:
    """Sums by layer, in order."""
    kept: dict[str, list[TileCount]] = {}
    for c in counts:
        kept.setdefault(c.layer, []).append(c)
    return {layer: total(some) for layer, some in kept.items()}


def busiest_reads(counts: Iterable[TileCount], spec: ChipSpec) -> int:
    """Reads of one image on the busiest macro, summed over rounds: what limits images a second of a chip that
    works on many at once.

    Tiles of a macro are read one after the other, macros side by side; where macros come in
    groups (``ChipSpec.groups``), layers of one group run one after the other too.
    """
    work: dict[tuple[int, int], dict[tuple[str, int], int]] = {}  # round, macro -> layer copy -> reads
    for c in counts:
        own = work.setdefault((c.round, c.macro), {})
        own[c.layer, c.copy] = own.get((c.layer, c.copy), 0) + c.reads
    size = spec.groups.size if spec.groups else 1
    parts: dict[tuple[int, int], dict[tuple[str, int], int]] = {}
    for (round_, macro), own in work.items():
        together = parts.setdefault((round_, macro // size), {})
        for key, reads in own.items():
            together[key] = max(together.get(key, 0), reads)
    busiest: dict[int, int] = {}
    for (round_, _), together in parts.items():
        busiest[round_] = max(busiest.get(round_, 0), sum(together.values()))
    return sum(busiest.values())
