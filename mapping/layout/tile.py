"""Cut a layer's weight matrix into pieces that one macro can hold.

A matrix is described by its groups: ``groups`` blocks of (inputs / groups) x (outputs /
groups) on the diagonal, zeros elsewhere (one block for a dense layer, one a channel for a
depthwise layer). Pieces are rows x outputs, several whole blocks when they fit.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.blocks import bands
from cim.chip.spec import MacroSpec

BLOCK_ROWS = 50  # of a grouped layer that one read drives: five blocks of 3 x 3; two blocks at least


@dataclass(frozen=True, slots=True)
class MatrixShape:
    """Size of a layer's matrix, and of its output map; ``kernel`` is the number of rows of one input channel
    (kernel height x width)."""

    layer: str
    inputs: int
    outputs: int
    groups: int = 1
    kernel: int = 1
    out_rows: int = 1
    out_width: int = 1

    def __post_init__(self) -> None:
        if self.inputs % self.groups or self.outputs % self.groups or (self.inputs // self.groups) % self.kernel:
            raise ValueError(
                f"{self.layer}: {self.inputs} inputs and {self.outputs} outputs do not divide into "
                f"{self.groups} groups of whole channels of {self.kernel} rows"
            )


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle of a layer's matrix for one macro, and which bit slice of it."""

    inputs: range
    outputs: range
    slice: int


class SlicePlacement(enum.StrEnum):
    """Place of the bit slices of one weight."""

    MACROS = "macros"  # every slice is a piece of its own, on whichever macro has room
    COLUMNS = "columns"  # side by side on one macro, so that one read of the rows converts all of them


@dataclass(frozen=True, slots=True)
class Bundle:
    """Pieces that lie side by side: the same inputs and outputs, one piece a slice, lowest first."""

    pieces: tuple[Piece, ...]

    @property
    def inputs(self) -> range:
        return self.pieces[0].inputs

    @property
    def outputs(self) -> range:
        """Range of as many columns as all pieces take together, from the first one of the first piece on."""
        first = self.pieces[0].outputs
        return range(first.start, first.start + len(first) * len(self.pieces))

    @property
    def slice(self) -> int:
        return self.pieces[0].slice

    def first_output(self, number: int, output0: int) -> int:
        """First logical column of piece ``number``, when the bundle lies at ``output0``."""
        return output0 + number * len(self.pieces[number].outputs)


