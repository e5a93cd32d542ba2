"""Lower bit slices that take up what the cells of the highest slice missed.

A weight of several bit slices, W = Σ m_s d_s, loses most by the errors of the slice of the largest multiplier m.
Once that slice is written and read back (T levels instead of d), the digits of all lower slices are chosen anew for

    r = W − m T      (T from readings of the cells)

so that what the highest slice missed is held by cells whose own errors count m / m_s times less. Then those of the
next slice are read, too, and what both missed goes into the slices below, until the lowest is written (``writings``).
The few weights that lower slices cannot hold are written anew above. This is the scheme of Song et al., Science 383,
903 (2024), doi:10.1126/science.adi9405.

Cells that are known to be stuck are gone around before anything is written (``around_stuck``): plus and minus cells of
a column change roles where that leaves less (a third of the loss on ``lab-128``), the other cell of the pair and
further copies make up for them, and where a lower slice can then only add, or only take away, the slices above
leave it that to do. Without it the few weights whose lower slices reach too little are most of what is lost.

Weights that one slice would hold get a second one (``with_lower_slices``). Three preparations make room for r: weights
take three quarters of what the slices reach (``REACH``), digits are rounded instead of cut off (``recoded``), which
halves what lower slices hold without errors, and the highest slice may stand several times (``with_top_copies``), which
averages its errors; lower slices then stand once, n times as heavy. What is left is noise of reads: every product is
the mean of several, most where the layer reads pictures, whose pixels are so much alike that its sums are small beside
the noise, and whose errors go through all other layers.

What every tile is meant to be afterwards is a real matrix: the levels that were read of the slices above, the new
digits of the lowest. Column corrections are fitted to these (``ResidualSlices.wanted``), not to the program's digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import EncodedTile, WeightForm, encode_tile, form_cells, tile_halves_us
from cim.chip.spec import ChipSpec
from mapping.bits import LEAST, MOST, BitWidths
from mapping.errors import CannotMap
from mapping.layout.free_cells import Area, FreeCells
from mapping.layout.lay_out import Layout, LayoutOptions, area_of, rounds_of
from mapping.layout.place import targets_by_slot_us
from mapping.layout.tile import slices_needed
from mapping.operators.step import Step
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile
from mapping.program.driven import picture_layers
from mapping.program.file import program_digest
from mapping.program.limits import MOST_READS, MOST_RESIDUAL_COPIES, RESIDUAL_READS
from mapping.tune.averaged import areas_of, layer_areas, summed

REWRITE_ERROR = 0.5  # levels: about what a cell that is written again errs by
Levels = NDArray[np.float64]
Cells = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class CellAssignment:
    """Levels that pairs are written to, int8 (2, rows, outputs), and their weights, (rows, outputs).

    ``anew``: pairs that are written again whether or not their levels changed, (rows, outputs); None: none.
    """

    cells: Cells
    stands: Levels
    anew: NDArray[np.bool_] | None = None


def taken_up(
    whole: Levels,
    multipliers: Sequence[int],
    now: Sequence[Cells],
    read: Sequence[Levels],
    stuck: Sequence[Levels],
    top: int,
    *,
    anew: bool,
) -> tuple[list[CellAssignment], Levels]:
    """Pairs of slices that hold ``whole`` (rows, outputs), and what they cannot hold.

    Args:
        multipliers: of the slices, falling.
        now: levels that pairs of the slices are written to, each (2, rows, outputs).
        read: levels that the first slices read, as far as these are settled.
        stuck: by slice, levels of stuck cells (2, rows, outputs), NaN where a cell moves.
        top: highest level of a cell.
        anew: the last settled slice is written again for weights that come nearer by more than ``REWRITE_ERROR`` of its
            levels.
    """
    settled = len(read)
    missing = whole - sum((m * y for m, y in zip(multipliers, read, strict=False)), np.zeros_like(whole))
    below, left = held_pairs(missing, multipliers[settled:], stuck[settled:], top)
    found = [*(CellAssignment(cells, y) for cells, y in zip(now, read, strict=False)), *below]
    if not anew:
        return found, left
    first = list(multipliers).index(multipliers[settled - 1])
    missing = missing + sum(m * y for m, y in zip(multipliers[first:settled], read[first:], strict=True))
    other, rest = held_pairs(missing, multipliers[first:], stuck[first:], top)
    again = np.abs(left) - np.abs(rest) > REWRITE_ERROR * multipliers[first] * np.sqrt(settled - first)
    for i, (new, old) in enumerate(zip(other, found[first:], strict=True), first):
        stands = np.where(again, new.stands, old.stands)
        found[i] = CellAssignment(np.where(again, new.cells, old.cells), stands, again)
    return found, np.where(again, rest, left)


def held_pairs(
    whole: Levels, multipliers: Sequence[int], stuck: Sequence[Levels], top: int
) -> tuple[list[CellAssignment], Levels]:
    """What slices of falling multipliers hold of ``whole``, and what is left; the rest as ``taken_up`` has it.

    Equal slices share evenly, pairs with stuck cells first. Each slice leaves to those below the middle of what they
    reach: zero, but where a cell there is stuck.
    """
    middles = [m * np.mean([nearest_pairs(end, s, top).stands for end in _ends(whole, top)], 0) for m, s in
               zip(multipliers, stuck, strict=True)]  # fmt: skip
    found: dict[int, CellAssignment] = {}
    for multiplier in sorted(set(multipliers), reverse=True):
        alike = [i for i, m in enumerate(multipliers) if m == multiplier]
        later = [middles[i] for i, m in enumerate(multipliers) if m < multiplier]
        rest = whole - sum(later, np.zeros_like(whole))
        caught = [np.isfinite(stuck[i]).any(0) for i in alike]
        share = rest / (multiplier * len(alike))
        first = [nearest_pairs(share, stuck[i], top) for i in alike]
        free = np.full(whole.shape, len(alike))
        for pairs, held in zip(first, caught, strict=True):
            rest = rest - multiplier * np.where(held, pairs.stands, 0.0)
            free -= held
        for i, pairs, held in zip(alike, first, caught, strict=True):
            own = nearest_pairs(rest / (multiplier * np.maximum(free, 1)), stuck[i], top)
            pairs = CellAssignment(np.where(held, pairs.cells, own.cells), np.where(held, pairs.stands, own.stands))
            rest = rest - multiplier * np.where(held, 0.0, pairs.stands)
            free = free - ~held
            whole = whole - multiplier * pairs.stands
            found[i] = pairs
    return [found[i] for i in range(len(multipliers))], whole


def _ends(like: Levels, top: int) -> tuple[Levels, Levels]:
    return np.full(like.shape, -2.0 * top), np.full(like.shape, 2.0 * top)


def nearest_pairs(wanted: Levels, stuck: Levels, top: int) -> CellAssignment:
    """Pairs that come nearest to ``wanted`` levels.

    Args:
        stuck: levels of stuck plus and minus cells, (2, rows, outputs), NaN where a cell moves.

    Example: wanted 3, the plus cell stuck at 5.2: the minus cell is written to 2, and the pair stands for 3.2.
    """
    fixed = np.isfinite(stuck)
    digit = np.clip(np.rint(wanted), -top, top)
    plus, minus = np.maximum(digit, 0.0), np.maximum(-digit, 0.0)
    held = np.where(fixed, stuck, 0.0)
    plus = np.where(fixed[1], np.clip(np.rint(wanted + held[1]), 0, top), plus)
    minus = np.where(fixed[0], np.clip(np.rint(held[0] - wanted), 0, top), minus)
    cells = np.where(fixed, np.clip(np.rint(held), 0, top), np.stack([plus, minus])).astype(np.int8)
    real = np.where(fixed, held, cells)
    return CellAssignment(cells, real[0] - real[1])


def plain_cells(levels: Cells, cells: Cells | None, top: int) -> Cells:
    """Levels that pairs of a tile are written to: its own, or the sign form."""
    return form_cells(levels, WeightForm.SIGN, top) if cells is None else cells


def regions(step: MatrixStep) -> list[list[int]]:
    """Tiles that hold slices of the same weights, the largest multipliers first."""
    found: dict[tuple[range, range], list[int]] = {}
    for i, tile in enumerate(step.group.tiles):
        found.setdefault((tile.inputs, tile.outputs), []).append(i)
    return [sorted(places, key=lambda i: -step.group.tiles[i].multiplier) for places in found.values()]


def whole_weights(slices: Sequence[Tile]) -> NDArray[np.float64]:
    """The weights that slices hold together, (rows, outputs)."""
    return np.asarray(sum(tile.levels.astype(np.float64) * tile.multiplier for tile in slices))


def rank(tile: Tile, slices: Sequence[Tile]) -> int:
    """0 of the highest slice, 1 of the next one."""
    return sorted({t.multiplier for t in slices}, reverse=True).index(tile.multiplier)


def turned(cells: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """Values of plus and minus cells, (2, rows, outputs), exchanged where the tile's column is turned."""
    return cells if tile.signs is None else np.where(tile.signs < 0, cells[::-1], cells)


