"""A symmetric shape of unit scale: what a law of cell errors is stretched from (``cim.cells.tails.Law``).

A shape of one's own derives from ``Tail`` in a package that names an object of it under the entry point
``hil.cell_laws``. It says how likely an error is (``below``, ``log_density``) and which parameters count; quantiles,
draws and weights follow from these numerically; a subclass may override them with faster forms.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HALVINGS = 40
DOUBLINGS = 60
ROOT = 0.5 * np.log(2.0 * np.pi)


class Density(NamedTuple):
    """Log density ln f, and its derivatives by ln u, ln df, the logit of the wide share and ln wide_ratio."""

    log_f: Floats
    by_log_u: Floats
    by_log_df: Floats
    by_logit: Floats
    by_log_ratio: Floats


class Tail:
    """Symmetric shape T of errors. Calibration records store ``name``, so it must never change. ``parameters`` are
    fitted, a subset of ``df`` (0.5 … 200), ``wide_share`` (0 … 1), ``wide_ratio`` (≥ 1).

    Methods take all three, arrays that broadcast with ``u`` or ``p`` (the ratio a number).
    """

    name: ClassVar[str]
    parameters: ClassVar[frozenset[str]] = frozenset()

    def below(self, u: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        """P(T < u)."""
        raise NotImplementedError

    def log_density(self, uu: Floats, log_df: Floats, logit: Floats, log_ratio: float) -> Density:
        """Logarithm of the density of T at u² = ``uu``."""
        raise NotImplementedError

    def beyond(self, p: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        """Quantile u ≥ 0 with P(T > u) = p, for p ≤ ½, found by bisection."""
        p = np.asarray(p, np.float64)
        low, high = np.zeros_like(p), np.ones_like(p)
        for _ in range(DOUBLINGS):
            far = self.below(-high, df, share, ratio) > p
            if not far.any():
                break
            low, high = np.where(far, high, low), np.where(far, 2.0 * high, high)
        return self.between(low, high, p, df, share, ratio)

    def between(self, low: Floats, high: Floats, p: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        """Quantile u with P(T > u) = p, found by bisection between ``low`` and ``high``."""
        for _ in range(HALVINGS):
            middle = (low + high) / 2.0
            far = self.below(-middle, df, share, ratio) > p
            low, high = np.where(far, middle, low), np.where(far, high, middle)
        return np.asarray((low + high) / 2.0)

    def draw(self, df: Floats, share: Floats, ratio: float, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """Random values of T, one for each cell of ``shape``."""
        p = rng.random(shape)
        return np.asarray(np.where(p < 0.5, -1.0, 1.0) * self.beyond(np.minimum(p, 1.0 - p), df, share, ratio))

    def weight(self, u: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        """Expected 1 / variance of the normal that a T of this u came from: −d ln f / d ln u / u²."""
        uu = np.maximum(np.square(u), 1e-12)
        return np.asarray(-self.log_density(uu, np.log(df), logit_of(share), float(np.log(ratio))).by_log_u / uu)

    @property
    def mixed(self) -> bool:
        """Whether some cells are wide and others narrow."""
        return "wide_share" in self.parameters

    def __repr__(self) -> str:
        return f"<{self.name} tail>"


def logit_of(share: Floats) -> Floats:
    """ln(s / (1 − s)), kept finite."""
    inside = np.clip(share, 1e-9, 1.0 - 1e-9)
    return np.asarray(np.log(inside) - np.log1p(-inside))
