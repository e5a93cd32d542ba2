"""Mixture of two normals: many cells with narrow errors, a few with wide ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from cim.cells.laws.tail import ROOT, Density, Floats, Tail


class Mixture(Tail):
    """T ~ (1 − wide_share) · N(0, 1) + wide_share · wide_ratio · N(0, 1)."""

    name: ClassVar[str] = "mixture"
    parameters: ClassVar[frozenset[str]] = frozenset({"wide_share", "wide_ratio"})

    def below(self, u: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        return np.asarray((1.0 - share) * ndtr(u) + share * self.wide_below(u / ratio, df))

    def beyond(self, p: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        """Point that T exceeds with probability p: found by halving between the quantiles of the two parts."""
        return self.between(-ndtri(p), ratio * self.wide_beyond(p, df), p, df, share, ratio)

    def draw(self, df: Floats, share: Floats, ratio: float, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        t = rng.standard_normal(shape)
        return np.asarray(np.where(rng.random(shape) < share, ratio * t, t))

    def weight(self, u: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        far = (u / ratio) ** 2
        narrow = (1.0 - share) * np.exp(-0.5 * u * u - ROOT) + 1e-300
        wide = share / ratio * np.exp(self.wide_density(far, df)[0])
        return np.asarray((narrow + wide * self.wide_weight(far, df) / ratio**2) / (narrow + wide))

    def log_density(self, uu: Floats, log_df: Floats, logit: Floats, log_ratio: float) -> Density:
        wide, wide_slope, by_df = self.wide_density(uu / np.exp(2.0 * log_ratio), np.exp(log_df))
        share = 1.0 / (1.0 + np.exp(-logit))
        narrow = np.log1p(-share) - 0.5 * uu - ROOT
        wide = np.log(share) - log_ratio + wide
        log_f = np.logaddexp(narrow, wide)
        of_wide = np.exp(wide - log_f)
        slope = -uu * (1.0 - of_wide) + of_wide * wide_slope
        return Density(log_f, slope, of_wide * by_df, of_wide - share, -of_wide * (1.0 + wide_slope))

    # The wide part, of unit scale: a normal.

    def wide_below(self, u: Floats, df: Floats) -> Floats:
        return np.asarray(ndtr(u))

    def wide_beyond(self, p: Floats, df: Floats) -> Floats:
        return np.asarray(-ndtri(p))

    def wide_weight(self, uu: Floats, df: Floats) -> Floats | float:
        return 1.0

    def wide_density(self, uu: Floats, df: Floats) -> tuple[Floats, Floats, Floats]:
        """ln density of the wide part at unit scale, and its derivatives by ln u and ln df; ``uu`` is u²."""
        return -0.5 * uu - ROOT, -uu, np.zeros_like(uu)


MIXTURE = Mixture()