def stuck_levels(
    program: ConductanceProgram, tile: Tile, stuck_us: Mapping[int, NDArray[np.floating]] | None
) -> NDArray[np.float64]:
    """Levels of stuck cells of a tile as its columns are turned, (2, rows, outputs), NaN elsewhere."""
    if stuck_us is None:
        return np.full((2, *tile.levels.shape), np.nan)
    spec = program.spec.macro
    rows, outputs = tile.levels.shape
    halves = tile_halves_us(stuck_us[program.slot(tile)], spec, tile.row0, rows, tile.output0, outputs)
    return turned((halves.astype(np.float64) - spec.levels_us[0]) / spec.level_step_us, tile)


def read_levels(
    program: ConductanceProgram, tile: Tile, readings_us: Mapping[int, NDArray[np.floating]]
) -> NDArray[np.float64]:
    """Levels that pairs of a tile read, (rows, outputs)."""
    spec = program.spec.macro
    rows, outputs = tile.levels.shape
    halves = tile_halves_us(readings_us[program.slot(tile)], spec, tile.row0, rows, tile.output0, outputs)
    plus, minus = turned(halves, tile)
    return np.asarray((plus.astype(np.float64) - minus) / spec.level_step_us)


PICTURE_READS = 4  # times as many reads of a product in a layer that reads pictures
REACH = 0.75  # of what slices hold is taken by weights, so that the largest, too, have room for errors

