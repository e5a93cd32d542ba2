"""Other weights on the cells that a layer has: copies, bit slices and aims stay, and what cannot be is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from mapping.compile import LayoutOptions, compile_network
from mapping.errors import CannotMap
from mapping.program.conductance import ConductanceProgram, MatrixStep
from mapping.program.execute import IdealMultiply, input_codes, run
from mapping.program.partial_run import PartialRun
from mapping.tune.aims import aimed, aims_of
from mapping.tune.reweighted import LayerWeights, only_layers, reweighted, with_steps

from ..small_networks import every_node, network


def program_of(weight_bits: int) -> ConductanceProgram:
    """A network of every kind of node, each layer on as many cells as lie idle, aimed for an hour."""
    spec, rng = load_chip("lab-128", macros=60), np.random.default_rng(3)
    file = network(every_node(rng), rng, weight_bits=weight_bits, images=20)
    program = compile_network(file, spec, options=LayoutOptions(averaged=True))
    law = nominal_record(spec, program.macros).programming
    return aimed(program, aims_of(law, spec.macro, 3600.0, "models"))


def own(step: MatrixStep) -> LayerWeights:
    """The weights that a layer has, read from its tiles."""
    group = step.group
    held = np.zeros((group.inputs, group.outputs))
    for tile in group.tiles:
        held[tile.inputs.start : tile.inputs.stop, tile.outputs.start : tile.outputs.stop] += (
            float(tile.multiplier) * tile.levels
        )
    count = group.averages
    rows, outputs = group.inputs // group.groups, group.outputs // group.groups
    blocks = held.reshape(group.groups, rows, group.groups, outputs)
    weights = np.stack([blocks[g, :, g].T for g in range(group.groups)]) / count
    factor = np.broadcast_to(step.requantise.multiplier / 2.0**step.requantise.shift, (group.outputs,))
    return LayerWeights(weights.astype(np.int16), factor * count, step.bias / count)


def pixels(program: ConductanceProgram) -> NDArray[np.uint8]:
    return program.calibration_images[:12]


@pytest.mark.parametrize("weight_bits", [4, 8])
def test_a_layer_that_gets_its_own_weights_is_the_same_layer(weight_bits: int) -> None:
    program = program_of(weight_bits)
    assert max(m.group.averages for m in program.matrices) > 1
    again = reweighted(program, {m.name: own(m) for m in program.matrices})
    assert again.digest == program.digest
    assert again.held_digest == program.held_digest


def test_other_weights_are_other_cells_under_the_same_aims() -> None:
    program = program_of(4)
    step = program.matrices[-1]
    weights = own(step)
    none = dataclasses.replace(weights, weights=0 * weights.weights)
    other = reweighted(program, {step.name: none})
    assert other.held_digest != program.held_digest
    assert other.aims == program.aims
    assert {m.name: m.group.range_code for m in other.matrices} == {
        m.name: m.group.range_code for m in program.matrices
    }
    assert not any(tile.levels.any() for tile in other.layers[step.name].group.tiles)
    np.testing.assert_array_equal(other.layers[step.name].bias, step.bias)


def test_images_that_wait_between_two_layers_end_as_those_that_ran_through() -> None:
    program = program_of(4)
    images, multiply = pixels(program), IdealMultiply(program)
    under_way = PartialRun({"input": input_codes(images, program.input)})
    for step in program.matrices[:-1]:
        under_way.go_on(program, step.name, multiply, batch=5)
    waited = PartialRun(under_way.values, under_way.done)
    waited.go_on(program, program.steps[-1].name, multiply)
    np.testing.assert_array_equal(waited.values[program.steps[-1].name], run(program, images, multiply))


def test_first_steps_may_be_tuned_and_the_chip_holds_the_same_cells() -> None:
    program = program_of(4)
    tuned = with_steps(program, program.steps[:1])
    assert tuned.held_digest == program.held_digest
    part = only_layers(program, [program.matrices[0].name])
    assert part.matrices == (program.matrices[0],)


def test_what_does_not_fit_a_layer_is_refused() -> None:
    program = program_of(4)
    step = program.matrices[0]
    weights = own(step)
    with pytest.raises(ValueError, match="for a layer of"):
        reweighted(program, {step.name: dataclasses.replace(weights, weights=weights.weights[:, :1])})
    with pytest.raises(CannotMap, match="could leave 32 bits"):
        reweighted(program, {step.name: dataclasses.replace(weights, bias=weights.bias + 2.0**31)})
    signs = np.ones(len(step.group.tiles[0].outputs), np.int8)
    tiles = (dataclasses.replace(step.group.tiles[0], signs=signs), *step.group.tiles[1:])
    adapted = dataclasses.replace(step, group=dataclasses.replace(step.group, tiles=tiles))
    steps = tuple(adapted if s.name == step.name else s for s in program.steps)
    with pytest.raises(CannotMap, match="adapted to defects"):
        reweighted(dataclasses.replace(program, steps=steps), {step.name: weights})
