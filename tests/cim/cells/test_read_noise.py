"""Read noise: closed forms, and its estimator on made readings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cim.cells.read_noise import ReadNoise
from cim.fit.pattern_cells import fit_flicker

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