Wanted = Mapping[str, tuple[NDArray[np.float64], ...]]
"""By layer, for each of its tiles: the levels that it stands for, float64 (rows, outputs)."""


@dataclass(frozen=True, slots=True)
class ResidualSlices:
    """A program whose lower slices take up errors, and by slot targets in µS of the cells that are written now, NaN
    elsewhere. ``left``: rms of what no digit could hold, in levels of the highest slice, over all weights."""

    program: ConductanceProgram
    targets_us: Mapping[int, NDArray[np.float32]]
    wanted: Wanted
    left: float


def with_lower_slices(bits: BitWidths, max_level: int) -> BitWidths:
    """Widths that give every weight a lower slice and fill its slices: bits beyond the weights make the signal larger,
    so that noise of reads, cells and converters is a smaller share of it.

    Example: 4 bits on cells of eight levels become 7, as 6 do; 8 stay 8.
    """

    def slices(weight: int) -> int:
        return slices_needed((1 << (weight - 1)) - 1, max_level)

    def wider(weight: int) -> int:
        most = max(2, slices(weight))
        return max(bits for bits in range(LEAST, MOST + 1) if slices(bits) <= most)

    layers = {
        name: own if own.weight is None else replace(own, weight=wider(own.weight)) for name, own in bits.layers.items()
    }
    return replace(bits, weight=wider(bits.weight), layers=layers)


