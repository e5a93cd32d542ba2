"""Values of cells from products: single rows, or rows in orthogonal patterns of +1 and −1.

With N patterns in which N rows are driven by the columns of a Hadamard matrix H (H Hᵀ = N), a row's value is
H^T y / N: noise that arises behind the cells, in column and converter, falls by N against one read of each row,
at the same number of reads; that of the cells does not, because every read sees all of them (arXiv 2604.12420).
Where rows are driven by 0 and 1 only, each pattern is two reads, of its +1 and of its −1: the difference holds twice
the noise, and every row is on in one of the two, so converter noise falls by N/4 and cell noise doubles.

The closed form for any patterns u and their inverse D, with σ the noise of a conversion and v that of a cell:

    var_i = Σ_p D_ip² (σ² + Σ_j u_pj² v_j)

Fixed signs of rows make all patterns alike: none drives all rows one way. Sums of N rows of both signs grow with √N,
and so would the range and its noise, which would eat the gain: the range is the one of the least variance, conversions
that are expected beyond it are left out, and D is the least-squares inverse of what is left. What the lines lose is not
linear in the pattern: values are taken from the difference to what the known wires make of expected cells.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from cim.array.wire_law import Wire, conversion_cells, max_unit
from cim.array.wires import converted_sums_us, gated_sums_us
from cim.cells.read_noise import ReadNoise
from cim.chip.converters import code_limits
from cim.chip.encoding import tile_halves_us
from cim.chip.spec import InputCoding, MacroSpec, PairSubtraction, WordLine
from cim.fit.columns import QUANTISATION, predicted_variance_us2
from cim.record.calibration import MacroCalibration
from cim.record.inl import inl_at

SIGNS = 0x51645  # seed of the signs of rows, the same everywhere
MARGIN_SIGMA = 4.0  # of noise, between an expected sum and the end of the scale
MARGIN_SHARE = 0.02  # of the scale, beside it: sums are not quite what is expected
SPARE = 1.25  # reads that tell a column, times its rows, at least: fewer are too near to not telling it
PROBED = 16  # conversions that a range is chosen by

Floats = NDArray[np.float64]


class RowPattern(enum.StrEnum):
    """Rows of one read that tells values of cells."""

    SINGLE = "single"
    HADAMARD = "hadamard"


@dataclass(frozen=True, slots=True)
class RowPatterns:
    """Input codes (vectors, rows) that tell every row together; a vector is one read.

    ``bits`` and ``signed`` are the width and sign of the codes.
    """

    kind: RowPattern
    codes: NDArray[np.int16]
    bits: int
    signed: bool

    @classmethod
    def of(cls, spec: MacroSpec, kind: RowPattern) -> RowPatterns:
        """Patterns for all rows that a read of this chip may drive.

        Example: two rows, driven by 0 and 1: 11, 10, 00, 01 (but for the signs), each row in two of four reads.
        """
        rows, unit, bits = spec.logical_rows, max_unit(spec), max(spec.inputs.bits_per_cycle, 1)
        if kind is RowPattern.SINGLE:
            return cls(kind, (np.eye(rows) * unit).astype(np.int16), bits, False)
        signs = np.random.default_rng(SIGNS).choice([-1, 1], rows)
        patterns = hadamard(1 << (rows - 1).bit_length(), dtype=np.int16)[:, :rows] * signs
        if spec.inputs.coding is InputCoding.TERNARY:
            return cls(kind, patterns.astype(np.int16), 2, True)
        return cls(kind, (np.concatenate([patterns > 0, patterns < 0]) * unit).astype(np.int16), bits, False)

    @property
    def reads(self) -> int:
        """Reads that tell every row once."""
        return len(self.codes)


@dataclass(frozen=True, slots=True)
class RowReading:
    """One macro's rows as patterns are to read them; values are what conversions sum, µS.

    ``cells_us`` (rows, conversions) and ``sums_us`` (vectors, conversions) are expected, ``kept`` says which
    conversions count. ``variance_us2`` (rows, conversions): of a value, from one read of each pattern.
    """

    spec: MacroSpec
    patterns: RowPatterns
    range_code: int
    columns: MacroCalibration
    cells_us: Floats
    sums_us: Floats
    kept: NDArray[np.bool_]
    variance_us2: Floats

    @classmethod
    def of(
        cls, spec: MacroSpec, kind: RowPattern, halves_us: NDArray[np.floating], columns: MacroCalibration,
        noise: ReadNoise, wire: Wire,
    ) -> RowReading:  # fmt: skip
        """Reading by row patterns as the record of a chip expects it; ``halves_us`` (2, rows, outputs) are the targets
        of the cells, or what was read last."""
        patterns = RowPatterns.of(spec, kind)
        units = patterns.codes
        if spec.word_line is WordLine.ROW:
            sums = converted_sums_us(spec, 0, halves_us, units, wire)
        else:
            sums = np.asarray(gated_sums_us(spec, 0, halves_us, units, wire), np.float64)
        of_cells = predicted_variance_us2(spec, halves_us, units, noise)
        some = np.unique(np.linspace(0, sums.shape[1] - 1, PROBED).astype(int))
        found = []
        for range_code in range(len(spec.adc.full_scales_us)):
            kept, variance = _inside(spec, range_code, sums, of_cells, columns)
            few = kept[:, some].sum(0).min() < _least(patterns)
            found.append(np.inf if few else float(_variances(units, kept, variance, some).mean()))
        best = int(np.argmin(found))
        kept, variance = _inside(spec, best, sums, of_cells, columns)
        every = np.arange(sums.shape[1])
        cells = conversion_cells(spec, halves_us)
        return cls(spec, patterns, best, columns, cells, sums, kept, _variances(units, kept, variance, every))

    @property
    def cells_each(self) -> int:
        """Cells of one value: two of a pair that is subtracted before the converter."""
        analog = self.spec.paired and self.spec.pair_subtraction is PairSubtraction.ANALOG
        return 2 if analog else 1

    @property
    def variance_by_read(self) -> float:
        """Mean variance of a value, µS², times the reads of the macro that it took: the less, the fewer reads."""
        return float(np.nanmean(self.variance_us2)) * self.patterns.reads

    def values_us(self, codes: NDArray[np.floating]) -> Floats:
        """Values (rows, conversions) from raw codes (vectors, conversions), or from their means; NaN where too few
        conversions stayed on the scale."""
        spec, columns = self.spec, self.columns
        low, high = code_limits(spec.adc.bits, spec.adc_signed)
        straight = np.asarray(codes, np.float64)
        kept = self.kept & (straight < high) & ((straight > low) | (low == 0))
        straight = straight - inl_at(straight, columns.inl_codes, columns.adc, (low, high))
        seen = (straight - columns.offset_codes) * (spec.lsb_us(self.range_code) / columns.gain)
        values = np.full(self.cells_us.shape, np.nan)
        for c in range(len(columns.gain)):
            at = kept[:, c]
            inverse = _inverse(self.patterns.codes[at], _least(self.patterns))
            if inverse is not None:
                values[:, c] = self.cells_us[:, c] + inverse @ (seen[at, c] - self.sums_us[at, c])
        return values


def seen_cells(spec: MacroSpec, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells (spec.rows, spec.columns) behind flagged values (rows, conversions): both of a pair that is subtracted
    before the converter."""
    number = np.arange(spec.rows * spec.columns, dtype=np.float32).reshape(spec.rows, spec.columns)
    plus, minus = tile_halves_us(number, spec, 0, spec.logical_rows, 0, spec.outputs).astype(np.int64)
    found, outputs = np.zeros(number.size, np.bool_), spec.outputs
    found[plus[flags[:, :outputs]]] = True
    if spec.paired:
        found[minus[flags[:, -outputs:]]] = True
    return found.reshape(number.shape)


