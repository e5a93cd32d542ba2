"""Integer weights of least output error, from the layer's own input statistics.

Rounding one weight makes an error that the weights not yet rounded can partly take over.
With the covariance H of the layer's inputs, the error variance of an output with weights w,
rounded to q, is (w − q) H (w − q)ᵀ (the mean error is left to the bias). Going through the
inputs one by one, the best update of the rest follows from the Cholesky factor of H⁻¹
(Frantar et al., GPTQ, arXiv:2210.17323).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CLIPS = np.linspace(0.4, 1.0, 31)  # ends of the weight scale that are tried, as shares of the largest weight
DAMPING = 0.01  # of the mean variance; keeps inputs that are seldom on from being free
MOST_INPUTS = 1024  # inputs that make up for each other; bounds time and memory of wide layers
ON_GRID = 1e-3  # steps; float32 weights after a batch norm was folded in
TOGETHER = 1 << 18  # codes that are looked at together
BLOCK = 64  # inputs whose updates are gathered before the rest of the row is touched,
BLOCKS = 8  # and so many blocks of them before the rest beyond these, in single precision


@dataclass(frozen=True, slots=True)
class Correlated:
    """Inputs of one group that make up for each other, strongest first.

    ``covariance`` H, damped on its diagonal, and the upper ``factor`` U with H⁻¹ = Uᵀ U, in double or single precision.
    """

    group: int
    inputs: NDArray[np.intp]
    covariance: NDArray[np.floating]
    factor: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """Statistics of a layer's inputs: damped ``variance`` (groups, inputs), and ``parts`` that cover all of them."""

    variance: Floats
    parts: tuple[Correlated, ...]


def input_statistics(sample: NDArray[np.float32], *, single: bool = False) -> InputStatistics:
    """Variances and covariances of input vectors, (groups, inputs, vectors); ``single``: in float32 where it saves
    memory."""
    groups, inputs, _ = sample.shape
    variance = by_input(sample, _exact_variance if single else lambda codes: codes.var(axis=1, dtype=np.float64))
    floor = DAMPING * variance.mean(axis=1, keepdims=True)
    variance += np.where(floor > 0, floor, 1.0)
    parts = []
    for group in range(groups):
        order = np.argsort(-variance[group], kind="stable")  # strongest inputs first
        for start in range(0, inputs, MOST_INPUTS):
            part = order[start : start + MOST_INPUTS]
            covariance = _covariance(sample[group, part], variance[group, part], np.float32 if single else np.float64)
            parts.append(Correlated(group, part, covariance, _inverse_factor(covariance)))
    return InputStatistics(variance, tuple(parts))


def _exact_variance(codes: NDArray[np.float32]) -> Floats:
    """Variance of whole numbers (inputs, vectors) from their sums and those of their squares, which are exact."""
    from mapping.quantise.kernels import code_sums  # late: numba

    vectors = codes.shape[1]
    total, square = code_sums(codes)
    return np.asarray((vectors * square - total * total) / float(vectors) ** 2)


