"""Dose: slow shifts of cells and converters, by the coefficients of an orbit file.

With D the dose in Mrad(Si), W the window of levels and m its middle,

    ΔG = −s D W · (G − m) / (W / 2) + v D W · N(0, 1)       per cell, s shift and v spread
    gain · (1 − g D),   offset + o D                         per converter

so that outermost states move to the middle most: shifts that depend on the state are what an analogue array under gamma
rays showed (doi 10.1109/TNS.2025.3537985); this linear form for metal-oxide cells is assumed.
Example: s = 0.1, D = 0.01, W = 38 µS: the highest level loses 0.038 µS.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cim.chip.spec import MacroSpec
from hil.payload.orbit import DoseEffects
from hil.simulation.virtual_chip import SampledDevice


def dose_mrad(effects: DoseEffects, years: float) -> float:
    """Dose of so many years in orbit, Mrad."""
    return effects.krad_per_year * years * 1e-3


def with_dose(
    drawn: SampledDevice, spec: MacroSpec, effects: DoseEffects, mrad: float, rng: np.random.Generator
) -> SampledDevice:
    """The sampled chip after a dose of ``mrad`` Mrad: its cells and its converters have moved."""
    low, high = spec.levels_us[0], spec.levels_us[-1]
    window, middle = high - low, (high + low) / 2
    cells = {}
    for slot, values in drawn.cells_us.items():
        pull = -effects.cell_shift_per_mrad * mrad * 2.0 * (np.asarray(values) - middle)
        spread = effects.cell_spread_per_mrad * mrad * window * rng.standard_normal(values.shape)
        cells[slot] = np.maximum(values + pull + spread, 0.0).astype(np.float32)
    columns = {
        slot: replace(
            part,
            gain=part.gain * max(0.0, 1.0 - effects.converter_gain_per_mrad * mrad),
            offset_codes=part.offset_codes + effects.converter_offset_codes_per_mrad * mrad,
        )
        for slot, part in drawn.columns.items()
    }
    return replace(drawn, cells_us=cells, columns=columns)
