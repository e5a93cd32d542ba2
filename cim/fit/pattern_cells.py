"""Read noise and programming law from the cells of a calibration's test pattern."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cim.cells.lasting_noise import lasts
from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.chip.spec import MacroSpec
from cim.fit.aged_readings import Readings
from cim.fit.cell_laws import fit_cells
from cim.fit.cells import fit_read_variance, levels_with_cells
from cim.fit.measured import BLOCK_READS, MeanReading, Pattern, Repeats, Stuck
from cim.fit.programming import programming_distance
from cim.record.calibration import STUCK, CellState

HELD_OUT = 4  # every fourth cell is kept from the law's fit, for the goodness
LAW_CELLS = 32768  # more cells than this tell no more about one law for the whole chip


def pattern_readings(
    pattern: Mapping[int, Pattern],
    early_reads: int,
    aged: Sequence[Mapping[int, MeanReading]],
    states: Mapping[int, NDArray[np.int8]],
    macros: Sequence[int],
) -> Readings:
    """Readings of the test pattern's cells of ``macros``, macro after macro in one array.

    Args:
        pattern: of each macro, its targets and the first readings, each the mean of ``early_reads``.
        aged: later readings of all macros, one mapping for each age.
        states: ``CellState`` of the cells of each macro, (rows, columns).
    """
    first = np.concatenate([pattern[m].early_us.ravel() for m in macros])
    readings = np.stack([first, *(np.concatenate([r[m].readings_us.ravel() for m in macros]) for r in aged)])
    ages = [float(np.mean([pattern[m].early_s for m in macros]))]
    ages += [float(np.mean([reading[m].time_s - pattern[m].time_s for m in macros])) for reading in aged]
    reads = np.array([early_reads, *(reading[macros[0]].reads for reading in aged)])
    return Readings(
        np.arange(len(first)),
        np.concatenate([pattern[m].targets_us.ravel() for m in macros]),
        np.array(ages),
        readings,
        np.broadcast_to(reads[:, None], readings.shape),
        np.zeros((2, 0)),
        np.zeros(0),
        np.concatenate([states[m].ravel() for m in macros]),
        None,
    )


def held_and_fitted(cells: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks (cells,) of the cells held out to judge the law, and of the cells that the law is fitted to."""
    number = np.arange(cells)
    held = number % HELD_OUT == 0
    stride = -(-cells // LAW_CELLS)
    return held, ~held & (number // HELD_OUT % stride == 0)


def fit_law(
    cells: Readings,
    noise: ReadNoise,
    levels_us: NDArray[np.float64],
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[ProgrammingLaw, list[float], float]:
    """The programming law, its distance (KS) at each age from cells that the fit has not seen, and the mean
    distance of so few cells from their own law, 0.87 / √n (Kolmogorov). ``progress`` as of ``fit_programming``."""
    test, fitted = held_and_fitted(len(cells.targets_us))
    seen, ages = cells.of(fitted), cells.ages_s.tolist()
    levels = levels_with_cells(levels_us, seen.targets_us[seen.states == CellState.GOOD])
    # no line over an age that was measured: relaxation bends in log time
    law = fit_cells(seen, progress, levels_us=levels, noise=noise, knots_s=ages).programming
    held = test & (cells.states == CellState.GOOD) & np.isfinite(cells.targets_us)
    targets = cells.targets_us[held]
    return (
        law,
        [
            programming_distance(law, targets, readings[held], age_s=age, reads=reads, read_noise=noise)
            for readings, age, reads in zip(cells.readings_us, ages, cells.counts[:, 0].tolist(), strict=True)
        ],
        0.87 / float(np.sqrt(held.sum())),
    )


def good_targets(pattern: Pattern, states: NDArray[np.int8]) -> NDArray[np.float32]:
    """Targets of the cells of a macro, flat; NaN for cells that are stuck or unused."""
    return np.where(np.isin(states, STUCK), np.float32(np.nan), pattern.targets_us).ravel()


def read_noise(
    levels_us: NDArray[np.float64], repeats: Mapping[int, Repeats], targets_us: Mapping[int, NDArray[np.float32]]
) -> ReadNoise:
    """Read variance by level, from the first two repeated reads of each good cell (``good_targets``)."""
    pairs = [r.readings_us[:2].reshape(2, -1) for r in repeats.values()]
    targets = np.concatenate([targets_us[m] for m in repeats])
    noise = fit_read_variance(np.concatenate(pairs, axis=1), targets, levels_with_cells(levels_us, targets))
    return replace(noise, variance_us2=noise.variance_us2 * BLOCK_READS, se_us2=noise.se_us2 * BLOCK_READS)


def with_flicker(
    noise: ReadNoise, repeats: Mapping[int, Repeats], targets_us: Mapping[int, NDArray[np.float32]]
) -> ReadNoise:
    """Read noise with flicker, its growth with the separation of two reads; unchanged for fewer than four times.

    The variance from the first two reads of a cell (``read_noise``) contains flicker, which averaging over a block does
    not reduce: significant flicker is subtracted from it.
    """
    if min(len(r.times_s) for r in repeats.values()) < 4:
        return noise
    times = np.mean([r.times_s - r.times_s[0] for r in repeats.values()], axis=0)
    readings = np.concatenate([r.readings_us.reshape(len(times), -1) for r in repeats.values()], axis=1)
    found = fit_flicker(noise, times, readings, np.concatenate([targets_us[m] for m in repeats]))
    if not lasts(found):
        return found
    lasting = BLOCK_READS / 2.0 * found.flicker_us2 * found.flicker_moved(times[1] - times[0])
    return replace(found, variance_us2=np.maximum(found.variance_us2 - lasting, 0.0))


MIN_CELLS = 30


def fit_flicker(
    noise: ReadNoise,
    times_s: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    targets_us: NDArray[np.floating],
) -> ReadNoise:
    """The given read noise with ``flicker_us2`` by level, from reads of the same cells over time.

        D(Δ) = c + flicker · log10 Δ

    least squares over all pairs of reads of a cell, averaged over cells; the standard error is that of the mean over
    cells. A negative growth is set to 0 and keeps its error.

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


STUCK_MOVES = 0.08  # of the window: a cell that SET and RESET move less is stuck


def stuck_states(spec: MacroSpec, stuck: Stuck) -> NDArray[np.int8]:
    """``CellState`` GOOD, STUCK_LOW or STUCK_HIGH of every cell of a macro, (rows, columns).

    Stuck low: in the lowest third of the window both after SET and after RESET, and moved by less
    than 8 % of the window between the two. Stuck high: the same in the highest third. A cell with
    a short range of its own moves; it is no stuck cell but one that misses most targets.
    """
    low, high = spec.levels_us[0], spec.levels_us[-1]
    third, moves = (high - low) / 3, STUCK_MOVES * (high - low)
    states = np.full(stuck.high_us.shape, CellState.GOOD, np.int8)
    still = np.abs(stuck.high_us - stuck.low_us) < moves  # False where it was left alone
    states[still & (stuck.high_us < low + third) & (stuck.low_us < low + third)] = CellState.STUCK_LOW
    states[still & (stuck.high_us > high - third) & (stuck.low_us > high - third)] = CellState.STUCK_HIGH
    return states


def merge_stuck(cycles: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
    """Stuck cells by majority of the cycles; of two cycles both must agree."""
    needed = len(cycles) // 2 + 1
    merged = np.full(cycles[0].shape, CellState.GOOD, np.int8)
    for state in STUCK:
        merged[sum((c == state).astype(np.int8) for c in cycles) >= needed] = state
    return merged


def cell_states(stuck: NDArray[np.int8], pattern: Pattern) -> NDArray[np.int8]:
    """Stuck cells, and those that missed their window in the test pattern without being stuck."""
    missed = ~pattern.reached & np.isfinite(pattern.targets_us) & (stuck == CellState.GOOD)
    return np.where(missed, np.int8(CellState.NOT_REACHED), stuck)
