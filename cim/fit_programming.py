"""The programming law from readings of cells at several ages: one fit over all levels and ages.

    law = fit_programming(targets_us, readings_us, states, ages_s=ages, reads=reads,
                          levels_us=levels, read_noise=noise)

The parameters are the values of the law's tables; ``law_at`` interpolates them, here as in use.
Scoring steps (the sum of squared scores as curvature) reach the maximum of the likelihood and
give the standard errors. Students and mixtures are both tried; the held-out likelihood decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import least_squares

from cim.calibration import CellState
from cim.fit_cells import MIN_CELLS, TooFewCells, nearest_level
from cim.programming_law import Law, ProgrammingLaw, along_levels, law_at, time_weights
from cim.read_noise import ReadNoise
from cim.tails import Tail, log_density

MAX_UNREACHED = 4096
MAX_KNOTS = 4  # ages of the law; more measured ages than this share knots
KNOT_DECADES = 1.5
LEVEL_CELLS = 256  # targets beyond this many are put into so many groups of equal size
BINS = 200  # of errors within a group, where there are more cells than that
HELD_OUT = 5  # every fifth cell judges between the tails
STEPS = 60
NORMAL = np.linspace(-4.0, 4.0, 25)  # nodes of the reading's noise, in sigma
NORMAL_WEIGHTS = np.exp(-0.5 * NORMAL**2) / np.exp(-0.5 * NORMAL**2).sum()
ROUNDED = (np.arange(25) + 0.5) / 25.0 - 0.5  # nodes of rounding, in steps

# Weak priors (mean, sd) that hold a node with few cells, and bounds: skew, ln df, logit of the wide share, ln ratio.
PRIOR = ((0.0, 0.5), (np.log(5.0), 1.5), (-1.0, 1.5), (np.log(4.0), 1.0))
BOUNDS = ((-1.5, 1.5), (np.log(0.5), np.log(200.0)), (-7.0, 4.0), (np.log(1.5), np.log(30.0)))
ROUGHNESS = (0.15, 0.5, 0.5)  # sd of second differences from level to level: skew, ln df, logit
TABLES = 5  # loc, ln scale, skew, ln df, logit

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
) -> ProgrammingLaw:
    """The programming law by level and age, with the noise of the readings taken out.

    reading − target = law(level, age) + N(0, read variance / reads)

    Args:
        targets_us: (cells,) µS, at the levels or anywhere between.
        readings_us: mean of ``reads[a]`` readings at ``ages_s[a]``, (ages, cells) µS; NaN where
            a cell was not read.
        states: ``CellState`` of each cell; stuck cells count in the shares, unreached ones
            give ``unreached_us``, good ones the law.
        levels_us: nodes of the law's tables, ascending.
        read_noise: its variance is taken out; all zeros where it is not known: then the law
            holds one read and ``memory_fresh_share`` is fitted.
        knots_s: ages of the law's tables; None chooses at most four among ``ages_s``.
        tail: None lets the likelihood of every fifth cell decide.
        rounding_us: step of the readings where it is not small against the errors: a reading
            then stands for all values that round to it.

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
    cells = _Readings(targets[good], readings[:, good] - targets[good], noise, ages, rounding_us)
    fit = _chosen(cells, knots, levels) if tail is None else _Fit.of(cells.grouped(), knots, levels, tail)
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
    """At most four of the ages, the first and the last among them, evenly spaced in log time,
    1.5 decades apart or more (a shorter stretch says little about a slope).

    Example: 0.1, 1, 10, 100 and 1000 s give 0.1, 10 and 1000 s.
    """
    ages = np.unique(np.asarray(ages_s, np.float64))
    decades = np.log10(ages)
    knots = int(np.clip(1 + (decades[-1] - decades[0]) / KNOT_DECADES, min(2, len(ages)), MAX_KNOTS))
    wanted = np.linspace(decades[0], decades[-1], knots)
    return [float(a) for a in ages[np.unique([int(np.abs(decades - w).argmin()) for w in wanted])]]


