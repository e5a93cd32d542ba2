"""Read noise: closed forms, estimators on made readings, and real traces."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.cells.read_noise import ReadNoise
from cim.fit.read_noise import detect_telegraph, fit_flicker, fit_spectrum, welch_spectrum

LEVELS = np.array([2.0, 20.0, 40.0])
WHITE = ReadNoise(LEVELS, np.full(3, 1.7), np.zeros(3))
FLICKER = replace(WHITE, flicker_us2=np.array([0.2, 0.4, 0.8]))


def readings(times_s: np.ndarray, cells_us: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Reads of cells with the flicker and the white noise of ``FLICKER``, (times, cells) µS.

    Flicker as it stands beside the first read: Cov(F(s), F(t)) = (D(s) + D(t) − D(|t − s|)) / 2.
    """
    moved = FLICKER.flicker_moved
    since = moved(times_s - times_s[0])
    covariance = (since[:, None] + since - moved(np.abs(times_s[:, None] - times_s))) / 2.0
    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(times_s)))
    flicker = root @ rng.standard_normal((len(times_s), len(cells_us))) * np.sqrt(FLICKER.flicker_at(cells_us))
    return cells_us + flicker + np.sqrt(FLICKER.at(cells_us)) * rng.standard_normal(flicker.shape)


def test_what_is_left_out_is_zero() -> None:
    for name in ("flicker_us2", "flicker_se_us2", "telegraph_share", "telegraph_us"):
        assert np.array_equal(getattr(WHITE, name), np.zeros(3))


def test_a_table_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="flicker_us2"):
        ReadNoise(LEVELS, np.full(3, 1.7), np.zeros(3), flicker_us2=np.ones(2))


def test_two_reads_differ_by_twice_the_variance_plus_the_growth_per_decade() -> None:
    got = FLICKER.difference_variance(LEVELS, 1.0)  # three decades from 1 ms
    assert got == pytest.approx(3.4 + 3.0 * np.array([0.2, 0.4, 0.8]), rel=0.01)


def test_white_noise_has_a_flat_spectrum_of_twice_its_variance_over_the_rate() -> None:
    f, s = welch_spectrum(2.0 * np.random.default_rng(4).standard_normal(100_000), 400.0, 4096)
    assert f[0] == pytest.approx(400 / 4096)
    assert s.mean() == pytest.approx(2 * 4 / 400, rel=0.05)
    assert s[: len(s) // 4].mean() == pytest.approx(s[-len(s) // 4 :].mean(), rel=0.05)


def test_the_slope_and_size_of_a_spectrum_are_found_again() -> None:
    """White noise of 2 · 1² / 400 µS²/Hz, shaped to 1/f: a tenth of it at 10 Hz."""
    rng, n = np.random.default_rng(5), 40_000
    f = np.fft.rfftfreq(n, 1 / 400)
    shape = np.sqrt(np.divide(1.0, f, out=np.zeros_like(f), where=f > 0))
    found = [fit_spectrum(20.0 + np.fft.irfft(np.fft.rfft(w) * shape), 400.0) for w in rng.standard_normal((8, n))]
    assert np.mean([s.slope for s in found]) == pytest.approx(-1.0, abs=0.03)
    assert np.mean([s.amplitude_us2 for s in found]) == pytest.approx(2 / 400, rel=0.1)
    assert found[0].relative == pytest.approx(found[0].amplitude_us2 / 400.0, rel=0.02)


def test_the_growth_is_found_again_from_a_few_reads_of_many_cells() -> None:
    targets = np.tile(LEVELS, 3000)
    times = np.array([0.0, 0.1, 1.0, 10.0, 100.0, 1000.0])
    found = fit_flicker(WHITE, times, readings(times, targets, np.random.default_rng(6)), targets)
    assert (np.abs(found.flicker_us2 - FLICKER.flicker_us2) < 4 * found.flicker_se_us2 + 0.01).all()
    assert (found.flicker_se_us2 < 0.1).all()


def test_cells_without_flicker_get_none_within_its_error() -> None:
    targets = np.tile(LEVELS, 1000)
    reads = targets + np.sqrt(1.7) * np.random.default_rng(7).standard_normal((5, 3000))
    found = fit_flicker(WHITE, np.array([0.0, 0.1, 1.0, 10.0, 100.0]), reads, targets)
    assert (found.flicker_us2 <= 3 * found.flicker_se_us2).all()


def test_two_reads_cannot_tell_a_growth() -> None:
    with pytest.raises(ValueError, match="no growth"):
        fit_flicker(WHITE, np.array([0.0, 1.0]), np.zeros((2, 90)), np.tile(LEVELS, 30))


def test_telegraph_cells_are_told_from_quiet_ones() -> None:
    rng, shape = np.random.default_rng(8), (256, 600)
    truth = np.arange(600) % 5 < 2
    change = -np.expm1(-0.2 * 10.0 ** rng.uniform(-1.0, 1.0, 600)) / 2.0  # in the 0.1 s between two reads
    high = np.cumsum(rng.random(shape) < change, axis=0) % 2
    found = detect_telegraph(20.0 + 6.0 * high * truth + rng.standard_normal(shape))
    assert found.found[~truth].mean() < 0.01
    assert found.found[truth].mean() > 0.85  # the slowest cells do not switch within 26 s
    assert np.median(found.step_us[truth & found.found]) == pytest.approx(6.0, abs=0.2)


def test_flicker_alone_is_not_called_telegraph_noise() -> None:
    seen = readings(0.1 * np.arange(128), np.full(300, 20.0), np.random.default_rng(9))
    found = detect_telegraph(seen)
    assert found.found.mean() < 0.02


def traces() -> np.ndarray:
    """Five conductance traces of 250 s, µS: (5, 100,000), 400 Hz."""
    if "HIL_DATA" not in os.environ:
        pytest.skip("HIL_DATA not set: the measured Tech A traces are needed")
    path = Path(os.environ["HIL_DATA"]) / "device" / "levy_rram_relaxation" / "techA_tsdata.min.tsv.gz"
    return np.loadtxt(path)[:, 2:] * 1e6


def test_spectra_of_measured_cells_fall_with_a_slope_between_0_8_and_1_3() -> None:
    slopes = [fit_spectrum(t, 400.0).slope for t in traces()]
    assert all(-1.3 < s < -0.8 for s in slopes), slopes
