"""Number of injections after Leveugle et al. (DATE 2009, doi 10.1109/DATE.2009.5090716).

    n = N / (1 + e² (N − 1) / (t² p (1 − p)))

N sites in the population, e the margin, t the normal quantile of the confidence, p = ½ the share that needs most.
Example: e = 1 %, 95 %, N without end: 9,604.
"""

from __future__ import annotations

import math

from scipy import stats

from hil.errors import UsageError


def injections_needed(population: int, margin: float, confidence: float = 0.95) -> int:
    """Injections for a margin (fraction) at a confidence.

    Raises:
        UsageError: margin or confidence outside 0 to 1, or no site.
    """
    if not 0.0 < margin < 1.0 or not 0.0 < confidence < 1.0 or population < 1:
        raise UsageError(
            f"a margin of {margin:g} at a confidence of {confidence:g} for {population} sites",
            hint="hil campaign --margin 0.01 --confidence 0.95",
        )
    t = float(stats.norm.ppf(0.5 + confidence / 2))
    infinite = t * t * 0.25 / (margin * margin)
    # N / (1 + (N − 1) / n∞); written so that no size of N overflows
    return min(population, math.ceil(population / (1.0 + (population - 1) / infinite) - 1e-6))


def margin_of(injections: int, population: int, confidence: float = 0.95) -> float:
    """The margin that a number of injections gives: the inverse of ``injections_needed``."""
    t = float(stats.norm.ppf(0.5 + confidence / 2))
    left = (population - injections) / max(population - 1, 1)
    return t * math.sqrt(0.25 / injections * left)
