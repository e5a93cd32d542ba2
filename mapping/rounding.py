"""Integer weights of least output error, from the layer's own input statistics.

Rounding one weight makes an error that the weights not yet rounded can partly take over.
With H = E[x xᵀ] of the layer's inputs, the output error of a weight row w is
(w − q) H (w − q)ᵀ; going through the inputs one by one, the best update of the rest follows
from the Cholesky factor of H⁻¹ (optimal brain compression, Frantar et al., GPTQ,
arXiv:2210.17323).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIPS = np.linspace(0.4, 1.0, 31)  # ends of the weight scale that are tried, as shares of the largest weight
DAMPING = 0.01  # of the mean diagonal of H; keeps inputs that are seldom on from being free
BLOCK = 64  # inputs whose updates are gathered before the rest of the row is touched


def round_weights(weight: Floats, moment: Floats, weight_max: int) -> tuple[NDArray[np.int16], Floats]:
    """Give integer weights and the scale of each output.

    Args:
        weight: (groups, outputs, inputs) of each group.
        moment: H = E[x xᵀ] of each group's inputs, (groups, inputs, inputs).
        weight_max: largest integer, symmetric.

    Returns:
        int16 (groups, outputs, inputs) in ±weight_max, and float64 (groups, outputs): weight
        ≈ scale · integer. Outputs whose weights are all zero have scale 1.
    """
    damped = _damped(moment)
    scale = best_weight_scale(weight, damped, weight_max)
    order = np.argsort(-np.einsum("gii->gi", damped), axis=1, kind="stable")  # strongest inputs first
    sorted_moment = np.take_along_axis(np.take_along_axis(damped, order[:, :, None], 1), order[:, None, :], 2)
    sorted_weight = np.take_along_axis(weight, order[:, None, :], 2)
    rounded = _compensated(sorted_weight / scale[:, :, None], sorted_moment, weight_max)
    levels = np.empty_like(rounded)
    np.put_along_axis(levels, np.broadcast_to(order[:, None, :], levels.shape), rounded, 2)
    return levels, scale


def best_weight_scale(weight: Floats, moment: Floats, weight_max: int) -> Floats:
    """Per output, the scale whose nearest rounding has the least output error; (groups, outputs)."""
    largest = np.abs(weight).max(axis=2)
    safe = np.where(largest > 0, largest, float(weight_max))
    best, least = safe / weight_max, np.full(largest.shape, np.inf)
    for clip in CLIPS[::-1]:
        scale = clip * safe / weight_max
        error = weight - scale[:, :, None] * _nearest(weight / scale[:, :, None], weight_max)
        loss = np.einsum("goi,goi->go", error @ moment, error)
        best = np.where(loss < least, scale, best)
        least = np.minimum(loss, least)
    return best


def _compensated(weight: Floats, moment: Floats, weight_max: int) -> NDArray[np.int16]:
    """Round ``weight`` (in units of its scale) input by input, moving each error onto later inputs."""
    inverse = np.linalg.inv(moment)
    factor = np.linalg.cholesky((inverse + inverse.swapaxes(1, 2)) / 2).swapaxes(1, 2)  # upper, H⁻¹ = Uᵀ U
    rest = weight.copy()
    levels = np.zeros(weight.shape, np.int16)
    inputs = weight.shape[2]
    for start in range(0, inputs, BLOCK):
        stop = min(start + BLOCK, inputs)
        errors = np.zeros((*weight.shape[:2], stop - start))
        for i in range(start, stop):
            level = _nearest(rest[:, :, i], weight_max)
            levels[:, :, i] = level
            error = (rest[:, :, i] - level) / factor[:, i, i, None]
            rest[:, :, i:stop] -= error[:, :, None] * factor[:, None, i, i:stop]
            errors[:, :, i - start] = error
        rest[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return levels


def _damped(moment: Floats) -> Floats:
    inputs = moment.shape[1]
    strength = np.einsum("gii->g", moment) / inputs
    strength = np.where(strength > 0, strength, 1.0)
    return moment + (DAMPING * strength)[:, None, None] * np.eye(inputs)


def _nearest(weight: Floats, weight_max: int) -> Floats:
    return np.clip(np.rint(weight), -weight_max, weight_max)
