"""Write-verify: pulse by pulse, and a quick form with the same statistics.

``write_verify`` repeats {read with noise; inside the window? stop; else one pulse} for all
cells at once, with the step model of ``cim.cells.pulse_steps``. A noisy read lets cells stop outside
their window (false passes) and pulses cells that were inside. ``QuickWrite`` draws the result
at once: uniform in the window plus the verify noise, a share of failures by level left where
such cells stay, and pulse counts from their quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.cells.pulse_steps import CellTraits, PulseSteps

PULSE_POINTS = (*np.linspace(0.0, 0.95, 20), 0.96, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)  # finer in the tail
FAILED_POINTS = 33  # quantiles kept of where failed cells stay
Z95 = 1.959964

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ramp:
    """Ramp of the word-line voltage: below the aim first, up while too low, back after too high."""

    start_below_v: float = 0.3
    step_v: float = 0.04
    back_v: float = 0.08
    width_s: float = 1e-6
    max_pulses: int = 500
    verify_sigma_us: float = 0.0  # noise of one verify, after averaging its reads
    confirm: bool = False  # a second verify must agree


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """Arrays (cells,): true conductance, last verify reading, pulses, window reached by that reading."""

    final_us: Floats
    reading_us: Floats
    pulses: NDArray[np.int64]
    reached: NDArray[np.bool_]


def write_verify(
    low_us: NDArray[np.floating],
    high_us: NDArray[np.floating],
    steps: PulseSteps,
    traits: CellTraits,
    ramp: Ramp,
    rng: np.random.Generator,
    start_us: NDArray[np.floating] | None = None,
) -> WriteOutcome:
    """Write every cell into its window [low, high], µS; low 0 or high ∞ is a one-sided window.

    A reading below the window: a SET pulse, then the cell's voltage rises one step. Above: a
    RESET pulse (a full RESET when the window goes down to 0), and after a SET the voltage goes
    back. One-sided windows start at the voltage of their bound. At most ``ramp.max_pulses``
    pulses a cell; each is followed by a verify.

    Args:
        start_us: conductances before; None: where a full RESET lands.

    Example: 8,192 cells of a bench chip (``fit_pulse_steps``, conductances times 1.45, unrest
    1.0) into 107.4 to 117.5 µS, steps of 0.03 V: median 13, mean 19, 99th percentile 118 pulses.
    """
    low, high = np.asarray(low_us, np.float64), np.asarray(high_us, np.float64)
    low = np.where(low <= 0.0, -np.inf, low)  # a noisy reading below zero is low enough
    if low.shape != high.shape or np.any(low >= high) or traits.offset.shape != low.shape:
        raise ValueError(f"windows {low.shape} and {high.shape}, cells {traits.offset.shape}; low must be below high")
    n = len(low)
    g = _erased(steps, traits.offset, rng.standard_normal(n)) if start_us is None else np.array(start_us, np.float64)
    g = np.clip(g, traits.bottom_us, traits.top_us)
    two_sided = np.isfinite(low) & np.isfinite(high)
    aim = np.where(two_sided, (low + high) / 2.0, np.where(np.isfinite(low), low, high))
    start_v = steps.voltage_for(aim) - np.where(two_sided, ramp.start_below_v, 0.0)  # one-sided: cannot overshoot
    volts = np.maximum(start_v, steps.wl_v[0])
    was_set = np.zeros(n, np.bool_)
    reading, pulses, reached = np.empty(n), np.zeros(n, np.int64), np.zeros(n, np.bool_)
    active = np.arange(n)
    for turn in range(ramp.max_pulses + 1):
        reading[active] = g[active] + ramp.verify_sigma_us * rng.standard_normal(len(active))
        inside = (reading[active] >= low[active]) & (reading[active] <= high[active])
        if ramp.confirm:
            again = g[active] + ramp.verify_sigma_us * rng.standard_normal(len(active))
            reading[active] = np.where(inside, again, reading[active])
            inside &= (again >= low[active]) & (again <= high[active])
        reached[active[inside]] = True
        active = active[~inside]
        if turn == ramp.max_pulses or not len(active):
            break
        up = reading[active] < np.where(two_sided, aim, low)[active]  # a failed confirm lies inside
        rising, falling = active[up], active[~up]
        g[rising] = _set(steps, g[rising], volts[rising], traits, rising, ramp.width_s, rng)
        volts[rising] = np.minimum(volts[rising] + ramp.step_v, steps.wl_v[-1])
        overshot = falling[was_set[falling]]
        volts[overshot] = np.maximum(volts[overshot] - ramp.step_v - ramp.back_v, steps.wl_v[0])
        g[falling] = _reset(steps, g[falling], np.isneginf(low[falling]), traits, falling, rng)
        was_set[rising], was_set[falling] = True, False
        g[active] = np.clip(g[active], traits.bottom_us[active], traits.top_us[active])
        pulses[active] += 1
    return WriteOutcome(g, reading, pulses, reached)


def _set(
    steps: PulseSteps,
    g: Floats,
    volts: Floats,
    traits: CellTraits,
    cells: NDArray[np.intp],
    width_s: float,
    rng: np.random.Generator,
) -> Floats:
    """g' of one SET pulse each (formula in ``cim.cells.pulse_steps``)."""
    c = steps.cycle_share
    z = np.sqrt(1.0 - c) * traits.offset[cells] + np.sqrt(c) * traits.unrest[cells] * rng.standard_normal(len(cells))
    median = np.interp(volts, steps.wl_v, steps.set_median_us) * (
        1.0 + steps.width_per_decade * np.log10(width_s / 1e-6)
    )
    return np.asarray(np.maximum(g, median + np.interp(volts, steps.wl_v, steps.set_sigma_us) * z))


