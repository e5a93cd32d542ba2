"""Whether a chip is as it was calibrated, and what moved, from level sums and lines beside those of virtual chips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.deployment.without_tune import at_end
from hil.verdict.as_calibrated import AsCalibrated, as_calibrated
from hil.verdict.movements import SumsBeside
from hil.verdict.verdict import Mode, Verdict, judge

OUTPUTS, PLACES = 24, 25
RNG = np.random.default_rng(8)
IDEAL = np.rint(RNG.normal(60, 800, (16, OUTPUTS, PLACES))).astype(np.int32)
Sums = NDArray[np.float64]


def chip_of(seed: int) -> Sums:
    """Sums of a chip whose cells err by 5 % and whose columns by 0.4 %."""
    rng = np.random.default_rng(seed)
    column = 1.0 + 0.004 * rng.standard_normal(OUTPUTS)
    return np.rint(IDEAL * column[None, :, None] + 40 * rng.standard_normal(IDEAL.shape))


def seen(moved: Callable[[Sums], Sums] | None = None, seed: int = 1) -> AsCalibrated:
    chip = chip_of(seed)
    virtual = np.stack([chip_of(100 + k) for k in range(5)])
    sums = SumsBeside.of("conv", np.rint(chip if moved is None else moved(chip)), IDEAL, virtual)
    found = as_calibrated(None, None, [at_end(sums)], [sums])
    assert found is not None
    return found


def traded(sums: Sums) -> Sums:
    changed = sums.copy()
    changed[:, [3, 7]] = sums[:, [7, 3]]
    return changed


def test_a_chip_like_its_virtual_chips_is_as_calibrated() -> None:
    for seed in range(5):
        found = seen(seed=seed)
        assert found.holds
        assert (found.evidence, found.moved) == ((), ())


def test_gains_that_another_physics_gets_wrong_by_one_percent_are_as_calibrated() -> None:
    assert seen(lambda sums: 0.99 * sums).holds


@pytest.mark.parametrize("share", [-0.25, -0.08, 0.1])
def test_the_gain_of_all_outputs_is_named_with_its_size(share: float) -> None:
    found = seen(lambda sums: (1.0 + share) * sums)
    assert not found.holds
    assert found.moved[0].what == "gain of all outputs"
    assert found.moved[0].share == pytest.approx(share, abs=0.01)
    assert f"{100 * share:+.1f}".replace("-", "−")[:3] in found.text


def test_gains_of_single_outputs_are_named_with_their_spread() -> None:
    gains = 1.0 + 0.3 * np.random.default_rng(5).uniform(-1, 1, OUTPUTS)
    found = seen(lambda sums: sums * gains[None, :, None])
    assert found.moved[0].what.startswith("gains of single outputs")
    assert found.moved[0].share == pytest.approx(float(gains.std()), rel=0.15)


def test_a_compression_is_told_from_a_smaller_gain() -> None:
    largest = float(np.abs(IDEAL - IDEAL.mean((0, 2), keepdims=True)).max())
    found = seen(lambda sums: sums - 0.4 * sums * np.abs(sums) / largest)
    bent = next(m for m in found.moved if m.what.startswith("compression"))
    assert bent.share == pytest.approx(-0.4, abs=0.05)
    assert all(abs(m.share) < 0.05 for m in found.moved if m.what == "gain of all outputs")


def test_two_outputs_that_trade_places_are_named() -> None:
    found = seen(traded)
    assert "outputs 3 and 7 of conv trade places" in found.text
    assert found.moved[0].share == pytest.approx(1.0, abs=0.05)


def without_tune(right: float) -> AsCalibrated:
    """A chip whose sums are those of virtual chips, and that keeps this share of its right answers without the tune."""
    rng = np.random.default_rng(4)
    ideal = rng.random(500) < 0.95
    virtual = ideal & (rng.random((5, 500)) < 0.99)
    chip = ideal & (rng.random((1, 500)) < right)
    untuned = judge(chip, virtual, ideal, mode=Mode.CONDITIONED)
    assert untuned.verdict is Verdict.DISAGREE
    sums = SumsBeside.of("conv", chip_of(1), IDEAL, np.stack([chip_of(100 + k) for k in range(5)]))
    found = as_calibrated(untuned, None, [at_end(sums)], [sums])
    assert found is not None
    return found


def test_a_disagreement_without_the_tune_that_is_only_likely_is_of_a_chip_as_calibrated() -> None:
    assert without_tune(0.98).holds


def test_a_disagreement_without_the_tune_is_enough() -> None:
    found = without_tune(0.8)
    assert not found.holds
    assert "disagree" in found.evidence[0]
    assert "nothing" in found.text  # that lines describe


def test_few_virtual_chips_tell_nothing() -> None:
    sums = SumsBeside.of("fc", chip_of(1), IDEAL, np.stack([chip_of(100 + k) for k in range(4)]))
    assert as_calibrated(None, None, [at_end(sums)], [replace(sums)]) is None
