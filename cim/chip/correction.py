"""From sums of ADC codes to integer level sums: the fixed-point column correction."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import Encoding, MacroSpec, SignedInput

SHIFT = 20


@dataclass(frozen=True, slots=True)
class Correction:
    """Affine correction of one tile's columns.

    level_sum = round((gain · sum + offset + input_gain · Σ inputs) / 2^shift), half away from
    zero, in 64-bit integers. ``gain`` int32, ``offset`` int64, ``input_gain`` int32, each
    (outputs,). Σ inputs is the sum of the codes as driven (after an input offset).
    """

    gain: NDArray[np.int32]
    offset: NDArray[np.int64]
    input_gain: NDArray[np.int32]
    shift: int

    def of_reads(self, reads: int) -> Correction:
        """Correction for the sum of ``reads`` reads, with codes and Σ inputs added over them; it gives their summed
        level sums."""
        return self if reads == 1 else replace(self, offset=self.offset * reads)


def round_shift(values: NDArray[np.int64], shift: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """values / 2^shift, rounded half away from zero, in integers."""
    half = np.left_shift(np.int64(1), np.asarray(shift, np.int64)) >> 1
    magnitude = np.right_shift(np.abs(values) + half, shift)
    rounded: NDArray[np.int64] = np.where(values < 0, -magnitude, magnitude)
    return rounded


def apply_correction(
    sums: NDArray[np.integer], input_sums: NDArray[np.integer], correction: Correction
) -> NDArray[np.int32]:
    """Level sums of one tile.

    Args:
        sums: Σ planes weight · code, (..., outputs).
        input_sums: Σ of the codes as driven, (...).
        correction: of each output.

    Returns:
        level sums, int32, of the shape of the sums.

    Example:
        >>> correction = nominal_correction(spec.macro, 3, levels, 8, input_signed=False)
        >>> apply_correction(np.array([[1 << 10, 0]], np.int32), np.zeros(1, np.int64), correction).shape
        (1, 2)
    """
    total = sums.astype(np.int64) * correction.gain + correction.offset
    if correction.input_gain.any():
        total += input_sums.astype(np.int64)[..., None] * correction.input_gain
    return round_shift(total, correction.shift).astype(np.int32)


def float_correction(
    gain: NDArray[np.floating], offset: NDArray[np.floating], input_gain: NDArray[np.floating]
) -> Correction:
    """Fixed-point form of level_sum = gain · sum + offset + input_gain · Σ inputs, at ``SHIFT`` fractional bits."""
    unit = float(1 << SHIFT)
    return Correction(
        np.rint(np.asarray(gain, np.float64) * unit).astype(np.int32),
        np.rint(np.asarray(offset, np.float64) * unit).astype(np.int64),
        np.rint(np.asarray(input_gain, np.float64) * unit).astype(np.int32),
        SHIFT,
    )


def digital_terms(
    spec: MacroSpec, levels: NDArray[np.integer] | NDArray[np.floating], input_bits: int, input_signed: bool
) -> tuple[NDArray[np.float64], float]:
    """Correction terms known without measurement, in levels: (offset of each output, (outputs,); input gain).

    Offset inputs add 2^(b−1) to every code, so 2^(b−1) · Σ levels leaves each output.
    Single-ended cells rest at the middle level on top of the ground conductance, so
    (v_zero + G₀ / step) leaves for every unit of input.
    """
    outputs = levels.shape[1]
    offset = np.zeros(outputs)
    if input_signed and spec.inputs.signed is SignedInput.OFFSET:
        offset = -float(1 << (input_bits - 1)) * levels.sum(0, dtype=np.float64)
    rest = 0.0
    if spec.encoding is Encoding.SINGLE_ENDED:
        rest = -(spec.values.values[spec.zero_level] + spec.levels_us[0] / spec.level_step_us)
    return offset, rest


def nominal_correction(
    spec: MacroSpec,
    range_code: int,
    held: NDArray[np.integer],
    input_bits: int,
    input_signed: bool,
    signs: NDArray[np.int8] | None = None,
) -> Correction:
    """The correction of a chip without errors; the identity when lsb equals the level step.

    Args:
        spec: of the macro.
        range_code: of the converters.
        held: what the cells hold in levels (plus − minus of pairs), (rows, outputs).
        input_bits: of an input code.
        input_signed: whether input codes may be below zero.
        signs: −1 for outputs whose cells hold the negated weights, (outputs,); None: none.

    Returns:
        gain and offset of each output, fixed point.

    Example:
        >>> nominal_correction(spec.macro, 3, np.array([[3, -7]], np.int8), 8, input_signed=False).offset
        array([0, 0])
    """
    offset, rest = digital_terms(spec, held, input_bits, input_signed)
    gain = spec.lsb_us(range_code) / spec.level_step_us
    turn = np.ones(held.shape[1]) if signs is None else signs.astype(np.float64)
    return float_correction(gain * turn, offset * turn, np.full(held.shape[1], rest))
