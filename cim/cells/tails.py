"""Heavy-tailed, lopsided error distributions: density, probability, quantile, draws.

A *shape* is symmetric, of unit scale:

    T ~ (1 − wide_share) · N(0, 1) + wide_share · wide_ratio · t(df)

quiet cells and restless ones. Student's t is the case of share and ratio 1; two normals the
case of endless df. All are normals of random width, so a Gaussian reading of such a cell has a
simple posterior. Each side of the centre is then stretched on its own (Fernández and Steel 1998,
doi 10.1080/01621459.1998.10474117):

    x = loc + scale · κ · |T|     with probability κ² / (1 + κ²)
    x = loc − scale / κ · |T|     otherwise,                         κ = exp(skew)

κ = 1 is the symmetric law. Example: κ = 1.2 puts 59 % of the cells above loc.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from cim.cells.laws.tail import Floats, Tail

FARTHEST = 7.0  # sigma; no quantile is asked beyond
FAR = 1e100  # squared distances beyond this count as this


@dataclass(frozen=True, slots=True)
class Law:
    """The distribution of the errors of each cell, µS; arrays of one shape (or broadcastable).

    ``df`` does not count for ``Tail.MIXTURE``, ``wide_share`` and ``wide_ratio`` do not for
    ``Tail.STUDENT``; ``skew`` is ln κ.
    """

    loc_us: Floats
    scale_us: Floats
    df: Floats
    tail: Tail
    wide_share: Floats
    wide_ratio: float
    skew: Floats

    def cdf(self, errors_us: NDArray[np.floating]) -> Floats:
        """Probability of an error below ``errors_us``."""
        kappa = np.exp(self.skew)
        away = np.asarray(errors_us, np.float64) - self.loc_us
        right = away >= 0.0
        u = np.abs(away) / (self.scale_us * np.where(right, kappa, 1.0 / kappa))
        beyond = 2.0 * self._below(-u)  # P(|T| > u)
        above = kappa**2 / (1.0 + kappa**2)
        return np.asarray(np.where(right, 1.0 - above * beyond, (1.0 - above) * beyond))

    def quantile(self, z: NDArray[np.floating]) -> Floats:
        """The error with the same probability below it as the standard normal score ``z``, µS."""
        z = np.clip(z, -FARTHEST, FARTHEST)
        kappa = np.exp(self.skew)
        above = kappa**2 / (1.0 + kappa**2)
        right = ndtr(-z) <= above
        tail = np.where(right, ndtr(-z) / above, ndtr(z) / (1.0 - above))  # P(|T| > u) of the side
        p = np.maximum(np.minimum(tail, 1.0) / 2.0, 1e-300)
        u = self.tail.beyond(p, self.df, self.wide_share, self.wide_ratio)
        return np.asarray(self.loc_us + np.where(right, kappa, -1.0 / kappa) * self.scale_us * u)

    def score(self, errors_us: NDArray[np.floating]) -> Floats:
        """Standard normal score of the same probability as each error; the inverse of ``quantile``."""
        kappa = np.exp(self.skew)
        above = kappa**2 / (1.0 + kappa**2)
        away = np.asarray(errors_us, np.float64) - self.loc_us
        right = away >= 0.0
        u = np.abs(away) / (self.scale_us * np.where(right, kappa, 1.0 / kappa))
        beyond = np.maximum(2.0 * self._below(-u), 1e-300)
        side = np.where(right, above, 1.0 - above) * beyond
        return np.clip(np.where(right, -ndtri(side), ndtri(side)), -FARTHEST, FARTHEST)

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """Errors drawn per cell, once per programming."""
        t = self.tail.draw(self.df, self.wide_share, self.wide_ratio, shape, rng)
        if np.any(self.skew):
            kappa = np.exp(self.skew)
            right = rng.random(shape) < kappa**2 / (1.0 + kappa**2)
            t = np.abs(t) * np.where(right, kappa, -1.0 / kappa)
        return np.asarray(self.loc_us + self.scale_us * t)

    def precision(self, errors_us: NDArray[np.floating]) -> Floats:
        """Expected 1 / variance of the normal that a cell of this error came from, 1/µS²: the weight of
        iterated least squares. Example: t(df) at u scales: (df + 1) / (df + u²) / scale²."""
        kappa = np.exp(self.skew)
        away = np.asarray(errors_us, np.float64) - self.loc_us
        side = self.scale_us * np.where(away >= 0.0, kappa, 1.0 / kappa)
        u = np.abs(away) / side
        return np.asarray(self.tail.weight(u, self.df, self.wide_share, self.wide_ratio) / side**2)

    def spread_us(self) -> Floats:
        """Half the distance of the 16 % and 84 % quantiles: a standard deviation that tails do not blow up."""
        one = np.ones(np.shape(self.scale_us))
        return (self.quantile(one) - self.quantile(-one)) / 2.0

    def _below(self, u: Floats) -> Floats:
        """P(T < u)."""
        return self.tail.below(u, self.df, self.wide_share, self.wide_ratio)

    @property
    def widest_us(self) -> Floats:
        """Scale of the widest part, µS."""
        return np.asarray(self.scale_us * (self.wide_ratio if self.tail.mixed else 1.0))


def log_density(x: Floats, values: Floats, log_ratio: float, tail: Tail) -> tuple[Floats, Floats]:
    """ln density and its derivatives.

        ln f = ln f₀(u) − ln scale − ln cosh(skew),   u = (x − loc) / (scale · κ^±1)

    Args:
        values: loc, ln scale, skew, ln df and the logit of the wide share, (5, …).

    Returns:
        (…) and (6, …): derivatives by the five values and ln wide_ratio.
    """
    loc, log_scale, skew, log_df, logit = values
    side = np.where(x >= loc, 1.0, -1.0)
    width = np.exp(log_scale + side * skew)
    u = (x - loc) / width
    uu = np.minimum(u * u, FAR)
    found = tail.log_density(uu, log_df, logit, log_ratio)
    safe = np.where(u == 0.0, 1.0, u)
    by_loc, by_skew = -found.by_log_u / (safe * width), -np.tanh(skew) - side * found.by_log_u
    rest = found.by_log_df, found.by_logit, found.by_log_ratio
    slopes = np.stack([by_loc, -1.0 - found.by_log_u, by_skew, *rest])
    return found.log_f - log_scale - np.log(np.cosh(skew)), slopes
