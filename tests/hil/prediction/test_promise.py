"""What one further chip will score: an interval over chips and images, from chips that chose nothing."""

from __future__ import annotations

import numpy as np
import pytest

from hil.prediction.promise import fresh, promise_of


def answers(rng: np.random.Generator, chips: int, images: int) -> tuple[np.ndarray, float]:
    """Right answers of chips that differ by 1.5 points, to images of which some are hard, and what a further chip gets
    of all such images."""
    difficulty = rng.beta(2.0, 0.5, images)
    skill = rng.normal(0.0, 0.015, chips + 1)
    chance = np.clip(difficulty[None] + skill[:, None], 0.0, 1.0)
    return rng.random((chips, images)) < chance[:chips], 0.8 + float(skill[-1])


@pytest.mark.parametrize(("chips", "images"), [(4, 500), (8, 500), (8, 2000)])
def test_nineteen_of_twenty_further_chips_lie_in_the_interval(chips: int, images: int) -> None:
    rng = np.random.default_rng(chips * images)
    inside, bias = [], []
    for _ in range(400):
        right, truth = answers(rng, chips, images)
        found = promise_of(right)
        inside.append(found.low <= truth <= found.high)
        bias.append(found.mean - truth)
    assert 0.92 <= np.mean(inside) <= 1.0
    assert abs(np.mean(bias)) < 0.004


def test_more_images_and_chips_make_it_narrower_down_to_what_chips_differ_by() -> None:
    rng = np.random.default_rng(3)
    wide, _ = answers(rng, 4, 200)
    narrow, _ = answers(rng, 16, 4000)
    few, many = promise_of(wide), promise_of(narrow)
    assert few.high - few.low > many.high - many.low > 2 * 1.96 * 0.012
    assert (many.chips, many.images) == (16, 4000)


def test_chips_that_say_it_are_not_those_that_chose() -> None:
    assert len({fresh(seed) for seed in range(50)} | set(range(50))) == 100
