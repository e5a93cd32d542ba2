"""Estimators of read noise: from long traces of a few cells, and from repeated reads of many.

Traces (a bench, 10⁴ samples and more) give the spectrum: ``fit_spectrum``, ``detect_telegraph``.
Repeated reads through a driver (a few reads of thousands of cells, at log-spaced times) give
the growth of D(Δ), the variance of the difference of two reads: ``fit_flicker``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.cells.read_noise import ReadNoise

BINS_A_DECADE = 8  # of the spectrum, so that every decade weighs the same in the slope
ROUNDS = 30  # of expectation and maximisation
CLEAR_STEP = 3.0  # two levels are called telegraph noise when further apart than this many sigma
LEAST_SHARE = 0.02  # of the time in the rarer level
MIN_CELLS = 30

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """S(f) = A / f^α over a band, of one cell's conductance; ``relative`` is A / G²."""

    mean_us: float
    slope: float  # −α
    amplitude_us2: float  # A: µS² (of S in µS²/Hz at 1 Hz)
    relative: float


def welch_spectrum(trace: NDArray[np.floating], rate_hz: float, segment: int = 32768) -> tuple[Floats, Floats]:
    """One-sided spectral density by averaged, Hann-windowed, half-overlapping segments.

    P. D. Welch, doi:10.1109/TAU.1967.1161901. The mean of each segment is taken out.

    Returns:
        (segment / 2,) frequencies in Hz without 0, and densities in (unit of trace)² / Hz.

    Example: white noise of sigma 2 at 400 Hz → 2 · 2² / 400 = 0.02 at every frequency.
    """
    segment = min(segment, len(trace))
    window = np.hanning(segment + 1)[:-1]
    starts = range(0, len(trace) - segment + 1, max(1, segment // 2))
    parts = np.stack([trace[s : s + segment] - np.mean(trace[s : s + segment]) for s in starts])
    power = (np.abs(np.fft.rfft(parts * window, axis=1)) ** 2).mean(0) * 2.0 / (rate_hz * (window**2).sum())
    frequencies: Floats = np.fft.rfftfreq(segment, 1.0 / rate_hz).astype(np.float64)
    return frequencies[1:], np.asarray(power[1:])


def fit_spectrum(
    trace_us: NDArray[np.floating], rate_hz: float, band_hz: tuple[float, float] = (0.3, 100.0)
) -> Spectrum:
    """Slope and size of the spectrum of one trace: a line through log S over log f.

    The spectrum is averaged in eighths of a decade first, so that the many points at high
    frequency do not outweigh the rest. The band begins at 25 periods a segment of 82 s: below,
    slow drift leaks through the segment's window and steepens the slope.

    Args:
        trace_us: evenly spaced readings of one cell, µS.
    """
    f, s = welch_spectrum(trace_us, rate_hz)
    log_f, log_s = _binned(f, s, band_hz)
    slope, height = np.polyfit(log_f, log_s, 1)
    mean = float(np.mean(trace_us))
    amplitude = float(10.0**height)
    return Spectrum(mean, float(slope), amplitude, amplitude / mean**2)


def _binned(f: Floats, s: Floats, band_hz: tuple[float, float]) -> tuple[Floats, Floats]:
    """log10 f and log10 of the mean density in eighths of a decade of the band."""
    low, high = band_hz
    edges = 10.0 ** np.arange(np.log10(low), np.log10(high) + 1e-9, 1.0 / BINS_A_DECADE)
    place = np.digitize(f, edges)
    filled = [i for i in range(1, len(edges)) if np.any(place == i)]
    if len(filled) < 3:
        raise ValueError(f"{len(f)} frequencies leave fewer than 3 bins between {low:g} and {high:g} Hz")
    log_f = np.array([np.log10(f[place == i]).mean() for i in filled])
    return log_f, np.array([np.log10(s[place == i].mean()) for i in filled])


@dataclass(frozen=True, slots=True)
class Telegraph:
    """Two-level fit of each cell's readings: arrays (cells,)."""

    found: NDArray[np.bool_]
    step_us: Floats  # distance of the levels
    high_share: Floats  # of the time in the upper level


def detect_telegraph(readings_us: NDArray[np.floating]) -> Telegraph:
    """Which cells switch between two levels: a two-state hidden Markov model for each.

    Baum-Welch (doi:10.1214/aoms/1177697196) with one sigma for both states. A cell counts as
    telegraph noise when its levels are 3 sigma apart or more, the rarer one holds 2 % of the
    readings, and the level lasts (less than one change in three readings).

    Args:
        readings_us: (reads ≥ 16, cells) µS, evenly spaced in time.

    Example: 64 reads of cells with steps of 6 µS and noise of 1 µS, a change every 10 reads:
    all found; cells with noise alone: none.
    """
    x = np.asarray(readings_us, np.float64)
    if x.ndim != 2 or len(x) < 16:
        raise ValueError(f"readings {x.shape}; telegraph noise needs 16 reads a cell or more")
    low, high = np.quantile(x, [0.15, 0.85], axis=0)
    sigma = np.maximum(x.std(0) / 2.0, 1e-9)
    stay, share = np.full(x.shape[1], 0.9), np.full(x.shape[1], 0.5)
    for _ in range(ROUNDS):
        levels = np.stack([low, high])
        weight, pairs = _smooth(x, levels, sigma, stay, share)
        total = np.maximum(weight.sum(0), 1e-12)  # (2, cells)
        low, high = (weight * x[:, None, :]).sum(0) / total
        spread = (weight * (x[:, None, :] - np.stack([low, high])) ** 2).sum((0, 1)) / len(x)
        sigma = np.sqrt(np.maximum(spread, 1e-18))
        stay = np.clip(1.0 - pairs / (len(x) - 1), 0.5, 1.0 - 0.25 / len(x))
        share = np.clip(weight[:, 1].mean(0), 1e-3, 1.0 - 1e-3)
    step = np.abs(high - low)
    high_share = np.where(high >= low, share, 1.0 - share)
    rare = np.minimum(share, 1.0 - share)
    found = (step >= CLEAR_STEP * sigma) & (rare >= LEAST_SHARE) & (1.0 - stay < 1.0 / 3.0)
    return Telegraph(found, step, high_share)


def _smooth(x: Floats, levels: Floats, sigma: Floats, stay: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Probabilities of the states (reads, 2, cells) and the expected number of changes (cells,)."""
    distance = (x[:, None, :] - levels) ** 2 / (2.0 * sigma**2)
    like = np.exp(-(distance - distance.min(1, keepdims=True)))  # (reads, 2, cells)
    move = 1.0 - stay
    forward = np.empty_like(like)
    scale = np.empty((len(x), x.shape[1]))
    state = np.stack([1.0 - share, share])
    for t in range(len(x)):
        ahead = state if t == 0 else stay * state + move * state[::-1]
        state = ahead * like[t]
        scale[t] = state.sum(0)
        state = state / scale[t]
        forward[t] = state
    backward = np.ones_like(state)
    weight = np.empty_like(like)
    weight[-1] = state
    changes = np.zeros(x.shape[1])
    for t in range(len(x) - 1, 0, -1):
        heard = like[t] * backward / scale[t]
        changes += move * (forward[t - 1] * heard[::-1]).sum(0)
        backward = stay * heard + move * heard[::-1]
        weight[t - 1] = forward[t - 1] * backward
    return weight, changes


def fit_flicker(
    noise: ReadNoise,
    times_s: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    targets_us: NDArray[np.floating],
) -> ReadNoise:
    """The given read noise with ``flicker_us2`` by level, from reads of the same cells over time.

        D(Δ) = c + flicker · log10 Δ

    least squares over all pairs of reads of a cell, averaged over cells; the standard error
    is that of the mean over cells. A negative growth is set to 0 (its error stands).

    Args:
        times_s: (reads ≥ 3,) s, best log-spaced; at least two different separations.
        readings_us: (reads, cells) single reads, µS.
        targets_us: (cells,) µS; sorts cells by the levels of ``noise``; NaN cells are left out.
    """
    times = np.asarray(times_s, np.float64)
    first, second = np.triu_indices(len(times), 1)
    log_gap = np.log10(np.abs(times[second] - times[first]))
    if len(times) < 3 or np.ptp(log_gap) < 0.3:
        raise ValueError(f"{len(times)} reads over separations of {np.ptp(log_gap):.2f} decades show no growth")
    lever = (log_gap - log_gap.mean()) / ((log_gap - log_gap.mean()) ** 2).sum()
    squares = (np.asarray(readings_us)[second] - np.asarray(readings_us)[first]) ** 2
    growth = lever @ squares  # (cells,): unbiased for each cell
    middles = (noise.levels_us[1:] + noise.levels_us[:-1]) / 2.0
    level = np.searchsorted(middles, targets_us)
    good = np.isfinite(targets_us) & np.isfinite(growth)
    value, error = np.zeros(len(noise.levels_us)), np.zeros(len(noise.levels_us))
    for k in range(len(noise.levels_us)):
        here = growth[good & (level == k)]
        if len(here) < MIN_CELLS:
            raise ValueError(f"{len(here)} cells at {noise.levels_us[k]:g} µS; flicker needs {MIN_CELLS}")
        value[k], error[k] = max(0.0, here.mean()), here.std(ddof=1) / np.sqrt(len(here))
    return replace(noise, flicker_us2=value, flicker_se_us2=error)