def cut_bundles(
    shape: MatrixShape, macro: MacroSpec, slices: int, placement: SlicePlacement = SlicePlacement.MACROS
) -> tuple[Bundle, ...]:
    """The pieces of a layer that must lie side by side, ordered as in ``cut``: by outputs, then inputs.

    Side by side, pieces are cut as if a macro had only 1 / slices of its outputs. A macro with
    fewer outputs than slices cannot hold a weight: ``ValueError``.
    """
    if placement is SlicePlacement.MACROS or slices == 1:
        return tuple(Bundle((piece,)) for piece in cut(shape, macro, slices))
    if macro.outputs < slices:
        raise ValueError(f"{slices} slices do not fit side by side on {macro.outputs} outputs")
    whole = cut(shape, macro, 1, macro.outputs // slices)
    return tuple(Bundle(tuple(Piece(p.inputs, p.outputs, s) for s in range(slices))) for p in whole)


def cut(shape: MatrixShape, macro: MacroSpec, slices: int, most_outputs: int | None = None) -> tuple[Piece, ...]:
    """Give the pieces of a layer, in order of slice, outputs, inputs.

    Whole blocks share a macro when at least one fits; else each block is cut evenly by
    outputs and rows. Rows are cut between channels unless that needs more pieces.

    Args:
        most_outputs: of one piece; None: as many as the macro has.

    Example: 16 channels of 3x3 on 128 rows are two pieces of 8 channels, 72 rows each.
    """
    rows, outputs = shape.inputs // shape.groups, shape.outputs // shape.groups
    most_outputs = most_outputs or macro.outputs
    together = min(macro.logical_rows // rows, most_outputs // outputs)
    pieces = []
    for s in range(slices):
        if together:
            for part in bands(shape.groups, -(-shape.groups // together)):
                pieces.append(Piece(_times(part, rows), _times(part, outputs), s))
            continue
        for group in range(shape.groups):
            for out in bands(outputs, -(-outputs // most_outputs)):
                for part in _row_parts(rows, shape.kernel, macro.logical_rows):
                    pieces.append(Piece(_shift(part, group * rows), _shift(out, group * outputs), s))
    return tuple(pieces)


def blocks_apart(piece: Piece, shape: MatrixShape) -> tuple[tuple[Piece, int, int], ...]:
    """The parts of a piece that are read one after the other, and by how many rows and outputs each lies from the
    piece's own place: as many whole blocks of the diagonal as take ``BLOCK_ROWS``, two at least.

    Read together, each output would add up errors and read noise of all rows driven, of which its own block has few.
    Conversions are as many either way; reads become more.

    Example: 14 blocks of 9 rows on 126 rows: three parts, of 5, 5 and 4 blocks.
    """
    rows, outputs = shape.inputs // shape.groups, shape.outputs // shape.groups
    blocks = len(piece.inputs) // rows
    each = max(2, BLOCK_ROWS // rows)
    if blocks * rows != len(piece.inputs) or blocks <= each:
        return ((piece, 0, 0),)
    return tuple(
        (
            Piece(
                _shift(_times(part, rows), piece.inputs.start),
                _shift(_times(part, outputs), piece.outputs.start),
                piece.slice,
            ),
            part.start * rows,
            part.start * outputs,
        )
        for part in bands(blocks, -(-blocks // each))
    )


def slices_needed(weight_max: int, max_level: int) -> int:
    """Bit slices that hold ±weight_max: digits 0..max_level with the weight's sign, base max_level + 1."""
    slices, reach = 1, max_level
    while reach < weight_max:
        slices += 1
        reach = reach * (max_level + 1) + max_level
    return slices


def weight_integers(weight_max: int, macro: MacroSpec) -> NDArray[np.int64]:
    """Integers that a weight of up to ±weight_max can be, ascending, before they are stretched.

    Evenly spaced levels hold every integer (wide ones in slices). Others hold only their values:
    all of them, or, where they are more than weight_max a sign, those nearest to
    j · max_level / weight_max.

    Example: levels of 0, 1, 3, 7, 15 at 3 bits, weight_max 3: 0, ±3, ±7, ±15.
    """
    if macro.even_levels:
        return np.arange(-weight_max, weight_max + 1)
    held = np.array(macro.weight_values)
    if max(np.count_nonzero(held > 0), np.count_nonzero(held < 0)) <= weight_max:
        return held
    wanted = np.arange(-weight_max, weight_max + 1) * (macro.max_level / weight_max)
    distance = np.abs(held[:, None] - wanted) + 1e-6 * np.abs(held)[:, None]  # of two as near, the smaller
    return np.unique(held[distance.argmin(axis=0)])


def stretch(weight_max: int, max_level: int) -> int:
    """Whole factor on weights narrower than their cells: ±1 on seven levels becomes ±7, seven times the signal.

    Example: ±127 on three digits of seven levels, which reach ±511, becomes ±508.
    """
    reach: int = (max_level + 1) ** slices_needed(weight_max, max_level) - 1
    return max(1, reach // weight_max)


def digit(weights: NDArray[np.int16], piece_slice: int, max_level: int) -> NDArray[np.int8]:
    """The signed digit of one slice; Σ_s digit_s · (max_level + 1)^s gives the weights back.

    Example: −13 at max_level 7 is −5 in slice 0 and −1 in slice 1.
    """
    size = np.abs(weights.astype(np.int32)) // (max_level + 1) ** piece_slice % (max_level + 1)
    signed: NDArray[np.int8] = (np.sign(weights) * size).astype(np.int8)
    return signed


def piece_levels(weights: NDArray[np.int16], piece: Piece, max_level: int) -> NDArray[np.int8]:
    """Levels of one piece, int8 (rows, outputs); zeros off the diagonal blocks.

    Args:
        weights: integer weights, (groups, outputs / groups, inputs / groups).
    """
    groups, outputs, inputs = weights.shape
    levels = np.zeros((len(piece.inputs), len(piece.outputs)), np.int8)
    for group in range(groups):
        rows = _meet(piece.inputs, range(group * inputs, (group + 1) * inputs))
        columns = _meet(piece.outputs, range(group * outputs, (group + 1) * outputs))
        if len(rows) and len(columns):
            block = weights[
                group,
                columns.start - group * outputs : columns.stop - group * outputs,
                rows.start - group * inputs : rows.stop - group * inputs,
            ]
            levels[
                rows.start - piece.inputs.start : rows.stop - piece.inputs.start,
                columns.start - piece.outputs.start : columns.stop - piece.outputs.start,
            ] = digit(block.T, piece.slice, max_level)
    return levels


def _row_parts(rows: int, kernel: int, limit: int) -> Iterator[range]:
    fewest = -(-rows // limit)
    channels = limit // kernel  # whole channels in one piece
    by_channel = -(-(rows // kernel) // channels) if channels else 0  # 0: not even one fits
    if by_channel == fewest:
        yield from (_times(part, kernel) for part in bands(rows // kernel, by_channel))
    else:
        yield from bands(rows, fewest)


def _times(part: range, factor: int) -> range:
    return range(part.start * factor, part.stop * factor)


def _shift(part: range, by: int) -> range:
    return range(part.start + by, part.stop + by)


def _meet(a: range, b: range) -> range:
    return range(max(a.start, b.start), min(a.stop, b.stop))