def with_top_copies(program: ConductanceProgram, copies: int, reads: int = RESIDUAL_READS) -> ConductanceProgram:
    """The program with ``copies`` of each layer's highest slice, and digits rounded (``recoded``).

    Copies lie on cells that the program's macros leave free, then on free macros.

    Args:
        copies: a divisor of the highest slice's multiplier (1, 2, 4, … of eight levels), so that digits stay whole.
        reads: of every product with the highest slice; their mean counts. ``PICTURE_READS`` times as many where the
            layer reads pictures.

    Raises:
        CannotMap: weights of one slice, pairs of cells are missing, cells that are not written by sign, several
            rounds, copies for speed, sums that could leave 32 bits, or too few free cells.
    """
    _check(program, copies, reads)
    chip = program.spec.name
    if any(tile.multiplier % copies for step in program.matrices for tile in _tops(step)):
        raise CannotMap(
            f"{copies} copies of the highest slices do not share its digits evenly",
            chip=chip,
            would_fit=("2, 4 or 8 copies",),
        )
    tops = {step.name: areas_of(_tops(step)) for step in program.matrices}
    places = _copy_places(tops, layer_areas(program), program.spec, copies)
    steps: list[Step] = []
    for step in program.steps:
        if isinstance(step, MatrixStep):
            highest, top = _tops(step), _top(step)
            more = [
                replace(tile, macro=at.macro, row0=at.row0, output0=at.output0)
                for copy in places.get(step.name, ())
                for tile, at in zip(highest, copy, strict=True)
            ]
            rest = [replace(t, multiplier=t.multiplier * copies) for t in step.group.tiles if t.multiplier < top]
            step = summed(step, (*highest, *more, *rest), copies, chip) if copies > 1 else step
        steps.append(step)
    return with_reads(recoded(replace(program, steps=tuple(steps))), LayoutOptions(residual=1, residual_reads=reads))


def with_reads(program: ConductanceProgram, layout: LayoutOptions) -> ConductanceProgram:
    """The program with the reads of a layout of every product with its highest slices; cells stay as they are."""
    pictures, steps = picture_layers(program), list[Step]()
    for step in program.steps:
        if isinstance(step, MatrixStep):
            often = reads_of(layout.residual_reads, picture=step.name in pictures)
            plain = replace(step.group, mean_reads=layout.mean_reads)
            step = replace(step, group=replace(plain, residual_reads=often) if layout.residual else plain)
        steps.append(step)
    found = replace(program, steps=tuple(steps), digest="")
    return replace(found, digest=program_digest(found))


def top_places(
    layout: Layout, spec: ChipSpec, copies: int, reads: int = RESIDUAL_READS
) -> dict[str, list[tuple[Area, ...]]]:
    """Where ``with_top_copies`` will lay further copies of highest slices, by layer, before anything is quantised.

    Raises:
        CannotMap: as there.
    """
    pieces, places = layout
    _check_asked(spec, rounds_of(layout), copies, reads)
    every = {name: tuple(map(area_of, pieces[name], places[name])) for name in pieces}
    tops = {}
    for name, own in pieces.items():
        highest = max(piece.slice for piece in own)
        tops[name] = tuple(a for piece, a in zip(own, every[name], strict=True) if piece.slice == highest)
    return _copy_places(tops, every, spec, copies)


def _copy_places(
    tops: Mapping[str, tuple[Area, ...]], areas: Mapping[str, tuple[Area, ...]], spec: ChipSpec, copies: int
) -> dict[str, list[tuple[Area, ...]]]:
    """Where further copies of the highest slices, which lie on ``tops``, lie, by layer; all slices lie on ``areas``.

    Raises:
        CannotMap: they take more macros than the chip has.
    """
    every = [area for own in areas.values() for area in own]
    most = spec.macros + (copies - 1) * sum(map(len, tops.values()))  # enough, were each alone on a macro
    cells, found = FreeCells(spec, every, range(most)), dict[str, list[tuple[Area, ...]]]()
    for _ in range(copies - 1):
        for name, own in tops.items():
            at = cells.put(own, further=True)
            assert at is not None, "there is a macro for every copy"
            found.setdefault(name, []).append(at)
    taken = {area.macro for own in found.values() for copy in own for area in copy} | {area.macro for area in every}
    if len(taken) > spec.macros:
        raise CannotMap(
            f"{copies} copies of the highest slices take {len(taken)} macros, {spec.name} has {spec.macros}",
            chip=spec.name,
            macros_needed=len(taken),
            macros_available=spec.macros,
            would_fit=(f"--macros {len(taken)}", "residual=N of fewer copies"),
        )
    return found


def reads_of(reads: int, *, picture: bool) -> int:
    """Reads of a layer's products with its highest slice, where ``reads`` are asked for."""
    return min(MOST_READS, reads * PICTURE_READS) if picture else reads