def _reset(
    steps: PulseSteps,
    g: Floats,
    full: NDArray[np.bool_],
    traits: CellTraits,
    cells: NDArray[np.intp],
    rng: np.random.Generator,
) -> Floats:
    """g' of one RESET pulse each, at the strongest setting; ``full`` where all the way down is wanted."""
    switches = rng.random(len(cells)) < steps.reset_share[-1]
    z = rng.standard_normal(len(cells))
    landed = np.where(
        full, _erased(steps, traits.offset[cells], z), steps.land_median_us * np.exp(steps.land_sigma_ln * z)
    )
    return np.where(full | switches, np.minimum(g, landed), g)


def _erased(steps: PulseSteps, offset: Floats, z: Floats) -> Floats:
    """Conductance after a full RESET, µS; offset and z as in a SET pulse."""
    c = steps.cycle_share
    mixed = np.sqrt(1.0 - c) * offset + np.sqrt(c) * z
    return np.asarray(steps.erase_median_us * np.exp(steps.erase_sigma_ln * mixed))


@dataclass(frozen=True, slots=True)
class WriteStatistics:
    """Statistics of writing by level, from the outcomes of a chip or a model.

    ``levels_us`` (levels,); ``cells`` and ``reached`` (levels,) counts; ``pulses`` (levels,
    points) quantiles of the pulses of all cells at the probabilities ``pulse_points``.
    """

    levels_us: Floats
    cells: NDArray[np.int64]
    reached: NDArray[np.int64]
    pulse_points: Floats
    pulses: Floats

    def __post_init__(self) -> None:
        n, q = len(self.levels_us), len(self.pulse_points)
        if self.cells.shape != (n,) or self.reached.shape != (n,) or self.pulses.shape != (n, q):
            raise ValueError(f"write statistics: {n} levels, cells {self.cells.shape}, pulses {self.pulses.shape}")
        if np.any(self.reached > self.cells) or np.any(self.reached < 0) or np.any(np.diff(self.pulses, axis=1) < 0):
            raise ValueError("write statistics: more cells reached than written, or falling quantiles")

    @property
    def success(self) -> Floats:
        """Share of cells that reached their window, (levels,); NaN where none was written."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.reached / np.where(self.cells > 0, self.cells, np.nan))

    def success_interval(self, z: float = Z95) -> tuple[Floats, Floats]:
        """Wilson interval of the success, 95 % by default (doi:10.1080/01621459.1927.10502953).

            (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)

        Example: 994 of 1,000 reached: 0.987 to 0.997.
        """
        n = np.maximum(self.cells, 1).astype(np.float64)
        p = self.reached / n
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        nothing = self.cells == 0
        return np.where(nothing, 0.0, middle - half), np.where(nothing, 1.0, middle + half)


def write_statistics(
    targets_us: NDArray[np.floating],
    reached: NDArray[np.bool_],
    pulses: NDArray[np.integer],
    levels_us: NDArray[np.floating],
) -> WriteStatistics:
    """Statistics by level from outcomes of single cells, arrays (cells,); NaN targets are left out."""
    levels = np.asarray(levels_us, np.float64)
    middles = (levels[1:] + levels[:-1]) / 2.0
    level = np.where(np.isfinite(targets_us), np.searchsorted(middles, targets_us), -1)
    quantiles = np.zeros((len(levels), len(PULSE_POINTS)))
    for k in range(len(levels)):
        if np.any(level == k):
            quantiles[k] = np.quantile(np.asarray(pulses)[level == k], PULSE_POINTS)
    return WriteStatistics(
        levels_us=levels,
        cells=np.bincount(level[level >= 0], minlength=len(levels)),
        reached=np.bincount(level[(level >= 0) & reached], minlength=len(levels)),
        pulse_points=np.array(PULSE_POINTS),
        pulses=quantiles,
    )


@dataclass(frozen=True, slots=True)
class QuickWrite:
    """Write-verify in one draw: a cell that passes its verify ends at

        g = target + shift + U(−w, w) + σ_v N(0, 1)

    Uniform, since one pulse scatters far wider than the window; σ_v is the noise of a verify,
    and more where cells just outside are read again and again until they pass by luck (a
    pulse that does not move them), which also shifts them to that side. With 1 − success a
    cell fails and stays at one of ``failed_us``; pulses follow their quantiles, failed cells
    taking the most. Tables by level; a target between two levels takes either, the nearer one
    more often.
    """

    statistics: WriteStatistics
    half_width_us: float
    shift_us: Floats  # (levels,)
    sigma_us: Floats  # (levels,) σ_v
    failed_us: Floats  # (levels, points) quantiles of where failed cells stay, µS

    def draw(self, targets_us: NDArray[np.floating], rng: np.random.Generator) -> WriteOutcome:
        """Outcome of writing cells to ``targets_us``, (cells,) µS; readings stay in the window.

        Example: window ±1 µS, noiseless verify: final errors of the cells reached are uniform,
        their standard deviation 1 / √3 = 0.58 µS.
        """
        s = self.statistics
        targets = np.asarray(targets_us, np.float64)
        n = len(targets)
        place = np.interp(targets, s.levels_us, np.arange(len(s.levels_us)))
        level = np.minimum((place + rng.random(n)).astype(np.int64), len(s.levels_us) - 1)
        lot = rng.random(n)
        reached = lot < np.nan_to_num(s.success, nan=1.0)[level]
        reading = targets + rng.uniform(-self.half_width_us, self.half_width_us, n)
        final = np.maximum(reading + self.shift_us[level] + self.sigma_us[level] * rng.standard_normal(n), 0.0)
        pulses = np.empty(n)
        points = np.linspace(0.0, 1.0, self.failed_us.shape[1])
        for k in np.unique(level):
            here = level == k
            pulses[here] = np.interp(lot[here], s.pulse_points, s.pulses[k])
            failed = here & ~reached
            final[failed] = np.interp(rng.random(int(failed.sum())), points, self.failed_us[k])
        return WriteOutcome(final, np.where(reached, reading, final), np.rint(pulses).astype(np.int64), reached)


def quick_form(
    targets_us: NDArray[np.floating],
    outcome: WriteOutcome,
    *,
    levels_us: NDArray[np.floating],
    half_width_us: float,
) -> QuickWrite:
    """The quick form with the statistics of outcomes pulse by pulse, arrays (cells,).

    σ_v² by level is what the errors vary by beyond the window's w² / 3.
    """
    statistics = write_statistics(targets_us, outcome.reached, outcome.pulses, levels_us)
    levels = statistics.levels_us
    middles = (levels[1:] + levels[:-1]) / 2.0
    level = np.searchsorted(middles, targets_us)
    shift, sigma = np.zeros(len(levels)), np.zeros(len(levels))
    failed = np.tile(levels[:, None], (1, FAILED_POINTS))
    for k in range(len(levels)):
        ended = (outcome.final_us - targets_us)[(level == k) & outcome.reached]
        if len(ended) > 1:
            shift[k] = ended.mean()
            sigma[k] = np.sqrt(max(0.0, ended.var() - half_width_us**2 / 3.0))
        left = outcome.final_us[(level == k) & ~outcome.reached]
        if len(left):
            failed[k] = np.quantile(left, np.linspace(0.0, 1.0, FAILED_POINTS))
    return QuickWrite(statistics, half_width_us, shift, sigma, failed)
