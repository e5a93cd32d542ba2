"""Inner loops of quantisation as numba kernels. Imports numba: import this module late."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
SIDE = 64  # outputs that are rounded side by side


@njit(cache=True, nogil=True, error_model="numpy")
def conversion_errors(
    plus: Singles, minus: Singles, weights: Floats, lsb_us: Floats, low: int, high: int, count_low: bool
) -> tuple[Floats, NDArray[np.int64]]:
    """Errors of converted sums under each range, as ``cim.chip.converters.quantise_adc`` makes them.

    Args:
        plus: what the converter is given, µS, (planes, vectors, outputs).
        minus: the same of the other half of a pair, which is subtracted; (0, 0, 0) where there is none.
        weights: of the planes, squared.
        lsb_us: of each range.
        low, high: ends of the codes; the low one counts as an end if ``count_low``.

    Returns:
        Σ over planes and vectors of weight · error², (ranges, outputs), and conversions at an end, (ranges,).
    """
    planes, vectors, outputs = plus.shape
    squared = np.zeros((len(lsb_us), outputs))
    ends = np.zeros(len(lsb_us), np.int64)
    half, bottom, top = np.float32(0.5), np.float32(low), np.float32(high)
    error = np.empty(outputs)
    for code in range(len(lsb_us)):
        lsb, step = lsb_us[code], np.float32(lsb_us[code])
        at_end = 0
        for p in range(planes):
            for v in range(vectors):
                for o in range(outputs):
                    x = plus[p, v, o]
                    got = min(max(np.floor(x / step + half), bottom), top)
                    error[o] = np.float64(got) * lsb - np.float64(x)
                    at_end += (got >= top) + (count_low and got <= bottom)
                if minus.size:
                    for o in range(outputs):
                        x = minus[p, v, o]
                        got = min(max(np.floor(x / step + half), bottom), top)
                        error[o] -= np.float64(got) * lsb - np.float64(x)
                        at_end += (got >= top) + (count_low and got <= bottom)
                for o in range(outputs):
                    squared[code, o] += weights[p] * error[o] * error[o]
        ends[code] = at_end
    return squared, ends


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def code_sums(codes: Singles) -> tuple[Floats, Floats]:
    """Sums of whole numbers and of their squares, of each row: exact below 2^53, in any order."""
    total, square = np.zeros(len(codes)), np.zeros(len(codes))
    for i in range(codes.shape[0]):
        one, two = 0.0, 0.0
        for v in range(codes.shape[1]):
            code = np.float64(codes[i, v])
            one += code
            two += code * code
        total[i], square[i] = one, two
    return total, square


@njit(cache=True, nogil=True, error_model="numpy")
def table_sums(codes: Singles, low: int, table: Floats) -> Floats:
    """Sum of ``table[code − low]`` over each row of codes."""
    total = np.zeros(len(codes))
    for i in range(codes.shape[0]):
        one = 0.0
        for v in range(codes.shape[1]):
            one += table[int(codes[i, v]) - low]
        total[i] = one
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def round_block(
    rest: NDArray[np.floating],
    factor: NDArray[np.floating],
    middles: NDArray[np.floating],
    integers: NDArray[np.int64],
    start: int,
    stop: int,
) -> tuple[NDArray[np.int16], NDArray[np.floating]]:
    """Round inputs ``start`` to ``stop`` of every output, each error moved onto later inputs of the block.

    Args:
        rest: weights in units of their scale, (outputs, inputs); those of the block are moved in a copy.
        factor: the upper factor of the inverse covariance, (inputs, inputs).
        middles: between neighbouring ``integers``; empty where these are all between their ends.

    Returns:
        levels and errors of the block, (outputs, stop − start).
    """
    outputs, width, kind = len(rest), stop - start, rest.dtype.type
    levels, errors = np.empty((outputs, width), np.int16), np.empty((outputs, width), rest.dtype)
    low, high = kind(integers[0]), kind(integers[-1])
    block, moved = np.empty((width, SIDE), rest.dtype), np.empty(SIDE, rest.dtype)  # outputs side by side
    for first in range(0, outputs, SIDE):
        count = min(SIDE, outputs - first)
        for i in range(width):
            for o in range(count):
                block[i, o] = rest[first + o, start + i]
        for i in range(width):
            own = factor[start + i, start + i]
            for o in range(count):
                value = block[i, o]
                if len(middles):
                    level = kind(integers[np.searchsorted(middles, value)])
                else:
                    level = min(max(np.rint(value), low), high)
                moved[o] = (value - level) / own
                levels[first + o, i], errors[first + o, i] = np.int16(level), moved[o]
            for j in range(i, width):
                share = factor[start + i, start + j]
                for o in range(count):
                    block[j, o] -= moved[o] * share
    return levels, errors


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz"})
def clipped_losses(weight: Floats, variance: Floats, scale: Floats, low: float, high: float) -> Floats:
    """Σ over inputs of variance · (w − s · clip(round(w / s)))² of each output.

    Args:
        weight: (outputs, inputs); variance: (inputs,); scale: (outputs,).
        low, high: ends of the integers, all between which a weight can be.
    """
    losses = np.zeros(len(weight))
    for o in range(len(weight)):
        s, loss = scale[o], 0.0
        for i in range(weight.shape[1]):
            w = weight[o, i]
            error = w - s * min(max(np.rint(w / s), low), high)
            loss += error * error * variance[i]
        losses[o] = loss
    return losses
