"""Addresses over the whole array: few cells, far apart, each with a code of its own, on several macros.

Lines are probed at 0, at every power of two and at the last one, so that two that are the same line, an address bit
that is lost, and a first row or output that is ignored show up. Every probed line holds another pattern of low and high
cells than every other, at three places at least.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import cell_lines, tile_halves_us
from cim.chip.spec import MacroSpec
from firmware_protocols.messages import TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.driver.selftest.line import Bench, expect

LEAST_APART = 3  # places in which the codes of two lines differ
LEAST_RIGHT, MOST_WRONG_LINE = 0.8, 0.35  # of the cells of all lines; of those of one
READS = 8
ROWS, OUTPUTS = 8, 4  # of a tile
LEAST_CORRELATION = 0.85  # of its products with its cells


def probed(count: int) -> NDArray[np.intp]:
    """0, the powers of two and the last of ``count`` lines."""
    found = {0, count - 1}
    bit = 1
    while bit < count:
        found.add(bit)
        bit *= 2
    return np.array(sorted(found), np.intp)


@functools.cache
def _coded(rows: int, columns: int) -> NDArray[np.bool_]:
    """High (true) or low cells, (rows, columns): lines differ from each other at ``LEAST_APART`` places."""
    rng = np.random.default_rng(12)
    for _ in range(1000):
        code = rng.random((rows, columns)) < 0.5
        if _apart(code) >= min(LEAST_APART, columns // 2) and _apart(code.T) >= min(LEAST_APART, rows // 2):
            return code
    return code


def _apart(code: NDArray[np.bool_]) -> int:
    """The least number of places in which two rows of a code differ."""
    different = (code[:, None] != code[None]).sum(-1)
    np.fill_diagonal(different, code.shape[1])
    return int(different.min(initial=code.shape[1]))


def macros_probed(macros: int) -> list[int]:
    """The first, the last, and one between."""
    return sorted({0, macros // 2, macros - 1})


@dataclass(frozen=True, slots=True)
class CodedArray:
    """Which cells of a macro were probed, and which of them are high."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    high: NDArray[np.bool_]


def coded(bench: Bench, macro: int) -> CodedArray:
    """Pattern that is written to a macro to recognise its cells: that of the first macro, rolled by a row and a
    column for each macro before it."""
    spec = bench.spec.macro
    rows, columns = probed(spec.rows), probed(spec.columns)
    turned = np.roll(_coded(len(rows), len(columns)), macros_probed(bench.spec.macros).index(macro), (0, 1))
    return CodedArray(rows, columns, turned)


def lines_are_their_own(bench: Bench) -> str:
    """Every word line, bit line and macro has cells of its own."""
    spec, macros = bench.spec.macro, macros_probed(bench.spec.macros)
    low_us, high_us = spec.levels_us[0], spec.levels_us[-1]
    with bench.driver() as driver:
        for macro in macros:
            code = coded(bench, macro)
            for row, high in zip(code.rows, code.high, strict=True):
                targets = np.full((spec.rows, spec.columns), np.nan, np.float32)
                targets[row, code.columns] = np.where(high, high_us, low_us)
                driver.program_cells(macro, targets)
        for macro in macros:
            code = coded(bench, macro)
            read = [driver.read_cells(macro, reads=READS, lines=range(row, row + 1))[row] for row in code.rows]
            wrong = (np.array(read)[:, code.columns] > (low_us + high_us) / 2) != code.high
            right = 1.0 - float(wrong.mean())
            expect(
                right >= LEAST_RIGHT, f"macro {macro}: {100 * right:.0f} % of the probed cells hold what was written"
            )
            lines = (("word line", code.rows, wrong.mean(1)), ("bit line", code.columns, wrong.mean(0)))
            for name, numbers, shares in lines:
                worst = int(shares.argmax())
                text = f"macro {macro}, {name} {numbers[worst]}: {100 * shares[worst]:.0f} % of its cells are another's"
                expect(shares[worst] <= MOST_WRONG_LINE, text)
    return f"{code.high.size} cells of {len(macros)} macros"


def products_take_their_lines(bench: Bench) -> str:
    """A product drives the rows and converts the outputs that it names, on the macro that it names."""
    spec, told = bench.spec.macro, list[float]()
    rows, outputs = min(ROWS, spec.logical_rows), min(OUTPUTS, spec.outputs)
    last_row, last_output = len(spec.word_lines) - rows, spec.outputs - outputs
    places = sorted({(0, 0), (last_row // 2, last_output // 2), (last_row, last_output)})
    with bench.driver() as driver:
        tiles = [
            TileAddress(macro, row0, rows, output0, outputs)
            for macro in macros_probed(bench.spec.macros)
            for row0, output0 in places
        ]
        rng = np.random.default_rng(5)
        for tile in tiles:
            driver.program_tile(tile, rng.choice(spec.weight_values, (rows, outputs)).astype(np.int8))
        for tile in tiles:
            told.append(_follows(driver, spec, tile))
            at = f"macro {tile.macro}, row {tile.row0}, output {tile.output0}"
            expect(told[-1] >= LEAST_CORRELATION, f"{at}: correlation {told[-1]:.3f} with the cells read there")
    return f"{len(told)} tiles, correlation {min(told):.3f} at least"


def _follows(driver: ChipDriver, spec: MacroSpec, tile: TileAddress) -> float:
    """Correlation of the products of single rows with the conductances that are read there."""
    word_lines, _ = cell_lines(spec, tile.row0, tile.rows, tile.output0, tile.outputs)
    lines = range(int(word_lines.min()), int(word_lines.max()) + 1)
    cells = driver.read_cells(tile.macro, reads=READS, lines=lines)
    plus, minus = tile_halves_us(cells, spec, tile.row0, tile.rows, tile.output0, tile.outputs)
    single = (np.eye(tile.rows) * ((1 << spec.inputs.bits) - 1)).astype(np.int16)
    sums = np.mean([driver.mvm(tile, single, sample=40 + n).values for n in range(READS)], 0)
    return float(np.corrcoef((plus - minus).ravel(), sums.ravel())[0, 1])


ADDRESSES = (lines_are_their_own, products_take_their_lines)
