"""The logistic law: tails between a normal's and Student's, and no parameter beyond its scale."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import expit

from cim.cells.laws.tail import Density, Floats, Tail


class Logistic(Tail):
    """f(u) = 1 / (4 cosh²(u / 2))."""

    name: ClassVar[str] = "logistic"

    def below(self, u: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        return np.asarray(expit(u))

    def log_density(self, uu: Floats, log_df: Floats, logit: Floats, log_ratio: float) -> Density:
        u = np.sqrt(uu)
        none = np.zeros_like(u)
        return Density(-u - 2.0 * np.log1p(np.exp(-u)), -u * np.tanh(u / 2.0), none, none, none)


LOGISTIC = Logistic()
