"""From real numbers to integers: factors, scales, weights, fused operations."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cim.chip.file import load_chip
from cim.chip.spec import ChipSpec, SignedInput
from mapping.bits import LayerBits
from mapping.compile import LayoutOptions, compile_network
from mapping.errors import CannotMap
from mapping.network.file import NetworkFile
from mapping.network.float_run import float_logits, forward, network_input
from mapping.network.graph import NetworkGraph, Preprocess
from mapping.operators.affine import Affine
from mapping.operators.fused import MatrixOp
from mapping.operators.integer.scales import fixed_point
from mapping.operators.joins import Add
from mapping.operators.moves import Flatten
from mapping.operators.node import DigitalOp, PassOp
from mapping.operators.products import Linear
from mapping.program.conductance import MatrixStep
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.lower import lower
from mapping.quantise.rounding import _inverse_factor, grid_scale, input_statistics, round_weights, weighted_scale
from mapping.quantise.scales import best_scale, code_limits
from mapping.quantise.weight_scales import ScaleRule

from ..small_networks import conv, every_node, network, pooled_logits, slow_run

LAB = load_chip("lab-128", macros=400)


@given(st.floats(2.0**-30, 2.0**30))
def test_a_factor_is_kept_to_thirty_bits(real: float) -> None:
    multiplier, shift = fixed_point(np.array([real]))
    assert multiplier.dtype == shift.dtype == np.int32
    assert abs(Fraction(int(multiplier[0]), 1 << int(shift[0])) / Fraction(real) - 1) <= Fraction(1, 1 << 30)


def test_tiny_factors_fade_and_impossible_ones_are_refused() -> None:
    multiplier, shift = fixed_point(np.array([2.0**-60, 0.0, 2.0**-80]))
    assert shift.max() <= 62
    assert multiplier.tolist() == [4, 0, 0]
    for bad in (float(1 << 31), -1.0, float("nan")):
        with pytest.raises(ValueError, match="not within"):
            fixed_point(np.array([bad]))


def test_code_limits_leave_out_what_sign_and_magnitude_cannot_say() -> None:
    assert code_limits(8, False, False) == (0, 255)
    assert code_limits(4, True, False) == (-8, 7)
    assert code_limits(4, True, True) == (-7, 7)


def test_the_activation_scale_clips_a_lone_outlier() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 100_000), 100.0).astype(np.float32)
    assert best_scale(values, 100.0, -8, 7) < 1.0
    even = np.linspace(0, 3, 10_000).astype(np.float32)
    assert best_scale(even, 3.0, 0, 255) == pytest.approx(3 / 255, rel=0.02)


def test_the_inverse_factor_is_upper_and_gives_the_inverse_back() -> None:
    x = np.random.default_rng(0).normal(size=(20, 100))
    h = x @ x.T
    u = _inverse_factor(h)
    assert np.array_equal(u, np.triu(u))
    assert np.allclose(u.T @ u, np.linalg.inv(h))


def test_rounding_with_compensation_beats_nearest_rounding_on_correlated_inputs() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=(4, 2000))
    x = np.repeat(common, 16, axis=0) + 0.3 * rng.normal(size=(64, 2000))
    weight = rng.normal(size=(1, 24, 64))
    inputs, integers = input_statistics(x[None].astype(np.float32)), np.arange(-7, 8)
    scale = weighted_scale(weight, inputs.variance, integers)
    levels = round_weights(weight, inputs, scale, integers)
    assert np.abs(levels).max() <= 7

    def error(q: np.ndarray) -> float:
        return float(((weight[0] - q) @ x).var(axis=1).mean())

    nearest = np.clip(np.rint(weight[0] / scale[0][:, None]), -7, 7) * scale[0][:, None]
    assert error(levels[0] * scale[0][:, None]) < 0.5 * error(nearest)


def test_dead_inputs_and_dead_outputs_do_no_harm() -> None:
    sample = np.zeros((2, 5, 10), np.float32)
    sample[0, :3] = np.random.default_rng(0).integers(0, 255, (3, 10))
    weight = np.random.default_rng(1).normal(size=(2, 3, 5))
    weight[0, 1] = 0.0
    inputs, integers = input_statistics(sample), np.arange(-7, 8)
    scale = weighted_scale(weight, inputs.variance, integers)
    levels = round_weights(weight, inputs, scale, integers)
    assert not levels[0, 1].any()
    assert scale[0, 1] == 1.0
    assert np.isfinite(scale).all()


def test_norms_and_activations_join_what_they_follow() -> None:
    ops = {op.name: op for op in lower(every_node(np.random.default_rng(0)))}
    assert "bn1" not in ops
    assert (ops["conv1"].output_node, ops["conv1"].low) == ("relu1", 0.0)
    assert (ops["depthwise"].low, ops["depthwise"].high) == (0.0, 6.0)
    assert isinstance(ops["add"], DigitalOp)
    assert isinstance(ops["add"].node, Add)
    assert (ops["add"].low, ops["add"].high) == (-1.0, 2.0)
    assert ops["conv2"].output_node == "relu2"  # past the pool between them
    lone = ops["lone_bn"]
    assert isinstance(lone, DigitalOp)
    assert isinstance(lone.node, Affine)
    assert lone.node.scale.shape == (8, 1, 1)
    assert isinstance(ops["narrow"], PassOp)


def test_folding_leaves_every_value_as_it_was() -> None:
    rng = np.random.default_rng(1)
    graph = every_node(rng)
    images = network(graph, rng).calibration_images[:4]
    values = forward(graph, network_input(graph.preprocess, images), keep_all=True)
    conv = next(op for op in lower(graph) if op.name == "depthwise")
    assert isinstance(conv, MatrixOp)
    x = np.pad(values["relu1"], ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3)).reshape(4, 8, 8, 8, 9)
    sums = np.einsum("nchwk,ck->nchw", windows, conv.weight[:, 0]) + conv.bias[None, :, None, None]
    assert np.allclose(sums, values["bn2"], atol=1e-5)


@pytest.mark.parametrize("chip", ["lab-128", "neurram-256", "a111", "yao-2020"])
def test_eight_bits_stay_close_to_the_float_network(chip: str) -> None:
    rng = np.random.default_rng(2)
    for graph in (every_node(rng), pooled_logits(rng)):
        file = network(graph, rng)
        program = compile_network(file, load_chip(chip, macros=900), scale_rule=ScaleRule.ROUNDING)
        logits = run(program, file.calibration_images, IdealMultiply(program)) * program.scales[program.steps[-1].name]
        wanted = float_logits(graph, file.calibration_images)
        assert np.sqrt(np.mean((logits - wanted) ** 2)) < 0.04 * wanted.std()


def test_the_mean_error_of_every_layer_goes_into_its_bias() -> None:
    rng = np.random.default_rng(4)
    graph = every_node(rng)
    file = network(graph, rng, weight_bits=3)
    program = compile_network(file, LAB)
    sums: dict[str, np.ndarray] = {}

    def keep(step: MatrixStep, codes: np.ndarray, found: np.ndarray) -> None:
        sums[step.name] = found + step.bias.reshape((1, -1) + (1,) * (found.ndim - 2))

    run(program, file.calibration_images, IdealMultiply(program), tap=keep)
    wanted = forward(graph, network_input(graph.preprocess, file.calibration_images), keep_all=True)
    step = program.matrices[0]
    real = step.requantise.multiplier / 2.0**step.requantise.shift * program.scales[step.name]
    found = sums[step.name].mean((0, 2, 3)) * real
    assert np.allclose(found, wanted["bn1"].mean((0, 2, 3)).numpy(), atol=2e-3)


def test_logits_share_one_scale_and_fit_32_bits() -> None:
    rng = np.random.default_rng(6)
    program = compile_network(network(every_node(rng), rng), LAB)
    last = program.matrices[-1]
    assert (last.requantise.low, last.requantise.high) == (-(1 << 31), (1 << 31) - 1)
    logits = run(program, program.calibration_images, IdealMultiply(program))
    assert 1 << 19 < np.abs(logits).max() < 1 << 21


def without_signs() -> ChipSpec:
    inputs = dataclasses.replace(LAB.macro.inputs, signed=SignedInput.NONE)
    return dataclasses.replace(LAB, macro=dataclasses.replace(LAB.macro, inputs=inputs))


def test_a_chip_without_inputs_below_zero_says_which_layer_needs_them() -> None:
    rng = np.random.default_rng(7)
    nodes = (conv(rng, "depthwise", "input", (3, 1, 3, 3), groups=3), Flatten(name="flat", inputs=("depthwise",)))
    graph = NetworkGraph((3, 4, 4), nodes, Preprocess((0.5,) * 3, (0.25,) * 3), tuple("abcdefghijkl"))
    with pytest.raises(CannotMap, match="depthwise takes inputs below zero"):
        compile_network(network(graph, rng), without_signs())


def test_a_chip_without_inputs_below_zero_takes_those_of_dense_layers_in_halves() -> None:
    rng = np.random.default_rng(7)
    made = network(pooled_logits(rng), rng)
    made = dataclasses.replace(made, graph=dataclasses.replace(made.graph, preprocess=Preprocess((0.5,), (0.25,))))
    program = compile_network(made, without_signs())
    assert not any(step.group.input_signed for step in program.matrices)
    exact = float_logits(made.graph, made.calibration_images)
    given = run(program, made.calibration_images, IdealMultiply(program)) * program.logit_scale
    assert ((given - exact) ** 2).mean() < 1e-3 * exact.var()


def test_weights_that_lie_on_a_grid_are_taken_as_they_are() -> None:
    rng = np.random.default_rng(4)
    levels = rng.integers(-5, 6, (1, 6, 40))  # ends at 5 of 7: the largest weight is not the largest integer
    steps = rng.uniform(0.1, 2.0, (1, 6))
    weight = (steps[:, :, None] * levels).astype(np.float32).astype(np.float64)
    step = grid_scale(weight, 7)
    np.testing.assert_allclose(np.rint(weight / step[:, :, None]) * step[:, :, None], weight, rtol=1e-6)
    assert not grid_scale(rng.normal(size=(1, 6, 40)), 7).any()


def test_a_network_of_trained_steps_is_compiled_without_rounding() -> None:
    rng = np.random.default_rng(5)
    levels = rng.integers(-5, 6, (3, 8))
    nodes = (
        Flatten(name="flat", inputs=("input",)),
        Linear(name="fc", inputs=("flat",), weight=(0.3 * levels).astype(np.float32)),
    )
    graph = NetworkGraph((1, 2, 4), nodes, Preprocess((0.0,), (1.0,)), ("a", "b", "c"))
    images = rng.integers(0, 256, (8, 2, 4, 1)).astype(np.uint8)
    program = compile_network(NetworkFile(graph, 4, 8, images), LAB)
    held = program.matrices[0].group.tiles[0].levels.T
    np.testing.assert_array_equal(held, levels)


def test_signs_alone_use_the_largest_integers() -> None:
    rng = np.random.default_rng(4)
    signs = rng.integers(-1, 2, (1, 3, 40)).astype(np.float64)
    np.testing.assert_allclose(grid_scale(0.3 * signs, 7), 0.3 / 7)


def test_layers_may_have_bits_of_their_own() -> None:
    rng = np.random.default_rng(6)
    own = {"conv1": LayerBits(8, 8), "fc": LayerBits(6, 7)}
    net = dataclasses.replace(network(every_node(rng), rng, weight_bits=3), activation_bits=4, layer_bits=own)
    program = compile_network(net, LAB, options=LayoutOptions(halves=False))  # which have a bit less
    first, *middle, last = program.matrices
    assert (first.group.input_bits, last.group.input_bits) == (8, 7)
    assert {m.group.input_bits for m in middle} == {4}
    assert [len({t.multiplier for t in m.group.tiles}) for m in (first, *middle, last)] == [3, *[1] * len(middle), 2]
    images = program.calibration_images[:2]
    assert run(program, images, IdealMultiply(program)).tolist() == [slow_run(program, image) for image in images]
