"""The converter range of every layer is the best one on images that nobody chose it by."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from cim.chip.converters import input_planes, quantise_adc, split_planes
from cim.chip.file import load_chip, parse_chip
from cim.chip.windows import unfold
from cim.new_chip import new_chip
from hil.datasets.image_set import BUNDLED, load_dataset
from hil.deployment.network_source import BUNDLED_DATA, BUNDLED_NETWORK
from mapping.compile import compile_network
from mapping.network.file import load_network
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, run
from mapping.quantise.ranges import RangeErrors, converted_us, range_errors
from mapping.quantise.weight_scales import ScaleRule

from ..small_networks import every_node, network

WITHIN = 1.1  # of the least error


def programs() -> Iterator[tuple[str, ConductanceProgram, np.ndarray]]:
    """Compiled networks with images that were not used for it."""
    file = load_network(BUNDLED_NETWORK)
    yield (
        "bundled",
        compile_network(file, load_chip("lab-128"), scale_rule=ScaleRule.OUTPUT),
        load_dataset(BUNDLED_DATA, "test", limit=24).images,
    )
    rng = np.random.default_rng(11)
    graph = every_node(rng)
    file = network(graph, rng, weight_bits=4, images=96)
    half = dataclasses.replace(file, calibration_images=file.calibration_images[:48])
    yield (
        "every node",
        compile_network(half, load_chip("lab-128", macros=400), scale_rule=ScaleRule.OUTPUT),
        file.calibration_images[48:],
    )


PROGRAMS = {name: (program, images) for name, program, images in programs()}


def layer_errors(program: ConductanceProgram, step: MatrixStep, codes: np.ndarray) -> np.ndarray:
    """Mean square error of the layer's output in every range, conversion by conversion, planes and tiles added."""
    group, macro = step.group, program.spec.macro
    vectors = codes if group.window is None else unfold(codes, group.window).reshape(-1, group.inputs)
    planes = input_planes(macro.inputs, group.input_bits, group.input_signed)
    units = split_planes(vectors, macro.inputs, group.input_bits, group.input_signed).astype(np.float32)
    weights = np.array([p.weight for p in planes], np.float64)
    unit = step.requantise.multiplier / 2.0**step.requantise.shift
    errors = []
    assert program.spec.models is not None
    noise_codes = program.spec.models.conversion_noise_codes
    for code in range(len(macro.adc.full_scales_us)):
        lsb, total, noise = macro.lsb_us(code), np.zeros((len(vectors), group.outputs)), np.zeros(group.outputs)
        for tile in group.tiles:
            (sums,) = converted_us(units[:, :, tile.inputs.start : tile.inputs.stop], tile, macro)
            got = quantise_adc(sums, lsb, macro.adc.bits, macro.adc_signed) * lsb
            columns = slice(tile.outputs.start, tile.outputs.stop)
            total[:, columns] += tile.multiplier * np.einsum("pvo,p->vo", got - sums, weights)
            noise[columns] += (tile.multiplier * noise_codes * lsb) ** 2 * (weights @ weights)
        errors.append(float(((total**2).mean(0) + noise) @ unit**2))
    return np.array(errors)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_range_of_every_layer_is_the_best_on_held_out_images(name: str) -> None:
    program, images = PROGRAMS[name]
    seen: dict[str, np.ndarray] = {}
    run(program, images, IdealMultiply(program), tap=lambda step, codes, sums: seen.update({step.name: codes}))
    for step in program.matrices:
        codes = seen[step.name][: 40 if step.group.window else None]
        errors = layer_errors(program, step, codes)
        assert errors[step.group.range_code] <= WITHIN * errors.min(), (step.name, errors / errors.min())


def test_rare_large_sums_are_clipped_rather_than_coarsening_all_others() -> None:
    """One image in fifty that would need the widest range does not get it."""
    program, _ = PROGRAMS["bundled"]
    step = next(m for m in program.matrices if m.group.window is None)
    macro, rng = program.spec.macro, np.random.default_rng(3)
    codes = (rng.random((500, step.group.inputs)) < 0.05) * rng.integers(0, 64, (500, step.group.inputs))
    tail = codes.copy()
    tail[::50] = 255 * (rng.random((10, step.group.inputs)) < 0.4)
    plain = range_errors(step.group, macro, codes.astype(np.int16)).best()
    clipped = range_errors(step.group, macro, tail.astype(np.int16)).best()
    whole = range_errors(step.group, macro, tail[::50].astype(np.int16)).best()
    assert plain.range_code <= clipped.range_code < len(macro.adc.full_scales_us) - 1
    assert clipped.range_code <= whole.range_code
    assert clipped.saturated_share >= plain.saturated_share


def test_outputs_that_count_little_do_not_choose_the_range() -> None:
    program, _ = PROGRAMS["every node"]
    step = next(m for m in program.matrices if m.name == "conv1")
    macro = program.spec.macro
    levels = step.group.tiles[0].levels.copy()
    levels[:, 0] = macro.max_level  # one output of large sums
    levels[:, 1:] = np.sign(levels[:, 1:])
    group = dataclasses.replace(step.group, tiles=(dataclasses.replace(step.group.tiles[0], levels=levels),))
    codes = np.random.default_rng(0).integers(0, 128, (8, 3, 8, 8)).astype(np.int16)
    small = np.full(group.outputs, 1.0)
    small[0] = 1e-6
    large = np.full(group.outputs, 1e-6)
    large[0] = 1.0
    coarse, fine = (range_errors(group, macro, codes).best(importance) for importance in (large, small))
    assert fine.range_code <= coarse.range_code


def test_a_layer_whose_sums_are_below_every_step_is_not_given_a_range_that_answers_nothing() -> None:
    answers = {"rows": "64", "columns": "64", "encoding": "offset_column", "inputs": "4:ternary", "converter": "3"}
    program = compile_network(load_network(BUNDLED / "yin_yang.pt"), parse_chip(new_chip("coarse", answers), "coarse"))
    assert program.matrices[-1].group.range_code == 0
    errors = RangeErrors(np.array([[9.0], [5.0], [4.0]]), np.array([0.9, 0.2, 0.0]), np.array([4.0]))
    assert errors.best().range_code == 1, "the finest that is not at an end"
    assert dataclasses.replace(errors, power_us2=np.array([20.0])).best().range_code == 2, "the least error"
