"""A value of a network as a sum over its choices, fitted by ridge from some networks that were measured.

    y = b + Σ_genes w[choice] + noise,   w ~ N(0, τ²),  noise ~ N(0, σ²)

The ratio λ = σ²/τ² is the one under which the measured values are most likely. The posterior of w gives
each prediction its standard error (Bishop, Pattern Recognition and Machine Learning, ch. 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from search.significance import Floats, Genomes, Significance, one_hot

RATIOS = np.geomspace(1e-3, 1e2, 51)


@dataclass(frozen=True, slots=True, eq=False)
class AdditiveModel:
    """``weights`` over all choices of all genes; ``covariance`` of them and the mean, in squared units of y."""

    choices: tuple[int, ...]
    mean: float
    weights: Floats
    covariance: Floats
    noise: float
    ratio: float

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard error of the sum, (networks,) each; a single new measurement has ``noise`` on top."""
        hot = one_hot(self.choices, genomes)
        full = np.column_stack([np.ones(len(hot)), hot])
        spread = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", full, self.covariance, full), 0.0))
        return self.mean + hot @ self.weights, spread

    @property
    def significance(self) -> Significance:
        return Significance.of(self.choices, self.weights)


def fit_additive(choices: Sequence[int], genomes: Genomes, values: Floats) -> AdditiveModel:
    """Fit to measured networks; at least 2.

    Raises ``ValueError`` for fewer, or values that are not finite.
    """
    y = np.asarray(values, np.float64)
    if len(y) < 2 or not np.isfinite(y).all():
        raise ValueError(f"{len(y)} values; an additive model needs at least 2, all finite")
    hot = one_hot(choices, np.asarray(genomes))
    n = len(y)
    gram = hot @ hot.T
    best = max(RATIOS, key=lambda ratio: _log_evidence(gram, y, float(ratio)))
    ratio = float(best)
    kernel = gram / ratio + np.eye(n)  # covariance of y in units of σ²
    inverse = np.linalg.inv(kernel)
    ones = np.ones(n)
    mean = float(ones @ inverse @ y / (ones @ inverse @ ones))
    noise2 = float((y - mean) @ inverse @ (y - mean)) / max(n - 1, 1)
    full = np.column_stack([ones, hot])
    penalty = np.diag([0.0, *[ratio] * hot.shape[1]])
    precision = np.linalg.inv(full.T @ full + penalty)
    solved = precision @ full.T @ y
    return AdditiveModel(
        tuple(choices), float(solved[0]), solved[1:], noise2 * precision, float(np.sqrt(noise2)), ratio
    )


def _log_evidence(gram: NDArray[np.float64], y: Floats, ratio: float) -> float:
    """Log likelihood of y for a ratio, without constants; mean and σ² at their best (restricted likelihood)."""
    n = len(y)
    kernel = gram / ratio + np.eye(n)
    _, log_det = np.linalg.slogdet(kernel)
    inverse = np.linalg.inv(kernel)
    ones = inverse.sum(0)
    mean = float(ones @ y / ones.sum())
    rest = float((y - mean) @ inverse @ (y - mean))
    return -0.5 * ((n - 1) * np.log(max(rest, 1e-300)) + float(log_det) + np.log(ones.sum()))


def kendall_tau(a: Floats, b: Floats) -> float:
    """Rank agreement of two scores, −1 to 1 (tau-b)."""
    return float(kendalltau(a, b).statistic)


def regret(score: Floats, truth: Floats) -> float:
    """Best truth − truth of the best scored, in units of the truth."""
    return float(truth.max() - truth[int(np.argmax(score))])


@dataclass(frozen=True, slots=True, eq=False)
class AccuracyModel:
    """Accuracy in percent, additive in −ln(ceiling − accuracy): what helps a good network helps it by less.

    ``predict`` gives percent; the lower bound of a network is what ``lower(genomes, kappa)`` says.
    """

    additive: AdditiveModel
    ceiling: float

    def predict(self, genomes: Genomes) -> Floats:
        """Most likely accuracy, percent, (networks,)."""
        return self.ceiling - np.exp(-self.additive.predict(genomes)[0])

    def lower(self, genomes: Genomes, kappa: float = 1.0) -> Floats:
        """Accuracy ``kappa`` standard errors lower on the additive scale, percent, (networks,)."""
        mean, error = self.additive.predict(genomes)
        return self.ceiling - np.exp(-(mean - kappa * error))

    @property
    def significance(self) -> Significance:
        """Task significance, on the additive scale."""
        return self.additive.significance


def fit_accuracy(choices: Sequence[int], genomes: Genomes, accuracies: Floats) -> AccuracyModel:
    """Fit to the accuracies (percent) of trained networks; at least 4.

    The ceiling lies between the best of them and 100 %, where the accuracies are most likely (the
    likelihood of the transformed values times Π d(−ln(c − a))/da = Π 1/(c − a), as for Box-Cox).
    """
    y = np.asarray(accuracies, np.float64)
    if len(y) < 4 or not (np.isfinite(y).all() and y.min() >= 0 and y.max() < 100):
        raise ValueError(f"{len(y)} accuracies; at least 4 are needed, in percent, from 0 to below 100")
    room = 100.0 - float(y.max())
    ceilings = float(y.max()) + np.geomspace(min(0.2, room / 2), room, 12)
    gram = (hot := one_hot(choices, np.asarray(genomes))) @ hot.T

    def likelihood(ceiling: float) -> float:
        z = -np.log(ceiling - y)
        return max(_log_evidence(gram, z, float(r)) for r in RATIOS[::5]) + float(z.sum())

    ceiling = float(max(ceilings, key=lambda c: likelihood(float(c))))
    return AccuracyModel(fit_additive(choices, genomes, -np.log(ceiling - y)), ceiling)
