"""Read noise: closed forms, repeated reads of one cell, estimators, and real traces."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.cells.read_noise import NoisyCells, ReadNoise, mean_factor
from cim.fit.read_noise import detect_telegraph, fit_flicker, fit_spectrum, fit_trace, welch_spectrum, with_telegraph

LEVELS = np.array([2.0, 20.0, 40.0])
WHITE = ReadNoise(LEVELS, np.full(3, 1.7), np.zeros(3))
FLICKER = replace(WHITE, flicker_us2=np.array([0.2, 0.4, 0.8]))


def test_what_is_left_out_is_zero() -> None:
    for name in ("flicker_us2", "flicker_se_us2", "telegraph_share", "telegraph_us"):
        assert np.array_equal(getattr(WHITE, name), np.zeros(3))


def test_a_table_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="flicker_us2"):
        ReadNoise(LEVELS, np.full(3, 1.7), np.zeros(3), flicker_us2=np.ones(2))


def test_white_noise_averages_by_the_number_of_reads() -> None:
    assert WHITE.variance_of_mean(LEVELS, 16, 1e-6) == pytest.approx(np.full(3, 1.7 / 16))


def test_two_reads_differ_by_twice_the_variance_plus_the_growth_per_decade() -> None:
    got = FLICKER.difference_variance(LEVELS, 1.0)  # three decades from 1 ms
    assert got == pytest.approx(3.4 + 3.0 * np.array([0.2, 0.4, 0.8]), rel=0.01)


def test_flicker_puts_a_floor_under_the_mean_of_many_reads() -> None:
    few, many = (float(FLICKER.variance_of_mean(np.array([20.0]), n, 1e-3)[0]) for n in (1, 1000))
    assert few == pytest.approx(1.7 + 0.2 * 8.75, rel=0.02)  # 8.7 decades of 0.4 / 2 each
    assert many == pytest.approx(0.2 * 6.0, rel=0.06)  # white gone, the decades slower than 1 s stay


def test_the_mean_factor_has_its_closed_forms() -> None:
    assert mean_factor(np.array([0.0, 1.0]), 7) == pytest.approx([1 / 7, 1.0])
    assert mean_factor(np.array([0.5]), 2) == pytest.approx([0.75])


def test_readings_of_cells_follow_the_stated_structure_function() -> None:
    g = np.full(4000, 20.0)
    noise = replace(FLICKER, telegraph_share=np.full(3, 0.3), telegraph_us=np.full(3, 4.0))
    cells = NoisyCells(noise, g, np.random.default_rng(1))
    times = np.array([0.0, 0.01, 0.02, 1.0, 100.0, 1e4])
    reads = np.stack([cells.read(t) for t in times])
    for i in range(len(times)):
        for j in range(i):
            expected = float(noise.difference_variance(g[:1], times[i] - times[j])[0])
            assert np.var(reads[i] - reads[j]) == pytest.approx(expected, rel=5 * np.sqrt(2 / 4000))


def test_the_mean_of_repeated_reads_has_the_stated_variance() -> None:
    g = np.full(6000, 40.0)
    noise = replace(FLICKER, telegraph_share=np.full(3, 0.5), telegraph_us=np.full(3, 3.0))
    cells = NoisyCells(noise, g, np.random.default_rng(2))
    means = cells.read(0.0, reads=20, interval_s=0.05)
    assert np.var(means) == pytest.approx(float(noise.variance_of_mean(g[:1], 20, 0.05)[0]), rel=0.1)


def test_reading_in_between_does_not_change_the_statistics() -> None:
    ends = []
    for stops in ([], [0.1, 0.2, 0.5]):
        cells = NoisyCells(FLICKER, np.full(6000, 20.0), np.random.default_rng(3))
        first = cells.read(0.0)
        for t in stops:
            cells.read(t)
        ends.append(np.var(cells.read(1.0) - first))
    assert ends[0] == pytest.approx(ends[1], rel=0.1)


def test_quiet_cells_read_as_they_are_and_time_does_not_run_back() -> None:
    cells = NoisyCells(ReadNoise(LEVELS, np.zeros(3), np.zeros(3)), LEVELS, np.random.default_rng(0))
    assert np.array_equal(cells.read(5.0), LEVELS)
    with pytest.raises(ValueError, match="back"):
        cells.read(4.0)


def test_white_noise_has_a_flat_spectrum_of_twice_its_variance_over_the_rate() -> None:
    f, s = welch_spectrum(2.0 * np.random.default_rng(4).standard_normal(100_000), 400.0, 4096)
    assert f[0] == pytest.approx(400 / 4096)
    assert s.mean() == pytest.approx(2 * 4 / 400, rel=0.05)
    assert s[: len(s) // 4].mean() == pytest.approx(s[-len(s) // 4 :].mean(), rel=0.05)


def test_generated_flicker_has_the_spectrum_that_its_growth_says() -> None:
    noise = replace(FLICKER, variance_us2=np.zeros(3), reference_s=1 / 400)
    cells = NoisyCells(noise, np.full(8, 20.0), np.random.default_rng(5))
    trace = np.stack([cells.read(i / 400) for i in range(40_000)])
    found = [fit_spectrum(trace[:, i], 400.0, (0.3, 20.0)) for i in range(8)]
    assert np.mean([f.slope for f in found]) == pytest.approx(-1.0, abs=0.06)
    assert np.mean([f.amplitude_us2 for f in found]) == pytest.approx(0.4 / (2 * np.log(10)), rel=0.1)


def test_the_growth_is_found_again_from_a_few_reads_of_many_cells() -> None:
    targets = np.tile(LEVELS, 3000)
    cells = NoisyCells(FLICKER, targets, np.random.default_rng(6))
    times = np.array([0.0, 0.1, 1.0, 10.0, 100.0, 1000.0])
    found = fit_flicker(WHITE, times, np.stack([cells.read(t) for t in times]), targets)
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
    noise = ReadNoise(
        LEVELS, np.full(3, 1.0), np.zeros(3), telegraph_share=np.full(3, 0.4), telegraph_us=np.full(3, 6.0)
    )
    cells = NoisyCells(noise, np.full(600, 20.0), np.random.default_rng(8))
    truth = cells._half_step > 0
    found = detect_telegraph(np.stack([cells.read(0.1 * i) for i in range(256)]))
    assert found.found[~truth].mean() < 0.01
    assert found.found[truth].mean() > 0.85  # the slowest cells do not switch within 26 s
    assert np.median(found.step_us[truth & found.found]) == pytest.approx(6.0, abs=0.2)


def test_flicker_alone_is_not_called_telegraph_noise() -> None:
    cells = NoisyCells(FLICKER, np.full(300, 20.0), np.random.default_rng(9))
    found = detect_telegraph(np.stack([cells.read(0.1 * i) for i in range(128)]))
    assert found.found.mean() < 0.02


def test_share_step_and_rate_of_telegraph_noise_are_found_by_level() -> None:
    noise = ReadNoise(
        LEVELS,
        np.full(3, 0.5),
        np.zeros(3),
        telegraph_share=np.array([0.0, 0.2, 0.4]),
        telegraph_us=np.full(3, 5.0),
        telegraph_hz=1.0,
    )
    targets = np.tile(LEVELS, 300)
    cells = NoisyCells(noise, targets, np.random.default_rng(10))
    readings = np.stack([cells.read(0.1 * i) for i in range(256)])
    found = with_telegraph(WHITE, readings, targets, 0.1)
    assert found.telegraph_share == pytest.approx([0.0, 0.2, 0.4], abs=0.07)
    assert found.telegraph_us[1:] == pytest.approx([5.0, 5.0], abs=0.3)
    assert 0.3 < found.telegraph_hz < 3.0


def traces() -> np.ndarray:
    """Five conductance traces of 250 s, µS: (5, 100,000), 400 Hz."""
    if "HIL_DATA" not in os.environ:
        pytest.skip("HIL_DATA not set: the measured Tech A traces are needed")
    path = Path(os.environ["HIL_DATA"]) / "device" / "levy_rram_relaxation" / "techA_tsdata.min.tsv.gz"
    return np.loadtxt(path)[:, 2:] * 1e6


def test_spectra_of_measured_cells_fall_with_a_slope_between_0_8_and_1_3() -> None:
    slopes = [fit_spectrum(t, 400.0).slope for t in traces()]
    assert all(-1.3 < s < -0.8 for s in slopes), slopes


def test_a_generator_fitted_to_measured_traces_repeats_their_slope_and_size() -> None:
    for trace in traces():
        seen, noise = fit_spectrum(trace, 400.0), fit_trace(trace, 400.0)
        cells = NoisyCells(noise, np.full(12, seen.mean_us), np.random.default_rng(11))
        again = np.stack([cells.read(i / 400) for i in range(40_000)])
        found = [fit_spectrum(again[:, i], 400.0) for i in range(12)]
        assert np.mean([f.slope for f in found]) == pytest.approx(seen.slope, abs=0.1)
        assert np.mean([f.amplitude_us2 for f in found]) == pytest.approx(seen.amplitude_us2, rel=0.25)
        steps = np.diff(again, axis=0).std()
        assert steps == pytest.approx(np.diff(trace).std(), rel=0.1)
