"""The tests behind the verdict: plain functions of arrays of scores, of right and wrong answers first of all.

Symbols follow docs/nomenclature.md: i = 1..n images, r = 1..m repeats on the chip,
s = 1..S virtual chips; y (m, n), v (S, n), q (n,) say whether an answer was right, or are its score.
Accuracies and differences are fractions here and points (0.01) in text; other scores have their own unit.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

Floats = NDArray[np.float64]

FEWEST_IMAGES, FEWEST_REPEATS, FEWEST_CHIPS = 300, 2, 10  # below these nothing is called agreement
MOST_IMAGES = 100_000  # above this "more images" is not advice
LAST_MARGIN = 0.25  # standard errors by which a difference must exceed the tolerance at the last analysis
SMALLEST_STEP = 1e-12  # of a score: nothing is divided by less


# --- interim analyses -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CriticalValues:
    """Critical values that hold over all planned interim analyses at once."""

    z_equivalence: float  # α_E per side
    z_prediction: float  # α_P two-sided, as a normal quantile
    t_prediction: float  # the same tail probability for S − 1 degrees of freedom


def planned_looks(images: int, *, first: int = 500, most: int = 5) -> tuple[int, ...]:
    """Halve ``images`` down to ``first``: 2,000 gives (500, 1000, 2000), 800 gives (800,)."""
    looks = [images]
    while len(looks) < most and looks[0] // 2 >= first:
        looks.insert(0, looks[0] // 2)
    return tuple(looks)


def look_limits(looks: Sequence[int], chips: int, *, alpha_e: float = 0.05, alpha_p: float = 0.05) -> CriticalValues:
    """Critical values for interim analyses at image counts ``looks`` (ascending) and ``chips`` virtual chips."""
    shares = tuple(n / looks[-1] for n in looks)
    z_e, z_p = simultaneous_quantile(shares, 2 * alpha_e), simultaneous_quantile(shares, alpha_p)
    return CriticalValues(z_e, z_p, float(stats.t.ppf(stats.norm.cdf(z_p), chips - 1)))


@functools.cache
def simultaneous_quantile(shares: tuple[float, ...], alpha: float) -> float:
    """The z for which max |Z_k| over all interim analyses stays below z with probability 1 − α.

    Z_k = W(t_k) / √t_k, W a Brownian motion, t_k the share of the images seen at analysis k
    (Armitage, McPherson and Rowe 1969): the density of W that has not crossed yet is carried
    from one analysis to the next on a grid.
    """
    if any(b <= a for a, b in itertools.pairwise((0.0, *shares))):
        raise ValueError(f"looks must ascend, got shares {tuple(shares)}")
    bonferroni = float(stats.norm.isf(alpha / 2 / len(shares)))
    if len(shares) == 1:
        return bonferroni
    lowest = float(stats.norm.isf(alpha / 2))
    return float(optimize.brentq(lambda z: _crossing(shares, z) - alpha, lowest - 1e-9, bonferroni + 1e-9, xtol=1e-5))


def _crossing(shares: Sequence[float], z: float, nodes: int = 120) -> float:
    """Probability that |Z_k| > z at some interim analysis."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    edge = z * math.sqrt(shares[0])
    points, weights = x * edge, w * edge
    density = stats.norm.pdf(points, scale=math.sqrt(shares[0]))
    for before, now in itertools.pairwise(shares):
        edge = z * math.sqrt(now)
        following = x * edge
        step = stats.norm.pdf(following[:, None] - points[None, :], scale=math.sqrt(now - before))
        density, points, weights = step @ (density * weights), following, w * edge
    return 1.0 - float(density @ weights)


