"""Reasons for the place of each tile, in words; read from the program alone, so any program file can be explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cim.chip.blocks import blocks
from mapping.program.conductance import ConductanceProgram, MatrixStep, Tile
from mapping.program.counts import TileCount, tile_counts


@dataclass(frozen=True, slots=True)
class TilePlace:
    """One tile: which piece of its layer (of how many in a copy), where it lies, and why."""

    layer: str
    piece: int
    pieces: int
    copy: int
    round: int
    macro: int
    rows: tuple[int, int]  # logical rows of the macro, first and last
    outputs: tuple[int, int]
    reads: int  # of one image
    reason: str

    @property
    def line(self) -> str:
        where = f"macro {self.macro} rows {self.rows[0]}-{self.rows[1]} outputs {self.outputs[0]}-{self.outputs[1]}"
        copy = f" copy {self.copy}" if self.copy else ""
        return f"{self.layer} piece {self.piece + 1}/{self.pieces}{copy}: {where}, {self.reads} reads; {self.reason}"


@dataclass(frozen=True, slots=True)
class Explanation:
    tiles: tuple[TilePlace, ...]
    rounds: int

    def lines(self) -> list[str]:
        """One line a tile, under a heading for each round where there are several."""
        said = []
        for number in range(self.rounds):
            if self.rounds > 1:
                said.append(f"round {number}")
            said += [t.line for t in self.tiles if t.round == number]
        return said

    def to_json(self) -> list[dict[str, Any]]:
        return [{name: getattr(t, name) for name in TilePlace.__dataclass_fields__} for t in self.tiles]


def explain(program: ConductanceProgram) -> Explanation:
    """Every tile of a program, in the order of its layers, and the reason for its place.

    Args:
        program: as compiled.

    Returns:
        tiles with their macros, rows and columns, and a reason for each.

    Example:
        >>> explain(program).tiles[0].reason
        'shares macro 0 with 3: 7424 of 8192 weight positions free without it'
    """
    counts: dict[str, list[TileCount]] = {}
    for count in tile_counts(program):
        counts.setdefault(count.layer, []).append(count)
    on_slot: dict[int, list[tuple[str, Tile]]] = {}
    for step in program.matrices:
        for tile in step.group.tiles:
            on_slot.setdefault(program.slot(tile), []).append((step.name, tile))
    found = []
    for step in program.matrices:
        pieces = [(t.inputs.start, t.outputs.start, t.multiplier) for t in step.group.pieces]
        for number, tile in enumerate(step.group.tiles):
            rows, outputs = tile.levels.shape
            found.append(
                TilePlace(
                    layer=step.name,
                    piece=pieces.index((tile.inputs.start, tile.outputs.start, tile.multiplier)),
                    pieces=len(pieces),
                    copy=tile.copy,
                    round=tile.round,
                    macro=tile.macro,
                    rows=(tile.row0, tile.row0 + rows - 1),
                    outputs=(tile.output0, tile.output0 + outputs - 1),
                    reads=counts[step.name][number].reads,
                    reason="; ".join(_reasons(program, step, tile, on_slot, counts[step.name])),
                )
            )
    return Explanation(tuple(found), program.rounds)


def _reasons(
    program: ConductanceProgram,
    step: MatrixStep,
    tile: Tile,
    on_slot: Mapping[int, Sequence[tuple[str, Tile]]],
    counts: Sequence[TileCount],
) -> list[str]:
    own = on_slot[program.slot(tile)]
    why = _residual(step, tile) or _copies(step, counts)
    said = [why, _cut(program, step, tile), _sharing(program, step, tile, own)]
    if program.spec.groups is not None:
        said += [_group(program, tile, on_slot), _joined(program, step, tile)]
    if program.rounds > 1:
        said.append(_round(program, step, tile))
    return [text for text in said if text]


def _residual(step: MatrixStep, tile: Tile) -> str:
    """Part of a tile of residual slices."""
    group = step.group
    if not group.residual_reads:
        return ""
    if tile.multiplier < max(t.multiplier for t in group.tiles):
        return "written last, to take up what the highest slice missed"
    copies = f"one of {group.averages} copies of the highest slice, " if group.averages > 1 else "highest slice, "
    return f"{copies}each product the mean of {group.residual_reads} reads"


def _copies(step: MatrixStep, counts: Sequence[TileCount]) -> str:
    """Reason for the copies of a layer."""
    group, window = step.group, step.group.window
    if group.averages > 1:
        return f"one of {group.averages} copies, whose sums are added"
    if group.copies == 1 or window is None:
        return ""
    reads = {c.copy: c.reads for c in counts}
    alone = sum(reads.values())
    rows, columns = blocks(window.out_height, window.out_width, group.copies)[0]
    return (
        f"bottleneck layer: {group.copies} copies of at most {len(rows)} x {len(columns)} outputs "
        f"bring {alone} to {max(reads.values())} reads"
    )


def _cut(program: ConductanceProgram, step: MatrixStep, tile: Tile) -> str:
    """Reason for the several pieces of a layer."""
    group, macro = step.group, program.spec.macro
    if len(group.pieces) == 1:
        return ""
    parts = []
    if len({t.multiplier for t in group.matrix_tiles}) > 1:
        parts.append(f"bit slice of weight {tile.multiplier}")
    if len({t.inputs for t in group.matrix_tiles}) > 1:
        parts.append(f"inputs {tile.inputs.start}-{tile.inputs.stop - 1} of {group.inputs}")
    if len({t.outputs for t in group.matrix_tiles}) > 1:
        parts.append(f"outputs {tile.outputs.start}-{tile.outputs.stop - 1} of {group.outputs}")
    return f"{', '.join(parts)} (a macro reads {macro.logical_rows} x {macro.outputs} at once)"


def _sharing(program: ConductanceProgram, step: MatrixStep, tile: Tile, own: Sequence[tuple[str, Tile]]) -> str:
    """Whether the macro is its own, and what the others leave free."""
    macro = program.spec.macro
    if len(own) == 1:
        return "alone on its macro"
    names = [name for name, other in own if name != step.name]
    others = list(dict.fromkeys(names))
    copies = sum(name == step.name for name, _ in own) - 1
    positions = len(macro.word_lines) * macro.outputs
    taken = sum(t.levels.size for _, t in own if t is not tile)
    with_whom = [*others[:3], *([f"{len(others) - 3} more"] if len(others) > 3 else [])]
    if copies:
        with_whom.append(f"{copies} more of its own tiles")
    return (
        f"shares macro {tile.macro} with {', '.join(with_whom)}: "
        f"{positions - taken} of {positions} weight positions free without it"
    )


def _group(program: ConductanceProgram, tile: Tile, on_slot: Mapping[int, Sequence[tuple[str, Tile]]]) -> str:
    """Content of the tile's group of macros."""
    groups = program.spec.groups
    assert groups is not None
    number = tile.macro // groups.size
    first = tile.round * program.spec.macros + number * groups.size
    inside = {(name, t.copy) for slot in range(first, first + groups.size) for name, t in on_slot.get(slot, ())}
    held = "one layer" if len(inside) == 1 else f"{len(inside)} layers, run one after the other"
    return f"group {number} of {groups.size} macros holds {held}"


def _joined(program: ConductanceProgram, step: MatrixStep, tile: Tile) -> str:
    """Macro beside the tile's that could be joined with it."""
    groups = program.spec.groups
    assert groups is not None
    mine = (tile.copy, tile.outputs, tile.multiplier, tile.round)
    beside = {
        t.macro
        for t in step.group.tiles
        if (t.copy, t.outputs, t.multiplier, t.round) == mine
        and t.macro // groups.joined == tile.macro // groups.joined
        and t.macro != tile.macro
    }
    return f"can be joined with macro {min(beside)}, which holds more inputs of the same outputs" if beside else ""


def _round(program: ConductanceProgram, step: MatrixStep, tile: Tile) -> str:
    rounds = sorted({t.round for t in step.group.tiles})
    if len(rounds) > 1:
        return f"the layer is larger than the chip: written in rounds {rounds[0]} to {rounds[-1]}"
    return f"written before round {tile.round} runs"
