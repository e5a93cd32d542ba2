"""Rounding of one layer at one scale after another, the error of each known without a product with the covariance.

With the factor U of ``rounding`` (H⁻¹ = Uᵀ U) the errors r that rounding moves on are those of the output: for weights
w in units of the scale s and integers q, w / s − q = r U, hence

    (w / s − q) H (w / s − q)ᵀ = r rᵀ,   q H qᵀ = r rᵀ − w H wᵀ / s² + 2 w H qᵀ / s

and with the scale w H w / w H q (``rounding.unbiased_scale``) the error is w H wᵀ · (w H wᵀ · q H qᵀ / (w H qᵀ)² − 1).
What is left is w H, once a layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapping.quantise.rounding import Floats, InputStatistics, Integers, compensated

MOST_DOUBLE = 1 << 18  # weights of a layer whose errors move on in double precision; in single one, it takes half


@dataclass(frozen=True, slots=True)
class Rounded:
    """Integers of a layer, (groups, outputs, inputs); unbiased ``scale`` and mean square error, (groups, outputs)."""

    levels: NDArray[np.int16]
    scale: Floats
    error: Floats

    def where(self, better: NDArray[np.bool_], other: Rounded) -> Rounded:
        """This rounding where ``better`` (groups, outputs) is true, ``other`` elsewhere."""
        return Rounded(
            np.where(better[:, :, None], self.levels, other.levels),
            np.where(better, self.scale, other.scale),
            np.where(better, self.error, other.error),
        )


class ScaleTrials:
    """Trials with the weights of a layer, (groups, outputs, inputs)."""

    def __init__(self, weight: Floats, inputs: InputStatistics, integers: Integers) -> None:
        self._shape, self._integers, self._parts = weight.shape, integers, inputs.parts
        self.large = weight.size > MOST_DOUBLE
        kind: type[np.float32] | type[np.float64] = np.float32 if self.large else np.float64
        self._kind = kind
        self._factors: list[NDArray[np.floating]] = [part.factor.astype(kind, copy=False) for part in inputs.parts]
        self._own: list[NDArray[np.floating]] = [
            weight[part.group][:, part.inputs].astype(kind, copy=False) for part in inputs.parts
        ]
        self._pulls = [
            w @ part.covariance.astype(kind, copy=False) for w, part in zip(self._own, inputs.parts, strict=True)
        ]
        self._power = np.zeros(weight.shape[:2])
        for part, w, pull in zip(inputs.parts, self._own, self._pulls, strict=True):
            self._power[part.group] += np.einsum("oi,oi->o", pull, w)

    def at(self, scale: Floats) -> Rounded:
        """Weights rounded in units of ``scale``, (groups, outputs)."""
        levels = np.empty(self._shape, np.int16)
        moved, along = np.zeros(scale.shape), np.zeros(scale.shape)
        for part, own, factor, pull in zip(self._parts, self._own, self._factors, self._pulls, strict=True):
            units = scale[part.group][:, None].astype(self._kind, copy=False)
            q, squares = compensated(own / units, factor, self._integers)
            levels[part.group][:, part.inputs] = q
            moved[part.group] += squares
            along[part.group] += np.einsum("oi,oi->o", pull, q.astype(pull.dtype) if self.large else q)
        square = moved - self._power / scale**2 + 2.0 * along / scale
        good = (self._power > 0) & (along > 0)
        held = np.where(good, along, 1.0)
        unbiased = np.where(good, self._power / held, scale)
        error = np.where(good, self._power * (self._power * square / held**2 - 1.0), scale**2 * moved)
        return Rounded(levels, unbiased, np.maximum(error, 0.0))
