"""Networks whose parts no array multiplies: the same answers through the wire, in rounds, and on virtual chips."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cim.chip.file import idealised, load_chip, parse_chip, render_chip
from cim.record.published import nominal_record
from hil.deployment.inference import MeasuredLayers, measured_multiply
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import program_chip
from hil.driver.open_chip import connect
from hil.emulator.chip import EmulatedChip
from hil.simulation.virtual_chips import VirtualChips
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.layout.place import Placement
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import IdealMultiply, run
from mapping.program.rounds import RoundRun, part_of_round
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe
from mapping.tune.channel_affine import tune_channels, tune_targets
from mapping.workload import executors

from ...mapping.small_networks import network
from ...mapping.tensor_networks import attention, gated, recurrent, two_outputs

GRAPHS = [gated, attention, two_outputs, recurrent]


def compiled(graph: Any, macros: int = 48, options: LayoutOptions | None = None) -> ConductanceProgram:
    spec = parse_chip(render_chip(idealised(load_chip("lab-128", macros=macros))), "ideal.toml", macros=macros)
    rng = np.random.default_rng(3)
    return compile_network(network(graph(rng), rng, 4, images=6), spec, options=options)


@pytest.mark.parametrize("graph", GRAPHS)
def test_an_ideal_chip_answers_as_the_ideal_network_bit_for_bit(graph: Any) -> None:
    program = compiled(graph, options=LayoutOptions(Placement.PACKED, 48))
    images = program.calibration_images[:3]
    wanted = run(program, images, IdealMultiply(program))
    corrections = nominal_corrections(program)
    with connect(InProcessTransport(EmulatedChip(program.spec, 0), "ideal"), chip=program.spec) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        for multiply in (MeasuredLayers(driver, program, corrections), MeasuredSums(driver, corrections)):
            assert np.array_equal(run(program, images, multiply), wanted)


@pytest.mark.parametrize("graph", GRAPHS)
def test_rounds_of_a_small_chip_answer_as_the_ideal_network(graph: Any) -> None:
    program = compiled(graph, 2, LayoutOptions(Placement.SPREAD, rounds=True))
    assert program.rounds > 1
    images = program.calibration_images
    with (
        connect(InProcessTransport(EmulatedChip(program.spec, 0), "ideal"), chip=program.spec) as driver,
        RoundRun(program, images, (0,), batch=4, memory_bytes=2000) as rounds,
    ):
        for number in range(program.rounds):
            part = part_of_round(program, number)
            program_chip(driver, part, sample=number, watch=Watch())
            rounds.run(number, measured_multiply(driver, part, nominal_corrections(part)))
        assert np.array_equal(rounds.logits[0], run(program, images, IdealMultiply(program)))


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_virtual_chips_answer_near_the_ideal_network(graph: Any, mode: str) -> None:
    rng = np.random.default_rng(3)
    program = compile_network(network(graph(rng), rng, images=24), load_chip("lab-128", macros=48))
    record = nominal_record(program.spec, program.macros)
    chips = VirtualChips(program, record, Recipe(reads=16), 2, 7, inputs=training_inputs(program), mode=mode)
    logits = chips.run(program.calibration_images, 0, Watch())
    ideal = run(program, program.calibration_images, IdealMultiply(program)).astype(np.float64)
    assert logits.shape == (2, 24, program.width)
    gap = np.sqrt(np.mean((logits - ideal) ** 2)) / (ideal - ideal.mean(0)).std()
    assert 0 < gap < 1


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_tune_to_an_ideal_chip_changes_next_to_nothing(graph: Any) -> None:
    program = compiled(graph)
    images = program.calibration_images
    tuned = tune_channels(program, tune_targets(program, images), IdealMultiply(program)).program
    before, after = (run(p, images, IdealMultiply(p)).astype(np.float64) for p in (program, tuned))
    assert np.abs(after - before).max() <= 0.02 * np.abs(before).max()


def test_each_operation_is_carried_out_by_the_array_or_by_chip_logic_which_multiplies_activations_at_a_price() -> None:
    program = compiled(attention)
    by = executors(program)
    assert by["qkv_c"] == ("conv", "array")
    assert by["gelu"] == ("table", "chip logic")
    assert by["scores"] == ("matmul", "chip logic")
    assert by["norm1"] == ("norm", "chip logic")
    assert program.spec.cost is not None
    unpriced = replace(program.spec, cost=replace(program.spec.cost, multiply_pj=None))
    assert executors(replace(program, spec=unpriced))["scores"] == ("matmul", "host")
