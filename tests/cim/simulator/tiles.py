"""Tiles, columns and chips for the tests of the simulator in both modes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.array.wire_law import Wire, line_gaps, max_unit
from cim.array.wire_segments import SEGMENT_ROWS, Floats, segment_law
from cim.cells.read_noise import ReadNoise
from cim.chip.correction import Correction
from cim.chip.encoding import encode_tile
from cim.chip.file import chip_names, load_chip
from cim.chip.spec import (
    ChipSpec,
    Encoding,
    InputCoding,
    InputSpec,
    MacroSpec,
    PairSubtraction,
    SignedInput,
)
from cim.record.calibration import nominal_macro
from cim.record.device import Columns
from cim.simulator.layer import SimulatedTile, simulated_tile

LAB = load_chip("lab-128").macro
QUIET = ReadNoise(np.array([2.0, 40.0]), np.zeros(2), np.zeros(2))
NO_WIRE = Wire(0.0, 0.0)


def columns_of(spec: MacroSpec, rng: np.random.Generator | None = None, inl: float = 0.3) -> Columns:
    """Ideal converters, or with every error switched on."""
    part = nominal_macro(spec, 0)
    if rng is None:
        return Columns(part.gain, part.offset_codes, part.conversion_noise_codes, part.adc, part.inl_codes)
    n = len(part.gain)
    curve = inl * rng.standard_normal(part.inl_codes.shape)
    return Columns(1.0 + 0.05 * rng.standard_normal(n), rng.uniform(-2, 2, n), np.full(n, 0.3), part.adc, curve)


def tile_of(
    spec: MacroSpec,
    levels: NDArray[np.int8],
    correction: Correction,
    *,
    columns: Columns | None = None,
    inputs: range | None = None,
    outputs: range | None = None,
    multiplier: int = 1,
    row0: int = 0,
    output0: int = 0,
    spread_us: NDArray[np.float32] | float = 0.0,
) -> SimulatedTile:
    cells = np.zeros((spec.rows, spec.columns), np.float32)
    encoded = encode_tile(levels, spec, row0, output0)
    cells[np.ix_(encoded.word_lines, encoded.bit_lines)] = encoded.targets_us
    return simulated_tile(
        spec, cells + spread_us, columns or columns_of(spec), correction, inputs=inputs or range(levels.shape[0]),
        outputs=outputs or range(levels.shape[1]), multiplier=multiplier, row0=row0, output0=output0,
    )  # fmt: skip


def random_levels(rng: np.random.Generator, spec: MacroSpec, rows: int, outputs: int) -> NDArray[np.int8]:
    return rng.integers(-spec.max_level, spec.max_level + 1, (rows, outputs)).astype(np.int8)


def variants() -> dict[str, ChipSpec]:
    """Every chip file, and made-up ones for the encodings that none has."""
    lab = load_chip("lab-128")
    one_read = InputSpec(InputCoding.BIT_SERIAL, 8, 1, SignedInput.OFFSET)
    wide = InputSpec(InputCoding.AMPLITUDE, 8, 3, SignedInput.PLANE)
    pairs, digital = Encoding.ROW_PAIRS, PairSubtraction.DIGITAL
    made = {
        "digital pairs": replace(lab.macro, pair_subtraction=digital),
        "digital row pairs": replace(lab.macro, encoding=pairs, pair_subtraction=digital, inputs=wide),
        "offset column": replace(lab.macro, encoding=Encoding.OFFSET_COLUMN, inputs=one_read),
        "single ended": replace(lab.macro, encoding=Encoding.SINGLE_ENDED, inputs=one_read),
    }
    return {**{n: load_chip(n) for n in chip_names()}, **{n: replace(lab, macro=m) for n, m in made.items()}}


def segment_sums_us(
    spec: MacroSpec,
    row0: int,
    halves_us: NDArray[np.floating],
    cells_us: Floats,
    units: NDArray[np.integer] | Floats,
    wire: Wire,
    group: int = SEGMENT_ROWS,
) -> Floats:
    """Converted sums of reads by the law, (vectors, conversions) µS times unit; what the engines are tested against.

    Args:
        cells_us: ``cim.array.wire_law.conversion_cells``; ``units`` (vectors, rows) driven in one read.
    """
    law = segment_law(spec, row0, halves_us, wire, group)
    order, _ = line_gaps(spec, row0, len(cells_us), wire.end)
    u = np.asarray(units, np.float64)[:, order]
    driven = np.abs(u) / max_unit(spec)
    n = np.minimum(np.rint(driven.sum(1)).astype(np.int64), u.shape[1])
    cells = cells_us[order] * law.row_keep[:, None]
    d, loss, count = np.zeros((len(u), cells.shape[1])), np.zeros((len(u), cells.shape[1])), np.zeros(len(u))
    for g in range(law.segments):
        rows = slice(g * group, (g + 1) * group)
        d += u[:, rows] @ cells[rows]
        count += driven[:, rows].sum(1)
        loss += (law.fall[n, g] + law.rise[n, g] * count)[:, None] * d
    return np.asarray(d - (1.0 + law.swing[n, None] * (driven @ law.extra_us)) * loss)
