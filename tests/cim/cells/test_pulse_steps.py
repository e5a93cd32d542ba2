"""Effect of one pulse on a cell, fitted to the sweeps of a bench."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cim.cells.pulse_steps import PulseSteps, PulseSweep, fit_pulse_steps


def sweep(name: str) -> PulseSweep:
    """Single pulses of the bench: ``set`` or ``reset``."""
    if "HIL_DATA" not in os.environ:
        pytest.skip("HIL_DATA not set: the bench sweeps are needed")
    path = Path(os.environ["HIL_DATA"]).joinpath("device", "ni_rram_python", f"{name}_sweep.tsv.gz")
    table = np.loadtxt(path)  # address, width (s), word line (V), line (V), ohm before, ohm after
    return PulseSweep(table[:, 1], table[:, 2], table[:, 3], 1e6 / table[:, 4], 1e6 / table[:, 5])


@cache
def bench() -> PulseSteps:
    return fit_pulse_steps(sweep("set"), sweep("reset"))


def test_a_sweep_says_that_the_word_line_sets_the_level_and_width_hardly_matters() -> None:
    steps = bench()
    at = {v: float(np.interp(v, steps.wl_v, steps.set_median_us)) for v in (0.5, 1.0, 2.5)}
    assert at[0.5] < 20 < 95 < at[1.0] < 110 < 155 < at[2.5] < 175
    assert abs(steps.width_per_decade) < 0.03
    assert steps.set_sigma_us[3] > 1.5 * steps.set_sigma_us[15]  # scatter falls with the level
    assert steps.reset_share[0] == 0.0
    assert 0.4 < steps.reset_share[-1] < 0.8


def test_the_step_model_predicts_pulses_that_it_has_not_seen() -> None:
    """Fit on every other round of settings, medians of the rest within their sampling error."""
    full = sweep("set")
    odd = np.arange(len(full.wl_v)) // 180 % 2 == 1  # the 180 settings of a width come in turn
    half = [PulseSweep(*(getattr(full, f)[part] for f in PulseSweep.__slots__)) for part in (~odd, odd)]
    reset = sweep("reset")
    steps, seen = fit_pulse_steps(half[0], reset), half[1]
    off = []
    for i, v in enumerate(steps.wl_v):
        after = seen.after_us[(seen.line_v >= 2.5) & (seen.wl_v == v)]
        off.append((np.median(after) - steps.set_median_us[i]) / (1.25 * steps.set_sigma_us[i] / np.sqrt(len(after))))
    assert np.sqrt(np.mean(np.square(off))) < 2.0  # both medians are noisy: √2 expected


def test_medians_that_fall_with_the_voltage_are_refused() -> None:
    ends, flat = np.array([0.5, 1.0]), np.array([0.0, 0.6])
    with pytest.raises(ValueError, match="must not fall"):
        PulseSteps(ends, np.array([25.0, 4.0]), np.ones(2), 0.0, ends, flat, 8.0, 0.3, 2.5, 0.5)
