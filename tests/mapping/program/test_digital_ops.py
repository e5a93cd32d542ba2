"""Digital operations against golden vectors that were computed with exact fractions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapping.program import digital_ops
from mapping.program.conductance import Requantise

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent.parent / "golden" / "digital_ops.json").read_text("utf-8"))


def rule(plain: dict[str, Any]) -> Requantise:
    return Requantise(
        np.array(plain["multiplier"], np.int32), np.array(plain["shift"], np.int32), plain["low"], plain["high"]
    )


@pytest.mark.parametrize("case", GOLDEN["requantise"])
def test_requantise_equals_the_golden_vectors(case: dict[str, Any]) -> None:
    found = digital_ops.requantise(np.array(case["values"], np.int32), rule(case["rule"]))
    assert found.tolist() == case["expected"]


@pytest.mark.parametrize("case", GOLDEN["finish"])
def test_bias_and_requantisation_equal_the_golden_vectors(case: dict[str, Any]) -> None:
    sums, bias = np.array(case["sums"], np.int32), np.array(case["bias"], np.int32)
    assert digital_ops.finish(sums, bias, rule(case["rule"])).tolist() == case["expected"]


@pytest.mark.parametrize("case", GOLDEN["add"])
def test_add_equals_the_golden_vectors(case: dict[str, Any]) -> None:
    first, second = (np.array(case[k], np.int16) for k in ("first", "second"))
    rescale = (rule(case["rescale"][0]), rule(case["rescale"][1]))
    assert digital_ops.add(first, second, rescale, rule(case["rule"])).tolist() == case["expected"]


@pytest.mark.parametrize("case", GOLDEN["concat"])
def test_concat_equals_the_golden_vectors(case: dict[str, Any]) -> None:
    parts = [np.array(p, np.int16) for p in case["parts"]]
    assert digital_ops.concat(parts, tuple(map(rule, case["rescale"]))).tolist() == case["expected"]


@pytest.mark.parametrize("case", GOLDEN["max_pool"])
def test_max_pooling_equals_the_golden_vectors(case: dict[str, Any]) -> None:
    window = [tuple(case[k]) for k in ("kernel", "stride", "padding")]
    assert digital_ops.max_pool(np.array(case["codes"], np.int16), *window).tolist() == case["expected"]


@pytest.mark.parametrize("case", GOLDEN["avg_pool"])
def test_average_pooling_equals_the_golden_vectors(case: dict[str, Any]) -> None:
    window = [tuple(case[k]) for k in ("kernel", "stride", "padding")]
    found = digital_ops.avg_pool(np.array(case["codes"], np.int16), *window, rule(case["rule"]))
    assert found.tolist() == case["expected"]


def test_results_do_not_depend_on_how_many_images_come_at_once() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-(1 << 20), 1 << 20, (7, 30, 40, 40)).astype(np.int32)  # several blocks
    half = Requantise(np.array([1 << 20], np.int32), np.array([31], np.int32), -128, 127)
    whole = digital_ops.requantise(values, half)
    assert np.array_equal(whole, np.concatenate([digital_ops.requantise(v[None], half) for v in values]))


def test_codes_are_16_bit_and_logits_32_bit() -> None:
    one = np.ones(1, np.int32)
    assert digital_ops.code_type(Requantise(one, one, 0, 255)) is np.int16
    assert digital_ops.code_type(Requantise(one, one, -(1 << 31), (1 << 31) - 1)) is np.int32


def test_slices_and_padding_move_codes_without_changing_them() -> None:
    codes = np.arange(2 * 4 * 5 * 6, dtype=np.int16).reshape(2, 4, 5, 6)
    assert np.array_equal(digital_ops.slice_map(codes, (2, 3), 1, 3), codes[:, 1:3, ::2, ::3])
    padded = digital_ops.pad_channels(codes, 1, 2)
    assert padded.shape == (2, 7, 5, 6)
    assert np.array_equal(padded[:, 1:5], codes)
    assert not padded[:, :1].any()
    assert not padded[:, 5:].any()
    assert np.array_equal(digital_ops.flatten(codes), codes.reshape(2, -1))
