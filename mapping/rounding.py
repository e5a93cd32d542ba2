"""Integer weights of least output error, from the layer's own input statistics.

Rounding one weight makes an error that the weights not yet rounded can partly take over.
With the covariance H of the layer's inputs, the error variance of an output with weights w,
rounded to q, is (w − q) H (w − q)ᵀ (the mean error is left to the bias). Going through the
inputs one by one, the best update of the rest follows from the Cholesky factor of H⁻¹
(Frantar et al., GPTQ, arXiv:2210.17323).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIPS = np.linspace(0.4, 1.0, 31)  # ends of the weight scale that are tried, as shares of the largest weight
DAMPING = 0.01  # of the mean variance; keeps inputs that are seldom on from being free
MOST_INPUTS = 2048  # inputs that make up for each other; bounds time and memory of wide layers
ON_GRID = 1e-3  # steps; float32 weights after a batch norm was folded in
BLOCK = 64  # inputs whose updates are gathered before the rest of the row is touched


def round_weights(weight: Floats, sample: NDArray[np.float32], weight_max: int) -> tuple[NDArray[np.int16], Floats]:
    """Give integer weights and the scale of each output.

    Args:
        weight: (groups, outputs, inputs) of each group.
        sample: input vectors of each group, (groups, inputs, vectors).
        weight_max: largest integer, symmetric.

    Returns:
        int16 (groups, outputs, inputs) in ±weight_max, and float64 (groups, outputs): weight
        ≈ scale · integer. Outputs whose weights are all zero have scale 1.
    """
    groups, _, inputs = weight.shape
    variance = sample.var(axis=2, dtype=np.float64)
    floor = DAMPING * variance.mean(axis=1, keepdims=True)
    variance += np.where(floor > 0, floor, 1.0)
    scale = best_weight_scale(weight, variance, weight_max)
    grid = grid_scale(weight, weight_max)
    scale = np.where(grid > 0, grid, scale)
    levels = np.empty(weight.shape, np.int16)
    for group in range(groups):
        order = np.argsort(-variance[group], kind="stable")  # strongest inputs first
        for start in range(0, inputs, MOST_INPUTS):
            part = order[start : start + MOST_INPUTS]
            scaled = weight[group][:, part] / scale[group][:, None]
            covariance = _covariance(sample[group, part], variance[group, part])
            levels[group][:, part] = _compensated(scaled, covariance, weight_max)
    return levels, scale


def best_weight_scale(weight: Floats, variance: Floats, weight_max: int) -> Floats:
    """Per output, the scale whose nearest rounding has the least error; (groups, outputs).

    Each weight counts with the variance of its input, (groups, inputs).
    """
    largest = np.abs(weight).max(axis=2)
    safe = np.where(largest > 0, largest, float(weight_max))
    best, least = safe / weight_max, np.full(largest.shape, np.inf)
    for clip in CLIPS[::-1]:
        scale = clip * safe / weight_max
        error = weight - scale[:, :, None] * _nearest(weight / scale[:, :, None], weight_max)
        loss = np.matmul(error**2, variance[:, :, None])[:, :, 0]
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


def _compensated(weight: Floats, covariance: Floats, weight_max: int) -> NDArray[np.int16]:
    """Round ``weight``, (outputs, inputs) in units of its scale, moving each error onto later inputs."""
    factor = _inverse_factor(covariance)
    rest = weight.copy()
    levels = np.zeros(weight.shape, np.int16)
    inputs = weight.shape[1]
    for start in range(0, inputs, BLOCK):
        stop = min(start + BLOCK, inputs)
        errors = np.zeros((len(weight), stop - start))
        for i in range(start, stop):
            level = _nearest(rest[:, i], weight_max)
            levels[:, i] = level
            error = (rest[:, i] - level) / factor[i, i]
            rest[:, i:stop] -= np.outer(error, factor[i, i:stop])
            errors[:, i - start] = error
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    return levels


def _inverse_factor(covariance: Floats) -> Floats:
    """The upper triangle U with H⁻¹ = Uᵀ U: the inverse of the factor of H taken from its last input backwards."""
    lower = np.linalg.cholesky(covariance[::-1, ::-1])
    from scipy.linalg import lapack  # late: an estimate needs no scipy

    factor, info = lapack.dtrtri(lower[::-1, ::-1])
    if info != 0:
        raise ArithmeticError(f"covariance of {len(covariance)} inputs is singular (LAPACK trtri {info})")
    upper: Floats = np.triu(factor)
    return upper


def _covariance(sample: NDArray[np.float32], variance: Floats) -> Floats:
    """H of (inputs, vectors), with the damped ``variance`` on its diagonal."""
    centred = sample - sample.mean(axis=1, keepdims=True)
    covariance: Floats = (centred @ centred.T).astype(np.float64) / sample.shape[1]
    np.fill_diagonal(covariance, variance)
    return covariance


def _nearest(weight: Floats, weight_max: int) -> Floats:
    nearest: Floats = np.clip(np.rint(weight), -weight_max, weight_max)
    return nearest
