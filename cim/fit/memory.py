"""How much a cell's error at one age says about its error at another: the memory of the law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from cim.cells.programming_law import Law, ProgrammingLaw, law_at
from cim.fit.cells import MIN_CELLS

MOST_TARGETS = 256  # targets at which spreads are taken; between them along lines

Floats = NDArray[np.float64]


def fit_memory(
    law: ProgrammingLaw, targets_us: Floats, errors_us: Floats, noise_us: Floats, ages_s: Floats
) -> ProgrammingLaw:
    """The law with the memory that the correlations of the cells' normal scores between ages show.

        corr(s, t) = (1 − fresh) · (log₁₀ s/origin / log₁₀ t/origin)^power,  times √(share of the reading not noise)

    Fresh is fitted only where no reading noise is known; with fewer than three ages power is 1.
    Least squares over all pairs of ages, weighted by the cells that both have.
    """
    if len(ages_s) < 2:
        return law
    scores, clean = [], []
    for age, errors, noise in zip(ages_s, errors_us, noise_us, strict=True):
        here = law_at(law, targets_us, float(age))
        levels = np.unique(targets_us)
        if len(levels) > MOST_TARGETS:
            levels = np.linspace(levels[0], levels[-1], MOST_TARGETS)
        spread2 = np.interp(targets_us, levels, np.square(law_at(law, levels, float(age)).spread_us()))
        scores.append(_noisy(here, noise).score(errors))
        clean.append(float(np.mean(spread2 / (spread2 + noise**2))))
    pairs, found, cells = [], [], []
    for a in range(len(ages_s)):
        for b in range(a + 1, len(ages_s)):
            both = np.isfinite(scores[a]) & np.isfinite(scores[b])
            if int(both.sum()) >= MIN_CELLS:
                pairs.append((a, b))
                found.append(float(np.corrcoef(scores[a][both], scores[b][both])[0, 1]))
                cells.append(int(both.sum()))
    if not pairs:
        return law
    first, second = np.array(pairs).T
    decades = np.log10(np.asarray(ages_s))
    dilution = np.sqrt(np.array(clean)[first] * np.array(clean)[second])
    seen, weight = np.nan_to_num(np.array(found)), np.sqrt(np.array(cells) / max(cells))
    fresh_known, power_known = bool(np.any(noise_us)), len(ages_s) < 4

    def model(p: Floats) -> Floats:
        origin = decades[0] - np.exp(p[0])
        power = 1.0 if power_known else np.exp(p[1])
        fresh = 0.0 if fresh_known or len(ages_s) < 3 else p[2]
        ratio = (decades[first] - origin) / (decades[second] - origin)
        return np.asarray((1.0 - fresh) * ratio**power * dilution)

    bounds = ([np.log(0.05), np.log(0.2), 0.0], [np.log(30.0), np.log(3.0), 0.95])

    def away(p: Floats) -> Floats:
        return np.asarray((model(p) - seen) * weight)

    best = least_squares(away, [0.0, 0.0, 0.15], bounds=bounds).x
    return replace(
        law,
        memory_origin_s=float(10.0 ** (decades[0] - np.exp(best[0]))),
        memory_power=1.0 if power_known else float(np.exp(best[1])),
        memory_fresh_share=0.0 if fresh_known or len(ages_s) < 3 else float(best[2]),
    )


def _noisy(law: Law, noise_us: Floats) -> Law:
    """The law of a reading, near enough for ranks: the scale widened by the noise."""
    return replace(law, scale_us=np.hypot(law.scale_us, noise_us))
