"""A value of a network as a sum over its choices, fitted by ridge from some networks that were measured.

    y = b + Σ_genes w[choice] + noise,   w = u + Σ_g D_g v_g,   u ~ N(0, τ²),  v_g ~ N(0, ρ_g τ²),  noise ~ N(0, σ²)

The columns of D_g are what choices have in common: choices of one kind, as an operator that may stand in many places,
or the multiplications of a network. What is learnt of it in one place holds in part for the others. λ = σ²/τ² and
the ρ_g are those under which the measured values are most likely. The posterior of w gives each prediction its
standard error (Bishop, Pattern Recognition and Machine Learning, ch. 3.3).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from search.space.significance import Floats, Genomes, Significance, one_hot

RATIOS = tuple(float(r) for r in np.geomspace(1e-3, 1e2, 51))  # λ
SHARED = (0.0, 1.0, 4.0, 16.0)  # ρ of a group of common columns


@dataclass(frozen=True, slots=True, eq=False)
class AdditiveModel:
    """``weights`` over all choices of all genes; ``covariance`` of them and the mean, in squared units of y."""

    choices: tuple[int, ...]
    mean: float
    weights: Floats
    covariance: Floats
    noise: float

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard error of the sum, (networks,) each; a single new measurement has ``noise`` on top."""
        hot = one_hot(self.choices, genomes)
        full = np.column_stack([np.ones(len(hot)), hot])
        spread = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", full, self.covariance, full), 0.0))
        return self.mean + hot @ self.weights, spread

    @property
    def significance(self) -> Significance:
        return Significance.of(self.choices, self.weights)


def fit_additive(
    choices: Sequence[int], genomes: Genomes, values: Floats, common: Sequence[Floats] = ()
) -> AdditiveModel:
    """Fit to measured networks; at least 2.

    Args:
        common: what choices have in common, a group of columns each, (Σ choices, columns), as ``Space.kinds``.

    Raises ``ValueError`` for fewer, or values that are not finite.
    """
    y = np.asarray(values, np.float64)
    if len(y) < 2 or not np.isfinite(y).all():
        raise ValueError(f"{len(y)} values; an additive model needs at least 2, all finite")
    hot = one_hot(choices, np.asarray(genomes))
    _, ratio, basis = most_likely(hot, y, common)
    full = np.column_stack([np.ones(len(y)), hot @ basis])
    inverse = np.linalg.inv(full.T @ full + np.diag([0.0, *[ratio] * basis.shape[1]]))
    solved = inverse @ full.T @ y
    rest = float((y - solved[0]) @ (y - full @ solved))  # (y − b)ᵀ (K / λ + 1)⁻¹ (y − b)
    noise2 = max(rest, 0.0) / (len(y) - 1)
    back = np.zeros((1 + len(basis), 1 + basis.shape[1]))  # from b, u and v to b and w
    back[0, 0], back[1:, 1:] = 1.0, basis
    covariance = noise2 * (back @ inverse @ back.T)
    return AdditiveModel(tuple(choices), float(solved[0]), basis @ solved[1:], covariance, float(np.sqrt(noise2)))


def most_likely(hot: Floats, y: Floats, common: Sequence[Floats]) -> tuple[float, float, Floats]:
    """Log likelihood, λ, and the basis (Σ choices, parts) in which all parts of w have the variance τ²."""
    alone = np.eye(hot.shape[1])
    bases = [
        np.column_stack(
            [alone, *(np.sqrt(share) * group for share, group in zip(shares, common, strict=True) if share)]
        )
        for shares in itertools.product(SHARED, repeat=len(common))
    ]
    found = [(evidence.at(ratio), ratio, basis) for basis in bases for evidence in [Evidence(hot @ basis, y)]
             for ratio in RATIOS]  # fmt: skip
    return max(found, key=lambda one: one[0])


class Evidence:
    """Log likelihood of y for a ratio, without constants; b and σ² at their best (restricted likelihood).

    With the mean taken out and K = X Xᵀ = U diag(s) Uᵀ:  −½ (n − 1) ln(yᵀ (K / λ + 1)⁻¹ y) − ½ Σ ln(s / λ + 1)
    """

    def __init__(self, hot: Floats, y: Floats) -> None:
        centred = hot - hot.mean(0)
        spread, axes = np.linalg.eigh(centred.T @ centred)
        good = spread > 1e-9 * max(float(spread.max()), 1e-300)
        self.spread = spread[good]
        along = (centred @ axes[:, good]).T @ (y - y.mean())
        self.along2 = along**2 / self.spread
        self.total = float(((y - y.mean()) ** 2).sum())
        self.n = len(y)

    def at(self, ratio: float) -> float:
        wide = self.spread / ratio + 1
        rest = max(self.total - float(self.along2.sum()), 0.0) + float((self.along2 / wide).sum())
        return -0.5 * ((self.n - 1) * float(np.log(max(rest, 1e-300))) + float(np.log(wide).sum()))


def kendall_tau(a: Floats, b: Floats) -> float:
    """Rank agreement of two scores, −1 to 1 (tau-b)."""
    return float(kendalltau(a, b).statistic)
