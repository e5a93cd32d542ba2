"""Digital operations against golden vectors that were computed with exact fractions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mapping.operators.integer import digital_ops
from mapping.operators.integer.requantise import Requantise

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


def laid_out(values: NDArray[Any], last: bool) -> NDArray[Any]:
    """The same maps, channels last in memory or first."""
    if not last:
        return np.ascontiguousarray(values)
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def random_rule(rng: np.random.Generator, channels: int, low: int, high: int) -> Requantise:
    """Multipliers and shifts of every size, shift 0 among them."""
    multiplier = rng.integers(0, 1 << 31, channels) >> rng.integers(0, 31, channels)
    shift = rng.integers(0, 63, channels)
    shift[0] = 0
    return Requantise(multiplier.astype(np.int32), shift.astype(np.int32), low, high)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "shape", [(3, 37, 5, 7), (2, 16, 4, 4), (2, 3, 33, 2), (5, 9, 2, 3), (1, 1, 5, 5), (4, 20, 1, 1)]
)
def test_fused_kernels_and_numpy_give_the_same_bits(
    shape: tuple[int, ...], last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either order of memory, and for lengths that are no whole vectors."""
    pytest.importorskip("numba")
    rng, channels = np.random.default_rng(list(shape)), shape[1]
    sums = laid_out((rng.integers(-(1 << 31), 1 << 31, shape) >> rng.integers(0, 31, shape)).astype(np.int32), last)
    bias = (rng.integers(-(1 << 31), 1 << 31, channels) >> rng.integers(0, 31, channels)).astype(np.int32)
    codes, other = (laid_out(rng.integers(-(1 << 15), 1 << 15, shape).astype(np.int16), last) for _ in range(2))
    rules = [
        random_rule(rng, n, *ends) for n in (1, channels) for ends in ((-128, 127), (0, 255), (-(2**31), 2**31 - 1))
    ]
    terms = tuple(random_rule(rng, 1, -(1 << 30) + 1, (1 << 30) - 1) for _ in range(2))
    mixed = laid_out(other, not last)

    def every() -> list[NDArray[Any]]:
        found = [f for r in rules for f in (digital_ops.finish(sums, bias, r), digital_ops.requantise(codes, r))]
        found += [digital_ops.avg_pool(codes, (shape[2], shape[3]), (1, 1), (0, 0), r) for r in rules[:3]]
        return found + [digital_ops.add(codes, o, (terms[0], terms[1]), r) for r in rules[:3] for o in (other, mixed)]

    fused = every()
    monkeypatch.setattr(digital_ops, "fused_kernels", lambda: None)
    for one, two in zip(fused, every(), strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)
    assert fused[0].strides == (laid_out(fused[0], last).strides)
