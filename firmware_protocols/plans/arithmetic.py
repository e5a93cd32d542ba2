"""What each step of a plan computes, in 64-bit integers (docs/file-formats.md).

Arrays of codes have images as first axis. The emulated chip runs this plain numpy version, and the self-test
compares a chip with it; the host's own kernels for the same text are checked by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from firmware_protocols.plans import instructions as plan
from firmware_protocols.plans.instructions import Instruction, RescaleRule

Wide = NDArray[np.int64]
LOW, HIGH = -(1 << 31), (1 << 31) - 1
NORM_END = (1 << 15) - 1
LEAST = -(1 << 40)  # below every code: places that never win


def apply(instruction: Instruction, inputs: Sequence[Wide], shape: tuple[int, ...]) -> Wide:
    """Output codes of a digital step; ``shape`` is that of its output for one image."""
    x = inputs[0]
    match instruction:
        case plan.RescaleCodes():
            return rescaled(x, instruction.rescale)
        case plan.AddCodes():
            one, two = rescaled(x, instruction.first), rescaled(inputs[1], instruction.second)
            one, two = of_one_rank(one, two)
            return rescaled(saturated(one - two if instruction.subtract else one + two), instruction.rescale)
        case plan.JoinCodes():
            parts = [rescaled(v, rule) for v, rule in zip(inputs, instruction.rescale, strict=True)]
            return np.concatenate(parts, axis=1 + instruction.axis)
        case plan.PoolLargest():
            return np.asarray(_windows(x, instruction.window, LEAST).max((-2, -1)))
        case plan.PoolMean():
            sums = _windows(x, instruction.window, 0).sum((-2, -1))
            return rescaled(saturated(sums), instruction.rescale).reshape(len(x), *shape)
        case plan.ReshapeCodes():
            return x.reshape(len(x), *shape)
        case plan.PadCodes(before=before):
            widths = [(int(b), n - int(b) - size) for b, n, size in zip(before, shape, x.shape[1:], strict=True)]
            return np.pad(x, [(0, 0), *widths])
        case plan.SliceCodes(start=start, step=step):
            ends = [int(a) + (n - 1) * int(s) + 1 for a, n, s in zip(start, shape, step, strict=True)]
            places = (slice(int(a), end, int(s)) for a, end, s in zip(start, ends, step, strict=True))
            return x[(slice(None), *places)]
        case plan.LookUpCodes(first=first, entries=entries):
            return entries.astype(np.int64)[np.clip(x - first, 0, len(entries) - 1)]
        case plan.ScaleCodes():
            weight = np.where(x < 0, instruction.below[None], instruction.weight[None]) if instruction.below.size else (
                instruction.weight[None]
            )  # fmt: skip
            return rescaled(x * weight.astype(np.int64) + instruction.offset[None], instruction.rescale)
        case plan.MultiplyCodes():
            one, two = of_one_rank(x, inputs[1])
            return rescaled(one * two, instruction.rescale)
        case plan.MultiplyMatrices():
            one, two = of_one_rank(x, inputs[1])
            return rescaled(narrowed(one @ two, instruction.shift), instruction.rescale)
        case plan.SumCodes():
            sums = x.sum(_axes(instruction.axes), keepdims=True)
            return rescaled(narrowed(sums, instruction.shift), instruction.rescale).reshape(len(x), *shape)
        case plan.ExtremeCodes():
            reduce = np.amin if instruction.least else np.amax
            return np.asarray(reduce(x, axis=_axes(instruction.axes))).reshape(len(x), *shape)
        case plan.PermuteAxes(order=order):
            return x.transpose(0, *(1 + int(axis) for axis in order))
        case plan.TakeCodes(index=index, axis=axis):
            taken = x.take(np.maximum(index, 0), axis=1 + axis)
            np.moveaxis(taken, 1 + axis, 0)[index < 0] = instruction.fill
            return taken
        case plan.ResampleMaps():
            sums = instruction.rows.astype(np.int64) @ x @ instruction.columns.astype(np.int64).T
            return rescaled(narrowed(sums, instruction.shift), instruction.rescale)
        case plan.NormaliseCodes():
            return _norm(instruction, x)
        case plan.SoftmaxCodes(axis=axis, entries=entries):
            away = x.max(1 + axis, keepdims=True) - x
            e = np.where(away < len(entries), entries.astype(np.int64)[np.minimum(away, len(entries) - 1)], 0)
            share = (np.int64(1) << 46) // e.sum(1 + axis, keepdims=True)
            return rescaled(rounded(e * share, 16), instruction.rescale)
    raise ValueError(f"{type(instruction).__name__} is not an instruction of the digital part")


def rescaled(values: Wide, rule: RescaleRule) -> Wide:
    """clamp(round(x · multiplier / 2^shift), low, high); of each channel (axis 1), or of all."""
    across = (1, -1) + (1,) * (values.ndim - 2)
    multiplier, shift = (v.astype(np.int64).reshape(across) for v in (rule.multiplier, rule.shift))
    return np.asarray(np.clip(rounded(values * multiplier, shift), rule.low, rule.high))


def rounded(values: Wide, shift: Wide | int) -> Wide:
    """v / 2^shift, halves away from zero."""
    half = (np.int64(1) << np.asarray(shift, np.int64)) >> 1
    size = (np.abs(values) + half) >> shift
    return np.asarray(np.where(values < 0, -size, size))


def saturated(values: Wide) -> Wide:
    return np.asarray(np.clip(values, LOW, HIGH))


def narrowed(values: Wide, shift: int) -> Wide:
    """64-bit sums, shifted right with rounding and saturated to 32 bits."""
    return saturated(rounded(values, shift))


def of_one_rank(one: Wide, two: Wide) -> tuple[Wide, Wide]:
    """Both arrays at equal rank: leading axes of size 1 are added to the one with fewer axes."""
    rank = max(one.ndim, two.ndim)
    first, second = (v.reshape(len(v), *[1] * (rank - v.ndim), *v.shape[1:]) for v in (one, two))
    return first, second


def _axes(axes: NDArray[np.int32]) -> tuple[int, ...]:
    return tuple(1 + int(axis) for axis in axes)


def _windows(x: Wide, window: NDArray[np.int32], outside: int) -> Wide:
    """View of an array as its kernel windows: (n, channels, down, across, kernel rows, kernel columns)."""
    kernel, stride, padding = window.reshape(3, 2).tolist()
    widths = ((0, 0), (0, 0), (padding[0], padding[0]), (padding[1], padding[1]))
    padded = np.pad(x, widths, constant_values=outside)
    return np.asarray(sliding_window_view(padded, kernel, axis=(2, 3))[:, :, :: stride[0], :: stride[1]])


def _norm(rule: plan.NormaliseCodes, x: Wide) -> Wide:
    """z · weight + offset, rescaled; z = round(2^10 · d / √(Σ d² / n + ε))."""
    axes, wide = _axes(rule.axes), x << rule.fraction
    n = math.prod(x.shape[axis] for axis in axes)
    total = wide.sum(axes, keepdims=True)
    size = (2 * np.abs(total) + n) // (2 * n)
    mean = np.where(total < 0, -size, size) if rule.centre else np.zeros_like(total)
    d = wide - mean
    variance = np.maximum((d * d).sum(axes, keepdims=True) // n + (rule.eps << rule.eps_shift), 1)
    bits = np.frompyfunc(lambda v: int(v).bit_length() - 1, 1, 1)(variance).astype(np.int64)
    half = (23 - bits) >> 1
    w = np.where(half >= 0, variance << np.maximum(2 * half, 0), variance >> np.maximum(-2 * half, 0))
    root = np.frompyfunc(math.isqrt, 1, 1)((np.int64(1) << 62) // w).astype(np.int64)
    z = np.clip(rounded(d * root, 21 - half), -NORM_END, NORM_END)
    return rescaled(z * rule.weight[None].astype(np.int64) + rule.offset[None], rule.rescale)