@dataclass(frozen=True, slots=True)
class _Readings:
    """Targets (cells,), errors (ages, cells; NaN where not read) and reading noise (ages, cells), µS."""

    targets_us: Floats
    errors_us: Floats
    noise_us: Floats
    ages_s: Floats
    rounding_us: float

    def part(self, which: NDArray[np.bool_]) -> _Readings:
        return _Readings(
            self.targets_us[which], self.errors_us[:, which], self.noise_us[:, which], self.ages_s, self.rounding_us
        )

    def grouped(self) -> _Groups:
        """Cells of like target and age together; equal errors counted in bins fine in the core, wide in the tails."""
        values, which = np.unique(self.targets_us, return_inverse=True)
        if len(values) > LEVEL_CELLS:
            rank = np.argsort(np.argsort(self.targets_us, kind="stable"), kind="stable")
            which = rank * LEVEL_CELLS // len(rank)
            values = np.bincount(which, self.targets_us) / np.bincount(which)
        order = np.argsort(which, kind="stable")
        starts = np.searchsorted(which[order], np.arange(len(values) + 1))
        parts: list[tuple[Floats, Floats, float, float, float]] = []
        for a, age in enumerate(self.ages_s):
            for k, value in enumerate(values):
                here = order[starts[k] : starts[k + 1]]
                errors = self.errors_us[a, here]
                kept = np.isfinite(errors)
                if kept.any():
                    points, weights = _binned(errors[kept])
                    parts.append((points, weights, float(value), float(age), float(self.noise_us[a, here].mean())))
        sizes = np.array([len(p[0]) for p in parts])
        return _Groups(
            np.concatenate([p[0] for p in parts]),
            np.concatenate([p[1] for p in parts]),
            np.concatenate([[0], np.cumsum(sizes)[:-1]]),
            np.repeat(np.arange(len(parts)), sizes),
            np.array([p[2] for p in parts]),
            np.array([p[3] for p in parts]),
            np.array([p[4] for p in parts]),
            self.rounding_us,
        )


@dataclass(frozen=True, slots=True)
class _Groups:
    """Points of error with their weights (n,), sorted by group; target, age and noise of each group (g,)."""

    points_us: Floats
    weights: Floats
    starts: NDArray[np.intp]
    group: NDArray[np.intp]
    targets_us: Floats
    ages_s: Floats
    noise_us: Floats
    rounding_us: float

    def nodes(self) -> tuple[Floats, Floats]:
        """What the reading may have added to each group, (g, nodes) µS and their weights: normal noise,
        or rounding where there is no noise (a noise of a sixth of a step and more blurs the steps)."""
        if not self.noise_us.any() and self.rounding_us > 0.0:
            return np.broadcast_to(ROUNDED * self.rounding_us, (len(self.starts), len(ROUNDED))), np.full(
                len(ROUNDED), 1.0 / len(ROUNDED)
            )
        if not self.noise_us.any():
            return np.zeros((len(self.starts), 1)), np.ones(1)
        sd = np.hypot(self.noise_us, self.rounding_us / np.sqrt(12.0))
        return sd[:, None] * NORMAL, NORMAL_WEIGHTS


def _binned(errors: Floats) -> tuple[Floats, Floats]:
    if len(errors) <= BINS:
        return errors, np.ones(len(errors))
    centre = float(np.median(errors))
    width = max(float(np.median(np.abs(errors - centre))), 1e-6)
    bent = np.arcsinh((errors - centre) / width)
    counts, edges = np.histogram(bent, bins=BINS)
    seen = counts > 0
    sums, _ = np.histogram(bent, bins=edges, weights=errors)
    return sums[seen] / counts[seen], counts[seen].astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Fit:
    """The tables (knots, levels) at the maximum, their errors, and how likely the cells are."""

    knots_s: Floats
    levels_us: Floats
    tail: Tail
    at: Floats  # tables of loc, ln scale, skew, ln df and logit of the wide share, flat; then ln wide_ratio
    errors: Floats

    @classmethod
    def of(cls, groups: _Groups, knots: Floats, levels: Floats, tail: Tail, start: Floats | None = None) -> _Fit:
        task = _Task.of(groups, knots, levels, tail)
        at = task.start() if start is None else start
        loss, slope, curvature = task.loss(at)
        damping = 1e-3
        for _ in range(STEPS):
            held = task.held(at, slope)
            step = np.zeros_like(at)
            inner = curvature[np.ix_(~held, ~held)]
            step[~held] = cho_solve(cho_factor(inner + damping * np.diag(np.diag(inner))), -slope[~held])
            there = np.clip(at + step, task.low, task.high)
            new = task.loss(there)
            if new[0] < loss:
                gain, at = loss - new[0], there
                loss, slope, curvature = new
                damping = max(damping / 5.0, 1e-9)
                if gain < 1e-3:
                    break
            else:
                damping *= 6.0
                if damping > 1e6:
                    break
        free = ~task.held(at, slope)
        errors = np.zeros_like(at)
        errors[free] = np.sqrt(np.diag(np.linalg.inv(curvature[np.ix_(free, free)])))
        return cls(knots, levels, tail, at, errors)

    def likelihood(self, groups: _Groups) -> float:
        """Mean ln density of other cells."""
        task = _Task.of(groups, self.knots_s, self.levels_us, self.tail)
        return float(groups.weights @ task.densities(self.at)[0] / groups.weights.sum())

    def law(self, low: float, high: float, unreached: float, unreached_us: Floats) -> ProgrammingLaw:
        shape = (TABLES, len(self.knots_s), len(self.levels_us))
        loc, ln_scale, skew, ln_df, logit = self.at[:-1].reshape(shape)
        loc_se, ln_scale_se, skew_se, ln_df_se, logit_se = self.errors[:-1].reshape(shape)
        scale, mixed = np.exp(ln_scale), self.tail is not Tail.STUDENT
        return ProgrammingLaw(
            ages_s=self.knots_s,
            levels_us=self.levels_us,
            loc_us=loc,
            scale_us=scale,
            df=np.exp(ln_df),
            loc_se_us=loc_se,
            scale_se_us=scale * ln_scale_se,
            ln_df_se=ln_df_se,
            stuck_low_share=low,
            stuck_high_share=high,
            unreached_share=unreached,
            unreached_us=unreached_us,
            tail=self.tail,
            skew=skew,
            skew_se=skew_se,
            wide_share=1.0 / (1.0 + np.exp(-logit)) if mixed else np.zeros(shape[1:]),
            wide_share_se=logit_se,
            wide_ratio=float(np.exp(self.at[-1])) if mixed else 1.0,
        )


