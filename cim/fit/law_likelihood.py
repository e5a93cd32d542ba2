"""Likelihood of the programming law's tables, its maximum, and the covariance of the parameters there.

Readings are grouped by target and age; the parameters are the values of the law's tables, which
``cim.cells.programming_law`` interpolates. Scoring steps (the sum of squared scores as curvature)
reach the maximum; the covariance comes from the scores summed per cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from cim.cells.laws.tail import Tail
from cim.cells.programming_law import ProgrammingLaw, along_levels, time_weights
from cim.cells.tails import log_density

LEVEL_CELLS = 256  # targets beyond this many are put into so many groups of equal size
BINS = 200  # of errors within a group, where there are more cells than that
SCATTER_CELLS, CHUNK = 16384, 2048  # cells that tell the errors, and how many at once
BLOCK = 512  # readings whose densities are computed at once
STEPS = 60
FARTHEST_STEP = 1.5  # of logarithms and logits, in one step
NORMAL = np.linspace(-4.0, 4.0, 13)  # nodes of the reading's noise, in sigma: the sum is exact to 1e-9 for smooth laws
NORMAL_WEIGHTS = np.exp(-0.5 * NORMAL**2) / np.exp(-0.5 * NORMAL**2).sum()
ROUNDED = (np.arange(25) + 0.5) / 25.0 - 0.5  # nodes of rounding, in steps

# Weak priors (mean, sd) that hold a node with few cells, and bounds: skew, ln df, logit of the wide share, ln ratio.
PRIOR = ((0.0, 0.5), (np.log(5.0), 1.5), (-1.0, 1.5), (np.log(4.0), 1.0))
BOUNDS = ((-1.5, 1.5), (np.log(0.5), np.log(200.0)), (-7.0, 4.0), (np.log(1.5), np.log(30.0)))
ROUGHNESS = (0.15, 0.5, 0.5)  # sd of second differences from level to level: skew, ln df, logit
TABLES = 5  # loc, ln scale, skew, ln df, logit

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LawReadings:
    """Targets (cells,), errors (ages, cells; NaN where not read) and reading noise (ages, cells), µS."""

    targets_us: Floats
    errors_us: Floats
    noise_us: Floats
    ages_s: Floats
    rounding_us: float

    def part(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> LawReadings:
        return LawReadings(
            self.targets_us[which], self.errors_us[:, which], self.noise_us[:, which], self.ages_s, self.rounding_us
        )

    def single(self) -> Groups:
        """Groups of one reading each, ordered by age; weight 0 where a cell was not read."""
        ages, cells = self.errors_us.shape
        each = np.arange(ages * cells)
        return Groups(
            np.nan_to_num(self.errors_us.ravel()),
            np.isfinite(self.errors_us.ravel()).astype(np.float64),
            each,
            each,
            np.tile(self.targets_us, ages),
            np.repeat(self.ages_s, cells),
            self.noise_us.ravel(),
            self.rounding_us,
        )

    def grouped(self) -> Groups:
        """Readings grouped by target and age; errors are counted in bins, narrow in the core and wide in the tails."""
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
        return Groups(
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
class Groups:
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
        """Quadrature nodes of the reading error of each group, (g, nodes) µS, and their weights: of normal noise, or
        of rounding alone where there is no noise (noise above a sixth of a rounding step hides the steps)."""
        if not self.noise_us.any():
            steps = ROUNDED * self.rounding_us if self.rounding_us > 0.0 else np.zeros(1)
            return np.broadcast_to(steps, (len(self.starts), len(steps))), np.full(len(steps), 1.0 / len(steps))
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
class Fit:
    """The tables (knots, levels) at the maximum and their covariance."""

    knots_s: Floats
    levels_us: Floats
    tail: Tail
    at: Floats  # tables of loc, ln scale, skew, ln df and logit of the wide share, flat; then ln wide_ratio
    covariance: Floats

    @classmethod
    def of(
        cls,
        cells: LawReadings,
        knots: Floats,
        levels: Floats,
        tail: Tail,
        start: Floats | None = None,
        *,
        sure: bool = True,
    ) -> Fit:
        """The maximum from ``start``; ``sure`` False leaves the covariance out."""
        task = LawLikelihood.of(cells.grouped(), knots, levels, tail)
        at = task.start() if start is None else start
        loss, slope, curvature = task.loss(at)
        damping, size = 1e-3, len(knots) * len(levels)
        for _ in range(STEPS):
            held = task.held(at, slope)
            step = np.zeros_like(at)
            inner = curvature[np.ix_(~held, ~held)]
            step[~held] = cho_solve(cho_factor(inner + damping * np.diag(np.diag(inner))), -slope[~held])
            step[size:] = np.clip(step[size:], -FARTHEST_STEP, FARTHEST_STEP)
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
        if not sure:
            return cls(knots, levels, tail, at, np.zeros((0, 0)))
        free = ~task.held(at, slope)
        bread = np.linalg.inv(curvature[np.ix_(free, free)])
        scatter = _score_scatter(cells, knots, levels, tail, at)[np.ix_(free, free)]
        scatter += task.prior(at)[1][np.ix_(free, free)]
        covariance = np.zeros_like(curvature)
        covariance[np.ix_(free, free)] = bread @ scatter @ bread
        return cls(knots, levels, tail, at, covariance)

    def likelihood(self, groups: Groups) -> float:
        """Mean ln density of the cells in ``groups`` under this fit."""
        task = LawLikelihood.of(groups, self.knots_s, self.levels_us, self.tail)
        return float(groups.weights @ task.densities(self.at)[0] / groups.weights.sum())

    def law(self, low: float, high: float, unreached: float, unreached_us: Floats) -> ProgrammingLaw:
        shape = (TABLES, len(self.knots_s), len(self.levels_us))
        loc, ln_scale, skew, ln_df, logit = self.at[:-1].reshape(shape)
        loc_se, ln_scale_se, skew_se, ln_df_se, logit_se = np.sqrt(np.diag(self.covariance))[:-1].reshape(shape)
        scale, mixed = np.exp(ln_scale), self.tail.mixed
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
            covariance=self.covariance,
        )


@dataclass(frozen=True, slots=True)
class LawLikelihood:
    """Minus ln likelihood of grouped errors, its slope and curvature by all table values."""

    groups: Groups
    tail: Tail
    by_time: Floats  # (g, knots)
    by_level: Floats  # (g, levels)
    low: Floats
    high: Floats

    @classmethod
    def of(cls, groups: Groups, knots: Floats, levels: Floats, tail: Tail) -> LawLikelihood:
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
                    away = np.abs(near[1] - k)
                    at = np.isin(self.groups.group, np.flatnonzero(away == away.min()))
                points, weights = self.groups.points_us[at], self.groups.weights[at]
                loc[a, k] = _middle(points, weights)
                width = 1.2 * _middle(np.abs(points - loc[a, k]), weights)
                noise = float(self.groups.noise_us[groups].mean()) if len(groups) else 0.0
                scale[a, k] = np.sqrt(max(width**2 - noise**2, 0.1 * width**2, 1e-6))
        tail = [np.zeros(loc.size), np.full(loc.size, np.log(3.0)), np.full(loc.size, PRIOR[2][0])]
        start = np.concatenate([loc.ravel(), np.log(scale).ravel(), *tail, [PRIOR[3][0]]])
        return np.asarray(np.clip(start, self.low, self.high))

    def held(self, at: Floats, slope: Floats) -> NDArray[np.bool_]:
        """Parameters that a step must not change: at a bound that it would cross, or unused by the tail."""
        held: NDArray[np.bool_] = np.asarray(
            ((at <= self.low + 1e-9) & (slope > 0.0)) | ((at >= self.high - 1e-9) & (slope < 0.0))
        )
        size = (len(at) - 1) // TABLES
        if not self.tail.mixed:
            held[4 * size :] = True
        if "df" not in self.tail.parameters:
            held[3 * size : 4 * size] = True
        return held

    def local(self, at: Floats) -> tuple[Floats, list[Floats]]:
        """Five law parameters of each group, (5, g), and their slopes by the table values, (g, knots · levels)."""
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
        """ln density of each error and its six derivatives, reading noise included, in blocks that fit the cache."""
        values, (nodes, weights) = self.local(at)[0], self.groups.nodes()
        points, groups = self.groups.points_us, self.groups.group
        log_f, slopes = np.empty(len(points)), np.empty((TABLES + 1, len(points)))
        for first in range(0, len(points), BLOCK):
            here = slice(first, first + BLOCK)
            own = values[:, groups[here], None]
            each, by_value = log_density(points[here, None] - nodes[groups[here]], own, float(at[-1]), self.tail)
            top = each.max(1)
            parts = np.exp(each - top[:, None]) * weights
            total = parts.sum(1)
            log_f[here] = top + np.log(total)
            slopes[:, here] = np.einsum("knj,nj->kn", by_value, parts / total[:, None])
        return log_f, slopes

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
        middle, firmness = self.prior(at)
        pull = firmness @ (at - middle)
        loss = -float(weights @ log_f) + 0.5 * float((at - middle) @ pull)
        return loss, slope + pull, curvature + firmness

    def prior(self, at: Floats) -> tuple[Floats, Floats]:
        """Prior means and inverse covariance of the parameters; loc and ln scale are practically free."""
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


def _score_scatter(cells: LawReadings, knots: Floats, levels: Floats, tail: Tail, at: Floats) -> Floats:
    """Sum over cells of the square of each cell's score, its ages added up first.

    Readings of one cell at several ages are correlated; curvature alone would treat them as independent and
    underestimate the standard errors.
    """
    every = max(1, len(cells.targets_us) // SCATTER_CELLS)
    total = np.zeros((len(at), len(at)))
    for first in range(0, len(cells.targets_us), CHUNK * every):
        which = np.arange(first, min(first + CHUNK * every, len(cells.targets_us)), every)
        single = cells.part(which).single()
        task = LawLikelihood.of(single, knots, levels, tail)
        scores = task.densities(at)[1] * single.weights
        designs = [*task.local(at)[1], np.ones((len(single.starts), 1))]
        by_cell = np.concatenate(
            [
                (d * s[:, None]).reshape(len(cells.ages_s), len(which), -1).sum(0)
                for d, s in zip(designs, scores, strict=True)
            ],
            1,
        )
        total += by_cell.T @ by_cell
    return total * every


def _middle(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2.0)])
