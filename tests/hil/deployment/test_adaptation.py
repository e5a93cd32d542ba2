"""Programs with other orders and swapped columns run on a chip; those of another chip are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cim.chip.encoding import WeightForm
from cim.record.calibration import CalibrationRecord
from hil.calibration.plan import Budget
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import Dataset
from hil.deployment.adaptation import check_adapted
from hil.deployment.deploy import DeployOptions, deploy_on
from hil.deployment.inference import MeasuredLayers
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import program_chip, read_back
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.errors import MismatchError
from hil.prediction.predict import predict
from hil.simulation.virtual_chips import VirtualChips
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.recipe.recipe import Recipe
from mapping.tune.columns import column_corrections

from ...mapping.permuted import ordered, swapped
from ..small_net import images, small_network

GOOD = "emulated:lab-128?ideal=1&macros=4&seed=5"


@dataclasses.dataclass(frozen=True)
class Bench:
    """An ideal emulated chip, its record, and a program with other places and signs."""

    driver: ChipDriver
    record: CalibrationRecord
    plain: ConductanceProgram
    moved: ConductanceProgram

    def written(self, program: ConductanceProgram) -> dict[int, np.ndarray]:
        """Write a program; its cells as they read."""
        program_chip(self.driver, program, sample=1, watch=Watch())
        return read_back(self.driver, program.macros, reads=1, sample=2, watch=Watch())

    def logits(self, program: ConductanceProgram, pixels: np.ndarray, *, layers: bool, fitted: bool) -> np.ndarray:
        """Written, read back, corrected, run."""
        readings, corrections = self.written(program), nominal_corrections(program)
        if fitted:
            corrections = column_corrections(program, self.record, readings, training_inputs(program))
        if layers:
            return run(program, pixels, MeasuredLayers(self.driver, program, corrections))
        return run(program, pixels, MeasuredSums(self.driver, corrections))


@pytest.fixture(scope="module")
def bench() -> Bench:
    return bench_of(GOOD)


def bench_of(address: str) -> Bench:
    chip = chip_from_address(address)
    driver = connect(InProcessTransport(chip, "here"), chip=chip.spec)
    plain = compile_network(small_network(), chip.spec)
    record = calibrate(driver, plain.macros, budget=Budget.QUICK)
    rng = np.random.default_rng(1)
    return Bench(driver, record, plain, swapped(ordered(plain, rng), rng, WeightForm.SIGN))


@pytest.mark.parametrize("fitted", [False, True])
def test_layers_on_the_chip_and_sums_on_the_host_agree_bit_for_bit(bench: Bench, fitted: bool) -> None:
    program = bench.moved
    pixels, _ = images(20, seed=4)
    both = [bench.logits(program, pixels, layers=layers, fitted=fitted) for layers in (True, False)]
    assert np.array_equal(both[0], both[1])


def test_a_swapped_column_is_corrected_with_a_negative_gain(bench: Bench) -> None:
    program = bench.moved
    readings = bench.written(program)
    for found in (
        nominal_corrections(program),
        column_corrections(program, bench.record, readings, training_inputs(program)),
    ):
        for step in program.matrices:
            for tile, correction in zip(step.group.tiles, found[step.name], strict=True):
                signs = np.ones(len(tile.outputs)) if tile.signs is None else tile.signs
                assert np.array_equal(np.sign(correction.gain), signs)


def test_both_engines_of_the_simulator_take_swapped_columns_and_other_orders(bench: Bench) -> None:
    """Level sums of the moved program on the chip that calibration believes in: near the ideal ones, and alike."""
    program = bench.moved
    readings = bench.written(program)
    inputs = training_inputs(program)
    corrections = column_corrections(program, bench.record, readings, inputs)
    ideal = IdealMultiply(program)
    for step in program.matrices:
        wanted = ideal.sums(step, inputs[step.name], 0)
        for mode in ("exact", "fast"):
            chips = VirtualChips(
                program,
                bench.record,
                Recipe(age_s=1.0, reads=1),
                1,
                0,
                corrections=corrections,
                readings_us=readings,
                mode=mode,
            )
            sums, _ = chips.layer_sums({step.name: inputs[step.name]})[step.name]
            rounding = np.sqrt(sum(4.0**bit for bit in range(step.group.input_bits)) / 12)  # one step in every plane
            error = (sums[0].reshape(wanted.shape) - wanted).std()
            assert error < 1.5 * rounding * len(step.group.tiles) ** 0.5 < 0.3 * wanted.std(), (step.name, mode)


def test_a_program_adapted_to_another_chip_is_refused(bench: Bench) -> None:
    other = dataclasses.replace(bench.moved, adapted_to="ANOTHER")
    with pytest.raises(MismatchError, match="adapted to chip ANOTHER, this is"):
        check_adapted(other, bench.record.serial)
    with pytest.raises(MismatchError, match="no single chip"):
        check_adapted(other, None)
    check_adapted(dataclasses.replace(other, adapted_to=bench.record.serial), bench.record.serial)
    pixels, labels = images(20, seed=8)
    data = Dataset("small", pixels, labels, other.classes, "here", "0" * 64)
    options = DeployOptions(samples=20)
    with pytest.raises(MismatchError, match="adapted to chip ANOTHER"):
        deploy_on(bench.driver, other, data, record=bench.record, options=options)
    with pytest.raises(MismatchError, match="adapted to chip ANOTHER"):
        predict(other, data, bench.record, options, Watch(), ages_s=(1.0,))