# --- the paired comparison --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Comparison:
    """Chip against virtual chips on the same images, as fractions."""

    n: int
    repeats: int
    chips: int
    chip: float  # mean accuracy of the chip
    simulated: float  # mean accuracy of the virtual chips
    difference: float  # D = chip − simulated
    image_variance: float  # s_d²
    chip_variance: float  # v1, between virtual chips
    read_variance: float | None  # r2 of one repeat's accuracy; needs two repeats
    answer_variance: float  # w, for a claim about a fixed set
    paired: bool = True  # chip and virtual chips answered the same images, one by one

    def standard_error(self, population: int | None = None) -> float:
        """SE of D for new images, or for a fixed set of ``population`` images of which n were drawn."""
        return math.sqrt(sum(self._error_parts(population)))

    def quantile(self, z: float, population: int | None = None) -> float:
        """Student's t of the tail that ``z`` leaves a normal variable, for D / SE.

        Degrees of freedom of SE² (Satterthwaite 1946): n − 1 of the images, S − 1 of the virtual chips' mean, weighted
        by their parts in it.

        Example: S = 20 and virtual chips that make up all of SE² → t of 19 degrees, 1.729 for z = 1.645.
        """
        images, chips = self._error_parts(population)
        freedom = (images + chips) ** 2 / (images**2 / (self.n - 1) + chips**2 / (self.chips - 1))
        return float(special.stdtrit(freedom, float(special.ndtr(z))))

    def _error_parts(self, population: int | None) -> tuple[float, float]:
        """Parts of SE²: of the images, and of the virtual chips' mean."""
        share = 0.0 if population is None else self.n / population
        images = (1 - share) * self.image_variance + share * self.answer_variance
        return images / self.n, self.chip_variance / self.chips

    @property
    def prediction_error(self) -> float:
        """Standard deviation of one chip's accuracy about the simulated mean, √(v1 (1 + 1/S)).

        Where images are not paired they are not common to both: √(v1 (1 + 1/S) + s_d²/n).
        """
        images = 0.0 if self.paired else self.image_variance / self.n
        return math.sqrt(self.chip_variance * (1 + 1 / self.chips) + images)

    @property
    def persistent_variance(self) -> float:
        """σ_post² = max(0, v1 − r2): what differs between virtual chips and is not read noise."""
        return max(0.0, self.chip_variance - (self.read_variance or 0.0))


def compare(measured: ArrayLike, simulated: ArrayLike, *, binary: bool = True) -> Comparison:
    """Compare scores of the chip (m, n) and of the virtual chips (S, n; means of reads allowed).

    ``binary``: scores are right (1) and wrong (0), else of any kind.
    """
    y, v = np.asarray(measured, np.float64), np.asarray(simulated, np.float64)
    (m, n), (chips, n_simulated) = y.shape, v.shape
    if n != n_simulated:
        raise ValueError(f"chip answered {n} images and simulator {n_simulated}")
    if n < 2 or m < 1 or chips < 2:
        raise ValueError(f"a comparison needs 2 images, 1 repeat and 2 virtual chips; got {n}, {m} and {chips}")
    within = y.var(axis=0, ddof=1) if m > 1 else np.zeros(n)
    accuracies = v.mean(axis=1)
    d = y.mean(axis=0) - v.mean(axis=0)
    step = score_step(d, binary=binary)
    return Comparison(
        n=n,
        repeats=m,
        chips=chips,
        chip=float(y.mean()),
        simulated=float(v.mean()),
        difference=float(d.mean()),
        image_variance=image_variance(d, step),
        chip_variance=max(float(accuracies.var(ddof=1)), (0.5 * step / n) ** 2),
        read_variance=float(within.sum()) / n**2 if m > 1 else None,
        answer_variance=float((within / m + v.var(axis=0, ddof=1) / chips).mean()),
    )


def score_step(d: Floats, *, binary: bool) -> float:
    """What one more sample could differ by: 1 for right and wrong, else the largest paired difference of ``d`` (n,)."""
    return 1.0 if binary else max(float(np.abs(d).max()), SMALLEST_STEP)


def image_variance(d: Floats, step: float = 1.0) -> float:
    """s_d² of paired differences (n,), its sum of squares floored at 3 steps² (rule of three when nothing differs)."""
    return max(float(((d - d.mean()) ** 2).sum()), 3.0 * step**2) / (len(d) - 1)


@dataclass(frozen=True, slots=True)
class PredictionTest:
    """Test P: is the chip's accuracy a plausible draw among the virtual chips? Images are fixed."""

    statistic: float  # T
    limit: float
    p_value: float  # of one look, t with S − 1 degrees of freedom
    p_rank: float  # cannot reject below S = 39
    rejects: bool


