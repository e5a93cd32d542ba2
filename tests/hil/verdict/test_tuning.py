"""Which tunes are warned of: lines farther than virtual chips get, by more than a trifle."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.verdict.tuning import EFFECT_LIMIT, LEAST_ERROR, MISFIT, effect_of, summarise_tune
from mapping.tune.channel_affine import ChannelFit, TuneTargets, fit_channels

CHANNELS, SPREAD = 32, 0.002
RNG = np.random.default_rng(3)
WANTED = np.rint(RNG.normal(40, 900, (64, CHANNELS, 25))).astype(np.int32)
TARGETS = TuneTargets(np.zeros((64, 8, 8, 1), np.uint8), {"conv": WANTED})


def tune_of(seed: int, gain: float | NDArray[np.float64] = 1.0, offset: float = 0.0) -> list[ChannelFit]:
    """The tune of a chip whose cells err by 5 % of the sums, and whose columns by ``SPREAD`` and what is given."""
    rng = np.random.default_rng(seed)
    column = 1.0 + SPREAD * rng.standard_normal(CHANNELS)
    sums = WANTED * (gain * column)[None, :, None] + offset + 45 * rng.standard_normal(WANTED.shape)
    return [fit_channels("conv", np.rint(sums).astype(np.int32), WANTED)]


VIRTUAL = [tune_of(100 + k) for k in range(20)]


def test_a_tune_like_those_of_virtual_chips_is_not_warned_of() -> None:
    found = summarise_tune(tune_of(1), VIRTUAL, TARGETS)
    assert found.warnings == ()
    assert found.images == 64


def test_lines_far_off_by_what_no_accuracy_shows_are_not_warned_of() -> None:
    """Another physics than the simulator's: four times the spread of the virtual chips, 0.8 % of a gain."""
    gains = 1.0 + 4 * SPREAD * np.random.default_rng(4).standard_normal(CHANNELS)
    (layer,) = summarise_tune(tune_of(2, gains), VIRTUAL, TARGETS).layers
    assert (layer.distance or 0.0) > 6  # the limit is 3.2
    assert (layer.effect or 0.0) < EFFECT_LIMIT
    assert layer.plausible


@pytest.mark.parametrize(
    ("gain", "offset"),
    [(0.9, 0.0), (1.0, 90.0), (1.0 + 0.1 * np.random.default_rng(5).standard_normal(CHANNELS), 0.0)],
)
def test_an_effect_of_the_size_of_the_expected_error_is_warned_of(
    gain: float | NDArray[np.float64], offset: float
) -> None:
    found = summarise_tune(tune_of(3, gain, offset), VIRTUAL, TARGETS)
    assert found.layers[0].effect == pytest.approx(0.01 / LEAST_ERROR, rel=0.5)  # cells err by 0.05², less
    assert found.warnings
    assert "conv" in found.warnings[0]


def test_the_effect_is_what_the_virtual_chips_lines_would_have_left() -> None:
    own, others = tune_of(6, 0.93, 30.0)[0], [lines[0] for lines in VIRTUAL]
    rng = np.random.default_rng(6)
    column = 1.0 + SPREAD * rng.standard_normal(CHANNELS)
    sums = WANTED * (0.93 * column)[None, :, None] + 30.0 + 45 * rng.standard_normal(WANTED.shape)
    gain, offset = (np.mean([getattr(o, name) for o in others], axis=0) for name in ("gain", "offset"))
    left = np.square(sums * gain[None, :, None] + offset[None, :, None] - WANTED).mean() / WANTED.var()
    expected = max(np.mean([o.before for o in others]), LEAST_ERROR)
    assert effect_of(own, others, WANTED) == pytest.approx((left - own.after) / expected - MISFIT * 0.0016, rel=0.15)


def test_few_virtual_chips_tell_nothing() -> None:
    (layer,) = summarise_tune(tune_of(7, 0.5), VIRTUAL[:4], TARGETS).layers
    assert (layer.distance, layer.effect, layer.plausible) == (None, None, True)
