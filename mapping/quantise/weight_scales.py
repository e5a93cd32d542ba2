"""The scale of a layer's integer weights: what one level stands for, output by output.

A small scale spreads the weights over the cells and clips the largest; a large one clips nothing and
leaves most weights near zero. What counts is the error of the output, for output o with scale s and
integers q (mean errors are left to the bias and to the column correction):

    J(s) = (w − s q) H (w − s q)ᵀ  +  s² · (N(q) + A)

    H   covariance of the layer's inputs on the calibration images
    N   variance that cells add to the integer sum, Σ_i [ var(x_i) · W(q_i) + S_i · R(q_i) ]:
        W of what a cell became since it was written, R of one read, S_i = Σ_p w_p² mean(u_p²)
    A   mean square error of the converter at the layer's range

W, R and A are in squared integers, so a smaller scale makes all of them smaller in the output. Clipping
shrinks an output as a whole; s is therefore chosen again for the integers, s = w H w / w H q: an output that is right
on the whole costs more error than the smaller one of least squares, and no layer behind sees less than it should.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.converters import CodeOutOfRange, input_planes, split_planes, to_offset
from cim.chip.spec import Encoding, MacroSpec, SignedInput
from cim.record.cell_errors import CellErrors
from mapping.layout.tile import digit
from mapping.quantise.rounding import (
    Floats,
    InputStatistics,
    Integers,
    by_input,
    largest_scale,
    nearest_integers,
    unbiased_scale,
    weighted_scale,
)
from mapping.quantise.scale_trials import Rounded, ScaleTrials
from mapping.quantise.scales import code_limits

CLIPS = np.linspace(1.0, 0.35, 14)  # ends of the scale that are tried, as shares of the largest weight
COARSE = 3  # of large layers every third one, and then those beside the best


Converter = Callable[[NDArray[np.int16], Floats], Floats]
"""Gives A, (groups, outputs), of integers and scales at their best range."""


class ScaleRule(enum.StrEnum):
    """Rule by which the scale of each output is chosen."""

    LARGEST = "largest"  # nothing is clipped
    LAYER = "layer"  # the same, with one scale for all outputs of a layer, as chips without digital gains have it
    ROUNDING = "rounding"  # least error of nearest rounding, weights counting with the variance of their input
    OUTPUT = "output"  # least error of the output on a chip: rounding, cells and converter


@dataclass(frozen=True, slots=True)
class WeightErrors:
    """Variance of a written weight for each of ``integers``, in squared integers.

    ``written`` stays from read to read, ``read`` is new at every plane.
    """

    integers: Integers
    written: Floats
    read: Floats

    def averaged(self, copies: int) -> WeightErrors:
        """Errors of the mean of ``copies`` copies of a weight."""
        return WeightErrors(self.integers, self.written / copies, self.read / copies)

    def of(self, levels: NDArray[np.int16], variance: Floats, squares: Floats) -> Floats:
        """N of each output, (groups, outputs).

        Args:
            levels: (groups, outputs, inputs).
            variance: of each input code; squares: Σ_p w_p² mean(u_p²) of each; (groups, inputs).
        """
        whole = self.integers[-1] - self.integers[0] == len(self.integers) - 1  # no search where none is left out
        at = levels - self.integers[0] if whole else np.searchsorted(self.integers, levels)
        total: Floats = np.matmul(self.written[at], variance[:, :, None])[:, :, 0]
        total += np.matmul(self.read[at], squares[:, :, None])[:, :, 0]
        return total


def weight_errors(spec: MacroSpec, cells: CellErrors, integers: Integers, factor: int, slices: int) -> WeightErrors:
    """Errors of cells on each integer weight, stretched by ``factor`` and cut into ``slices`` digits."""
    values, top = np.array(spec.values.values), max(abs(v) for v in spec.weight_values)
    unit = (spec.level_step_us * factor) ** 2
    written, read = np.zeros(len(integers)), np.zeros(len(integers))
    for s in range(slices):
        held = digit((integers * factor).astype(np.int16), s, top).astype(np.int64)
        if spec.paired:
            at = [np.searchsorted(values, np.maximum(half, 0)) for half in (held, -held)]
        else:
            at = [np.searchsorted(values, held + values[spec.zero_level])]
            if spec.encoding is Encoding.OFFSET_COLUMN:
                at.append(np.full(len(held), spec.zero_level))
        weight = float(top + 1) ** (2 * s) / unit
        written += weight * sum(cells.written_us2[cell] for cell in at)
        read += weight * sum(cells.read_us2[cell] for cell in at)
    return WeightErrors(integers, written, read)


def plane_squares(sample: NDArray[np.float32], spec: MacroSpec, bits: int, signed: bool) -> Floats:
    """Σ_p w_p² mean(u_p²) of each input, (groups, inputs), from codes (groups, inputs, vectors).

    Raises:
        CodeOutOfRange: codes that do not fit.
    """
    low, high = code_limits(bits, signed, spec.inputs.signed is SignedInput.TERNARY)
    if sample.size and (sample.min() < low or sample.max() > high):
        raise CodeOutOfRange(f"codes {sample.min():g}..{sample.max():g} do not fit {low}..{high}")
    codes = np.arange(low, high + 1, dtype=np.int16)
    offset = signed and spec.inputs.signed is SignedInput.OFFSET
    units = split_planes(to_offset(codes, bits) if offset else codes, spec.inputs, bits, signed).astype(np.float64)
    weights = np.array([p.weight for p in input_planes(spec.inputs, bits, signed)], np.float64)
    table = (weights[:, None] ** 2 * units**2).sum(0)
    from mapping.quantise.kernels import table_sums  # late: numba

    return by_input(sample, lambda some: table_sums(some, low, table) / some.shape[1])


def output_weights(
    weight: Floats,
    inputs: InputStatistics,
    integers: Integers,
    errors: WeightErrors,
    squares: Floats,
    converter: Converter,
    rough: Converter | None = None,
) -> tuple[NDArray[np.int16], Floats]:
    """Integers and scales of least J, output by output; J of the whole layer is never above that of the largest scale.

    Every scale tried is chosen again once the integers are known (``unbiased_scale``).

    Args:
        weight: (groups, outputs, inputs).
        squares: ``plane_squares`` of the inputs, (groups, inputs).
        rough: a quicker converter that is near the other, for large layers; None: ``converter``.

    Returns:
        int16 (groups, outputs, inputs), and float64 (groups, outputs).
    """
    widest, trials = largest_scale(weight, integers), ScaleTrials(weight, inputs, integers)

    def loss(tried: Rounded, conversion: Floats) -> Floats:
        return tried.error + tried.scale**2 * (errors.of(tried.levels, inputs.variance, squares) + conversion)

    def compared(index: NDArray[np.intp], best: Chosen) -> Chosen:
        """For each output the better one of the best clip so far and clip number ``index``."""
        tried = trials.at(CLIPS[index] * widest)
        seen = loss(tried, guess)
        better = seen < best.loss
        return Chosen(
            tried.where(better, best.rounded),
            np.where(better, index, best.index),
            np.minimum(seen, best.loss),
        )

    nearest = weighted_scale(weight, inputs.variance, integers)
    if trials.large:  # a guess needs no errors that make up for each other
        converter = rough or converter
        guess = converter(nearest_integers(weight / nearest[:, :, None], integers), nearest)
    else:
        first = trials.at(nearest)
        guess = converter(first.levels, first.scale)
    none = np.zeros(widest.shape, np.intp)
    largest = trials.at(CLIPS[0] * widest)
    best = Chosen(largest, none, loss(largest, guess))
    step = COARSE if trials.large else 1
    for index in range(step, len(CLIPS), step):
        best = compared(np.full_like(none, index), best)
    for side in (-1, 1) if trials.large else ():
        middle = best.index
        best = compared(np.clip(middle + side, 0, len(CLIPS) - 1), best)
    found = []
    for tried, scale in ((best.rounded, CLIPS[best.index] * widest), (largest, widest)):
        found.append((float(loss(tried, converter(tried.levels, tried.scale)).sum()), tried, scale))
    _, kept, scale = min(found, key=lambda f: f[0])
    return kept.levels, kept.scale if trials.large else unbiased_scale(weight, kept.levels, inputs, scale)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The best trial so far, with the number of its end and its J, (groups, outputs)."""

    rounded: Rounded
    index: NDArray[np.intp]
    loss: Floats
