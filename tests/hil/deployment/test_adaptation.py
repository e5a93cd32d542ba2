"""Programs adapted to one chip through the wire: what calibration finds is gone around; other chips are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cim.record.calibration import CalibrationRecord, CellState
from cim.record.file import save_record
from hil.calibration.plan import Budget
from hil.calibration.procedure import calibrate
from hil.cli import run as hil_run
from hil.datasets.image_set import Dataset
from hil.deployment.adaptation import adapt_to_record, check_adapted
from hil.deployment.deploy import DeployOptions, deploy, deploy_on
from hil.deployment.inference import MeasuredLayers
from hil.deployment.options import usual_recipe
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import program_chip, read_back
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.emulator.sample import STUCK_HIGH, STUCK_LOW, ChipSample
from hil.errors import MismatchError
from hil.prediction.predict import predict
from hil.simulation.virtual_chips import VirtualChips
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from mapping.adapt.adaptation import Adaptation
from mapping.compile import compile_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.program.training_inputs import training_inputs
from mapping.recipe.adapt import write_order
from mapping.recipe.recipe import Recipe
from mapping.recipe.technique import RecipeError
from mapping.tune.columns import column_corrections

from ..conftest import Small
from ..small_net import images, small_network

STUCK = {"stuck_low_share": 0.12, "stuck_high_share": 0.02}
DEFECTIVE = "emulated:lab-128?ideal=1&macros=4&seed=5&" + "&".join(f"{k}={v}" for k, v in STUCK.items())


@dataclasses.dataclass(frozen=True)
class Bench:
    """An emulated chip with stuck cells and nothing else amiss, its record, and a program adapted to it."""

    driver: ChipDriver
    record: CalibrationRecord
    plain: ConductanceProgram
    adaptation: Adaptation

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
    chip = chip_from_address(DEFECTIVE)
    driver = connect(InProcessTransport(chip, "here"), chip=chip.spec)
    plain = compile_network(small_network(), chip.spec)
    record = calibrate(driver, plain.macros, budget=Budget.QUICK)
    return Bench(driver, record, plain, adapt_to_record(plain, record))


def test_calibration_through_the_wire_finds_the_true_stuck_map(bench: Bench) -> None:
    truth = ChipSample.draw(bench.plain.spec, 5, STUCK)
    for macro in bench.plain.macros:
        kind = truth.macros[macro].kind
        found = bench.record.macros[macro].cells
        for state, true in ((CellState.STUCK_LOW, STUCK_LOW), (CellState.STUCK_HIGH, STUCK_HIGH)):
            assert ((found == state) == (kind == true)).mean() > 0.999


def test_an_adapted_program_runs_nearly_as_the_ideal_one_where_a_blind_one_does_not(bench: Bench) -> None:
    pixels, labels = images(400, seed=3)
    ideal = run(bench.plain, pixels, IdealMultiply(bench.plain))
    right = {"ideal": (ideal.argmax(1) == labels).mean()}
    for name, program in (("blind", bench.plain), ("adapted", bench.adaptation.program)):
        for fitted in (False, True):
            logits = bench.logits(program, pixels, layers=False, fitted=fitted)
            right[f"{name}{fitted:d}"] = (logits.argmax(1) == labels).mean()
    lost = right["ideal"] - right["blind0"]
    assert lost > 0.05
    for name in ("adapted0", "adapted1"):
        assert right["ideal"] - right[name] < 0.3 * lost, right


@pytest.mark.parametrize("fitted", [False, True])
def test_layers_on_the_chip_and_sums_on_the_host_agree_bit_for_bit(bench: Bench, fitted: bool) -> None:
    program = bench.adaptation.program
    assert bench.adaptation.total("swapped") > 0
    pixels, _ = images(20, seed=4)
    both = [bench.logits(program, pixels, layers=layers, fitted=fitted) for layers in (True, False)]
    assert np.array_equal(both[0], both[1])


def test_a_swapped_column_is_corrected_with_a_negative_gain(bench: Bench) -> None:
    program = bench.adaptation.program
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
    """Level sums of the adapted program on the chip that calibration believes in: near the ideal ones, and alike."""
    program = bench.adaptation.program
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


def test_deploy_adapts_says_so_and_finds_agreement(bench: Bench) -> None:
    pixels, labels = images(300, seed=8)
    data = Dataset("small", pixels, labels, bench.plain.classes, "here", "0" * 64)
    options = DeployOptions(
        samples=300, repeats=2, virtual_chips=5, tolerance=0.03, causes=False, recipe=usual_recipe("adapt")
    )
    watch = Watch()
    report, _ = deploy_on(bench.driver, bench.plain, data, record=bench.record, options=options, watch=watch)
    assert any("stuck cells under weights spoil" in note for note in watch.notes)
    assert report.digests["program"] == bench.adaptation.program.digest
    judged = report.decisive
    assert judged.ideal.mean - judged.measured.mean < 0.03
    assert abs(judged.difference) < 0.02


def test_a_program_adapted_to_another_chip_is_refused(bench: Bench) -> None:
    other = dataclasses.replace(bench.adaptation.program, adapted_to="ANOTHER")
    with pytest.raises(MismatchError, match="adapted to chip ANOTHER, this is"):
        check_adapted(other, bench.record.serial)
    with pytest.raises(MismatchError, match="no single chip"):
        check_adapted(other, None)
    check_adapted(bench.adaptation.program, bench.record.serial)
    pixels, labels = images(20, seed=8)
    data = Dataset("small", pixels, labels, other.classes, "here", "0" * 64)
    options = DeployOptions(samples=20)
    with pytest.raises(MismatchError, match="adapted to chip ANOTHER"):
        deploy_on(bench.driver, other, data, record=bench.record, options=options)
    with pytest.raises(MismatchError, match="adapted to chip ANOTHER"):
        predict(other, data, bench.record, options, Watch(), ages_s=(1.0,))


def test_a_record_of_no_single_chip_or_another_description_adapts_nothing(bench: Bench, small: Small) -> None:
    with pytest.raises(MismatchError, match="knows no single chip's cells"):
        adapt_to_record(bench.plain, dataclasses.replace(bench.record, kind="table"))
    with pytest.raises(MismatchError, match=r"another file than lab-128\.toml is"):
        adapt_to_record(bench.plain, small.record)


def test_macros_are_written_so_that_cells_that_move_most_come_last(bench: Bench, small: Small) -> None:
    program, record = small.program, small.record
    order = write_order(program, record, 3600.0)
    assert sorted(order) == list(program.macros)
    law = record.programming
    still = dataclasses.replace(
        law,
        loc_us=np.repeat(law.loc_us[:1], len(law.ages_s), 0),
        scale_us=np.repeat(law.scale_us[:1], len(law.ages_s), 0),
    )
    assert write_order(program, dataclasses.replace(record, programming=still), 1e-3) == program.macros
    chip = chip_from_address("emulated:lab-128?seed=3&macros=4")
    with connect(InProcessTransport(chip, "here"), chip=chip.spec) as driver:
        backwards = tuple(reversed(program.macros))
        report = program_chip(driver, program, sample=1, watch=Watch(), order=backwards)
        assert tuple(m.slot for m in report.macros) == backwards
        assert report.macros[0].programmed_s < report.macros[1].programmed_s
        with pytest.raises(ValueError, match="an order of macros"):
            program_chip(driver, program, sample=1, watch=Watch(), order=(0,))


def test_compile_with_a_record_writes_an_adapted_program(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "adapted.h5"
    arguments = ["compile", str(small.net), "--macros", "4", "--record", str(small.record_file), "--out", str(out)]
    assert hil_run([*arguments, "--with", "adapt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["adaptation"]["adapted_to"] == small.record.serial
    assert load_program(out).adapted_to == small.record.serial
    assert hil_run(arguments) == 0
    assert "stuck cells under weights spoil" in capsys.readouterr().out


def test_wishes_that_make_no_sense_are_refused(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert hil_run(["compile", str(small.net), "--with", "adapt"]) == 2
    assert "needs the record of a chip" in capsys.readouterr().err
    assert hil_run(["compile", str(small.net), "--weight-form", "odd"]) == 2
    assert "--weight-form 'odd' is not a choice" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="adapt: no setting"):
        usual_recipe("adapt=20")


def test_a_file_of_an_adapted_program_is_deployed_on_its_chip(small: Small, tmp_path: Path) -> None:
    adapted = adapt_to_record(small.once(), small.record).program
    save_program(adapted, tmp_path / "adapted.h5")
    save_record(small.record, tmp_path / "record.h5")
    options = DeployOptions(samples=100, repeats=1, virtual_chips=3, causes=False)
    report = deploy(
        tmp_path / "adapted.h5", "emulated:lab-128?seed=3&macros=4", data=str(small.data),
        calibration=small.record_file, options=options, out=tmp_path / "run",
    )  # fmt: skip
    assert report.digests["program"] == adapted.digest
    with pytest.raises(MismatchError):
        deploy(
            tmp_path / "adapted.h5", "emulated:lab-128?seed=4&macros=4", data=str(small.data), options=options,
            out=tmp_path / "other",
        )  # fmt: skip
