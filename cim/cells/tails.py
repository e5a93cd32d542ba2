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

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln, ndtr, ndtri, stdtr, stdtrit

Floats = NDArray[np.float64]

FARTHEST = 7.0  # sigma; no quantile is asked beyond
HALVINGS = 40
FAR = 1e100  # squared distances beyond this count as this
ROOT = 0.5 * np.log(2.0 * np.pi)


class Tail(enum.StrEnum):
    """The symmetric shape of the errors."""

    STUDENT = "student"  # t(df) alone
    MIXTURE = "mixture"  # a narrow and a wide normal
    STUDENT_MIXTURE = "student mixture"  # a narrow normal and a wide t(df)


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
        """The error at the place of a standard normal ``z``: same probability below it."""
        z = np.clip(z, -FARTHEST, FARTHEST)
        kappa = np.exp(self.skew)
        above = kappa**2 / (1.0 + kappa**2)
        right = ndtr(-z) <= above
        tail = np.where(right, ndtr(-z) / above, ndtr(z) / (1.0 - above))  # P(|T| > u) of the side
        u = self._beyond(np.minimum(tail, 1.0) / 2.0)
        return np.asarray(self.loc_us + np.where(right, kappa, -1.0 / kappa) * self.scale_us * u)

    def score(self, errors_us: NDArray[np.floating]) -> Floats:
        """Standard normal of the same rank as each error, the inverse of ``quantile``."""
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
        t = rng.standard_normal(shape) if self.tail is Tail.MIXTURE else rng.standard_t(np.broadcast_to(self.df, shape))
        if self.tail is not Tail.STUDENT:
            wide = rng.random(shape) < self.wide_share
            narrow = t if self.tail is Tail.MIXTURE else rng.standard_normal(shape)
            t = np.where(wide, self.wide_ratio * t, narrow)
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
        if self.tail is Tail.STUDENT:
            return np.asarray((self.df + 1.0) / (self.df + u * u) / side**2)
        narrow, wide = self._parts(u)
        far = (u / self.wide_ratio) ** 2
        of_wide = 1.0 if self.tail is Tail.MIXTURE else (self.df + 1.0) / (self.df + far)
        return np.asarray((narrow + wide * of_wide / self.wide_ratio**2) / (narrow + wide) / side**2)

    def spread_us(self) -> Floats:
        """Half the distance of the 16 % and 84 % quantiles: a standard deviation that tails do not blow up."""
        one = np.ones(np.shape(self.scale_us))
        return (self.quantile(one) - self.quantile(-one)) / 2.0

    def _below(self, u: Floats) -> Floats:
        """P(T < u)."""
        if self.tail is Tail.STUDENT:
            return np.asarray(stdtr(self.df, u))
        far = u / self.wide_ratio
        wide = ndtr(far) if self.tail is Tail.MIXTURE else stdtr(self.df, far)
        return np.asarray((1.0 - self.wide_share) * ndtr(u) + self.wide_share * wide)

    def _beyond(self, p: Floats) -> Floats:
        """u ≥ 0 with P(T > u) = p ≤ ½; of a mixture by halving between its parts' quantiles."""
        p = np.maximum(p, 1e-300)
        if self.tail is Tail.STUDENT:
            return np.asarray(-stdtrit(self.df, p))
        low = -ndtri(p)
        high = self.wide_ratio * (low if self.tail is Tail.MIXTURE else -stdtrit(self.df, p))
        for _ in range(HALVINGS):
            middle = (low + high) / 2.0
            far = self._below(-middle) > p
            low, high = np.where(far, middle, low), np.where(far, high, middle)
        return np.asarray((low + high) / 2.0)

    def _parts(self, u: Floats) -> tuple[Floats, Floats]:
        """Densities of the narrow and the wide part at |u| scales."""
        far = u / self.wide_ratio
        narrow = (1.0 - self.wide_share) * np.exp(-0.5 * u * u - ROOT) + 1e-300
        wide = -0.5 * far * far - ROOT if self.tail is Tail.MIXTURE else _student(far * far, self.df)
        return np.asarray(narrow), np.asarray(self.wide_share / self.wide_ratio * np.exp(wide))


def _student(uu: Floats, df: Floats) -> Floats:
    """ln density of t(df) at u² = ``uu``."""
    return np.asarray(student_peak(df) - (df + 1) / 2 * np.log1p(uu / df))


def student_peak(df: Floats) -> Floats:
    """ln density of Student's t with ``df`` degrees of freedom at 0."""
    return np.asarray(gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi))


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
    ratio2 = 1.0 if tail is Tail.STUDENT else np.exp(2.0 * log_ratio)
    far = uu / ratio2
    if tail is Tail.MIXTURE:
        wide, wide_slope, df_slope = -0.5 * far - ROOT, -far, np.zeros_like(u)
    else:
        df = np.exp(log_df)
        log_far = np.log1p(far / df)
        wide = student_peak(df) - (df + 1) / 2 * log_far
        wide_slope = -(df + 1) * far / (df + far)
        df_slope = 0.5 * df * (digamma((df + 1) / 2) - digamma(df / 2) - log_far) - 0.5 - 0.5 * wide_slope
    log_f, u_slope, logit_slope, ratio_slope = wide, wide_slope, np.zeros_like(u), np.zeros_like(u)
    if tail is not Tail.STUDENT:
        share = 1.0 / (1.0 + np.exp(-logit))
        narrow = np.log1p(-share) - 0.5 * uu - ROOT
        wide = np.log(share) - log_ratio + wide
        log_f = np.logaddexp(narrow, wide)
        of_wide = np.exp(wide - log_f)
        u_slope = -uu * (1.0 - of_wide) + of_wide * wide_slope
        df_slope = of_wide * df_slope
        logit_slope = of_wide - share
        ratio_slope = -of_wide * (1.0 + wide_slope)
    safe = np.where(u == 0.0, 1.0, u)
    by_loc, by_skew = -u_slope / (safe * width), -np.tanh(skew) - side * u_slope
    slopes = np.stack([by_loc, -1.0 - u_slope, by_skew, df_slope, logit_slope, ratio_slope])
    return log_f - log_scale - np.log(np.cosh(skew)), slopes
