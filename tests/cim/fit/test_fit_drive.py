"""Row drivers from reads of one unit: exact without noise, within the errors with it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from cim.fit.drive import NoDriveFit, StepReads, fit_drive, straight_drive

NIBBLES = load_chip("a111").macro
TRUE = np.arange(16.0) + np.append(0.0, np.append(np.random.default_rng(2).uniform(-0.4, 0.4, 14), 0.0))
CONVERTERS, COLUMNS, SUBSETS = 32, 4, 12


def reads_of(
    rng: np.random.Generator, noise: float, *, gain: float = 1.0, wires: float = 0.0, own: float = 0.0
) -> StepReads:
    """Codes gain · slope · d[u] + noise, slopes of either sign; ``own``: spread of the columns' gains."""
    units = np.tile(np.arange(1, 16), SUBSETS)
    slopes = np.repeat(rng.normal(0.0, 8.0, (SUBSETS, CONVERTERS * COLUMNS)), 15, axis=0)
    gains = gain * (1.0 + own * np.repeat(rng.standard_normal(CONVERTERS), COLUMNS))
    expected = slopes * units[:, None]
    codes = gains * slopes * TRUE[units][:, None] + noise * rng.standard_normal(expected.shape)
    return StepReads(
        units,
        codes,  # type: ignore[arg-type]  # not rounded, to be exact
        expected,
        slopes,
        wires * units[:, None] ** 2 * slopes,
        np.ones_like(slopes),
        np.repeat(np.arange(CONVERTERS), COLUMNS),
    )


def test_without_noise_it_is_exact_and_a_common_gain_is_none_of_its_business() -> None:
    for gain in (1.0, 1.07):
        found = fit_drive(straight_drive(NIBBLES), [reads_of(np.random.default_rng(1), 0.0, gain=gain)])
        np.testing.assert_allclose(found.units, TRUE, atol=1e-9)
        assert found.units_se.max() < 1e-9
    assert found.units[0] == 0.0
    assert found.units[15] == 15.0


@pytest.mark.parametrize("own", [0.0, 0.02])
def test_errors_say_how_far_it_is_off(own: float) -> None:
    """Noise, and gains of columns that are off, over 40 chips of two macros."""
    z: list[NDArray[np.float64]] = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = fit_drive(straight_drive(NIBBLES), [reads_of(rng, 8.0, own=own) for _ in range(2)])
        z.append(((found.units - TRUE) / np.maximum(found.units_se, 1e-12))[1:-1])
    rms = np.sqrt(np.mean(np.square(z)))
    assert 0.85 < rms < 1.2
    assert np.abs(z).max() < 4.5


def test_what_the_wires_leave_open_is_part_of_the_error() -> None:
    reads = reads_of(np.random.default_rng(3), 0.0, wires=1e-4)
    found = fit_drive(straight_drive(NIBBLES), [reads])
    u = np.arange(16.0)
    expected = u - 1e-4 * u**2  # codes that so much more are expected of leave less to the drive
    np.testing.assert_allclose(found.units_se[1:-1], np.abs(u - expected * 15 / expected[15])[1:-1], rtol=0.3)


def test_a_unit_without_a_usable_conversion_is_refused_by_name() -> None:
    reads = reads_of(np.random.default_rng(4), 1.0)
    reads.weights[reads.units == 9] = 0.0
    with pytest.raises(NoDriveFit, match="unit 9") as caught:
        fit_drive(straight_drive(NIBBLES), [reads])
    assert caught.value.unit == 9