def prediction_test(c: Comparison, accuracies: Floats, limits: CriticalValues) -> PredictionTest:
    """T = |D| / √(v1 (1 + 1/S)) against the t limit; ``accuracies`` (S,) of the virtual chips for the rank."""
    statistic = abs(c.difference) / c.prediction_error
    below, above = int((accuracies <= c.chip).sum()), int((accuracies >= c.chip).sum())
    return PredictionTest(
        statistic=statistic,
        limit=limits.t_prediction,
        p_value=float(2 * stats.t.sf(statistic, c.chips - 1)),
        p_rank=min(1.0, 2 * (1 + min(below, above)) / (c.chips + 1)),
        rejects=statistic > limits.t_prediction,
    )


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Test E: where does the 90 % interval of the difference lie beside ±δ? Images are random, the chip is this one."""

    standard_error: float
    low: float
    high: float
    holds: bool  # the whole interval is inside ±δ
    beyond: bool  # the whole interval is outside ±δ
    likely_beyond: bool = False  # it excludes 0, and the difference exceeds δ by ``LAST_MARGIN`` standard errors


def equivalence_test(c: Comparison, tolerance: float, z: float, population: int | None = None) -> Equivalence:
    """D ± t · SE against ±δ, all as fractions; t has the tail of ``z``."""
    error, size = c.standard_error(population), abs(c.difference)
    half = c.quantile(z, population) * error
    return Equivalence(
        standard_error=error,
        low=c.difference - half,
        high=c.difference + half,
        holds=size + half <= tolerance,
        beyond=size - half > tolerance,
        likely_beyond=size > half and size - LAST_MARGIN * error > tolerance,
    )


# --- planning ---------------------------------------------------------------------------


def chance_to_agree(c: Comparison, tolerance: float, z: float, *, images: ArrayLike, gap: float = 0.0) -> Floats:
    """P(agree | true difference ``gap``) at each number of ``images``; v1 shrinks only in its read noise."""
    n = np.asarray(images, np.float64)
    v1 = c.persistent_variance + (c.chip_variance - c.persistent_variance) * c.n / n
    error = np.sqrt(c.image_variance / n + v1 / c.chips)
    u = np.sqrt(error**2 + c.persistent_variance)
    room = tolerance - z * error
    chance = stats.norm.cdf((room - gap) / u) - stats.norm.cdf((-room - gap) / u)
    return np.where(room < 0, 0.0, chance).astype(np.float64)


def images_enough(c: Comparison, tolerance: float, z: float, power: float = 0.9) -> int | None:
    """Fewest images with P(agree | 0) ≥ ``power``; None when not even 100,000 would do."""
    n = np.arange(FEWEST_IMAGES, MOST_IMAGES + 1)
    enough = np.flatnonzero(chance_to_agree(c, tolerance, z, images=n) >= power)
    return int(n[enough[0]]) if enough.size else None


def smallest_gap(c: Comparison, limits: CriticalValues) -> float:
    """Difference that test P sees with 95 %, as a fraction (on the safe side)."""
    return (limits.t_prediction + float(stats.norm.ppf(0.95))) * c.prediction_error


# --- descriptions, no part of the verdict -----------------------------------------------


def discordance(a: ArrayLike, b: ArrayLike) -> float:
    """Share of (image, row of a, row of b) on which right and wrong differ; a (m, n), b (S, n)."""
    x, y = np.atleast_2d(np.asarray(a, np.float64)), np.atleast_2d(np.asarray(b, np.float64))
    p, q = x.mean(axis=0), y.mean(axis=0)
    return float((p * (1 - q) + q * (1 - p)).mean())


def repeat_discordance(measured: ArrayLike) -> float | None:
    """Share of images answered differently by two repeats of the chip; None for one repeat."""
    y = np.asarray(measured, np.float64)
    m = y.shape[0]
    return float(2 * y.var(axis=0, ddof=1).mean()) if m > 1 else None


@dataclass(frozen=True, slots=True)
class McNemar:
    """Majority answers of chip and simulator; answers "identical?", which two chips never are."""

    chip_only: int  # images that only the chip has right
    simulator_only: int
    p_value: float


def mcnemar(measured: ArrayLike, simulated: ArrayLike) -> McNemar:
    """Exact McNemar test (1947) on majorities of right answers; a tie counts as wrong."""
    chip = np.asarray(measured, np.float64).mean(axis=0) > 0.5
    simulator = np.asarray(simulated, np.float64).mean(axis=0) > 0.5
    b, c = int((chip & ~simulator).sum()), int((simulator & ~chip).sum())
    p = 1.0 if b + c == 0 else float(stats.binomtest(b, b + c).pvalue)
    return McNemar(b, c, p)


@dataclass(frozen=True, slots=True)
class Trend:
    """Change of accuracy from one repeat to the next (fraction), paired over images."""

    per_repeat: float
    standard_error: float
    p_value: float
    seen: bool  # p < 1 %


def repeat_trend(measured: ArrayLike) -> Trend | None:
    """Slope of right answers (m, n) against the repeat number; None for a single repeat."""
    y = np.asarray(measured, np.float64)
    m, n = y.shape
    if m < 2 or n < 2:
        return None
    r = np.arange(m) - (m - 1) / 2
    slopes = r @ y / float(r @ r)
    slope, error = float(slopes.mean()), math.sqrt(float(slopes.var(ddof=1)) / n)
    p = 1.0 if error == 0 else float(2 * stats.norm.sf(abs(slope) / error))
    return Trend(slope, error, p, p < 0.01)
