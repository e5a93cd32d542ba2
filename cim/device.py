"""Virtual chips: cells and columns drawn from a calibration record.

Two kinds of draw. *Programmed again*: what this chip may become when the same targets are
written once more (``draw_programming``). *Read back*: what this chip's cells are now, given
noisy readings of them (``draw_posterior``). Both use only the record and the readings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.calibration import CalibrationRecord, CellState, MacroCalibration
from cim.programming_law import ProgrammingLaw, law_at, redraw_law

CLIP = 1.1  # no cell is believed above this multiple of the highest level
OUTLIER = 5.0  # readings this many sigma off are believed as they are
SWEEPS = 3  # Gibbs sweeps of the posterior; more change nothing (tests/cim/test_device.py)


@dataclass(frozen=True, slots=True)
class Columns:
    """Converters of one virtual macro, fields as in ``MacroCalibration``."""

    gain: NDArray[np.float64]
    offset_codes: NDArray[np.float64]
    conversion_noise_codes: NDArray[np.float64]
    adc: NDArray[np.int64]
    inl_codes: NDArray[np.float64]


def draw_programming(
    targets_us: NDArray[np.floating],
    record: CalibrationRecord,
    macro: int,
    age_s: float,
    rng: np.random.Generator,
    law: ProgrammingLaw | None = None,
) -> NDArray[np.float32]:
    """Conductances of one macro programmed again, at ``age_s`` after programming.

        G = clip(target + loc + scale · t(df), 0, 1.1 G_max)      per cell, once per programming

    Cells that the record lists as stuck keep their mean reading; each other cell misses its
    window with ``unreached_share`` and then takes one of the measured errors of such cells.

    Args:
        targets_us: (rows, columns) µS; NaN where nothing is programmed, NaN in the result.
        law: a law drawn once for the whole virtual chip (``redraw_law``); None draws one.

    Returns:
        float32, the shape of ``targets_us``.
    """
    part = record.macro(macro)
    law = redraw_law(record.programming, rng) if law is None else law
    here = law_at(law, np.nan_to_num(targets_us), age_s)
    top = CLIP * float(law.levels_us[-1])
    error = here.loc_us + here.scale_us * rng.standard_t(here.df)
    missed = rng.random(targets_us.shape) < law.unreached_share
    if law.unreached_us.size:
        error = np.where(missed, rng.choice(law.unreached_us, targets_us.shape), error)
    cells = np.clip(targets_us + error, 0.0, top)
    return _with_stuck(cells, targets_us, part)


def draw_posterior(
    targets_us: NDArray[np.floating],
    readings_us: NDArray[np.floating],
    reads: int,
    record: CalibrationRecord,
    macro: int,
    age_s: float,
    rng: np.random.Generator,
    law: ProgrammingLaw | None = None,
) -> NDArray[np.float32]:
    """Conductances of this programming, given the mean of ``reads`` readings of each cell.

    Prior: target + loc + scale · t(df), that is a Gaussian of variance σ_p² = scale² τ with
    τ ~ df / χ²(df). Reading: Gaussian of variance σ_rb² = read variance / reads. With τ known

        λ = σ_p² / (σ_p² + σ_rb²),   G = m + λ (R − m) + √λ σ_rb N(0, 1),   m = target + loc

    and with G known τ = (df + ((G − m) / scale)²) / χ²(df + 1); a few alternations draw from
    the joint posterior. For df → ∞ this is the Gaussian rule of shrinkage by λ. Stuck cells
    and readings beyond 5 √(scale² + σ_rb²) are believed as read, without shrinkage or noise.

    Args:
        targets_us, readings_us: (rows, columns) µS, NaN where nothing is programmed.

    Returns:
        float32, the shape of ``targets_us``.
    """
    law = redraw_law(record.programming, rng) if law is None else law
    here = law_at(law, np.nan_to_num(targets_us), age_s)
    middle = np.nan_to_num(targets_us) + here.loc_us
    readings = np.where(np.isnan(readings_us), middle, readings_us)
    noise2 = record.read_noise.at(readings) / reads
    off = np.abs(readings - middle) > OUTLIER * np.sqrt(here.scale_us**2 + noise2)
    cells = readings
    for _ in range(SWEEPS):
        tau = (here.df + ((cells - middle) / here.scale_us) ** 2) / rng.chisquare(here.df + 1.0)
        prior2 = here.scale_us**2 * tau
        shrink = prior2 / (prior2 + noise2)
        cells = middle + shrink * (readings - middle) + np.sqrt(shrink * noise2) * rng.standard_normal(cells.shape)
    cells = np.clip(np.where(off, readings, cells), 0.0, CLIP * float(law.levels_us[-1]))
    stuck = np.isin(record.macro(macro).cells, (CellState.STUCK_LOW, CellState.STUCK_HIGH))
    cells = np.where(stuck, np.maximum(readings, 0.0), cells)
    return np.where(np.isnan(targets_us), np.nan, cells).astype(np.float32)


def draw_columns(record: CalibrationRecord, macro: int, rng: np.random.Generator) -> Columns:
    """Converters of one macro, each estimate moved within its standard error."""
    part = record.macro(macro)

    def within(value: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
        return value + error * rng.standard_normal(value.shape)

    return Columns(
        gain=within(part.gain, part.gain_se),
        offset_codes=within(part.offset_codes, part.offset_se),
        conversion_noise_codes=part.conversion_noise_codes,
        adc=part.adc,
        inl_codes=within(part.inl_codes, part.inl_se),
    )


def _with_stuck(
    cells: NDArray[np.float64], targets_us: NDArray[np.floating], part: MacroCalibration
) -> NDArray[np.float32]:
    stuck = ~np.isnan(part.stuck_us) & ~np.isnan(targets_us)
    return np.where(stuck, part.stuck_us, cells).astype(np.float32)
