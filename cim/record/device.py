"""Virtual chips: cells and columns drawn from a calibration record.

Two kinds of draw. *Programmed again*: what this chip may become when the same targets are
written once more (``draw_programming``). *Read back*: what this chip's cells are now, given
noisy readings of them (``draw_posterior``). Both use only the record and the readings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from cim.cells.laws.mixture import MIXTURE
from cim.cells.laws.student import STUDENT, student_peak
from cim.cells.laws.student_mixture import STUDENT_MIXTURE
from cim.cells.programming_law import ProgrammingLaw, law_at, redraw_law
from cim.cells.tails import Law
from cim.cells.temperature import accelerated_age, conductance_factor
from cim.record.calibration import STUCK, CalibrationRecord, MacroCalibration

CLIP = 1.1  # no cell is believed above this multiple of the highest level
OUTLIER = 5.0  # readings this many sigma off are believed as they are
SWEEPS = 4  # Gibbs sweeps of the posterior; more change nothing (tests/cim/record/test_device.py)
RANKS = ndtri((np.arange(1000) + 0.5) / 1000)  # of a cell among its like
AT_ONCE = 4096  # cells
LEAST_NOISE2 = 1e-12  # µS²


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
    temperature_c: float | None = None,
) -> NDArray[np.float32]:
    """Conductances of one macro programmed again, at ``age_s`` after programming.

        G = clip(target + error, 0, 1.1 G_max) · (1 + α (T − T_ref))      per cell, once per programming

    with errors of the record's law (``cim.cells.tails``) at the age that counts at temperature T
    (``accelerated_age``). Cells that the record lists as stuck keep their mean reading; each
    other cell misses its window with ``unreached_share`` and then takes one of the measured
    errors of such cells.

    Args:
        targets_us: (rows, columns) µS; NaN where nothing is programmed, NaN in the result.
        law: a law drawn once for the whole virtual chip (``redraw_law``); None draws one.
        temperature_c: at which the cells waited and are read; None, or a record without
            ``thermal``: that of the calibration.

    Returns:
        float32, the shape of ``targets_us``.
    """
    part = record.macro(macro)
    law = redraw_law(record.programming, rng) if law is None else law
    age_s, warm = _at_temperature(record, age_s, temperature_c)
    here = law_at(law, np.nan_to_num(targets_us), age_s)
    error = here.draw(targets_us.shape, rng)
    missed = rng.random(targets_us.shape) < law.unreached_share
    if law.unreached_us.size:
        error = np.where(missed, rng.choice(law.unreached_us, targets_us.shape), error)
    cells = np.clip(targets_us + error, 0.0, CLIP * float(law.levels_us[-1])) * warm
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
    temperature_c: float | None = None,
) -> NDArray[np.float32]:
    """Conductances of this programming, given the mean of ``reads`` readings of each cell.

    Prior: the law, that is a normal of random width w about m = target + loc, stretched by κ
    above m and 1/κ below. Reading: Gaussian of variance σ_rb² = read variance / reads. With w
    known and κ = 1

        λ = w² / (w² + σ_rb²),   G = m + λ (R − m) + √λ σ_rb N(0, 1)

    (for κ ≠ 1 one such draw on each side of m, the side by its probability), and with G known
    w is drawn from its own posterior (wide or narrow by Bayes; of a wide Student cell scale² ratio² τ,
    τ = (df + u²) / χ²(df + 1) at u scales); a few alternations draw from the joint
    posterior. A Gaussian law gives the rule of shrinkage by λ. Stuck cells and readings beyond
    5 √(wide scale² + σ_rb²) are believed as read, without shrinkage or noise.

    Args:
        targets_us, readings_us: (rows, columns) µS, NaN where nothing is programmed.
        temperature_c: of the readings; None: that of the calibration.

    Returns:
        float32, the shape of ``targets_us``.
    """
    law = redraw_law(record.programming, rng) if law is None else law
    age_s, warm = _at_temperature(record, age_s, temperature_c)
    used = np.isfinite(targets_us)
    targets = np.asarray(targets_us[used], np.float64)
    different, which = np.unique(targets, return_inverse=True)  # a macro holds few
    here = law_at(law, different, age_s)
    middle = targets + here.loc_us[which]
    readings = np.where(np.isnan(readings_us[used]), middle, readings_us[used] / warm)
    noise2 = record.read_noise.at(readings) / reads
    widest = here.widest_us[which]
    off = np.abs(readings - middle) > OUTLIER * np.sqrt(widest**2 + noise2)
    cells = _posterior(here, which, targets, readings, noise2, rng)
    cells = np.clip(np.where(off, readings, cells), 0.0, CLIP * float(law.levels_us[-1]))
    stuck = np.isin(record.macro(macro).cells, STUCK)[used]
    found = np.full(np.shape(targets_us), np.nan, np.float32)
    found[used] = np.where(stuck, np.maximum(readings, 0.0), cells) * warm
    return found


def _posterior(
    law: Law,
    which: NDArray[np.int64],
    targets: NDArray[np.float64],
    readings: NDArray[np.float64],
    noise2: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draws of the true conductances of cells, (n,) µS, given ``readings`` of variance ``noise2``; cell i follows
    law number ``which[i]``."""
    from cim.record import posterior_kernel as kernel  # numba is large

    tails = {
        STUDENT.name: kernel.STUDENT,
        MIXTURE.name: kernel.MIXTURE,
        STUDENT_MIXTURE.name: kernel.STUDENT_MIXTURE,
    }
    if law.tail.name not in tails:
        return _posterior_by_ranks(law, which, targets, readings, noise2, rng)
    laws = np.empty((len(law.loc_us), kernel.ROWS))
    laws[:] = np.stack([law.loc_us, law.scale_us, law.df, law.wide_share, law.skew, student_peak(law.df)], 1)
    ratio = law.wide_ratio if law.tail.mixed else 1.0
    found: NDArray[np.float64] = kernel.sweep(
        readings, targets, noise2, which, laws, tails[law.tail.name], ratio, SWEEPS, rng
    )
    return found


def _posterior_by_ranks(
    law: Law,
    which: NDArray[np.int64],
    targets: NDArray[np.float64],
    readings: NDArray[np.float64],
    noise2: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """``_posterior`` for a law of any shape: draw a rank by the likelihood of the reading, then interpolate."""
    each = {name: getattr(law, name)[:, None] for name in ("loc_us", "scale_us", "df", "wide_share", "skew")}
    errors = replace(law, **each).quantile(RANKS)  # (laws, ranks)
    found = np.empty(len(readings))
    for first in range(0, len(readings), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        there = errors[which[part]]
        away = readings[part, None] - targets[part, None] - there
        ln = -0.5 * away**2 / np.maximum(noise2[part, None], LEAST_NOISE2)
        sums = np.cumsum(np.exp(ln - ln.max(1, keepdims=True)), 1)
        drawn = rng.random(len(sums))[:, None] * sums[:, -1:]
        at = np.minimum((sums < drawn).sum(1), len(RANKS) - 2)
        rows, share = np.arange(len(at)), rng.random(len(at))
        found[part] = targets[part] + (1.0 - share) * there[rows, at] + share * there[rows, at + 1]
    return found


def _at_temperature(record: CalibrationRecord, age_s: float, temperature_c: float | None) -> tuple[float, float]:
    """Age at the reference temperature that relaxes cells as far, and the factor of all conductances."""
    if record.thermal is None or temperature_c is None:
        return age_s, 1.0
    return accelerated_age(age_s, temperature_c, record.thermal), conductance_factor(temperature_c, record.thermal)


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
