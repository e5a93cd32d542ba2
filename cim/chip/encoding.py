"""From signed weight levels to the cells of a macro, and from cell readings back to pairs."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import Encoding, MacroSpec
from cim.errors import CimUsageError


class WeightForm(enum.StrEnum):
    """The two cell levels that hold a signed weight k of a pair."""

    SIGN = "sign"  # one cell at |k|, the other at 0
    BALANCED = "balanced"  # both cells about the middle level, k apart


class LevelOutOfRange(CimUsageError, ValueError):
    """A level does not fit the macro; holds its row, output, value and the largest magnitude."""

    def __init__(self, row: int, output: int, level: int, max_level: int) -> None:
        wrong = f"is beyond ±{max_level}" if abs(level) > max_level else "is none that cells hold"
        super().__init__(f"level {level} at row {row}, output {output} {wrong}")
        self.row, self.output, self.level, self.max_level = row, output, level, max_level


class TileOutOfMacro(CimUsageError, ValueError):
    """A tile does not fit its macro at that place."""


@dataclass(frozen=True, slots=True)
class EncodedTile:
    """The physical cells of a tile.

    ``word_lines`` int (n,), ``bit_lines`` int (m,), ``targets_us`` float32 (n, m): the cell at
    (word_lines[i], bit_lines[j]) is to reach targets_us[i, j].
    """

    word_lines: NDArray[np.intp]
    bit_lines: NDArray[np.intp]
    targets_us: NDArray[np.float32]


def cell_lines(
    spec: MacroSpec, row0: int, rows: int, output0: int, outputs: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Word lines and bit lines behind a rectangle of logical rows and outputs.

    Two word lines a row for row pairs (plus, minus), two bit lines an output for
    differential columns (plus, minus); for an offset column the reference bit line is last.

    Args:
        spec: of the macro.
        row0: first logical row.
        rows: their number.
        output0: first output.
        outputs: their number.

    Returns:
        indices of word lines and of bit lines.

    Raises:
        TileOutOfMacro: the rectangle is not inside the macro.

    Example:
        >>> rows, columns = cell_lines(spec.macro, 0, 8, 0, 4)
        >>> len(rows), len(columns)  # two cells an output
        (8, 8)
    """
    if row0 < 0 or output0 < 0 or rows < 1 or outputs < 1:
        raise TileOutOfMacro(f"rows {row0}+{rows}, outputs {output0}+{outputs} are no rectangle")
    lines = spec.word_lines
    logical = min(len(lines), spec.rows_per_read)
    if row0 + rows > len(lines) or rows > logical or output0 + outputs > spec.outputs:
        raise TileOutOfMacro(
            f"rows {row0}..{row0 + rows - 1}, outputs {output0}..{output0 + outputs - 1} do not fit "
            f"{logical} rows and {spec.outputs} outputs"
        )
    word_lines = np.array(lines[row0 : row0 + rows], np.intp).reshape(-1)
    order = np.array(spec.column_order, np.intp)
    if spec.encoding is Encoding.DIFFERENTIAL_COLUMNS:
        return word_lines, order[2 * output0 : 2 * (output0 + outputs)]
    bit_lines = order[output0 : output0 + outputs]
    if spec.encoding is Encoding.OFFSET_COLUMN:
        bit_lines = np.append(bit_lines, order[-1])
    return word_lines, bit_lines


def form_cells(levels: NDArray[np.integer], form: WeightForm, max_level: int) -> NDArray[np.int8]:
    """Levels of plus and minus cells, int8 (2, rows, outputs), with plus − minus = k.

        sign        one cell at |k|                       the other at 0
        balanced    one cell at h = ⌊(k_max + |k|) / 2⌋   the other at h − |k|

    Example: k = 3 and k = −3 at k_max = 7 are balanced (5, 2) and (2, 5); k = 0 is (3, 3).
    """
    size = np.abs(levels.astype(np.int64))
    high = size if form is WeightForm.SIGN else (max_level + size) // 2
    positive = levels >= 0
    return np.stack([np.where(positive, high, high - size), np.where(positive, high - size, high)]).astype(np.int8)


