"""Suites that others judge by: their data and scores are what they say, and committed rows hold their promises."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from hil.verdict.tasks.boxes import from_grid, likeliest, overlaps

from .scripts import benchmark

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
needs_data = pytest.mark.skipif("HIL_DATA" not in os.environ, reason="needs networks and CIFAR-10: HIL_DATA")


def test_exact_integers_of_8_bits_lose_at_most_half_a_point_in_every_row() -> None:
    text = (BENCHMARKS / "results" / "int8_accuracy.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert rows
    for row in rows:
        assert row["images"] == 1000
        assert row["ideal"] - row["float"] >= -0.005 * row["images"], row


@needs_data
def test_the_suite_has_200_images_of_which_19_are_here_without_loss() -> None:
    suite = benchmark("mlperf_tiny")
    images, labels, lossless = suite.suite_images()
    assert (images.shape, images.dtype, lossless) == ((200, 32, 32, 3), np.uint8, 19)
    assert set(labels.tolist()) == set(range(10))


@needs_data
def test_scores_count_right_answers_and_agreement_whatever_the_scale() -> None:
    suite = benchmark("mlperf_tiny")
    reference = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.1]])
    found = suite.scores(50 * reference + 3, np.array([1, 1, 0]), reference)
    assert found == {"correlation": 1.0, "same_top": 1.0, "right": 2, "accuracy": 0.6667}


def test_inputs_of_our_own_are_the_same_each_time_and_fill_their_range() -> None:
    suite = benchmark("mlperf_tiny")
    one, other = (suite.own_inputs("kws_dscnn", (1, 49, 10), 8, seed) for seed in (0, 1))
    assert (one == suite.own_inputs("kws_dscnn", (1, 49, 10), 8, 0)).all()
    assert (one != other).any()
    assert one.shape == (8, 49, 10, 1)
    assert one.std() > 20


def test_masks_and_boxes_of_synthetic_scenes_belong_together() -> None:
    networks = benchmark("task_networks")
    images, targets = networks.scenes(20, 48, seed=3)
    assert images.shape == (20, 48, 48, 3)
    assert len(targets["boxes"]) == targets["box_counts"].sum()
    last = np.cumsum(targets["box_counts"]) - 1  # the shape in front
    for n, at in enumerate(last):
        x1, y1, x2, y2 = targets["boxes"][at]
        middle = targets["masks"][n, int((y1 + y2) / 2), int((x1 + x2) / 2)]
        assert middle == 1 + targets["box_classes"][at]


def test_a_grid_of_targets_decodes_to_the_boxes_it_was_made_of() -> None:
    networks = benchmark("task_networks")
    _, targets = networks.scenes(20, 48, seed=3)
    grid = networks.grid_targets(targets, 48, 6)
    outputs = np.zeros((20, 7, 6, 6))
    shares = np.clip(grid[:, :2], 1e-4, 1 - 1e-4)
    outputs[:, :2] = np.log(shares / (1 - shares))
    outputs[:, 2:4] = grid[:, 2:4]
    outputs[:, 4] = np.where(grid[:, 4] > 0, 9.0, -9.0)
    outputs[:, 5], outputs[:, 6] = 9.0 * (1 - 2 * grid[:, 5]), -9.0 * (1 - 2 * grid[:, 5])
    boxes, scores = from_grid(outputs, (48, 48))
    at = 0
    for n, count in enumerate(targets["box_counts"]):
        wanted = targets["boxes"][at : at + count].astype(float)
        found = likeliest(boxes[n], scores[n])
        alone = overlaps(found[:, :4], wanted).max(axis=1)
        assert (alone > 0.99).all()
        at += count