def cheapest(
    spec: MacroSpec, halves_us: NDArray[np.floating], columns: MacroCalibration, noise: ReadNoise, wire: Wire
) -> RowReading:
    """The patterns that tell these cells with the fewest reads, by what calibration measured."""
    found = [RowReading.of(spec, kind, halves_us, columns, noise, wire) for kind in RowPattern]
    return min(found, key=lambda reading: reading.variance_by_read)


def _inside(
    spec: MacroSpec, range_code: int, sums_us: Floats, of_cells: Floats, columns: MacroCalibration
) -> tuple[NDArray[np.bool_], Floats]:
    """Conversions that a range holds with a margin, and the variance of each, µS²; both (vectors, conversions)."""
    low, high = code_limits(spec.adc.bits, spec.adc_signed)
    step_us = spec.lsb_us(range_code) / columns.gain
    variance = (columns.conversion_noise_codes**2 + QUANTISATION) * step_us**2 + of_cells
    code = sums_us / step_us + columns.offset_codes
    margin = MARGIN_SIGMA * np.sqrt(variance) / step_us + MARGIN_SHARE * (high - low)
    return (code + margin < high) & ((code - margin > low) | (low == 0)), variance


def _least(patterns: RowPatterns) -> int:
    rows = int(patterns.codes.shape[1])
    return rows if patterns.reads == rows else round(SPARE * rows)


def _inverse(units: NDArray[np.int16], least: int) -> Floats | None:
    """Least-squares inverse (rows, vectors) of patterns; None where too few are left."""
    if len(units) < least:
        return None
    u = units.astype(np.float64)
    return np.asarray(np.linalg.solve(u.T @ u, u.T))


def _variances(
    units: NDArray[np.int16], kept: NDArray[np.bool_], variance_us2: Floats, conversions: NDArray[np.integer]
) -> Floats:
    """The closed form for some conversions, (rows, conversions); NaN where too few are left."""
    found = np.full((units.shape[1], len(conversions)), np.nan)
    for at, c in enumerate(conversions):
        inverse = _inverse(units[kept[:, c]], units.shape[1])
        if inverse is not None:
            found[:, at] = inverse**2 @ variance_us2[kept[:, c], c]
    return found
