"""Checks of addresses over the whole array: each probed line of several macros stores its own pattern.

Lines and macros are probed at 0, at every power of two and at the last two, so that a lost address bit, or two
addresses of one line, shows. Every probed line holds another pattern of low and high cells than every other, at three
places at least. Products are compared with cells on every word line and every output of one macro.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import cell_lines, tile_halves_us
from cim.chip.spec import MacroSpec
from firmware_protocols.messages import Capability, TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.driver.selftest.line import Bench, expect

LEAST_APART = 3  # places in which the codes of two lines differ
LEAST_RIGHT, MOST_WRONG_LINE = 0.8, 0.35  # of the cells of all lines; of those of one
READS = 8
LEAST_CORRELATION, LEAST_LINE = 0.85, 0.6  # of the products of a tile with its cells; of those of one line
LINE = 16  # codes that tell one line of a tile from the others; of fewer, lines are not judged one by one


def probed(count: int) -> NDArray[np.intp]:
    """0, the powers of two and the last two of ``count`` lines."""
    powers = (1 << bit for bit in range(count.bit_length()))
    return np.array(sorted({n for n in (0, *powers, count - 2, count - 1) if 0 <= n < count}), np.intp)


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
    """The smallest Hamming distance between two rows of a code."""
    different = (code[:, None] != code[None]).sum(-1)
    np.fill_diagonal(different, code.shape[1])
    return int(different.min(initial=code.shape[1]))


def lines_are_their_own(bench: Bench) -> str:
    """Each word line, bit line and macro addresses its own cells."""
    spec, macros = bench.spec.macro, probed(bench.spec.macros).tolist()
    low_us, high_us, rows, columns = spec.levels_us[0], spec.levels_us[-1], probed(spec.rows), probed(spec.columns)
    codes = [np.roll(_coded(len(rows), len(columns)), number, (0, 1)) for number in range(len(macros))]
    with bench.driver() as driver:
        for macro, code in zip(macros, codes, strict=True):
            for row, high in zip(rows, code, strict=True):
                targets = np.full((spec.rows, spec.columns), np.nan, np.float32)
                targets[row, columns] = np.where(high, high_us, low_us)
                driver.program_cells(macro, targets)
        for macro, code in zip(macros, codes, strict=True):
            read = [driver.read_cells(macro, reads=READS, lines=range(row, row + 1))[row] for row in rows]
            wrong = (np.array(read)[:, columns] > (low_us + high_us) / 2) != code
            right = 1.0 - float(wrong.mean())
            expect(
                right >= LEAST_RIGHT, f"macro {macro}: {100 * right:.0f} % of the probed cells hold what was written"
            )
            lines = (("word line", rows, wrong.mean(1)), ("bit line", columns, wrong.mean(0)))
            for name, numbers, shares in lines:
                worst = int(shares.argmax())
                text = f"macro {macro}, {name} {numbers[worst]}: {100 * shares[worst]:.0f} % of its cells are another's"
                expect(shares[worst] <= MOST_WRONG_LINE, text)
    return f"{code.size} cells of {len(macros)} macros"


def products_take_their_lines(bench: Bench) -> str:
    """A product drives the rows and converts the outputs that it names, on the macro that it names."""
    spec, told = bench.spec.macro, list[float]()
    rows, outputs = min(LINE, spec.logical_rows), min(LINE, spec.outputs)
    middle = ((len(spec.word_lines) - rows) // 2, rows, (spec.outputs - outputs) // 2, outputs)
    tiles = [TileAddress(macro, *middle) for macro in probed(bench.spec.macros).tolist()]
    if Capability.PROGRAM_TILE in bench.needs():  # pulses from here take long
        tiles += [TileAddress(0, 0, spec.logical_rows, 0, outputs), TileAddress(0, 0, rows, 0, spec.outputs)]
    rng, ends = np.random.default_rng(5), [min(spec.weight_values), max(spec.weight_values)]
    with bench.driver() as driver:
        for tile in tiles:
            driver.program_tile(tile, rng.choice(ends, (tile.rows, tile.outputs)).astype(np.int8))
        for tile in tiles:
            told.append(_follows(driver, spec, tile))
    return f"{len(told)} tiles, correlation {min(told):.3f} at least"


def _follows(driver: ChipDriver, spec: MacroSpec, tile: TileAddress) -> float:
    """Correlation of single-row products with the conductances read there; each row and output must follow, too."""
    word_lines, _ = cell_lines(spec, tile.row0, tile.rows, tile.output0, tile.outputs)
    lines = range(int(word_lines.min()), int(word_lines.max()) + 1)
    cells = driver.read_cells(tile.macro, reads=READS, lines=lines)
    plus, minus = tile_halves_us(cells, spec, tile.row0, tile.rows, tile.output0, tile.outputs)
    single = (np.eye(tile.rows) * ((1 << spec.inputs.bits) - 1)).astype(np.int16)
    sums = np.mean([driver.mvm(tile, single, sample=40 + n).values for n in range(READS)], 0)
    at = f"macro {tile.macro}, row {tile.row0}, output {tile.output0}"
    whole = _correlation((plus - minus).ravel(), sums.ravel())
    expect(whole >= LEAST_CORRELATION, f"{at}: correlation {whole:.3f} with the cells read there")
    for name, first, wanted, found in (
        ("row", tile.row0, plus - minus, sums), ("output", tile.output0, (plus - minus).T, sums.T),
    ):  # fmt: skip
        each = [_correlation(*pair) for pair in zip(wanted, found, strict=True)] if wanted.shape[1] >= LINE else [1.0]
        worst = int(np.argmin(each))
        text = f"macro {tile.macro}, {name} {first + worst}: correlation {each[worst]:.3f} with the cells read there"
        expect(each[worst] >= LEAST_LINE, text)
    return whole


def _correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    return float(np.corrcoef(one, other)[0, 1])


ADDRESSES = (lines_are_their_own, products_take_their_lines)
