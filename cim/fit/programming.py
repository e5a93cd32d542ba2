"""The programming law from readings of cells at several ages: one fit over all levels and ages.

    law = fit_programming(targets_us, readings_us, states, ages_s=ages, reads=reads,
                          levels_us=levels, read_noise=noise)

Student's t and both mixtures are tried; the likelihood of held-out cells decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from cim.cells.laws.registry import tails
from cim.cells.laws.tail import Tail
from cim.cells.programming_law import Law, ProgrammingLaw, law_at
from cim.cells.read_noise import ReadNoise
from cim.fit.cells import MIN_CELLS, TooFewCells, nearest_level
from cim.fit.law_likelihood import NORMAL, NORMAL_WEIGHTS, ROUNDED, Fit, LawReadings
from cim.record.calibration import CellState

MAX_UNREACHED = 4096
MAX_KNOTS = 6  # ages of the law; more measured ages than this share knots
KNOT_FACTOR = 10**0.9
HELD_OUT = 5  # every fifth cell judges between the tails

Floats = NDArray[np.float64]


def fit_programming(
    targets_us: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    states: NDArray[np.integer],
    *,
    ages_s: Sequence[float],
    reads: Sequence[int],
    levels_us: NDArray[np.floating],
    read_noise: ReadNoise,
    knots_s: Sequence[float] | None = None,
    tail: Tail | None = None,
    rounding_us: float = 0.0,
    progress: Callable[[int, int, str], None] | None = None,
) -> ProgrammingLaw:
    """The programming law by level and age, with the noise of the readings taken out.

    reading − target = law(level, age) + N(0, read variance / reads)

    Args:
        targets_us: (cells,) µS, at the levels or anywhere between.
        readings_us: mean of ``reads[a]`` readings at ``ages_s[a]``, (ages, cells) µS; NaN where
            a cell was not read.
        states: ``CellState`` of each cell; stuck cells count in the shares, unreached ones
            give ``unreached_us``, good ones the law.
        levels_us: levels of the law's tables, ascending µS.
        read_noise: its variance is taken out; all zeros where it is not known: then the law
            holds one read and ``memory_fresh_share`` is fitted.
        knots_s: ages of the law's tables; None: ``choose_knots``.
        tail: None lets the likelihood of every fifth cell decide.
        rounding_us: step of the readings where it is not small against the errors: a reading
            then stands for all values that round to it.
        progress: called with (fits done, fits in all, name of the current fit).

    Raises:
        TooFewCells: a level has fewer than 30 good cells.
    """
    levels = np.asarray(levels_us, np.float64)
    targets, readings = np.asarray(targets_us, np.float64), np.asarray(readings_us, np.float64)
    used = np.isfinite(targets) & np.isfinite(readings).any(0)
    good = used & (states == CellState.GOOD)
    counts = np.bincount(nearest_level(targets[good], levels), minlength=len(levels))
    if counts.min() < MIN_CELLS:
        raise TooFewCells(float(levels[counts.argmin()]), int(counts.min()))
    knots = np.asarray(choose_knots(ages_s) if knots_s is None else knots_s, np.float64)
    noise = np.sqrt(read_noise.at(targets[good])) / np.sqrt(np.asarray(reads, np.float64))[:, None]
    ages = np.asarray(ages_s, np.float64)
    cells = LawReadings(targets[good], readings[:, good] - targets[good], noise, ages, rounding_us)
    fit = _chosen(cells, knots, levels, progress) if tail is None else Fit.of(cells, knots, levels, tail)
    missed = used & (states == CellState.NOT_REACHED)
    total, healthy = max(1, int(used.sum())), max(1, int((good | missed).sum()))
    last = np.isfinite(readings[-1])
    law = fit.law(
        int((used & (states == CellState.STUCK_LOW)).sum()) / total,
        int((used & (states == CellState.STUCK_HIGH)).sum()) / total,
        int(missed.sum()) / healthy,
        (readings[-1] - targets)[missed & last][:MAX_UNREACHED],
    )
    spread = np.hypot(cells.noise_us, rounding_us / np.sqrt(12.0)) if noise.any() else cells.noise_us
    return fit_memory(law, cells.targets_us, cells.errors_us, spread, cells.ages_s)


def choose_knots(ages_s: Sequence[float]) -> list[float]:
    """Ages for the law's tables: the first and the last, and of those between the ones that are
    0.9 decades or more from the one before; at most six, evenly spread.

    Example: 0.01, 0.1, 1, 4 and 10⁵ s give 0.01, 0.1, 1 and 10⁵ s.
    """
    ages = np.unique(np.asarray(ages_s, np.float64))
    knots = [float(ages[0])]
    for age in map(float, ages[1:]):
        if age >= knots[-1] * KNOT_FACTOR:
            knots.append(age)
    if knots[-1] != ages[-1]:
        knots[max(1, len(knots) - 1) :] = [float(ages[-1])]
    wanted = np.linspace(0, len(knots) - 1, min(MAX_KNOTS, len(knots)))
    return [knots[round(float(w))] for w in wanted]


def _chosen(cells: LawReadings, knots: Floats, levels: Floats, progress: Callable[[int, int, str], None] | None) -> Fit:
    """Fit with the tail under which held-out cells (every fifth) are most likely, refitted to all cells."""
    held = np.arange(len(cells.targets_us)) % HELD_OUT == HELD_OUT - 1
    seen, judge = cells.part(~held), cells.part(held).grouped()
    tell = progress or (lambda done, total, what: None)
    tried: list[Fit] = []
    for tail in tails():
        tell(len(tried), len(tails()) + 1, f"{tail.name} tail")
        tried.append(Fit.of(seen, knots, levels, tail, sure=False))
    best = max(tried, key=lambda f: f.likelihood(judge))
    tell(len(tried), len(tails()) + 1, f"{best.tail.name} tail, all cells")
    return Fit.of(cells, knots, levels, best.tail, best.at)


def programming_distance(
    law: ProgrammingLaw,
    targets_us: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    *,
    age_s: float,
    reads: int,
    read_noise: ReadNoise,
    rounding_us: float = 0.0,
) -> float:
    """Kolmogorov-Smirnov distance between readings of held-out good cells and the law; 0 is perfect.

    Each reading is put at its probability under the law of its own target and the reading's
    noise; a rounded reading is spread over the probabilities that round to it. The distance is
    that of all these places from evenly spread ones.

    Args:
        targets_us, readings_us: (cells,) µS, cells that the fit has not seen.
    """
    here = law_at(law, targets_us, age_s)
    noise = np.sqrt(read_noise.at(targets_us) / reads)
    errors = np.asarray(readings_us, np.float64) - targets_us
    nodes, weights = (NORMAL, NORMAL_WEIGHTS) if noise.any() else (np.zeros(1), np.ones(1))

    def place(values: Floats) -> Floats:
        terms = (w * here.cdf(values - node * noise) for node, w in zip(nodes, weights, strict=True))
        return np.asarray(sum(terms, np.zeros(len(values))))

    if rounding_us > 0.0:
        low, high = place(errors - rounding_us / 2.0), place(errors + rounding_us / 2.0)
        places = np.concatenate([low + share * (high - low) for share in ROUNDED + 0.5])
    else:
        places = place(errors)
    places.sort()
    rank = np.arange(len(places) + 1) / len(places)
    return float(max(np.abs(places - rank[1:]).max(), np.abs(places - rank[:-1]).max()))


MOST_TARGETS = 256  # targets at which spreads are taken; between them along lines


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