def by_input(sample: NDArray[np.float32], statistic: Callable[[NDArray[np.float32]], Floats]) -> Floats:
    """A ``statistic`` of the codes of each input, (groups, inputs), from (groups, inputs, vectors).

    It is asked of (some inputs, vectors) at a time: what it makes on the way is larger than the codes.
    """
    flat = sample.reshape(-1, sample.shape[2])
    some = max(1, TOGETHER // max(1, sample.shape[2]))
    found = [statistic(flat[first : first + some]) for first in range(0, len(flat), some)]
    return np.concatenate(found).reshape(sample.shape[:2])


def round_weights(weight: Floats, inputs: InputStatistics, scale: Floats, integers: Integers) -> NDArray[np.int16]:
    """Give integer weights, (groups, outputs, inputs): weight ≈ scale · integer, later ones making up for earlier.

    Args:
        weight: (groups, outputs, inputs) of each group.
        scale: (groups, outputs).
        integers: those that a weight can be, ascending, 0 among them.
    """
    levels = np.empty(weight.shape, np.int16)
    for part in inputs.parts:
        scaled = weight[part.group][:, part.inputs] / scale[part.group][:, None]
        levels[part.group][:, part.inputs], _ = compensated(scaled, part.factor, integers)
    return levels


def unbiased_scale(weight: Floats, levels: NDArray[np.int16], inputs: InputStatistics, otherwise: Floats) -> Floats:
    """Per output, what one of its integers should stand for: the s at which s q x grows with w x as w x does itself,
    w H w / w H q.

    The s of least (w − s q) H (w − s q)ᵀ, w H q / q H q, is smaller by ρ², the share of the output that the integers
    say; layers behind each other multiply that. ``otherwise`` stands where w H q is not above zero.
    """
    along, power = np.zeros(otherwise.shape), np.zeros(otherwise.shape)
    for part in inputs.parts:
        own = weight[part.group][:, part.inputs]
        seen = own @ part.covariance
        along[part.group] += np.einsum("oi,oi->o", seen, levels[part.group][:, part.inputs].astype(np.float64))
        power[part.group] += np.einsum("oi,oi->o", seen, own)
    good = (power > 0) & (along > 0)
    return np.where(good, power / np.where(along > 0, along, 1.0), otherwise)


def largest_scale(weight: Floats, integers: Integers) -> Floats:
    """Per output, the scale at which the largest weight is the largest integer, (groups, outputs); 1 for all zeros."""
    largest, top = np.abs(weight).max(axis=2), min(-int(integers[0]), int(integers[-1]))
    return np.where(largest > 0, largest, float(top)) / top


def weighted_scale(weight: Floats, variance: Floats, integers: Integers) -> Floats:
    """Per output, the scale whose nearest rounding has the least error; (groups, outputs).

    Each weight counts with the variance of its input, (groups, inputs).
    """
    widest = largest_scale(weight, integers)
    best, least = widest, np.full(widest.shape, np.inf)
    for clip in CLIPS[::-1]:
        scale = clip * widest
        loss = _losses(weight, variance, scale, integers)
        best = np.where(loss < least, scale, best)
        least = np.minimum(loss, least)
    return best


def grid_scale(weight: Floats, weight_max: int) -> Floats:
    """Per output, the step of the grid that the weights already lie on; (groups, outputs), 0 where there is none.

    Trained steps: the largest weight of an output may be any number of steps, and no rounding is better than none.
    """
    largest = np.abs(weight).max(axis=2)
    found = np.zeros(largest.shape)
    for top in range(1, weight_max + 1):  # the finest grid stands: large integers stand out from a cell's errors
        step = np.where(largest > 0, largest, 1.0) / top
        steps = weight / step[:, :, None]
        found = np.where(np.abs(steps - np.rint(steps)).max(axis=2) < ON_GRID, step, found)
    return np.where(largest > 0, found, 0.0)


def compensated(
    weight: NDArray[np.floating], factor: NDArray[np.floating], integers: Integers
) -> tuple[NDArray[np.int16], Floats]:
    """Round ``weight``, (outputs, inputs) in units of its scale, moving each error onto later inputs.

    Returns:
        integers, and the sum of squares of what was moved on, (outputs,).
    """
    from mapping.quantise.kernels import round_block  # late: numba

    rest = weight.copy()
    levels = np.zeros(weight.shape, np.int16)
    squares = np.zeros(len(weight))
    inputs, middles = weight.shape[1], _middles(integers).astype(weight.dtype)
    many = BLOCK * (BLOCKS if weight.dtype == np.float32 else 1)
    for first in range(0, inputs, many):
        last = min(first + many, inputs)
        moved = np.empty((len(weight), last - first), weight.dtype)
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            levels[:, start:stop], errors = round_block(rest, factor, middles, integers, start, stop)
            moved[:, start - first : stop - first] = errors
            rest[:, stop:last] -= errors @ factor[start:stop, stop:last]
        squares += np.einsum("oi,oi->o", moved, moved)
        rest[:, last:] -= moved @ factor[first:last, last:]
    return levels, squares


def _losses(weight: Floats, variance: Floats, scale: Floats, integers: Integers) -> Floats:
    """Error of the nearest rounding at one scale an output, each weight counting with its input's variance."""
    if len(_middles(integers)):
        error = weight - scale[:, :, None] * nearest_integers(weight / scale[:, :, None], integers)
        losses: Floats = np.matmul(error**2, variance[:, :, None])[:, :, 0]
        return losses
    from mapping.quantise.kernels import clipped_losses  # late: numba

    low, high = float(integers[0]), float(integers[-1])
    return np.stack([clipped_losses(*part, low, high) for part in zip(weight, variance, scale, strict=True)])


def _inverse_factor(covariance: NDArray[np.floating]) -> NDArray[np.floating]:
    """The upper triangle U with H⁻¹ = Uᵀ U: the inverse of the factor of H taken from its last input backwards."""
    lower = np.linalg.cholesky(covariance[::-1, ::-1])
    from scipy.linalg import lapack  # late: an estimate needs no scipy

    invert = lapack.strtri if covariance.dtype == np.float32 else lapack.dtrtri
    factor, info = invert(lower[::-1, ::-1])
    if info != 0:
        raise ArithmeticError(f"covariance of {len(covariance)} inputs is singular (LAPACK trtri {info})")
    return np.ascontiguousarray(factor)  # what lies below the diagonal is zero already


def _covariance(
    sample: NDArray[np.float32], variance: Floats, kind: type[np.float32] | type[np.float64]
) -> NDArray[np.floating]:
    """H of (inputs, vectors), with the damped ``variance`` on its diagonal."""
    centred = sample - sample.mean(axis=1, keepdims=True)
    covariance: NDArray[np.floating] = (centred @ centred.T).astype(kind, copy=False)
    covariance /= sample.shape[1]
    np.fill_diagonal(covariance, variance)
    return covariance


def nearest_integers(weight: Floats, integers: Integers) -> NDArray[np.int16]:
    """The nearest of the integers that a weight can be, of weights in units of their scale."""
    middles = _middles(integers)
    if len(middles):
        return integers[np.searchsorted(middles, weight)].astype(np.int16)
    return np.rint(weight).clip(integers[0], integers[-1]).astype(np.int16)


def _middles(integers: Integers) -> Floats:
    """Middles between neighbours of ``integers``; an empty array where these have no gaps."""
    if integers[-1] - integers[0] == len(integers) - 1:
        return np.empty(0)
    return (integers[1:] + integers[:-1]) / 2
