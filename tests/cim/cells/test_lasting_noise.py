"""Read noise that lasts: where cells stand at the tune and in inference, once they were read back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cim.cells.lasting_noise import AFTER_S, Moment, lasting_shifts, lasting_variance_us2, lasts
from cim.cells.read_noise import ReadNoise
from cim.cells.temperature import Thermal, accelerated_age, conductance_factor

LEVELS = np.array([2.0, 20.0, 40.0])
QUIET = ReadNoise(LEVELS, np.full(3, 1.7), np.zeros(3))
FLICKER = replace(QUIET, flicker_us2=np.full(3, 0.04), flicker_se_us2=np.full(3, 0.004))
BOTH = replace(FLICKER, telegraph_share=np.full(3, 0.3), telegraph_us=np.full(3, 2.0), telegraph_hz=0.01)


@pytest.mark.parametrize("noise", [FLICKER, BOTH])
def test_cells_stand_elsewhere_by_the_variance_that_two_reads_differ_by(noise: ReadNoise) -> None:
    cells = np.full(200_000, 20.0)
    tune, inference = lasting_shifts(noise, cells, np.random.default_rng(1)).astype(np.float64)
    between_s = AFTER_S[Moment.INFERENCE] - AFTER_S[Moment.TUNE]
    for moved, after_s in (
        (tune, AFTER_S[Moment.TUNE]),
        (inference, AFTER_S[Moment.INFERENCE]),
        (inference - tune, between_s),
    ):
        expected = float(noise.difference_variance(LEVELS, after_s)[1]) - 2 * 1.7
        assert moved.var() == pytest.approx(expected, rel=0.02)


def test_growth_within_its_error_is_none() -> None:
    assert not lasts(QUIET)
    assert not lasts(replace(FLICKER, flicker_se_us2=np.full(3, 0.04)))
    assert lasts(FLICKER)
    assert lasts(replace(QUIET, telegraph_share=np.full(3, 0.1), telegraph_us=np.ones(3)))
    assert (lasting_variance_us2(QUIET, LEVELS) == 0.0).all()


def test_cells_that_are_not_used_stay_unknown() -> None:
    shifts = lasting_shifts(BOTH, np.array([[20.0, np.nan]], np.float32), np.random.default_rng(4))
    assert np.isfinite(shifts[:, 0, 0]).all()
    assert np.isnan(shifts[:, 0, 1]).all()


def test_a_day_at_85_degrees_counts_as_26_at_25() -> None:
    thermal = Thermal(25.0, -1e-3, 0.0, activation_ev=0.5)
    assert accelerated_age(86_400.0, 85.0, thermal) == pytest.approx(26.06 * 86_400, rel=1e-3)
    assert accelerated_age(86_400.0, 25.0, thermal) == 86_400.0
    assert accelerated_age(86_400.0, 0.0, thermal) < 86_400.0
    assert accelerated_age(5.0, 85.0, Thermal(25.0, 0.0, 0.0)) == 5.0


def test_conductance_is_linear_in_temperature_and_never_negative() -> None:
    thermal = Thermal(25.0, -1e-3, 0.0)
    assert conductance_factor(60.0, thermal) == pytest.approx(0.965)
    assert conductance_factor(25.0, thermal) == 1.0
    assert conductance_factor(5000.0, thermal) > 0.0
