"""Lower bit slices that take up what the cells of the highest slice missed.

A weight of several bit slices, W = Σ m_s d_s, loses most by the errors of the slice of the largest multiplier m.
Once that slice is written and read back (T levels instead of d), the digits of all lower slices are chosen anew for

    r = W − m T      (T from readings of the cells)

so that what the highest slice missed, stuck cells included, is held by cells whose own errors count m / m_s times
less. This is the scheme of Song et al., Science 383, 903 (2024), doi:10.1126/science.adi9405, with one read-back.

Two preparations make room for r: digits are rounded instead of cut off (``recoded``), which halves what lower
slices hold without errors, and the highest slice may stand several times and be read several times for each product
(``with_top_copies``), which averages its read noise and that of its converters; lower slices then stand once, n times
as heavy.

What every tile is meant to be afterwards is a real matrix: the levels that were read of the highest slice, the new
digits of the others. Column corrections are fitted to these (``ResidualSlices.wanted``), not to the program's digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import WeightForm, form_cells, tile_halves_us
from cim.chip.spec import MacroSpec
from mapping.errors import CannotMap
from mapping.layout.free_cells import Area, FreeCells
from mapping.layout.place import macro_targets_us
from mapping.program.conductance import ConductanceProgram, MatrixStep, Step, Tile
from mapping.program.file import program_digest
from mapping.program.limits import MOST_READS, MOST_RESIDUAL_COPIES
from mapping.tune.averaged import areas_of, layer_areas, summed

READS = 8  # of a product with the highest slice: √8 takes two thirds of the noise of single reads away

Wanted = Mapping[str, tuple[NDArray[np.float64], ...]]
"""By layer, for each of its tiles: the levels that it stands for, float64 (rows, outputs)."""


@dataclass(frozen=True, slots=True)
class ResidualSlices:
    """A program whose lower slices take up errors. ``left``: rms of what no digit could hold, in levels of the
    highest slice, over all weights."""

    program: ConductanceProgram
    wanted: Wanted
    left: float


def with_top_copies(program: ConductanceProgram, copies: int, reads: int = READS) -> ConductanceProgram:
    """The program with ``copies`` of each layer's highest slice, and digits rounded (``recoded``).

    Copies lie on cells that the program's macros leave free, then on free macros.

    Args:
        copies: a divisor of the highest slice's multiplier (1, 2, 4, … of eight levels), so that digits stay whole.
        reads: of every product with the highest slice; their mean counts.

    Raises:
        CannotMap: weights of one slice, pairs of cells are missing, cells that are not written by sign, several
            rounds, copies for speed, sums that could leave 32 bits, or too few free cells.
    """
    _check(program)
    chip = program.spec.name
    if not (1 <= copies <= MOST_RESIDUAL_COPIES and 1 <= reads <= MOST_READS):
        raise CannotMap(
            f"{copies} copies of the highest slices, each read {reads} times: not 1 to {MOST_RESIDUAL_COPIES} and "
            f"1 to {MOST_READS}",
            chip=chip,
        )
    if any(tile.multiplier % copies for step in program.matrices for tile in _tops(step)):
        raise CannotMap(
            f"{copies} copies of the highest slices do not share its digits evenly",
            chip=chip,
            would_fit=("2, 4 or 8 copies",),
        )
    places = _copy_places(program, copies)
    steps: list[Step] = []
    for step in program.steps:
        if isinstance(step, MatrixStep):
            tops, top = _tops(step), _top(step)
            more = [
                replace(tile, macro=at.macro, row0=at.row0, output0=at.output0)
                for copy in places.get(step.name, ())
                for tile, at in zip(tops, copy, strict=True)
            ]
            rest = [replace(t, multiplier=t.multiplier * copies) for t in step.group.tiles if t.multiplier < top]
            step = summed(step, (*tops, *more, *rest), copies, chip) if copies > 1 else step
            step = replace(step, group=replace(step.group, residual_reads=reads))
        steps.append(step)
    return recoded(replace(program, steps=tuple(steps)))


def _copy_places(program: ConductanceProgram, copies: int) -> dict[str, list[tuple[Area, ...]]]:
    """Where further copies of the highest slices lie, by layer.

    Raises:
        CannotMap: they take more macros than the chip has.
    """
    every = [area for own in layer_areas(program).values() for area in own]
    tops = {step.name: areas_of(_tops(step)) for step in program.matrices}
    most = program.spec.macros + (copies - 1) * sum(map(len, tops.values()))  # enough, were each alone on a macro
    cells, found = FreeCells(program.spec, every, range(most)), dict[str, list[tuple[Area, ...]]]()
    for _ in range(copies - 1):
        for name, areas in tops.items():
            at = cells.put(areas, further=True)
            assert at is not None, "there is a macro for every copy"
            found.setdefault(name, []).append(at)
    taken = {area.macro for areas in found.values() for copy in areas for area in copy} | set(program.macros)
    if len(taken) > program.spec.macros:
        raise CannotMap(
            f"{copies} copies of the highest slices take {len(taken)} macros, {program.spec.name} has "
            f"{program.spec.macros}",
            chip=program.spec.name,
            macros_needed=len(taken),
            macros_available=program.spec.macros,
            would_fit=(f"--macros {len(taken)}", "--residual-slices with fewer copies"),
        )
    return found


def recoded(program: ConductanceProgram) -> ConductanceProgram:
    """The same weights with digits to the nearest instead of cut off, shared evenly by equal slices.

    Example: 60 on seven levels, base 8, is 7·8 + 4 cut off and as rounded; 61 is 7·8 + 5; 29 is 3·8 + 5 cut off and
    4·8 − 3 rounded.
    """
    steps: list[Step] = []
    for step in program.steps:
        if isinstance(step, MatrixStep):
            tiles = list(step.group.tiles)
            for region in _regions(step):
                whole = sum(tiles[i].levels.astype(np.float64) * tiles[i].multiplier for i in region)
                digits, _ = _digits(np.asarray(whole), [tiles[i].multiplier for i in region], program.spec.macro)
                for i, digit in zip(region, digits, strict=True):
                    tiles[i] = replace(tiles[i], levels=digit)
            step = replace(step, group=replace(step.group, tiles=tuple(tiles)))
        steps.append(step)
    found = replace(program, steps=tuple(steps), digest="")
    return replace(found, digest=program_digest(found))


def residual(program: ConductanceProgram, readings_us: Mapping[int, NDArray[np.floating]]) -> ResidualSlices:
    """Choose the digits of all slices but the highest anew for what the cells of the highest read.

    Args:
        program: of ``with_top_copies`` or ``recoded``, as it was written.
        readings_us: slot -> mean readings of the cells, (rows, columns) µS, of the macros of the highest slices.
    """
    spec = program.spec.macro
    steps: list[Step] = []
    wanted: dict[str, tuple[NDArray[np.float64], ...]] = {}
    squares, weights = 0.0, 0
    for step in program.steps:
        if isinstance(step, MatrixStep):
            tiles = list(step.group.tiles)
            stands = [tile.levels.astype(np.float64) for tile in tiles]
            for region in _regions(step):
                missing = np.asarray(sum(stands[i] * tiles[i].multiplier for i in region))
                top = tiles[region[0]].multiplier
                lower = [i for i in region if tiles[i].multiplier < top]
                for i in region[: len(region) - len(lower)]:
                    stands[i] = _read_levels(tiles[i], readings_us[program.slot(tiles[i])], spec)
                    missing = missing - top * stands[i]
                digits, left = _digits(missing, [tiles[i].multiplier for i in lower], spec)
                for i, digit in zip(lower, digits, strict=True):
                    stands[i] = digit.astype(np.float64)
                    tiles[i] = replace(tiles[i], cells=form_cells(digit, WeightForm.SIGN, spec.max_level))
                squares += float(((left / top) ** 2).sum())
                weights += left.size
            wanted[step.name] = tuple(stands)
            step = replace(step, group=replace(step.group, tiles=tuple(tiles)))
        steps.append(step)
    found = replace(program, steps=tuple(steps), held_as=None, digest="")
    found = replace(found, digest=program_digest(found))
    return ResidualSlices(found, wanted, float(np.sqrt(squares / max(1, weights))))


def changed_targets(before: ConductanceProgram, after: ConductanceProgram) -> dict[int, NDArray[np.float32]]:
    """By slot, targets in µS of the cells whose target changed, NaN elsewhere; only slots that have such cells."""
    found = {}
    for slot in before.slots:
        was, now = macro_targets_us(before, slot), macro_targets_us(after, slot)
        different = np.isfinite(now) & (was != now)
        if different.any():
            found[slot] = np.where(different, now, np.float32(np.nan))
    return found


def _top(step: MatrixStep) -> int:
    return max(t.multiplier for t in step.group.tiles)


def _tops(step: MatrixStep) -> list[Tile]:
    return [t for t in step.group.tiles if t.multiplier == _top(step)]


def _regions(step: MatrixStep) -> list[list[int]]:
    """Tiles that hold slices of the same weights, the largest multipliers first."""
    found: dict[tuple[range, range], list[int]] = {}
    for i, tile in enumerate(step.group.tiles):
        found.setdefault((tile.inputs, tile.outputs), []).append(i)
    return [sorted(places, key=lambda i: -step.group.tiles[i].multiplier) for places in found.values()]


def _digits(
    whole: NDArray[np.float64], multipliers: Sequence[int], spec: MacroSpec
) -> tuple[list[NDArray[np.int8]], NDArray[np.float64]]:
    """Digits of ``whole`` for slices of falling multipliers, and what is left."""
    found = []
    for i, multiplier in enumerate(multipliers):
        alike = sum(m == multiplier for m in multipliers[i:])
        digit = np.clip(np.rint(whole / (multiplier * alike)), -spec.max_level, spec.max_level).astype(np.int8)
        whole = whole - multiplier * digit.astype(np.float64)
        found.append(digit)
    return found, whole


def _read_levels(tile: Tile, readings_us: NDArray[np.floating], spec: MacroSpec) -> NDArray[np.float64]:
    plus, minus = tile_halves_us(
        readings_us, spec, tile.row0, len(tile.inputs), tile.output0, len(tile.outputs)
    ).astype(np.float64)
    return np.asarray((plus - minus) / spec.level_step_us)


def _check(program: ConductanceProgram) -> None:
    chip = program.spec.name
    if not (program.spec.macro.paired and program.spec.macro.even_levels):
        raise CannotMap("residual slices need pairs of cells with evenly spaced levels", chip=chip)
    if program.rounds > 1:
        raise CannotMap("residual slices need a network that fits the chip in one round", chip=chip)
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
                would_fit=("--weight-bits 7 or 8",),
            )