def _chosen(cells: _Readings, knots: Floats, levels: Floats) -> _Fit:
    """The tail that makes every fifth cell most likely, fitted again to all cells."""
    held = np.arange(len(cells.targets_us)) % HELD_OUT == HELD_OUT - 1
    seen, judge = cells.part(~held).grouped(), cells.part(held).grouped()
    tried = [_Fit.of(seen, knots, levels, tail) for tail in Tail]
    best = max(tried, key=lambda f: f.likelihood(judge))
    return _Fit.of(cells.grouped(), knots, levels, best.tail, best.at)


@dataclass(frozen=True, slots=True)
class _Task:
    """Minus ln likelihood of grouped errors, its slope and curvature by all table values."""

    groups: _Groups
    tail: Tail
    by_time: Floats  # (g, knots)
    by_level: Floats  # (g, levels)
    low: Floats
    high: Floats

    @classmethod
    def of(cls, groups: _Groups, knots: Floats, levels: Floats, tail: Tail) -> _Task:
        targets = np.clip(groups.targets_us, levels[0], levels[-1])
        times, back = np.unique(groups.ages_s, return_inverse=True)
        by_time = np.stack([time_weights(knots, float(t)) for t in times])[back]
        size = len(knots) * len(levels)
        width = 1.4826 * float(np.median(np.abs(groups.points_us - np.median(groups.points_us))))
        floor = np.log(max(1e-3 * width, 1e-4))
        top = np.log(max(1e3 * width, 1.0))
        blocks = [(-np.inf, np.inf), (floor, top), *BOUNDS[:3]]
        low = np.concatenate([np.repeat([b[0] for b in blocks], size), [BOUNDS[3][0]]])
        high = np.concatenate([np.repeat([b[1] for b in blocks], size), [BOUNDS[3][1]]])
        return cls(groups, tail, by_time, along_levels(levels, np.eye(len(levels)), targets), low, high)

    def start(self) -> Floats:
        """Medians and widths of the groups nearest to each node."""
        knots, levels = self.by_time.shape[1], self.by_level.shape[1]
        loc, scale = np.zeros((knots, levels)), np.ones((knots, levels))
        near = self.by_time.argmax(1), self.by_level.argmax(1)
        for a in range(knots):
            for k in range(levels):
                groups = np.flatnonzero((near[0] == a) & (near[1] == k))
                at = np.isin(self.groups.group, groups)
                if not at.any():
                    at = np.isin(self.groups.group, np.flatnonzero(near[1] == k)) | (self.groups.group < 0)
                points, weights = self.groups.points_us[at], self.groups.weights[at]
                loc[a, k] = _middle(points, weights)
                width = 1.2 * _middle(np.abs(points - loc[a, k]), weights)
                noise = float(self.groups.noise_us[groups].mean()) if len(groups) else 0.0
                scale[a, k] = np.sqrt(max(width**2 - noise**2, 0.1 * width**2, 1e-6))
        tail = [np.zeros(loc.size), np.full(loc.size, np.log(3.0)), np.full(loc.size, PRIOR[2][0])]
        start = np.concatenate([loc.ravel(), np.log(scale).ravel(), *tail, [PRIOR[3][0]]])
        return np.asarray(np.clip(start, self.low, self.high))

    def held(self, at: Floats, slope: Floats) -> NDArray[np.bool_]:
        """Parameters at a bound that would leave it, and those that do not count."""
        held: NDArray[np.bool_] = np.asarray(
            ((at <= self.low + 1e-9) & (slope > 0.0)) | ((at >= self.high - 1e-9) & (slope < 0.0))
        )
        size = (len(at) - 1) // TABLES
        if self.tail is Tail.STUDENT:
            held[4 * size :] = True
        if self.tail is Tail.MIXTURE:
            held[3 * size : 4 * size] = True
        return held

    def local(self, at: Floats) -> tuple[Floats, list[Floats]]:
        """The five local values of each group, (5, g), and their slopes by their tables, each (g, knots · levels)."""
        knots, levels = self.by_time.shape[1], self.by_level.shape[1]
        tables = at[:-1].reshape(TABLES, knots, levels)
        by_both = np.einsum("ga,gl->gal", self.by_time, self.by_level).reshape(len(self.by_time), -1)
        each = np.exp(2.0 * self.by_level @ tables[1].T)  # (g, knots): scale² at the knots
        part = self.by_time * each
        variance = np.maximum(part.sum(1), 1e-12)
        slope = np.einsum("ga,gl->gal", part / variance[:, None], self.by_level).reshape(len(part), -1)
        values = np.stack([by_both @ tables[k].ravel() for k in range(TABLES)])
        values[1] = 0.5 * np.log(variance)
        return values, [by_both, slope, by_both, by_both, by_both]

    def densities(self, at: Floats) -> tuple[Floats, Floats]:
        """ln density of each point and its six local slopes, the reading's noise included."""
        values = self.local(at)[0][:, self.groups.group]
        nodes, weights = self.groups.nodes()
        points = self.groups.points_us
        if len(weights) == 1:
            return log_density(points, values, float(at[-1]), self.tail)
        away = points[:, None] - nodes[self.groups.group]
        each, slopes = log_density(away, values[:, :, None], float(at[-1]), self.tail)
        top = each.max(1)
        parts = np.exp(each - top[:, None]) * weights
        total = parts.sum(1)
        return top + np.log(total), np.einsum("knj,nj->kn", slopes, parts / total[:, None])

    def loss(self, at: Floats) -> tuple[float, Floats, Floats]:
        log_f, scores = self.densities(at)
        weights, starts = self.groups.weights, self.groups.starts
        sums = np.add.reduceat(scores * weights, starts, axis=1)
        _, designs = self.local(at)
        designs = [*designs, np.ones((len(starts), 1))]
        slope = -np.concatenate([d.T @ s for d, s in zip(designs, sums, strict=True)])
        rows = []
        for a, left in enumerate(designs):
            row = []
            for b, right in enumerate(designs):
                square = np.add.reduceat(scores[a] * scores[b] * weights, starts)
                row.append(left.T @ (square[:, None] * right))
            rows.append(np.concatenate(row, 1))
        curvature = np.concatenate(rows)
        middle, firmness = self._prior(at)
        pull = firmness @ (at - middle)
        loss = -float(weights @ log_f) + 0.5 * float((at - middle) @ pull)
        return loss, slope + pull, curvature + firmness

    def _prior(self, at: Floats) -> tuple[Floats, Floats]:
        """Means, and inverse covariance; loc and ln scale have none."""
        knots, levels = self.by_time.shape[1], self.by_level.shape[1]
        size = knots * levels
        means = np.repeat([p[0] for p in PRIOR[:3]], size)
        middle = np.concatenate([at[: 2 * size], means, [PRIOR[3][0]]])
        firmness = np.diag(
            np.concatenate([np.full(2 * size, 1e-8), np.repeat([p[1] ** -2.0 for p in PRIOR], [size] * 3 + [1])])
        )
        bend = np.diff(np.eye(levels), 2, axis=0)
        for k, sd in enumerate(ROUGHNESS):
            at_table = slice((2 + k) * size, (3 + k) * size)
            firmness[at_table, at_table] += np.kron(np.eye(knots), bend.T @ bend) / sd**2
        return middle, firmness


def _middle(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2.0)])


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
        spread2 = np.square(here.spread_us())
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