def recoded(program: ConductanceProgram) -> ConductanceProgram:
    """The same weights with digits rounded to nearest, not cut off, and shared evenly by equal slices.

    Example: 60 on seven levels, base 8, is 7·8 + 4 cut off and as rounded; 61 is 7·8 + 5; 29 is 3·8 + 5 cut off and
    4·8 − 3 rounded.
    """
    steps: list[Step] = []
    for step in program.steps:
        if isinstance(step, MatrixStep):
            tiles = list(step.group.tiles)
            for region in regions(step):
                whole = whole_weights([tiles[i] for i in region])
                free, top = [np.full((2, *whole.shape), np.nan)] * len(region), program.spec.macro.max_level
                held, _ = held_pairs(whole, [tiles[i].multiplier for i in region], free, top)
                for i, pair in zip(region, held, strict=True):
                    tiles[i] = replace(tiles[i], levels=pair.stands.astype(np.int8))
            step = replace(step, group=replace(step.group, tiles=tuple(tiles)))
        steps.append(step)
    found = replace(program, steps=tuple(steps), digest="")
    return replace(found, digest=program_digest(found))


def writings(program: ConductanceProgram) -> int:
    """Times that lower slices are written for what the slices above them read; 0: plain slices.

    Once for each lower slice, and the lowest once more: for the few cells above it that were written anew, and for what
    all have drifted since.
    """
    return max((len({t.multiplier for t in m.group.tiles}) for m in program.matrices), default=0) * program.residual


def around_stuck(program: ConductanceProgram, stuck_us: Mapping[int, NDArray[np.floating]]) -> ConductanceProgram:
    """The program with signs of columns and cells of all slices chosen for what stuck ones leave, before it is written.

    Args:
        program: of ``with_top_copies`` or ``recoded``.
        stuck_us: slot -> mean readings of stuck cells, (rows, columns) µS, NaN where a cell moves.
    """
    return residual(_with_signs(program, stuck_us), {}, 0, stuck_us).program


def _with_signs(program: ConductanceProgram, stuck_us: Mapping[int, NDArray[np.floating]]) -> ConductanceProgram:
    """The program with plus and minus cells in each other's place in the columns whose stuck cells then take less.

    A cell that is stuck low takes only weights of one sign. Slice after slice, from the highest, each column is turned
    if the squares of what its pairs cannot hold sum to less so.
    """
    steps, top = list[Step](), program.spec.macro.max_level
    for step in program.steps:
        if isinstance(step, MatrixStep):
            tiles = [replace(tile, signs=None) for tile in step.group.tiles]
            for region in regions(step):
                slices = [step.group.tiles[i] for i in region]
                whole, multipliers = whole_weights(slices), [t.multiplier for t in slices]
                stuck = [stuck_levels(program, tiles[i], stuck_us) for i in region]
                lost = (held_pairs(whole, multipliers, stuck, top)[1] ** 2).sum(0)
                for at, i in enumerate(region):
                    other = [*stuck[:at], stuck[at][::-1], *stuck[at + 1 :]]
                    loses = (held_pairs(whole, multipliers, other, top)[1] ** 2).sum(0)
                    if (less := loses < lost).any():
                        tiles[i] = replace(tiles[i], signs=np.where(less, -1, 1).astype(np.int8))
                        stuck[at], lost = np.where(less, other[at], stuck[at]), np.minimum(lost, loses)
            step = replace(step, group=replace(step.group, tiles=tuple(tiles)))
        steps.append(step)
    return replace(program, steps=tuple(steps))


