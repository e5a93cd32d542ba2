"""A narrow normal and a wide Student's t."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import stdtr, stdtrit

from cim.cells.laws.mixture import Mixture
from cim.cells.laws.student import student_density
from cim.cells.laws.tail import Floats


class StudentMixture(Mixture):
    """T ~ (1 − wide_share) · N(0, 1) + wide_share · wide_ratio · t(df)."""

    name: ClassVar[str] = "student mixture"
    parameters: ClassVar[frozenset[str]] = frozenset({"df", "wide_share", "wide_ratio"})

    def draw(self, df: Floats, share: Floats, ratio: float, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        t = rng.standard_t(np.broadcast_to(df, shape))
        wide = rng.random(shape) < share
        return np.asarray(np.where(wide, ratio * t, rng.standard_normal(shape)))

    def wide_below(self, u: Floats, df: Floats) -> Floats:
        return np.asarray(stdtr(df, u))

    def wide_beyond(self, p: Floats, df: Floats) -> Floats:
        return np.asarray(-stdtrit(df, p))

    def wide_weight(self, uu: Floats, df: Floats) -> Floats:
        return np.asarray((df + 1.0) / (df + uu))

    def wide_density(self, uu: Floats, df: Floats) -> tuple[Floats, Floats, Floats]:
        return student_density(uu, df)


STUDENT_MIXTURE = StudentMixture()