def encode_tile(
    levels: NDArray[np.int8],
    spec: MacroSpec,
    row0: int,
    output0: int,
    cells: NDArray[np.int8] | None = None,
    aims_us: Sequence[float] | None = None,
) -> EncodedTile:
    """Give every signed level its cells.

    With pairs, a positive level raises the plus cell, a negative one the minus cell, and the
    other rests at level 0, unless ``cells`` says what plus and minus cells hold:

        G± = levels_us[i],   v_i = max(±k, 0)    or    G± = levels_us[cells±]

    With an offset column or single-ended cells the middle level stands for zero:

        G = levels_us[i],    v_i = k + v_zero

    and the reference column (offset) holds the middle level everywhere. Of evenly spaced levels
    v_i = i; of others only the values that cells hold are possible.

    Pairing follows Yao et al., Nature 577, 641 (2020), doi:10.1038/s41586-020-1942-4.

    Args:
        levels: k, int8 (rows, outputs), each one of ``spec.weight_values``.
        spec: of the macro.
        row0, output0: the tile's place in logical rows and outputs.
        cells: levels of plus and minus cells, int8 (2, rows, outputs), each in 0..k_max; pairs only.
        aims_us: what cells of each level are written to; None: levels_us.

    Returns:
        conductance targets in µS, (rows, columns), and the place of the tile.

    Raises:
        LevelOutOfRange: a level does not fit.
        TileOutOfMacro: the place does not fit.
        ValueError: ``cells`` of another shape, or for an encoding without pairs.

    Example:
        >>> encode_tile(np.array([[3, -7]], np.int8), spec.macro, row0=0, output0=0).targets_us.shape
        (1, 4)
    """
    rows, outputs = levels.shape
    word_lines, bit_lines = cell_lines(spec, row0, rows, output0, outputs)
    k = levels.astype(np.int64)
    possible = spec.weight_values
    every = len(possible) == possible[-1] - possible[0] + 1  # no number between the ends is missing
    if not (every and possible[0] <= k.min() and k.max() <= possible[-1]) and not (held := np.isin(k, possible)).all():
        row, output = np.unravel_index(np.where(held, -1, np.abs(k)).argmax(), k.shape)
        raise LevelOutOfRange(int(row), int(output), int(k[row, output]), spec.max_level)
    table = np.array(spec.levels_us if aims_us is None else aims_us, np.float32)
    values = np.array(spec.values.values)
    if cells is not None:
        check_cells(cells, spec, levels.shape)
    if not spec.paired:
        targets = table[np.searchsorted(values, k + values[spec.zero_level])]
        if spec.encoding is Encoding.OFFSET_COLUMN:
            targets = np.hstack([targets, np.full((rows, 1), table[spec.zero_level], np.float32)])
        return EncodedTile(word_lines, bit_lines, targets)
    sizes = np.stack([np.maximum(k, 0), np.maximum(-k, 0)]) if cells is None else cells
    halves = table[sizes if cells is not None or spec.even_levels else np.searchsorted(values, sizes)]
    axis = 2 if spec.encoding is Encoding.DIFFERENTIAL_COLUMNS else 1
    targets = np.stack([halves[0], halves[1]], axis).reshape(len(word_lines), len(bit_lines))
    return EncodedTile(word_lines, bit_lines, targets)


def check_cells(cells: NDArray[np.int8], spec: MacroSpec, shape: tuple[int, ...]) -> None:
    """Refuse cell levels that no tile of ``shape`` (rows, outputs) on this macro can have.

    Raises:
        LevelOutOfRange, ValueError.
    """
    if not spec.paired or cells.shape != (2, *shape):
        raise ValueError(f"cell levels {cells.shape} for a tile {shape} of {spec.encoding} cells")
    if int(cells.min(initial=0)) < 0 or int(cells.max(initial=0)) > spec.max_level:
        half, row, output = np.unravel_index(np.abs(cells.astype(np.int16) * 2 - spec.max_level).argmax(), cells.shape)
        raise LevelOutOfRange(int(row), int(output), int(cells[half, row, output]), spec.max_level)


def tile_halves_us(
    cells_us: NDArray[np.floating], spec: MacroSpec, row0: int, rows: int, output0: int, outputs: int
) -> NDArray[np.float32]:
    """Pick a tile's cells out of a macro as the multiplication sees them.

    Args:
        cells_us: conductances of a whole macro in µS, (spec.rows, spec.columns).

    Returns:
        float32 (2, rows, outputs): plus and minus cells; for an offset column the cell and the
        reference, for single-ended cells the cell and zeros.
    """
    word_lines, bit_lines = cell_lines(spec, row0, rows, output0, outputs)
    block = cells_us[np.ix_(word_lines, bit_lines)].astype(np.float32)
    if spec.encoding is Encoding.DIFFERENTIAL_COLUMNS:
        return np.ascontiguousarray(block.reshape(rows, outputs, 2).transpose(2, 0, 1))
    if spec.encoding is Encoding.ROW_PAIRS:
        return np.ascontiguousarray(block.reshape(rows, 2, outputs).transpose(1, 0, 2))
    if spec.encoding is Encoding.OFFSET_COLUMN:
        return np.stack([block[:, :-1], np.repeat(block[:, -1:], outputs, axis=1)])
    return np.stack([block, np.zeros_like(block)])
