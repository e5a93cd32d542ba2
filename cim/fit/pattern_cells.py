"""Read noise and programming law from the cells of a calibration's test pattern."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cim.cells.lasting_noise import lasts
from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.fit.cells import fit_read_variance, levels_with_cells
from cim.fit.measured import BLOCK_READS, MeanReading, Pattern, Repeats
from cim.fit.programming import fit_programming, programming_distance
from cim.fit.read_noise import fit_flicker
from cim.record.calibration import STUCK, CellState

HELD_OUT = 4  # every fourth cell is kept from the law's fit, for the goodness
LAW_CELLS = 32768  # more cells than this tell no more about one law for the whole chip


@dataclass(frozen=True, slots=True)
class PatternCells:
    """Cells of the test pattern of all macros, flattened.

    Targets and states (n,), mean readings (ages, n), reads and ages (ages,).
    """

    targets_us: NDArray[np.float32]
    states: NDArray[np.int8]
    readings_us: NDArray[np.float32]
    reads: tuple[int, ...]
    ages_s: tuple[float, ...]

    @classmethod
    def of(
        cls,
        pattern: Mapping[int, Pattern],
        early_reads: int,
        aged: Sequence[Mapping[int, MeanReading]],
        states: Mapping[int, NDArray[np.int8]],
        macros: Sequence[int],
    ) -> PatternCells:
        """Cells of ``macros`` with their readings, of all macros in a row.

        Args:
            pattern: of each macro, its targets and the first readings, each the mean of ``early_reads``.
            aged: later readings of all macros, one mapping for each age.
            states: level that each cell of a macro was written to.
        """
        first = np.concatenate([pattern[m].early_us.ravel() for m in macros])
        later = [np.concatenate([reading[m].readings_us.ravel() for m in macros]) for reading in aged]
        ages = [float(np.mean([pattern[m].early_s for m in macros]))]
        ages += [float(np.mean([reading[m].time_s - pattern[m].time_s for m in macros])) for reading in aged]
        one = macros[0]
        reads = (early_reads, *(reading[one].reads for reading in aged))
        return cls(
            np.concatenate([pattern[m].targets_us.ravel() for m in macros]),
            np.concatenate([states[m].ravel() for m in macros]),
            np.stack([first, *later]),
            reads,
            tuple(ages),
        )


def held_and_fitted(cells: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of so many cells judge the law, and which it is fitted to."""
    number = np.arange(cells)
    held = number % HELD_OUT == 0
    stride = -(-cells // LAW_CELLS)
    return held, ~held & (number // HELD_OUT % stride == 0)


def fit_law(
    cells: PatternCells,
    noise: ReadNoise,
    levels_us: NDArray[np.float64],
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[ProgrammingLaw, list[float], float]:
    """The programming law, its distance (KS) at each age from cells that the fit has not seen, and the mean
    distance of so few cells from their own law, 0.87 / √n (Kolmogorov). ``progress`` as of ``fit_programming``."""
    test, fitted = held_and_fitted(len(cells.targets_us))
    good = fitted & (cells.states == CellState.GOOD)
    law = fit_programming(
        cells.targets_us[fitted],
        cells.readings_us[:, fitted],
        cells.states[fitted],
        ages_s=cells.ages_s,
        reads=cells.reads,
        levels_us=levels_with_cells(levels_us, cells.targets_us[good]),
        read_noise=noise,
        progress=progress,
        knots_s=cells.ages_s,  # no line over an age that was measured: relaxation bends in log time
    )
    held = test & (cells.states == CellState.GOOD) & np.isfinite(cells.targets_us)
    targets = cells.targets_us[held]
    return (
        law,
        [
            programming_distance(law, targets, readings[held], age_s=age, reads=reads, read_noise=noise)
            for readings, age, reads in zip(cells.readings_us, cells.ages_s, cells.reads, strict=True)
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
    """Read noise with its growth over the separation of two reads, where three times were read.

    Growth that is clear lay in the first two reads of a cell (``read_noise``), too, and does not fall with the reads of
    a block: of their variance it is taken out.
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
