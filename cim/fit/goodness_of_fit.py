"""Goodness of a law on held-out cells, compared with two baselines, age by age."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import ndtr

from cim.cells.programming_law import Law, ProgrammingLaw, law_at
from cim.cells.read_noise import ReadNoise
from cim.fit.aged_readings import GAP, Floats, Readings, level_knots
from cim.fit.cells import MIN_CELLS, nearest_level
from cim.record.published import published_model

PUBLISHED_NAME = "wan-2022"
LEAST_SIGMA_US = 1e-3
FEWEST = 10  # fewer cells at a level and age borrow from the levels beside it
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class AgeGoodness:
    """One age of held-out cells: Kolmogorov-Smirnov distances, and quantiles of the error in µS.

    ``floor`` is the mean distance of a perfect law on as many cells, 0.87 / √n. ``published`` is None where no
    published time is near or the unit is not µS.
    """

    age_s: float
    cells: int
    law: float
    gaussian: float
    published: float | None
    floor: float
    extrapolated: bool
    measured_us: Floats  # at QUANTILES
    law_us: Floats


def judge_law(law: ProgrammingLaw, noise: ReadNoise, fitted: Readings, test: Readings) -> tuple[AgeGoodness, ...]:
    """Distance between the law and the errors of cells that it was not fitted on, age by age.

    Args:
        fitted: the cells that the law comes from; the Gaussian baseline is fitted to them, and
            beyond their last age it is carried on in log time as the law is.
    """
    gauss, top = Gaussian.of(fitted), float(np.quantile(fitted.targets_us, 0.995))
    rows = []
    for a, age in enumerate(map(float, test.ages_s)):
        known = np.isfinite(test.readings_us[a])
        if int(known.sum()) < MIN_CELLS:
            continue
        targets, errors = test.targets_us[known], test.readings_us[a, known] - test.targets_us[known]
        sigma = np.sqrt(noise.at(targets) / max(1, int(np.median(test.counts[a, known]))))
        here, open_law = law_at(law, targets, age), published_sigma(targets, age, top)
        rng = np.random.default_rng(0)  # the same words for the same data
        drawn = [here.draw(targets.shape, rng) + sigma * rng.standard_normal(targets.shape) for _ in range(DRAWS)]
        rows.append(
            AgeGoodness(
                age_s=age,
                cells=len(errors),
                law=score(partial(_below, here, sigma), errors, test.step),
                gaussian=score(partial(gauss.below, targets, age), errors, test.step),
                published=None if open_law is None else score(partial(_normal_below, open_law), errors, test.step),
                floor=0.8687 / float(np.sqrt(len(errors))),
                extrapolated=bool(age > fitted.ages_s[-1] * GAP),
                measured_us=np.quantile(errors, QUANTILES),
                law_us=np.quantile(np.concatenate(drawn), QUANTILES),
            )
        )
    return tuple(rows)


def score(below: Callable[[Floats], Floats], errors: Floats, step: float) -> float:
    """KS distance of errors from a law, given the probability below each.

    Readings that are whole multiples of a step take a random place between the probabilities at
    the ends of their step, so that a perfect law scores as on a continuum.
    """
    if not step:
        return distance(below(errors))
    low, high = below(errors - step / 2), below(errors + step / 2)
    return distance(low + (high - low) * np.random.default_rng(1).random(len(errors)))


def distance(places: Floats) -> float:
    """Kolmogorov-Smirnov distance of places (probabilities below each error) from uniform; 0 is perfect."""
    ordered = np.sort(places)
    rank = np.arange(len(ordered) + 1) / len(ordered)
    return float(max(np.abs(ordered - rank[1:]).max(), np.abs(ordered - rank[:-1]).max()))


NODES = 25
DRAWS = 20


def _below(law: Law, sigma: Floats, errors: Floats) -> Floats:
    """Probability that a reading's error, noise included, is below each of ``errors``."""
    if not sigma.any():
        return law.cdf(errors)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    places = np.zeros(len(errors))
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        places += weight * law.cdf(errors - node * sigma)
    return places


@dataclass(frozen=True, slots=True)
class Gaussian:
    """The baseline: mean and standard deviation by level and age, straight lines between levels and in log time."""

    ages_s: Floats
    levels_us: Floats
    mean_us: Floats  # (ages, levels)
    variance_us2: Floats

    @classmethod
    def of(cls, readings: Readings) -> Gaussian:
        levels = level_knots(readings.targets_us)
        near = nearest_level(readings.targets_us, levels)
        mean, variance = np.empty((2, len(readings.ages_s), len(levels)))
        for a, errors in enumerate(readings.readings_us - readings.targets_us):
            known = np.isfinite(errors)
            count = np.bincount(near[known], minlength=len(levels))
            enough = count >= FEWEST if (count >= FEWEST).any() else count == count.max()
            found = [errors[known & (near == k)] for k in np.flatnonzero(enough)]
            mean[a] = np.interp(levels, levels[enough], [f.mean() for f in found])
            variance[a] = np.interp(levels, levels[enough], [f.var(ddof=min(1, len(f) - 1)) for f in found])
        return cls(readings.ages_s, levels, mean, variance)

    def below(self, targets: Floats, age_s: float, errors: Floats) -> Floats:
        """Probability below each error."""
        weights = _line(np.log(self.ages_s), float(np.log(age_s)))
        mean = np.interp(targets, self.levels_us, weights @ self.mean_us)
        variance = np.interp(targets, self.levels_us, np.maximum(weights @ self.variance_us2, 1e-12))
        return np.asarray(ndtr((errors - mean) / np.sqrt(variance)))


def _line(x: Floats, at: float) -> Floats:
    """Weights of linear interpolation at ``at``: extrapolated beyond the last of ``x``, constant before the first."""
    weights = np.zeros(len(x))
    if len(x) == 1 or at <= x[0]:
        weights[0] = 1.0
        return weights
    low = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    weights[low + 1] = (at - x[low]) / (x[low + 1] - x[low])
    weights[low] = 1.0 - weights[low + 1]
    return weights


def published_sigma(targets_us: Floats, age_s: float, full_scale_us: float) -> Floats | None:
    """Standard deviation of the errors by the published polynomial, µS; None where no published time is near.

    The polynomial of 40 µS cells is stretched to the highest level of the table, and asked within
    a factor 2 of its times: 1 s, 1 day and 2 days.
    """
    model = published_model(PUBLISHED_NAME, full_scale_us).model
    if min(abs(np.log(age_s / t)) for t in model.ages_s) > np.log(2.0):
        return None
    return np.maximum(model.error(targets_us, age_s)[1], LEAST_SIGMA_US)


def _normal_below(sigma: Floats, errors: Floats) -> Floats:
    return np.asarray(ndtr(errors / sigma))
