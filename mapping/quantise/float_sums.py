"""A layer held to its sums in the float network, on the codes that it will really get.

The layers before, integer by now, make codes x of the calibration images that miss the float ones by a little. What the
sums y of the float network need on these codes, a linear layer can partly give by its weights, and the size of each
output by its scale:

    Δ = cov(y − W x, x) (H + λ h I)⁻¹        weights W + α Δ are rounded instead of W
    γ = cov(s q x, y) / var(y)               the scale s of an output becomes s / γ

H is the covariance of x, h the mean of its diagonal. Both are judged by samples of y (``observe.Observations.sums``).
Without γ each output keeps a share of its size, since clipping and noise before a ReLU shrink it, and fifty layers
multiply these shares.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapping.quantise.rounding import Floats, InputStatistics

SHARE = 0.5  # α: a chip's errors are not those that Δ mends; half of it keeps most of ideal and of the chip
RIDGE = 0.1  # λ: the sample is finite
GAINS = (0.3, 1.5)  # γ beyond these are accidents of the sample
SEEN = 64  # vectors at least that a sample has; fewer say nothing of covariances


def mended_weights(
    weight: Floats, inputs: InputStatistics, sample: NDArray[np.float32], sums: NDArray[np.float32], scale: float
) -> Floats:
    """W + α Δ, (groups, outputs, inputs), in the place of ``weight``: of the largest layers two would stand at once.

    Args:
        sample: input codes, (groups, inputs, vectors), of ``scale``.
        sums: of the float network for the same vectors, (outputs of all groups, vectors).
    """
    vectors = sample.shape[2]
    if vectors < SEEN:
        return weight
    wanted = sums.reshape(*weight.shape[:2], vectors) / scale  # as sums of codes
    rest = [_about_mean(wanted[g] - weight[g].astype(np.float32) @ sample[g]) for g in range(len(weight))]
    for part in inputs.parts:
        codes = _about_mean(sample[part.group, part.inputs])
        ridge = RIDGE * float(np.diagonal(part.covariance).mean())
        covariance = codes @ codes.T / vectors + ridge * np.eye(len(codes), dtype=np.float32)
        move = np.linalg.solve(covariance, codes @ rest[part.group].T / vectors).T
        rest[part.group] -= (move @ codes).astype(np.float32)
        weight[part.group][:, part.inputs] += SHARE * move
    return weight


def gains(
    levels: NDArray[np.int16], unit: Floats, sample: NDArray[np.float32], sums: NDArray[np.float32], scale: float
) -> Floats:
    """γ, by which the scale of each output is divided, (groups, outputs); 1 where the sample is too small to say.

    Args:
        levels: rounded weights, (groups, outputs, inputs), whose steps are ``unit``, (groups, outputs).
        sample: input codes, (groups, inputs, vectors), of ``scale``.
        sums: of the float network for the same vectors, (outputs of all groups, vectors).
    """
    vectors = sample.shape[2]
    if vectors < SEEN:
        return np.ones_like(unit)
    mine = np.stack([_about_mean(q.astype(np.float32) @ x) for q, x in zip(levels, sample, strict=True)])
    theirs = _about_mean(sums).reshape(mine.shape)
    along = np.einsum("gov,gov->go", mine, theirs, dtype=np.float64) * unit * scale
    power = np.einsum("gov,gov->go", theirs, theirs, dtype=np.float64)
    good = (along > 0) & (power > 0)
    return np.where(good, np.clip(along / np.where(good, power, 1.0), *GAINS), 1.0)


def _about_mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(values - values.mean(axis=-1, keepdims=True), np.float32)
