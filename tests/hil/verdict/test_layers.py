"""Layer statistics on sums whose gain, offset and noise are known."""

from __future__ import annotations

import numpy as np
import pytest

from hil.verdict.layers import LayerSample, layer_statistics

SHAPE = (6, 16, 8, 8)  # images, outputs, positions


def sums(seed: int = 0) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, np.rint(rng.normal(0, 500, SHAPE))


def test_gain_offset_noise_and_snr_are_recovered():
    rng, ideal = sums()
    measured = np.rint(0.97 * ideal + 8 + rng.normal(0, 25, (2, *SHAPE)))
    s = layer_statistics(LayerSample("conv1", measured, ideal, saturated_share=0.01))
    assert s.gain == pytest.approx(0.97, abs=0.001)
    assert s.offset == pytest.approx(8, abs=0.6)
    assert s.residual_sigma == pytest.approx(25, rel=0.02)
    error = (0.03 * 500) ** 2 + 8**2 + 25**2
    assert s.snr_db == pytest.approx(10 * np.log10(500**2 / error), abs=0.1)
    assert s.r2 == pytest.approx(1 - 25**2 / ((0.97 * 500) ** 2 + 25**2), abs=1e-3)
    assert s.relative_rms == pytest.approx(error**0.5 / 500, rel=0.02)
    assert (s.values, s.saturated_share, s.exact) == (2 * ideal.size, 0.01, False)


def test_equal_sums_are_called_exact():
    _, ideal = sums()
    s = layer_statistics(LayerSample("conv1", ideal[None], ideal))
    assert s.exact
    assert (s.gain, s.offset, s.residual_sigma, s.snr_db) == (pytest.approx(1.0), pytest.approx(0.0), 0.0, None)


def test_a_layer_whose_sums_never_vary_has_no_gain():
    s = layer_statistics(LayerSample("dead", np.full((2, 3, 4), 5), np.zeros((3, 4))))
    assert (s.gain, s.offset, s.r2, s.relative_rms) == (None, 5.0, None, None)


def test_the_worst_columns_come_first_with_their_numbers():
    rng, ideal = sums()
    measured = ideal + rng.normal(0, 5, (1, *SHAPE))
    measured[:, :, 11] = 0.5 * ideal[:, 11]
    measured[:, :, 3] += 90
    worst = layer_statistics(LayerSample("conv1", measured, ideal)).worst_columns
    assert [c.column for c in worst[:2]] == [11, 3]
    assert worst[0].gain == pytest.approx(0.5, abs=0.01)
    assert worst[1].offset == pytest.approx(90, abs=1)


def test_residual_noise_is_compared_with_the_virtual_chips():
    rng, ideal = sums()
    spread = rng.normal(20, 1, 20)[:, None, None, None, None]
    simulated = ideal + spread * rng.normal(0, 1, (20, *SHAPE))
    alike = layer_statistics(LayerSample("a", ideal + rng.normal(0, 20, (1, *SHAPE)), ideal, simulated))
    worse = layer_statistics(LayerSample("b", ideal + rng.normal(0, 30, (1, *SHAPE)), ideal, simulated))
    assert abs(alike.residual_z) < 2
    assert worse.residual_z > 5
    assert worse.simulated_residual_sigma == pytest.approx(20, rel=0.05)
    low = layer_statistics(LayerSample("c", 0.6 * (ideal + rng.normal(0, 33, (1, *SHAPE))), ideal, simulated))
    assert abs(low.residual_z) < 2 < 5 < low.z == low.error_z  # a gain that dipped leaves no residual


def test_explained_share_tells_a_known_error_from_an_unknown_one():
    rng, ideal = sums()
    own = rng.normal(0, 40, SHAPE)
    known = ideal + own + rng.normal(0, 10, (5, *SHAPE))
    measured = ideal + own + rng.normal(0, 10, (2, *SHAPE))
    assert layer_statistics(LayerSample("a", measured, ideal, known)).explained > 0.95
    unknown = ideal + rng.normal(0, 40, (5, *SHAPE))
    assert layer_statistics(LayerSample("b", measured, ideal, unknown)).explained < 0.1
    assert layer_statistics(LayerSample("c", measured, ideal, known), conditioned=False).explained is None


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="conv1: measured"):
        LayerSample("conv1", np.zeros((3, 4)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="conv1: simulated"):
        LayerSample("conv1", np.zeros((1, 3, 4)), np.zeros((3, 4)), np.zeros((2, 3, 5)))
