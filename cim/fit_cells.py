"""Estimators of cells: read noise and the programming law, from readings of a test pattern.

All take plain arrays over cells; cells of several macros are simply concatenated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln, stdtr

from cim.calibration import CellState
from cim.programming_law import ProgrammingLaw, law_at
from cim.read_noise import ReadNoise

MIN_CELLS = 30  # fewer cells at a level say too little for three parameters
GLITCH_SIGMA = 12.0  # differences of two readings beyond this are a fault of the reading
BINS = 400
MAX_UNREACHED = 4096
_DF_RANGE = (1.0, 200.0)

Floats = NDArray[np.float64]


class TooFewCells(ValueError):
    """A level has too few good cells to fit; fields ``level_us``, ``found``, ``needed``."""

    def __init__(self, level_us: float, found: int) -> None:
        super().__init__(f"{found} good cells at {level_us:g} µS; a fit needs {MIN_CELLS}")
        self.level_us, self.found, self.needed = level_us, found, MIN_CELLS


def nearest_level(targets_us: NDArray[np.floating], levels_us: NDArray[np.floating]) -> NDArray[np.intp]:
    """Index of the level nearest to each target."""
    middles = (np.asarray(levels_us)[1:] + np.asarray(levels_us)[:-1]) / 2.0
    return np.searchsorted(middles, targets_us)


def fit_read_variance(
    readings_us: NDArray[np.floating], targets_us: NDArray[np.floating], levels_us: NDArray[np.floating]
) -> ReadNoise:
    """Variance of the part of a cell that is new at every single read, by level.

        variance = mean over cells of the variance over reads (divisor reads − 1)

    Readings more than 12 robust sigma from their cell's mean are left out as glitches; the
    rest counts in full, tails included, since a column sums variances.

    Args:
        readings_us: single reads, (reads ≥ 2, cells) µS.
        targets_us: (cells,) µS, sorts cells by level; NaN cells are left out.

    Example: two reads of 1,000 cells with noise of 1.3 µS give 1.69 ± 0.08 µS².
    """
    level = nearest_level(targets_us, levels_us)
    good = np.isfinite(targets_us) & np.isfinite(readings_us).all(0)
    variance, error = np.zeros(len(levels_us)), np.zeros(len(levels_us))
    spread = readings_us - readings_us.mean(0)
    per_cell = readings_us.var(0, ddof=1)
    for k in range(len(levels_us)):
        here = good & (level == k)
        if int(here.sum()) < MIN_CELLS:
            raise TooFewCells(float(levels_us[k]), int(here.sum()))
        sigma = 1.4826 * float(np.median(np.abs(spread[:, here]))) * np.sqrt(len(spread) / (len(spread) - 1.0))
        kept = per_cell[here]
        if sigma > 0.0:
            kept = kept[(np.abs(spread[:, here]) <= GLITCH_SIGMA * sigma).all(0)]
        variance[k] = kept.mean()
        error[k] = kept.std(ddof=1) / np.sqrt(len(kept))
    return ReadNoise(np.asarray(levels_us, np.float64), variance, error)


def fit_programming(
    targets_us: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    states: NDArray[np.integer],
    *,
    ages_s: Sequence[float],
    reads: Sequence[int],
    levels_us: NDArray[np.floating],
    read_noise: ReadNoise,
) -> ProgrammingLaw:
    """The programming law by level and age, with the noise of the readings taken out.

    reading − target = loc + scale · t(df) + N(0, read variance / reads)

    Maximum likelihood per level and age over a fine histogram; the convolution with the
    reading's noise is a Gauss-Hermite sum. Standard errors from the curvature.

    Args:
        targets_us: (cells,) µS.
        readings_us: mean of ``reads[a]`` readings at ``ages_s[a]``, (ages, cells) µS.
        states: ``CellState`` of each cell; stuck cells count in the shares, unreached ones
            give ``unreached_us``, good ones the law.
    """
    level = nearest_level(targets_us, levels_us)
    used = np.isfinite(targets_us) & np.isfinite(readings_us).all(0)
    good = used & (states == CellState.GOOD)
    shape = (len(ages_s), len(levels_us))
    value, error = np.zeros((3, *shape)), np.zeros((3, *shape))
    for a in range(shape[0]):
        for k in range(shape[1]):
            here = good & (level == k)
            if int(here.sum()) < MIN_CELLS:
                raise TooFewCells(float(levels_us[k]), int(here.sum()))
            noise = float(np.sqrt(read_noise.variance_us2[k] / reads[a]))
            value[:, a, k], error[:, a, k] = fit_student(readings_us[a, here] - targets_us[here], noise)
    missed = used & (states == CellState.NOT_REACHED)
    total = max(1, int(used.sum()))
    healthy = max(1, int((good | missed).sum()))
    return ProgrammingLaw(
        ages_s=np.asarray(ages_s, np.float64),
        levels_us=np.asarray(levels_us, np.float64),
        loc_us=value[0],
        scale_us=value[1],
        df=value[2],
        loc_se_us=error[0],
        scale_se_us=error[1],
        ln_df_se=error[2],
        stuck_low_share=int((used & (states == CellState.STUCK_LOW)).sum()) / total,
        stuck_high_share=int((used & (states == CellState.STUCK_HIGH)).sum()) / total,
        unreached_share=int(missed.sum()) / healthy,
        unreached_us=(readings_us[-1, missed] - targets_us[missed]).astype(np.float64)[:MAX_UNREACHED],
    )


def fit_student(errors_us: NDArray[np.floating], noise_us: float) -> tuple[Floats, Floats]:
    """Location, scale and df of errors = loc + scale · t(df) + N(0, noise²), and their errors.

    Returns:
        (3,) loc µS, scale µS, df; (3,) standard errors of loc, scale and ln df.
    """
    low, high = np.quantile(errors_us, [0.001, 0.999])
    centre = float(np.median(errors_us))
    width = max(1.4826 * float(np.median(np.abs(errors_us - centre))), 1e-4)
    inside = np.clip(errors_us, low - width, high + width)  # far tails keep their count, not their distance
    counts, edges = np.histogram(inside, bins=BINS)
    seen = counts > 0
    points, weights = ((edges[1:] + edges[:-1]) / 2.0)[seen], counts[seen].astype(np.float64)

    def loss(p: Floats) -> float:
        return -float(weights @ np.log(np.maximum(_density(points, p, noise_us), 1e-300)))

    floor = np.log(0.02 * width)
    start = np.array([centre, np.log(np.sqrt(max(width**2 - noise_us**2, 0.1 * width**2))), np.log(5.0)])
    bounds = [(centre - 5 * width, centre + 5 * width), (floor, np.log(5 * width)), tuple(np.log(_DF_RANGE))]
    best = np.asarray(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x, np.float64)
    scale = float(np.exp(best[1]))
    free = np.array([True, best[1] > floor + 1e-6, bounds[2][0] + 1e-6 < best[2] < bounds[2][1] - 1e-6])
    errors = np.zeros(3)
    errors[free] = _standard_errors(loss, best, free, np.array([0.02 * scale, 0.02, 0.05]))
    return np.array([best[0], scale, np.exp(best[2])]), errors * np.array([1.0, scale, 1.0])


def _density(points: Floats, p: Floats, noise_us: float) -> Floats:
    """Density of loc + scale · t(df) + N(0, noise²)."""
    loc, scale, df = p[0], np.exp(p[1]), np.exp(p[2])
    nodes, weights = _hermite(noise_us)
    u = (points[:, None] - loc - nodes) / scale
    constant = gammaln((df + 1) / 2) - gammaln(df / 2) - 0.5 * np.log(df * np.pi) - p[1]
    return np.asarray(np.exp(constant - (df + 1) / 2 * np.log1p(u * u / df)) @ weights)


def _hermite(noise_us: float) -> tuple[Floats, Floats]:
    if noise_us == 0.0:
        return np.zeros(1), np.ones(1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(25)
    return nodes * noise_us, weights / weights.sum()


def _standard_errors(loss: object, at: Floats, free: NDArray[np.bool_], steps: Floats) -> Floats:
    """Square roots of the diagonal of the inverse curvature, by central differences."""
    assert callable(loss)
    names = np.flatnonzero(free)
    curvature = np.zeros((len(names), len(names)))
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            da, db = np.eye(3)[a] * steps[a], np.eye(3)[b] * steps[b]
            four = loss(at + da + db) - loss(at + da - db) - loss(at - da + db) + loss(at - da - db)
            curvature[i, j] = four / (4 * steps[a] * steps[b])
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    inverse = vectors @ np.diag(1.0 / np.maximum(values, 1e-9)) @ vectors.T
    return np.sqrt(np.diag(inverse))


def programming_distance(
    law: ProgrammingLaw,
    targets_us: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    *,
    age_s: float,
    reads: int,
    read_noise: ReadNoise,
) -> float:
    """Kolmogorov-Smirnov distance between readings of held-out good cells and the law; 0 is perfect.

    Args:
        targets_us, readings_us: (cells,) µS, cells that the fit has not seen.
    """
    here = law_at(law, targets_us, age_s)
    noise = np.sqrt(read_noise.at(targets_us) / reads)
    nodes, weights = _hermite(1.0)
    error = readings_us - targets_us - here.loc_us
    place = np.zeros(len(targets_us))
    for node, weight in zip(nodes, weights, strict=True):
        place += weight * stdtr(here.df, (error - node * noise) / here.scale_us)
    place.sort()
    rank = np.arange(len(place) + 1) / len(place)
    return float(max(np.abs(place - rank[1:]).max(), np.abs(place - rank[:-1]).max()))
