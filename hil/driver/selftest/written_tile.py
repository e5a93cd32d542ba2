"""The tile at the origin that many checks work on: its place, its codes, what is written there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cim.chip.encoding import encode_tile
from firmware_protocols.messages import TileAddress
from hil.driver.chip_driver import ChipDriver
from hil.driver.selftest.bench import Bench

ROWS, OUTPUTS = 32, 8  # of the tile, or less on a smaller macro


def first_tile(bench: Bench) -> TileAddress:
    macro = bench.spec.macro
    return TileAddress(0, 0, min(ROWS, macro.logical_rows), 0, min(OUTPUTS, macro.outputs))


def codes_of(
    bench: Bench, vectors: int, rows: int, *, bits: int | None = None, signed: bool = False
) -> NDArray[np.int16]:
    """Random input codes (vectors, rows) of so many bits; None: the widest."""
    bits = bits or bench.spec.macro.inputs.bits
    codes = np.random.default_rng(2).integers(0, 1 << bits, (vectors, rows))
    return (codes - (signed << (bits - 1))).astype(np.int16)


def widest(bench: Bench) -> int:
    """The converter range that holds every sum."""
    return len(bench.spec.macro.adc.full_scales_us) - 1


def write_tile(driver: ChipDriver, bench: Bench) -> tuple[TileAddress, NDArray[np.float32]]:
    """Random levels in the tile; the tile and the targets of the whole macro, µS."""
    macro, tile = bench.spec.macro, first_tile(bench)
    levels = np.random.default_rng(4).choice(macro.weight_values, (tile.rows, tile.outputs)).astype(np.int8)
    cells = encode_tile(levels, macro, 0, 0)
    targets = np.full((macro.rows, macro.columns), np.nan, np.float32)
    targets[np.ix_(cells.word_lines, cells.bit_lines)] = cells.targets_us
    driver.program_cells(0, targets, sample=11)
    return tile, targets
