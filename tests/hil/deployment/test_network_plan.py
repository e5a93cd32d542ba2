"""A network on the chip's sequencer: bits of the host's steps on every layout, with all noise; what does not fit."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
import pytest

from cim.chip.file import load_chip
from firmware_protocols.messages import Capability
from firmware_protocols.plans.instructions import PermuteAxes
from firmware_protocols.plans.plan import Plan, PlanStep
from hil.deployment.inference import MeasuredLayers
from hil.deployment.plans.network_plan import NoPlan, instruction_of, network_plan
from hil.deployment.running.network_runs import Planned, PlannedEnd, StepByStep, network_run
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import program_chip
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.driver.samples import REPEAT
from hil.emulator import plan_run
from hil.emulator.chip import ALL_CAPABILITIES, EmulatedChip
from hil.errors import DeviceError, UsageError
from hil.server.firmware_launch import running_firmware
from hil.server.firmware_targets import TOOLCHAINS, FirmwareTarget
from hil.transports import open_transport
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from mapping.compile import LayoutOptions, compile_network
from mapping.layout.place import Placement
from mapping.operators.activations import RescaleStep
from mapping.operators.integer.requantise import Requantise
from mapping.operators.step import ChipOperation, Shape
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import IdealMultiply, run
from mapping.tune.low_rank import with_blank_adapters

from ...mapping.small_networks import every_node, network
from .test_placement_wire import CHIPS, LAYOUTS, open_ideal, spec_of
from .test_placement_wire import compiled as of_layout
from .test_tensor_networks import GRAPHS
from .test_tensor_networks import compiled as of_graph

SPEC = load_chip("lab-128", macros=3)


def noisy(*, halves: bool = True) -> ConductanceProgram:
    rng = np.random.default_rng(5)
    return compile_network(
        network(every_node(rng), rng, weight_bits=4, images=16), SPEC, options=LayoutOptions(halves=halves)
    )


def on_noisy_chip(program: ConductanceProgram, capabilities: Capability = ALL_CAPABILITIES) -> ChipDriver:
    driver = connect(InProcessTransport(EmulatedChip(SPEC, 7, capabilities=capabilities), "noisy"), chip=SPEC)
    program_chip(driver, program, sample=1, watch=Watch())
    return driver


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("chip", CHIPS)
def test_a_plan_gives_the_ideal_answers_of_every_layout_on_an_ideal_chip(chip: str, layout: str) -> None:
    program = of_layout(spec_of(chip), LAYOUTS[layout])
    images = program.calibration_images[:3]
    with open_ideal(program) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        planned = network_run(driver, program, nominal_corrections(program))
        assert isinstance(planned, Planned)
        for logits in planned.logits(images, 0, passes=2):
            assert np.array_equal(logits, run(program, images, IdealMultiply(program)))


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_digital_operation_has_the_same_bits_on_the_chip(graph: Any) -> None:
    program = of_graph(graph, options=LayoutOptions(Placement.PACKED, 48))
    images = program.calibration_images[:3]
    with open_ideal(program) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        planned = network_run(driver, program, nominal_corrections(program))
        assert isinstance(planned, Planned)
        assert np.array_equal(planned.logits(images, 0)[0], run(program, images, IdealMultiply(program)))


def test_with_noise_a_plan_answers_as_layers_do_pass_for_pass_and_counts_the_same_conversions() -> None:
    program = noisy()
    images, corrections = program.calibration_images[:5], nominal_corrections(program)
    with on_noisy_chip(program) as driver:
        layers = MeasuredLayers(driver, program, corrections)
        before = driver.chip_time_ns
        wanted = [run(program, images, layers, sample=40 + n * REPEAT) for n in range(3)]
        took = driver.chip_time_ns - before
        planned = network_run(driver, program, corrections)
        before = driver.chip_time_ns
        assert np.array_equal(planned.logits(images, 40, passes=3), np.stack(wanted))
        assert driver.chip_time_ns - before == took
        assert {k: (c.total, c.saturated) for k, c in planned.conversions.items()} == {
            k: (c.total, c.saturated) for k, c in layers.conversions.items()
        }
    assert not np.array_equal(wanted[0], wanted[1])


def test_a_chip_without_a_sequencer_is_asked_layer_by_layer_in_the_same_messages_as_ever() -> None:
    program = noisy()
    images, corrections = program.calibration_images[:2], nominal_corrections(program)
    with on_noisy_chip(program, ALL_CAPABILITIES & ~Capability.PLAN) as driver:
        found = network_run(driver, program, corrections)
        assert isinstance(found, StepByStep)
        wanted = run(program, images, MeasuredSums(driver, corrections), sample=9)
        assert np.array_equal(found.logits(images, 9)[0], wanted)
        with pytest.raises(DeviceError, match="cannot do plans"):
            driver.load_plan(network_plan(program, found.multiply.numbers))  # type: ignore[union-attr]


def test_what_a_chip_does_not_execute_stays_with_the_host_and_is_noted() -> None:
    program = with_blank_adapters(noisy(), 2)
    with on_noisy_chip(program) as driver:
        found = network_run(driver, program, nominal_corrections(program))
        assert isinstance(found, StepByStep)
        (note,) = [text for text in driver.fallbacks if text.startswith("plan")]
        assert "adapter" in note


def test_of_a_plan_too_large_for_the_chip_it_runs_the_end_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    program = noisy(halves=False)
    images, corrections = program.calibration_images[:3], nominal_corrections(program)
    with on_noisy_chip(program) as driver:
        whole = network_run(driver, program, corrections)
        wanted, counted = whole.logits(images, 40, passes=2), whole.conversions
    started = []
    for memory in (3327, 1967, 10):  # the whole takes 3,328 bytes
        monkeypatch.setattr(plan_run, "PLAN_MEMORY", memory)
        with on_noisy_chip(program) as driver:
            part = network_run(driver, program, corrections)
            assert np.array_equal(part.logits(images, 40, passes=2), wanted)
            assert part.conversions == counted
            (note,) = [text for text in driver.fallbacks if text.startswith("plan")]
            assert f"limit {memory}" in note
            if isinstance(part, PlannedEnd):
                at, name = part.carried.at, part.carried.name
                assert f"{at} of {len(program.steps)} steps, up to {name}, with the host between the layers" in note
                started.append(at)
    assert started[0] < started[1] < len(program.steps)
    assert isinstance(part, StepByStep)  # not even the last layer fits


def test_steps_that_no_chip_runs_stay_with_the_host_and_those_after_them_go_to_the_chip() -> None:
    program = noisy()
    blank = with_blank_adapters(program, 2).layers
    first = program.matrices[0].name
    steps = tuple(blank[first] if step.name == first else step for step in program.steps)
    mixed = dataclasses.replace(program, steps=steps)
    images, corrections = program.calibration_images[:3], nominal_corrections(mixed)
    with on_noisy_chip(mixed) as driver:
        part = network_run(driver, mixed, corrections)
        assert isinstance(part, PlannedEnd)
        assert [text for text in driver.fallbacks if "adapter" in text]
        wanted = StepByStep(mixed, MeasuredLayers(driver, mixed, corrections)).logits(images, 9)
        assert np.array_equal(part.logits(images, 9), wanted)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_the_firmware_runs_the_end_of_a_plan_that_its_memory_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    program = noisy()
    images, corrections = program.calibration_images[:3], nominal_corrections(program)
    monkeypatch.setitem(TOOLCHAINS[FirmwareTarget.NATIVE].limits, "PLAN_MEMORY", 2304)
    with (
        running_firmware(FirmwareTarget.NATIVE, SPEC, seed=3) as address,
        connect(open_transport(address), chip=SPEC) as driver,
    ):
        program_chip(driver, program, sample=1, watch=Watch())
        part = network_run(driver, program, corrections)
        assert isinstance(part, PlannedEnd)
        answers = part.logits(images, 40, passes=2)
        layers = MeasuredLayers(driver, program, corrections)
        assert np.array_equal(answers, StepByStep(program, layers).logits(images, 40, passes=2))


def test_the_same_plan_is_sent_once_and_another_one_takes_its_place() -> None:
    program = noisy()
    with on_noisy_chip(program) as driver:
        plan = network_plan(program, MeasuredLayers(driver, program, nominal_corrections(program)).numbers)
        driver.load_plan(plan)
        asked = driver.counters["requests"]
        driver.load_plan(network_plan(program, {key: number for key, number in _numbers(program).items()}))
        assert driver.counters["requests"] == asked
        driver.load_plan(dataclasses.replace(plan, arena=plan.arena + 4))
        assert driver.counters["requests"] > asked


def _numbers(program: ConductanceProgram) -> dict[tuple[str, int], int]:
    return {(m.name, 0): number for number, m in enumerate(program.matrices)}


def test_memory_of_a_plan_is_reused_and_values_that_live_together_do_not_overlap() -> None:
    program = noisy()
    plan = network_plan(program, _numbers(program))
    last = {value: i for i, step in enumerate(plan.steps) for value in step.inputs}
    last[plan.steps[-1].output] = len(plan.steps)
    born = {0: -1} | {step.output: i for i, step in enumerate(plan.steps)}
    assert plan.arena < sum(value.end - value.place for value in plan.values)
    for one in range(len(plan.values)):
        for two in range(one):
            together = born[one] <= last.get(two, born[two]) and born[two] <= last.get(one, born[one])
            a, b = plan.values[one], plan.values[two]
            assert not together or a.end <= b.place or b.end <= a.place


def test_a_plan_of_a_layer_that_is_not_loaded_is_refused_before_an_image_is_run() -> None:
    program = noisy()
    with on_noisy_chip(program) as driver:
        plan = network_plan(program, MeasuredLayers(driver, program, nominal_corrections(program)).numbers)
        broken = dataclasses.replace(plan, steps=(*plan.steps, _of_layer(plan, 999)))
        with pytest.raises(DeviceError, match="layer 999 is not loaded"):
            driver.load_plan(broken)
        with pytest.raises(UsageError, match="no plan is loaded"):
            driver.run_plan(program.calibration_images[:1])


def _of_layer(plan: Plan, layer: int) -> PlanStep:
    """The first product again, of another layer."""
    first = next(step for step in plan.steps if step.instruction in plan.products)
    parts = first.instruction.parts.copy()  # type: ignore[attr-defined]
    parts[0] = layer
    return PlanStep(dataclasses.replace(first.instruction, parts=parts), first.inputs, first.output)  # type: ignore[type-var]


class NamedStep(RescaleStep):
    """A step of another package that says which of a chip's operations does the same."""

    def __init__(self, operation: ChipOperation | None) -> None:
        rule = Requantise(np.ones(1, np.int32), np.zeros(1, np.int32), 0, 7)
        super().__init__(name="own", inputs=("input",), requantise=rule)
        object.__setattr__(self, "operation", operation)

    def chip_operation(self, output: Shape) -> ChipOperation | None:
        found: ChipOperation | None = self.operation  # type: ignore[attr-defined]
        return found


def test_an_operator_of_another_package_runs_on_the_chip_by_the_operation_that_it_names() -> None:
    made = instruction_of(NamedStep(ChipOperation("PermuteAxes", order=(1, 0))), (2, 3), {}, {}, SPEC.macro)
    assert isinstance(made, PermuteAxes)
    assert made.order.tolist() == [1, 0]


@pytest.mark.parametrize("operation", [None, ChipOperation("Untold")])
def test_an_operator_that_no_operation_of_a_chip_does_makes_no_plan(operation: ChipOperation | None) -> None:
    with pytest.raises(NoPlan, match="own"):
        instruction_of(NamedStep(operation), (2, 3), {}, {}, SPEC.macro)
