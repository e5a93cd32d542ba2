"""How far a programmed cell is from its target, by level and age."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProgrammingLaw:
    """How far a programmed cell is from its target, by level and age.

    error = conductance(age) − target ~ loc + scale · t(df), per cell, drawn once per
    programming. Arrays (ages, levels) in µS (df without unit), ``ages_s`` and
    ``levels_us`` ascending. ``*_se`` are standard errors (of ln df for ``ln_df_se``).
    ``unreached_share`` of cells miss their window; their errors are drawn from
    ``unreached_us`` (measured errors, (m,); empty: they follow the law).
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

    def __post_init__(self) -> None:
        shape = (len(self.ages_s), len(self.levels_us))
        for name in ("loc_us", "scale_us", "df", "loc_se_us", "scale_se_us", "ln_df_se"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"programming law: {name} {getattr(self, name).shape}, not {shape}")
        if np.any(np.diff(self.ages_s) <= 0) or np.any(np.diff(self.levels_us) <= 0) or min(shape) < 1:
            raise ValueError("programming law: ages and levels must ascend")
        if np.any(self.scale_us <= 0) or np.any(self.df <= 0) or np.any(self.ages_s <= 0):
            raise ValueError("programming law: scales, degrees of freedom and ages must be positive")


@dataclass(frozen=True, slots=True)
class Law:
    """The programming law at one age, for each cell: error ~ loc + scale · t(df), µS."""

    loc_us: NDArray[np.float64]
    scale_us: NDArray[np.float64]
    df: NDArray[np.float64]


def redraw_law(law: ProgrammingLaw, rng: np.random.Generator) -> ProgrammingLaw:
    """The law with its parameters moved within their standard errors: one draw per virtual chip."""
    shape = law.loc_us.shape
    return replace(
        law,
        loc_us=law.loc_us + law.loc_se_us * rng.standard_normal(shape),
        scale_us=law.scale_us * np.exp(law.scale_se_us / law.scale_us * rng.standard_normal(shape)),
        df=law.df * np.exp(law.ln_df_se * rng.standard_normal(shape)),
    )


def law_at(law: ProgrammingLaw, targets_us: NDArray[np.floating], age_s: float) -> Law:
    """Location, scale and degrees of freedom for each target at one age.

    Linear in the target between levels and in log time between ages; outside the measured
    ages the nearest one stands (nothing is extrapolated).

    Example: loc −0.2 µS at 1 s and −1.6 µS at 10⁴ s gives −0.9 µS at 100 s.
    """
    place = np.interp(np.log(max(age_s, 1e-12)), np.log(law.ages_s), np.arange(len(law.ages_s)))
    low = int(place)
    high = min(low + 1, len(law.ages_s) - 1)
    share = place - low

    def at(table: NDArray[np.float64]) -> NDArray[np.float64]:
        row = (1.0 - share) * table[low] + share * table[high]
        return np.asarray(np.interp(targets_us, law.levels_us, row))

    return Law(at(law.loc_us), at(law.scale_us), np.exp(at(np.log(law.df))))
