"""Programming law: error of a programmed cell against its target, by level and age."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from cim.cells.laws.student import STUDENT
from cim.cells.laws.tail import Tail
from cim.cells.tails import Law

__all__ = ["Law", "ProgrammingLaw", "Tail", "along_levels", "law_at", "redraw_law", "time_weights"]

Floats = NDArray[np.float64]
BASE_DECADES = 3.0 - 1e-9
MAX_SKEW = 1.5
MOST_LN = 30.0  # of a logit or a ratio that is drawn: beyond, a share is 1 in floats
FEW = 16  # targets among which counting edges below is quicker than a search
DF_RANGE = (0.5, 200.0)
TABLES = ("loc_us", "scale_us", "df", "loc_se_us", "scale_se_us", "ln_df_se")
LATER_TABLES = ("skew", "skew_se", "wide_share", "wide_share_se")


def _none() -> Floats:
    return np.zeros((0, 0))


@dataclass(frozen=True, slots=True, eq=False)
class ProgrammingLaw:
    """Programming law: error of a programmed cell against its target, by level and age.

    error = conductance(age) − target ~ loc + scale · κ^±1 · |T|, per cell, once per
    programming, with T by ``tail`` from df, wide_share and wide_ratio (``cim.cells.tails``). Arrays
    (ages, levels) in µS (df, skew and share without unit), ``ages_s`` and ``levels_us``
    ascending. ``*_se`` are standard errors (of ln df for ``ln_df_se``, of the logit for
    ``wide_share_se``). ``unreached_share`` of cells miss their window; their errors are drawn
    from ``unreached_us`` (measured errors, (m,); empty: they follow the law).

    ``covariance`` (n, n) is that of the tables of loc, ln scale, skew, ln df and logit of the
    wide share, flat and in this order, and of ln wide_ratio; empty: independent errors as given
    by the ``*_se`` tables.

    Memory: the rank of a cell among its like, as a standard normal z, keeps a part from age s
    to a later age t (``correlation``); ``memory_fresh_share`` of its variance is new at every
    read (0 when the law was fitted with the reading's noise taken out: then ``ReadNoise`` is
    that part, and it must not be counted twice).
    """

    ages_s: Floats
    levels_us: Floats
    loc_us: Floats
    scale_us: Floats
    df: Floats
    loc_se_us: Floats
    scale_se_us: Floats
    ln_df_se: Floats
    stuck_low_share: float
    stuck_high_share: float
    unreached_share: float
    unreached_us: Floats
    tail: Tail = STUDENT
    skew: Floats = field(default_factory=_none)  # ln κ; empty: zeros
    skew_se: Floats = field(default_factory=_none)
    wide_share: Floats = field(default_factory=_none)
    wide_share_se: Floats = field(default_factory=_none)
    wide_ratio: float = 1.0
    memory_origin_s: float = 1e-3  # assumed where it was not fitted: the value found on 40 µS HfOx cells
    memory_power: float = 1.0
    memory_fresh_share: float = 0.0
    covariance: Floats = field(default_factory=_none)

    def __post_init__(self) -> None:
        shape = (len(self.ages_s), len(self.levels_us))
        for name in LATER_TABLES:
            if getattr(self, name).size == 0:
                object.__setattr__(self, name, np.zeros(shape))
        for name in (*TABLES, *LATER_TABLES):
            if getattr(self, name).shape != shape:
                raise ValueError(f"programming law: {name} {getattr(self, name).shape}, not {shape}")
        if np.any(np.diff(self.ages_s) <= 0) or np.any(np.diff(self.levels_us) <= 0) or min(shape) < 1:
            raise ValueError("programming law: ages and levels must ascend")
        if np.any(self.scale_us <= 0) or np.any(self.df <= 0) or np.any(self.ages_s <= 0):
            raise ValueError("programming law: scales, degrees of freedom and ages must be positive")
        if np.any(self.wide_share < 0) or np.any(self.wide_share >= 1) or self.wide_ratio < 1:
            raise ValueError("programming law: the wide share lies in [0, 1) and its ratio is at least 1")
        if self.covariance.size and self.covariance.shape != (2 * (5 * shape[0] * shape[1] + 1,)):
            raise ValueError(f"programming law: covariance {self.covariance.shape} for tables {shape}")
        if not (self.memory_origin_s > 0 and self.memory_power > 0 and 0 <= self.memory_fresh_share < 1):
            raise ValueError("programming law: memory origin and power are positive, the fresh share in [0, 1)")

    def clock(self, age_s: float | Floats) -> Floats:
        """Time of the cells' random walk: V(t) = (log₁₀(t / origin))^(2 power), at least 10⁻⁶.

        A normal path with increments of variance V(t) − V(s), divided by √V(t), has the
        correlation ((log₁₀ s/origin) / (log₁₀ t/origin))^power between ages s < t.
        """
        decades = np.log10(np.maximum(age_s, 1e-300)) - np.log10(self.memory_origin_s)
        return np.asarray(np.maximum(decades, 1e-3) ** (2.0 * self.memory_power))

    def correlation(self, early_s: float, late_s: float) -> float:
        """Correlation of a cell's normal score between two ages, reads included (``memory_fresh_share``).

        Example: origin 1 ms, power 1, fresh 0.16: from 1 s to 10⁵ s 0.84 · 3/8 = 0.315.
        """
        first, last = sorted((float(self.clock(early_s)), float(self.clock(late_s))))
        return float((1.0 - self.memory_fresh_share) * np.sqrt(first / last))


def redraw_law(law: ProgrammingLaw, rng: np.random.Generator) -> ProgrammingLaw:
    """The law with its parameters moved within their standard errors: one draw per virtual chip."""
    shape = law.loc_us.shape
    if law.covariance.size:
        values, vectors = np.linalg.eigh(law.covariance)
        moves = vectors @ (np.sqrt(np.maximum(values, 0.0)) * rng.standard_normal(len(values)))
    else:
        errors = [law.loc_se_us, law.scale_se_us / law.scale_us, law.skew_se, law.ln_df_se, law.wide_share_se]
        moves = np.append(np.concatenate([e.ravel() for e in errors]) * rng.standard_normal(5 * law.loc_us.size), 0.0)
    loc, ln_scale, skew, ln_df, logit = moves[:-1].reshape(5, *shape)
    return replace(
        law,
        loc_us=law.loc_us + loc,
        scale_us=law.scale_us * np.exp(np.clip(ln_scale, -1.0, 1.0)),
        df=np.clip(law.df * np.exp(np.clip(ln_df, -3.0, 3.0)), *DF_RANGE) if np.any(ln_df) else law.df,
        skew=np.clip(law.skew + skew, -MAX_SKEW, MAX_SKEW),
        wide_share=_share(np.minimum(_logit(law.wide_share) + logit, MOST_LN)) if np.any(logit) else law.wide_share,
        wide_ratio=max(1.0, law.wide_ratio * float(np.exp(min(moves[-1], MOST_LN)))),
    )


def law_at(law: ProgrammingLaw, targets_us: NDArray[np.floating], age_s: float) -> Law:
    """The distribution of the errors of each target at one age.

    In level: a natural cubic spline through the table's loc, ln scale, ln df, skew and logit of
    the wide share (a line through two levels), constant outside the levels. In log time: straight
    lines between the ages for loc, scale², ln df, skew and logit, since relaxation is a random
    walk in log time. Before the first age its values stand. After the last, loc, scale² and skew
    go on along a line (``time_weights``), scale² never falling; df and share stay.

    Example: loc −0.2 µS at 1 s and −1.6 µS at 10⁴ s gives −0.9 µS at 100 s and −2.3 µS at 10⁶ s.
    """
    different = np.unique(targets_us)  # a macro holds few
    here = _law_of(law, np.clip(different.astype(np.float64), law.levels_us[0], law.levels_us[-1]), age_s)
    if len(different) <= FEW:
        which = np.zeros(np.shape(targets_us), np.intp)
        for edge in different[1:]:
            which += targets_us >= edge
    else:
        which = np.searchsorted(different, targets_us)
    each = {name: getattr(here, name)[which] for name in ("loc_us", "scale_us", "df", "wide_share", "skew")}
    return replace(here, **each)


def _law_of(law: ProgrammingLaw, targets: Floats, age_s: float) -> Law:
    """``law_at`` of targets within the levels, (n,)."""
    weights, used, along = _at_age(law, age_s)
    values = along(targets)
    loc, ln_df, skew, logit = (values[..., k] for k in range(4))
    each = np.exp(2.0 * values[..., 4:])  # scale² at the ages around
    variance = each @ weights[used]
    if weights.max() > 1.0:
        variance = np.maximum(variance, each[..., -1])
    return Law(
        loc,
        np.sqrt(variance),
        np.exp(ln_df),
        law.tail,
        _share(logit),
        law.wide_ratio,
        np.clip(skew, -MAX_SKEW, MAX_SKEW),
    )


@functools.lru_cache(maxsize=16)
def _at_age(law: ProgrammingLaw, age_s: float) -> tuple[Floats, NDArray[np.int64], Callable[[Floats], Floats]]:
    """Weights of the law's ages, indices of ages with weight, and tables of loc, ln df, skew, logit and ln scale
    along the levels at those ages; cached, since all macros use the same."""
    weights = time_weights(law.ages_s, age_s)
    inside = np.clip(weights, 0.0, 1.0)  # df and share are not extrapolated
    used = np.flatnonzero(weights)
    tables = [weights @ law.loc_us, inside @ np.log(law.df), weights @ law.skew, inside @ _logit(law.wide_share)]
    return weights, used, level_curves(law.levels_us, np.stack([*tables, *np.log(law.scale_us[used])], 1))


def time_weights(ages_s: Floats, age_s: float) -> Floats:
    """Weights of the ages' rows for straight lines in log time, summing to 1.

    Beyond the last age the line runs through it and through the last age that is three decades
    younger (the first one if none is), so that a short last stretch does not set the slope.
    """
    x, log_ages = np.log10(max(age_s, 1e-12)), np.log10(ages_s)
    weights = np.zeros(len(ages_s))
    if len(ages_s) == 1 or x <= log_ages[0]:
        weights[0] = 1.0
        return weights
    high = int(np.searchsorted(log_ages, x))
    if high == len(ages_s):
        high -= 1
        low = max(int(np.searchsorted(log_ages, log_ages[high] - BASE_DECADES, side="right")) - 1, 0)
    else:
        low = high - 1
    share = (x - log_ages[low]) / (log_ages[high] - log_ages[low])
    weights[low], weights[high] = 1.0 - share, share
    return weights


def along_levels(levels_us: Floats, tables: Floats, targets_us: Floats) -> Floats:
    """Tables (levels, k) at each target, (…, k): natural cubic splines, lines through two levels.

    Linear in the tables, so that the identity gives the weight of each level.
    """
    return level_curves(levels_us, tables)(targets_us)


def level_curves(levels_us: Floats, tables: Floats) -> Callable[[Floats], Floats]:
    """``along_levels`` of these tables, as a function of the targets in µS."""
    if len(levels_us) > 2:
        spline = CubicSpline(levels_us, tables, bc_type="natural")
        return lambda targets_us: np.asarray(spline(targets_us))

    def line(targets_us: Floats) -> Floats:
        if len(levels_us) == 1:
            return np.broadcast_to(tables[0], (*targets_us.shape, tables.shape[1]))
        share = ((targets_us - levels_us[0]) / (levels_us[1] - levels_us[0]))[..., None]
        return np.asarray((1.0 - share) * tables[0] + share * tables[1])

    return line


def _logit(share: Floats) -> Floats:
    inside = np.clip(share, 1e-9, 1.0 - 1e-9)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def _share(logit: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))
