"""Normals of the look-up kernels: their exact distribution, moments, tails, lags, codes; controls that fail."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

pytest.importorskip("numba")

from cim.simulator.exact.lookup_noise import BASE_UNIT, CUBE, LINE, NORMAL_UNIT, normals


def base_values() -> NDArray[np.int64]:
    """The base function of every short, in the kernel's integer steps."""
    x = np.arange(-32768, 32768, dtype=np.int64)
    square = x * x >> 16
    bracket = round(2 * BASE_UNIT * LINE) - (square * round(8 * BASE_UNIT * CUBE) >> 16)
    return np.asarray(x * bracket >> 16)


def test_the_base_has_variance_one_and_no_excess_kurtosis() -> None:
    x = (np.arange(1 << 16) + 0.5) / (1 << 15) - 1.0
    base = x * (LINE - CUBE * x * x)
    assert base.var() == pytest.approx(1.0, abs=1e-6)
    assert np.mean(base**4) == pytest.approx(3.0, abs=1e-5)
    assert np.mean(base**6) == pytest.approx(15.365, abs=1e-3)
    np.testing.assert_allclose(base_values() / BASE_UNIT, base, atol=2.5 / BASE_UNIT)


def test_a_sum_of_eight_is_normal_to_five_parts_in_ten_thousand_far_into_the_tails() -> None:
    """Exact: the distribution of eight integer base values by convolution, against the normal one."""
    size = 1 << 17
    values = base_values()
    chance = np.bincount(values % size, minlength=size) / len(values)
    eight = np.roll(np.fft.irfft(np.fft.rfft(chance) ** 8, size), size // 2)
    z = (np.arange(size) - size // 2 + 4) / NORMAL_UNIT  # the kernel adds 4: eight floors lose ½ each
    below = np.cumsum(eight) - eight / 2
    assert np.abs(below - stats.norm.cdf(z)).max() < 1e-4
    assert (eight * z).sum() == pytest.approx(0.0, abs=2e-4)
    assert (eight * z * z).sum() == pytest.approx(1.0, abs=3e-4)
    for tail, rest in ((2.0, 0.002), (3.0, 0.004), (4.0, 0.012), (5.0, 0.04)):
        assert eight[np.abs(z) > tail].sum() / (2 * stats.norm.sf(tail)) == pytest.approx(1.0, abs=rest)
    assert np.abs(values).max() * 8 < 1 << 15  # shorts cannot overflow


def draw(streams: int = 40, rounds: int = 400) -> NDArray[np.float64]:
    """Normals (streams, rounds, 8, 32) of neighbouring streams."""
    z = np.stack([normals(np.uint64(97), s, rounds) for s in range(streams)])
    return np.asarray(z / NORMAL_UNIT)


def worst_score(z: NDArray[np.float64]) -> float:
    """Largest deviation, in standard errors, of moments, tails and correlations of (streams, rounds, 8, lanes)."""
    n = z.size
    scores = [z.mean() * np.sqrt(n), (z.var() - 1.0) * np.sqrt(n / 2), stats.kurtosis(z.ravel()) * np.sqrt(n / 24)]
    for tail in (1.0, 2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(tail) * n
        scores.append((np.sum(np.abs(z) > tail) - expected) / np.sqrt(expected))
    moved = [(z[:, 1:], z[:, :-1]), (z[:, 8:], z[:, :-8]), (z[:, :, 1:], z[:, :, :-1]), (z[:, :, 4:], z[:, :, :-4])]
    moved += [(z[..., 1:], z[..., :-1]), (z[..., 4:], z[..., :-4]), (z[1:], z[:-1]), (z[:, 1:, 0], z[:, :-1, 7])]
    for a, b in moved:
        for power in (1, 2):  # values, and their squares
            x, y = a**power - (power == 2), b**power - (power == 2)
            scores.append(np.mean(x * y) / np.sqrt(np.mean(x * x) * np.mean(y * y)) * np.sqrt(x.size))
    return float(np.max(np.abs(scores)))


def test_normals_are_normal_and_independent_over_planes_lanes_places_and_streams() -> None:
    assert worst_score(draw()) < 4.5


def test_the_same_scores_see_sums_of_four_bytes() -> None:
    total = np.random.default_rng(0).integers(0, 256, (4, 40, 400, 8, 32)).sum(0)
    assert worst_score((total - total.mean()) / total.std()) > 10.0


def test_the_same_scores_see_a_repeated_stretch() -> None:
    z = draw()
    z[:, 8:16] = z[:, :8]
    assert worst_score(z) > 10.0


@pytest.mark.parametrize("sigma", [0.2, 0.5, 2.0])
def test_codes_of_noisy_sums_follow_the_normal_distribution(sigma: float) -> None:
    """Total variation of code histograms against Φ, averaged over the sampling error of the test itself."""
    steps = 64
    y = np.array([0.0, 0.2, 0.37, 0.5]) * steps
    z = np.stack([normals(np.uint64(s), 5, 4000) for s in range(8)]).astype(np.int64).ravel()
    spread = round(sigma * steps * 65536 / NORMAL_UNIT)
    for start in y:
        codes = (int(start) + (z * spread >> 16) + steps // 2) // steps
        edge = np.arange(-14, 15)
        share = np.array([(codes == c).mean() for c in edge])
        centre = int(start) / steps
        true = stats.norm.cdf((edge + 0.5 - centre) / sigma) - stats.norm.cdf((edge - 0.5 - centre) / sigma)
        sampling = np.sqrt(2 / np.pi * true * (1 - true) / len(z)).sum() / 2
        assert 0.5 * np.abs(share - true).sum() < 4e-4 + 2.5 * sampling
