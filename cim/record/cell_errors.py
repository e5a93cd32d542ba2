"""Expected errors of cells and conversions before a chip was measured: variances by which a compiler weighs layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cim.chip.spec import ChipSpec

Floats = NDArray[np.float64]

QUANTILES = (np.arange(400) + 0.5) / 400


@dataclass(frozen=True, slots=True)
class CellErrors:
    """Variances of one cell by level, µS²: ``written_us2`` of its error since it was written, ``read_us2`` of noise new
    at every read; and ``conversion_codes``, the noise of one conversion.
    """

    written_us2: Floats
    read_us2: Floats
    conversion_codes: float


def nominal_errors(spec: ChipSpec, age_s: float) -> CellErrors:
    """Cell errors at an age by the chip file's [models]; zero without that section."""
    from scipy.special import ndtri  # late: an estimate needs neither scipy nor device laws

    from cim.cells.programming_law import law_at
    from cim.record.published import nominal_record

    levels = np.array(spec.macro.levels_us)
    if spec.models is None:
        return CellErrors(np.zeros(len(levels)), np.zeros(len(levels)), 0.0)
    record = nominal_record(spec, [])
    law = law_at(record.programming, levels, age_s)
    errors = np.stack([law.quantile(np.full(len(levels), z)) for z in ndtri(QUANTILES)])
    return CellErrors(errors.var(axis=0), record.read_noise.at(levels), spec.models.conversion_noise_codes)
