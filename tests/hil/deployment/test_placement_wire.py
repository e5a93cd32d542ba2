"""Every way to lay a network out gives the same answers through the wire, and asks of the chip what is counted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cim.chip.file import idealised, load_chip, parse_chip, render_chip
from cim.chip.spec import ChipSpec, Encoding, PairSubtraction, Timing
from firmware_protocols.handlers import Refusal
from firmware_protocols.messages import Capability, Done, ErrorCode, LoadLayer
from hil.deployment.inference import MeasuredLayers, measured_multiply
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import program_chip
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.layout.place import Placement
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.counts import by_layer, tile_counts, total
from mapping.program.execute import IdealMultiply, run

from ...mapping.small_networks import every_node, network

CHIPS = ("lab-128", "a111", "yao-2020", "neurram-256")
LAYOUTS = {
    "spread": LayoutOptions(Placement.SPREAD),
    "packed": LayoutOptions(Placement.PACKED),
    "copies": LayoutOptions(Placement.SPREAD, 40),
    "packed copies": LayoutOptions(Placement.PACKED, 48),
}


def spec_of(chip: str, timing: Timing | None = None) -> ChipSpec:
    spec = idealised(load_chip(chip, macros=48))
    changed = spec if timing is None else dataclasses.replace(spec, timing=timing)
    return parse_chip(render_chip(changed), "ideal.toml")


def compiled(spec: ChipSpec, options: LayoutOptions, weight_bits: int = 4) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, weight_bits, images=4), spec, options=options)


def open_ideal(program: ConductanceProgram, capabilities: Capability = ALL_CAPABILITIES) -> ChipDriver:
    chip = EmulatedChip(program.spec, 0, capabilities=capabilities)
    return connect(InProcessTransport(chip, "ideal"), chip=program.spec)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chip", CHIPS)
def test_every_layout_is_exact_on_an_ideal_chip_and_converts_as_often_as_counted(chip: str, layout: str) -> None:
    program = compiled(spec_of(chip), LAYOUTS[layout])
    assert ("copies" in layout) == any(m.group.copies > 1 for m in program.matrices)
    images = program.calibration_images[:3]
    wanted = run(program, images, IdealMultiply(program))
    corrections = nominal_corrections(program)
    predicted = {name: 3 * c.conversions for name, c in by_layer(tile_counts(program)).items()}
    with open_ideal(program) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        layers, sums = MeasuredLayers(driver, program, corrections), MeasuredSums(driver, corrections)
        for multiply in (layers, sums):
            assert np.array_equal(run(program, images, multiply), wanted)
            assert {name: c.total for name, c in multiply.conversions.items()} == predicted
            assert not sum(c.saturated for c in multiply.conversions.values())


@pytest.mark.parametrize("encoding", [Encoding.OFFSET_COLUMN, Encoding.SINGLE_ENDED])
def test_tiles_share_macros_where_one_cell_holds_a_weight(encoding: Encoding) -> None:
    lab = load_chip("lab-128", macros=48)
    macro = dataclasses.replace(lab.macro, encoding=encoding, pair_subtraction=PairSubtraction.DIGITAL)
    spec = parse_chip(render_chip(idealised(dataclasses.replace(lab, macro=macro))), "ideal.toml", macros=48)
    program = compiled(spec, LAYOUTS["packed copies"])
    images = program.calibration_images[:2]
    with open_ideal(program) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        multiply = measured_multiply(driver, program, nominal_corrections(program))
        assert np.array_equal(run(program, images, multiply), run(program, images, IdealMultiply(program)))


def test_copies_answer_on_a_board_that_neither_sweeps_nor_adds() -> None:
    program = compiled(spec_of("lab-128"), LAYOUTS["copies"])
    images = program.calibration_images[:2]
    least = ALL_CAPABILITIES & ~(Capability.SWEEP | Capability.LAYER | Capability.SUMS)
    with open_ideal(program, least) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        multiply = measured_multiply(driver, program, nominal_corrections(program))
        assert np.array_equal(run(program, images, multiply), run(program, images, IdealMultiply(program)))


class SmallMemory(EmulatedChip):
    """Room for two layers."""

    def load_layer(self, request: LoadLayer) -> Done:
        if len(self._layers) == 2:
            raise Refusal(ErrorCode.LIMIT, "bytes of loaded layers", 70_000, 65_536)
        return super().load_layer(request)


def test_a_board_without_room_for_all_layers_answers_tile_by_tile_and_it_is_noted() -> None:
    program = compiled(spec_of("lab-128"), LAYOUTS["spread"])
    images = program.calibration_images[:2]
    board = SmallMemory(program.spec, 0)
    with connect(InProcessTransport(board, "small"), chip=program.spec) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        multiply = measured_multiply(driver, program, nominal_corrections(program))
        assert isinstance(multiply, MeasuredSums)
        assert "layers: tiles added by the host (the chip refused LoadLayer 2: limit" in "".join(driver.fallbacks)
        assert np.array_equal(run(program, images, multiply), run(program, images, IdealMultiply(program)))


@pytest.mark.parametrize("weight_bits", [4, 8])
@pytest.mark.parametrize("chip", CHIPS)
def test_input_cycles_are_those_that_the_chip_spends(chip: str, weight_bits: int) -> None:
    only_cycles = Timing(0.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # chip time in ns is then the number of input cycles
    for layout in ("spread", "packed copies"):
        program = compiled(spec_of(chip, only_cycles), LAYOUTS[layout], weight_bits if chip != "yao-2020" else 4)
        images = program.calibration_images[:2]
        with open_ideal(program) as driver:
            program_chip(driver, program, sample=0, watch=Watch())
            before = driver.chip_time_ns
            run(program, images, MeasuredSums(driver, nominal_corrections(program)))
            assert driver.chip_time_ns - before == 2 * total(tile_counts(program)).input_cycles


@pytest.mark.parametrize("chip", CHIPS)
def test_reads_are_those_that_the_chip_sets_up(chip: str) -> None:
    only_reads = Timing(0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    program = compiled(spec_of(chip, only_reads), LAYOUTS["packed copies"])
    with open_ideal(program) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        before = driver.chip_time_ns
        run(program, program.calibration_images[:1], MeasuredSums(driver, nominal_corrections(program)))
        assert driver.chip_time_ns - before == total(tile_counts(program)).reads