def residual(
    program: ConductanceProgram,
    readings_us: Mapping[int, NDArray[np.floating]],
    settled: int = 1,
    stuck_us: Mapping[int, NDArray[np.floating]] | None = None,
) -> ResidualSlices:
    """Choose the digits of lower slices anew for what the cells of those above read.

    Args:
        program: of ``with_top_copies`` or ``recoded``, as it was written; the answer of the writing before.
        readings_us: slot -> mean readings of the cells, (rows, columns) µS, of the macros of the settled slices.
        settled: slices of each weight, from the highest, that were written and read; all but the lowest where that is
            more. They stay as they are, but for the few weights that lower ones cannot hold then.
        stuck_us: see ``around_stuck``; None: all cells move.
    """
    top = program.spec.macro.max_level
    steps: list[Step] = []
    anew: list[tuple[Tile, NDArray[np.bool_]]] = []
    wanted: dict[str, tuple[NDArray[np.float64], ...]] = {}
    squares, weights = 0.0, 0
    for step in program.steps:
        if isinstance(step, MatrixStep):
            tiles = list(step.group.tiles)
            stands = [tile.levels.astype(np.float64) for tile in tiles]
            for region in regions(step):
                slices = [tiles[i] for i in region]
                stuck = [stuck_levels(program, tile, stuck_us) for tile in slices]
                until = min(settled, rank(slices[-1], slices))
                pairs, left = taken_up(
                    whole_weights(slices),
                    [tile.multiplier for tile in slices],
                    [plain_cells(t.levels, None if t.cells is None else turned(t.cells, t), top) for t in slices],
                    [read_levels(program, tile, readings_us) for tile in slices if rank(tile, slices) < until],
                    stuck,
                    top,
                    anew=0 < settled == until,
                )
                for i, pair in zip(region, pairs, strict=True):
                    stands[i], tiles[i] = pair.stands, replace(tiles[i], cells=turned(pair.cells, tiles[i]))
                    if pair.anew is not None and pair.anew.any():
                        anew.append((tiles[i], pair.anew))
                squares += float(((left / slices[0].multiplier) ** 2).sum())
                weights += left.size
            wanted[step.name] = tuple(stands)
            step = replace(step, group=replace(step.group, tiles=tuple(tiles)))
        steps.append(step)
    found = replace(program, steps=tuple(steps), held_as=None, digest="")
    found = replace(found, digest=program_digest(found))
    targets = _targets(program, found, anew)
    return ResidualSlices(found, targets, wanted, float(np.sqrt(squares / max(1, weights))))


def _targets(
    before: ConductanceProgram, after: ConductanceProgram, anew: Sequence[tuple[Tile, NDArray[np.bool_]]]
) -> dict[int, NDArray[np.float32]]:
    """By slot, targets in µS of cells whose target changed or that are written anew, NaN elsewhere; slots that have
    some."""
    marks: dict[int, list[EncodedTile]] = {}
    for tile, pairs in anew:
        levels = np.zeros(pairs.shape, np.int8)
        both = np.stack([pairs, pairs]).astype(np.int8)
        marked = encode_tile(levels, after.spec.macro, tile.row0, tile.output0, both)
        marks.setdefault(after.slot(tile), []).append(marked)
    found = {}
    for (slot, was), (_, now) in zip(targets_by_slot_us(before), targets_by_slot_us(after), strict=True):
        written = np.isfinite(now) & (was != now)
        for mark in marks.get(slot, ()):
            written[np.ix_(mark.word_lines, mark.bit_lines)] |= mark.targets_us > after.spec.macro.levels_us[0]
        if written.any():
            found[slot] = np.where(written, now, np.float32(np.nan))
    return found


def _top(step: MatrixStep) -> int:
    return max(t.multiplier for t in step.group.tiles)


def _tops(step: MatrixStep) -> list[Tile]:
    return [t for t in step.group.tiles if t.multiplier == _top(step)]


def _check(program: ConductanceProgram, copies: int, reads: int) -> None:
    chip = program.spec.name
    _check_asked(program.spec, program.rounds, copies, reads)
    for step in program.matrices:
        tiles = step.group.tiles
        if step.group.copies > 1:
            raise CannotMap(f"{step.name} has copies for speed", chip=chip, would_fit=("a program without them",))
        if any(t.cells is not None or t.signs is not None for t in tiles):
            raise CannotMap(f"{step.name} is adapted to a chip or not written by sign", chip=chip)
        if len({t.multiplier for t in tiles}) < 2:
            raise CannotMap(
                f"{step.name} has weights of one slice, which leave none to take up errors",
                chip=chip,
                would_fit=("hil compile --weight-bits 7 or 8",),
            )


def _check_asked(spec: ChipSpec, rounds: int, copies: int, reads: int) -> None:
    chip = spec.name
    if not (spec.macro.paired and spec.macro.even_levels):
        raise CannotMap("residual slices need pairs of cells with evenly spaced levels", chip=chip)
    if rounds > 1:
        raise CannotMap("residual slices need a network that fits the chip in one round", chip=chip)
    if not (1 <= copies <= MOST_RESIDUAL_COPIES and 1 <= reads <= MOST_READS):
        raise CannotMap(
            f"{copies} copies of the highest slices, each read {reads} times: not 1 to {MOST_RESIDUAL_COPIES} and "
            f"1 to {MOST_READS}",
            chip=chip,
        )
