"""Student's t alone: heavy tails by df."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import digamma, gammaln, stdtr, stdtrit

from cim.cells.laws.tail import Density, Floats, Tail


class Student(Tail):
    """T ~ t(df)."""

    name: ClassVar[str] = "student"
    parameters: ClassVar[frozenset[str]] = frozenset({"df"})

    def below(self, u: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        return np.asarray(stdtr(df, u))

    def beyond(self, p: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        return np.asarray(-stdtrit(df, p))

    def draw(self, df: Floats, share: Floats, ratio: float, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        return np.asarray(rng.standard_t(np.broadcast_to(df, shape)))

    def weight(self, u: Floats, df: Floats, share: Floats, ratio: float) -> Floats:
        return np.asarray((df + 1.0) / (df + u * u))

    def log_density(self, uu: Floats, log_df: Floats, logit: Floats, log_ratio: float) -> Density:
        log_f, slope, df_slope = student_density(uu, np.exp(log_df))
        none = np.zeros_like(log_f)
        return Density(log_f, slope, df_slope, none, none)


def student_density(uu: Floats, df: Floats) -> tuple[Floats, Floats, Floats]:
    """ln density of t(df) at u² = ``uu``, and its derivatives by ln u and ln df."""
    log_far = np.log1p(uu / df)
    log_f = student_peak(df) - (df + 1) / 2 * log_far
    slope = -(df + 1) * uu / (df + uu)
    by_df = 0.5 * df * (digamma((df + 1) / 2) - digamma(df / 2) - log_far) - 0.5 - 0.5 * slope
    return np.asarray(log_f), np.asarray(slope), np.asarray(by_df)


def student_peak(df: Floats) -> Floats:
    """ln density of Student's t with ``df`` degrees of freedom at 0."""
    return np.asarray(gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi))


STUDENT = Student()
