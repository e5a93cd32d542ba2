"""Weight scales: what the rule promises, and that its terms are those of cells, reads and converters."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cim.chip.converters import input_planes, split_planes, to_offset
from cim.chip.file import idealised, load_chip
from cim.chip.spec import Encoding, PairSubtraction, SignedInput
from cim.record.cell_errors import CellErrors, nominal_errors
from mapping.compile import compile_network
from mapping.layout.tile import weight_integers
from mapping.network.float_run import float_logits
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.rounding import (
    InputStatistics,
    input_statistics,
    largest_scale,
    round_weights,
    unbiased_scale,
)
from mapping.quantise.scale_trials import MOST_DOUBLE, ScaleTrials
from mapping.quantise.weight_scales import ScaleRule, WeightErrors, output_weights, plane_squares, weight_errors

from ..small_networks import every_node, network

LAB = load_chip("lab-128", macros=400)
SEVEN = np.arange(-7, 8)


def layer(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights with long tails, and input codes, (1, 12, 40) and (1, 40, 1500)."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_t(3, (1, 12, 40))
    codes = np.minimum(rng.exponential(30, (40, 1500)) * (rng.random((40, 1500)) < 0.6), 255)
    return weight, np.floor(codes)[None].astype(np.float32)


def rounding_error(weight: np.ndarray, levels: np.ndarray, scale: np.ndarray, inputs: InputStatistics) -> np.ndarray:
    """Mean square error of each output that rounding leaves, its mean taken out: (w − s q) H (w − s q)ᵀ."""
    total = np.zeros(scale.shape)
    for part in inputs.parts:
        error = weight[part.group][:, part.inputs] - scale[part.group][:, None] * levels[part.group][:, part.inputs]
        total[part.group] += np.einsum("oi,oi->o", error @ part.covariance, error)
    return total


def loss(
    weight: np.ndarray, levels: np.ndarray, scale: np.ndarray, sample: np.ndarray, errors: WeightErrors, a: float
) -> float:
    inputs, squares = input_statistics(sample), plane_squares(sample, LAB.macro, 8, False)
    cells = errors.of(levels, inputs.variance, squares)
    return float((rounding_error(weight, levels, scale, inputs) + scale**2 * (cells + a)).sum())


@pytest.mark.parametrize("converter", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("cells", ["none", "nominal"])
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_never_above_that_of_the_largest_scale(seed: int, cells: str, converter: float) -> None:
    weight, sample = layer(seed)
    inputs, squares = input_statistics(sample), plane_squares(sample, LAB.macro, 8, False)
    zeros = np.zeros(8)
    known = nominal_errors(LAB, 3600.0) if cells == "nominal" else CellErrors(zeros, zeros, 0.0)
    errors = weight_errors(LAB.macro, known, SEVEN, 1, 1)

    def flat(levels: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return np.full(scale.shape, converter)

    levels, scale = output_weights(weight, inputs, SEVEN, errors, squares, flat)
    widest = largest_scale(weight, SEVEN)
    plain = round_weights(weight, inputs, widest, SEVEN)
    widest = unbiased_scale(weight, plain, inputs, widest)
    found = loss(weight, levels, scale, sample, errors, converter)
    assert found <= loss(weight, plain, widest, sample, errors, converter)
    if cells == "nominal":
        assert found < 0.92 * loss(weight, plain, widest, sample, errors, converter)


def test_a_converter_that_clips_what_a_small_scale_makes_large_brings_the_largest_scale_back() -> None:
    weight, sample = layer()
    inputs, squares = input_statistics(sample), plane_squares(sample, LAB.macro, 8, False)
    errors = weight_errors(LAB.macro, nominal_errors(LAB, 3600.0), SEVEN, 1, 1)
    widest = largest_scale(weight, SEVEN)
    plain = round_weights(weight, inputs, widest, SEVEN)

    def clips(levels: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return np.full(scale.shape, 0.0 if np.array_equal(levels, plain) else 1e12)

    levels, _ = output_weights(weight, inputs, SEVEN, errors, squares, clips)
    assert np.array_equal(levels, plain)


def test_cells_that_err_make_scales_smaller_and_outputs_better_than_with_the_largest() -> None:
    """Drawn errors of cells, not the formula, judge."""
    weight, sample = layer()
    inputs, squares = input_statistics(sample), plane_squares(sample, LAB.macro, 8, False)
    known = nominal_errors(LAB, 3600.0)
    errors = weight_errors(LAB.macro, known, SEVEN, 1, 1)
    levels, scale = output_weights(weight, inputs, SEVEN, errors, squares, lambda q, s: np.zeros(s.shape))
    widest = largest_scale(weight, SEVEN)
    rng = np.random.default_rng(9)
    sigma = np.sqrt(known.written_us2) / LAB.macro.level_step_us

    def drawn(q: np.ndarray, s: np.ndarray) -> float:
        total = 0.0
        for _ in range(40):
            plus, minus = (rng.normal(0, sigma[np.maximum(half, 0)]) for half in (q[0], -q[0]))
            error = (weight[0] - s[0][:, None] * (q[0] + plus - minus)) @ sample[0]
            total += float(error.var(axis=1).sum())
        return total

    assert (scale < widest).mean() > 0.9
    assert drawn(levels, scale) < 0.85 * drawn(round_weights(weight, inputs, widest, SEVEN), widest)


def test_clipped_weights_have_the_scale_at_which_their_output_grows_with_the_one_of_the_weights() -> None:
    weight, sample = layer()
    inputs = input_statistics(sample)
    scale = 0.4 * largest_scale(weight, SEVEN)
    levels = round_weights(weight, inputs, scale, SEVEN)
    unbiased = unbiased_scale(weight, levels, inputs, scale)
    codes = sample[0].astype(np.float64) - sample[0].mean(1, dtype=np.float64, keepdims=True)
    wanted, given = weight[0] @ codes, unbiased[0][:, None] * levels[0] @ codes
    slopes = (wanted * given).sum(1) / (wanted**2).sum(1)
    np.testing.assert_allclose(slopes, 1.0, atol=0.01)
    dead = np.zeros_like(weight)
    assert np.array_equal(unbiased_scale(dead, np.zeros(weight.shape, np.int16), inputs, scale), scale)


@pytest.mark.parametrize("clip", [1.0, 0.5, 1e3])
def test_a_trial_knows_integers_scale_and_error_without_the_covariance(clip: float) -> None:
    weight, sample = layer()
    inputs, scale = input_statistics(sample), clip * largest_scale(weight, SEVEN)
    tried, levels = ScaleTrials(weight, inputs, SEVEN).at(scale), round_weights(weight, inputs, scale, SEVEN)
    assert np.array_equal(tried.levels, levels)
    np.testing.assert_allclose(tried.scale, unbiased_scale(weight, levels, inputs, scale), rtol=1e-9)
    np.testing.assert_allclose(tried.error, rounding_error(weight, levels, tried.scale, inputs), rtol=1e-7)


def test_trials_of_a_wide_layer_are_as_good_in_single_precision() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_t(3, (1, 1 + MOST_DOUBLE // 256, 256))
    sample = np.floor(rng.exponential(30, (1, 256, 1000))).astype(np.float32)
    inputs, scale = input_statistics(sample), 0.7 * largest_scale(weight, SEVEN)
    tried, levels = ScaleTrials(weight, inputs, SEVEN).at(scale), round_weights(weight, inputs, scale, SEVEN)
    assert (tried.levels == levels).mean() > 0.999
    np.testing.assert_allclose(tried.error, rounding_error(weight, tried.levels, tried.scale, inputs), rtol=1e-3)


def test_a_wide_layer_is_no_worse_than_at_the_largest_scale_and_asks_the_quick_converter_alone() -> None:
    rng = np.random.default_rng(1)
    weight = rng.standard_t(3, (1, 1 + MOST_DOUBLE // 128, 128))
    sample = np.floor(np.minimum(rng.exponential(30, (1, 128, 1000)), 255)).astype(np.float32)
    inputs, squares = input_statistics(sample, single=True), plane_squares(sample, LAB.macro, 8, False)
    errors = weight_errors(LAB.macro, nominal_errors(LAB, 3600.0), SEVEN, 1, 1)

    def never(levels: np.ndarray, scale: np.ndarray) -> np.ndarray:
        raise AssertionError("the full converter was asked")

    levels, scale = output_weights(weight, inputs, SEVEN, errors, squares, never, lambda q, s: np.full(s.shape, 100.0))
    widest = largest_scale(weight, SEVEN)
    plain = round_weights(weight, inputs, widest, SEVEN)
    found = loss(weight, levels, scale, sample, errors, 100.0)
    assert found < 0.9 * loss(weight, plain, widest, sample, errors, 100.0)


def test_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"codes 0\.\.256 do not fit 0\.\.255"):
        plane_squares(np.array([[[0, 256]]], np.float32), LAB.macro, 8, False)


def test_variances_of_wide_layers_are_those_of_their_codes() -> None:
    _, sample = layer()
    found = input_statistics(sample, single=True).variance
    np.testing.assert_allclose(found, input_statistics(sample).variance, rtol=1e-12)


def test_the_rounding_error_is_that_of_the_sample() -> None:
    weight, sample = layer()
    inputs, scale = input_statistics(sample), largest_scale(weight, SEVEN)
    levels = round_weights(weight, inputs, scale, SEVEN)
    seen = ((weight[0] - scale[0][:, None] * levels[0]) @ sample[0].astype(np.float64)).var(axis=1)
    np.testing.assert_allclose(rounding_error(weight, levels, scale, inputs)[0], seen, rtol=0.05)


def test_an_integer_has_the_errors_of_its_cells() -> None:
    macro = LAB.macro
    cells = CellErrors(np.arange(8.0) + 1, 10 * (np.arange(8.0) + 1), 0.5)
    step2 = macro.level_step_us**2
    one = weight_errors(macro, cells, SEVEN, 1, 1)
    np.testing.assert_allclose(one.written, (np.abs(SEVEN) + 2) / step2)
    np.testing.assert_allclose(one.read, 10 * one.written)
    stretched = weight_errors(macro, cells, np.array([-1, 0, 1]), 7, 1)
    np.testing.assert_allclose(stretched.written, np.array([9, 2, 9]) / step2 / 49)
    two = weight_errors(macro, cells, np.array([0, 13]), 1, 2)  # digits 5 and 1
    np.testing.assert_allclose(two.written, np.array([2 + 64 * 2, 7 + 64 * 3]) / step2)


def test_single_cells_count_with_their_reference() -> None:
    cells = CellErrors(np.arange(8.0) + 1, np.zeros(8), 0.0)
    found = {}
    for encoding in (Encoding.OFFSET_COLUMN, Encoding.SINGLE_ENDED):
        macro = dataclasses.replace(LAB.macro, encoding=encoding, pair_subtraction=PairSubtraction.DIGITAL)
        errors = weight_errors(macro, cells, weight_integers(3, macro), 1, 1)
        found[encoding] = errors.written * macro.level_step_us**2
    np.testing.assert_allclose(found[Encoding.SINGLE_ENDED], np.arange(7) + 1)
    np.testing.assert_allclose(found[Encoding.OFFSET_COLUMN], np.arange(7) + 1 + 4)


@pytest.mark.parametrize(
    ("name", "signed"), [("lab-128", False), ("lab-128", True), ("a111", True), ("yao-2020", True)]
)
def test_plane_squares_are_those_of_what_is_driven(name: str, signed: bool) -> None:
    macro = load_chip(name).macro
    low = -100 if signed else 0
    codes = np.random.default_rng(1).integers(low, 100, (1, 5, 50))
    driven = to_offset(codes, 8) if signed and macro.inputs.signed is SignedInput.OFFSET else codes
    units = split_planes(driven.astype(np.int16), macro.inputs, 8, signed)
    weights = np.array([p.weight for p in input_planes(macro.inputs, 8, signed)])
    wanted = (weights[:, None, None, None] ** 2 * units.astype(np.float64) ** 2).sum(0).mean(2)
    np.testing.assert_allclose(plane_squares(codes.astype(np.float32), macro, 8, signed), wanted)


@pytest.mark.parametrize("rule", list(ScaleRule))
def test_every_rule_gives_a_network_close_to_the_float_one_on_a_chip_without_errors(rule: ScaleRule) -> None:
    rng = np.random.default_rng(2)
    file = network(every_node(rng), rng)
    program = compile_network(file, idealised(LAB), scale_rule=rule)
    logits = run(program, file.calibration_images, IdealMultiply(program)) * program.scales[program.steps[-1].name]
    wanted = float_logits(file.graph, file.calibration_images)
    assert np.sqrt(np.mean((logits - wanted) ** 2)) < 0.04 * wanted.std()


def test_chips_that_err_get_larger_levels_than_errorless_ones() -> None:
    rng = np.random.default_rng(2)
    file = network(every_node(rng), rng, weight_bits=4)

    def mean_level(spec: object) -> float:
        program = compile_network(file, spec, scale_rule=ScaleRule.OUTPUT)  # type: ignore[arg-type]
        return float(np.mean([np.abs(t.levels).mean() for m in program.matrices for t in m.group.tiles]))

    assert mean_level(LAB) > 1.1 * mean_level(dataclasses.replace(LAB, models=None))
