"""The split of a gap: parts switched off and on, and causes put into an emulated chip and found again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cim.array.input_drive import InputDrive
from cim.cells.laws.student import STUDENT
from cim.cells.read_noise import ReadNoise
from cim.chip.file import load_chip
from cim.chip.spec import CellIv, InputCoding
from cim.record.device import draw_programming
from cim.record.error_sources import EVERYTHING, NOTHING, CellSteps, ErrorSource, exact_converters, inputs_err
from cim.record.read_back import estimate_cells
from hil.calibration.procedure import calibrate
from hil.datasets.image_set import load_dataset
from hil.deployment.causes import Coalitions, coalitions, with_sources
from hil.deployment.deploy import DeployOptions, deploy_on
from hil.deployment.deployment import Deployment
from hil.deployment.layer_sums import exact_layers
from hil.deployment.scoring import scoring_of
from hil.deployment.targets.wired import program_chip, read_back
from hil.deployment.targets.written_macros import EarlyReads
from hil.driver.open_chip import connect, open_chip
from hil.driver.samples import READ_BEFORE, READ_EARLY
from hil.emulator.chip import EmulatedChip
from hil.report.losses import lost_to
from hil.report.run_data import read_run
from hil.simulation.virtual_chip import SampledDevice, build_chip
from hil.transports.in_process import InProcessTransport
from hil.verdict.agreement import AgreementReport, correct_answers
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.layout.place import macro_targets_us
from mapping.program.execute import IdealMultiply, run
from mapping.program.training_inputs import training_inputs
from mapping.tune.columns import column_corrections

from ..conftest import CHIP, Small
from ..small_net import images, small_network
from .test_deploy import served

OPTIONS = DeployOptions(samples=200, repeats=2, virtual_chips=4)
PIXELS, LABELS = images(60, seed=21)
LOSSY = f"{CHIP}&relaxation=3"  # loses what 200 images can show


@pytest.fixture(scope="module")
def job(small: Small) -> Iterator[Deployment]:
    """A chip programmed, aged and read back, ready to run."""
    program, record = small.program, small.record
    with open_chip(CHIP, chip=program.spec) as driver:
        early = EarlyReads(OPTIONS.early_reads, READ_EARLY)
        written = program_chip(driver, program, sample=1, watch=Watch(), early=early)
        driver.wait(OPTIONS.age_s)
        reads = OPTIONS.read_back_reads
        readings = read_back(driver, program.macros, reads=reads, sample=READ_BEFORE, watch=Watch())
        inputs = training_inputs(program)
        corrections = column_corrections(program, record, readings, inputs)
        scoring = scoring_of(program, load_dataset(str(small.data), "test"), OPTIONS)
        yield Deployment(driver, program, record, corrections, inputs, written, readings, OPTIONS, scoring)


# --- parts --------------------------------------------------------------------------------------


def test_an_exact_converter_is_sixteen_times_finer_and_holds_every_sum() -> None:
    spec = load_chip("lab-128").macro
    exact = exact_converters(spec)
    assert exact.adc.bits == 17
    assert exact.lsb_us(0) == pytest.approx(6400 / 2**16)
    assert exact.lsb_us(0) < spec.lsb_us(0) / 16
    assert exact.adc.full_scales_us[0] > 128 * spec.levels_us[-1]
    assert len(exact.adc.full_scales_us) == len(spec.adc.full_scales_us)


def test_cells_take_the_steps_of_the_parts_that_are_on() -> None:
    steps = CellSteps(np.array([20.0]), np.array([20.5]), np.array([18.0]))
    found = {
        parts: float(steps.with_sources(parts)[0])
        for parts in (
            NOTHING,
            ErrorSource.PROGRAMMING,
            ErrorSource.RELAXATION,
            ErrorSource.PROGRAMMING | ErrorSource.RELAXATION,
        )
    }
    assert list(found.values()) == [20.0, 20.5, 17.5, 18.0]


def test_a_chip_without_any_part_is_the_ideal_network(job: Deployment) -> None:
    game = Coalitions(job, 0.01, 1)
    chip = game.chip(NOTHING, 0, game.corrections(NOTHING))
    for name, (codes, exact) in exact_layers(job.program, PIXELS[:8]).items():
        sums, share = chip.layer_sample(name, codes)
        assert share == 0
        assert np.abs(sums - exact).max() <= 0.003 * np.abs(exact).max() + 2
    logits, ideal = run(job.program, PIXELS, chip), run(job.program, PIXELS, IdealMultiply(job.program))
    assert (logits.argmax(1) == ideal.argmax(1)).mean() > 0.98


def test_a_chip_with_every_part_is_the_virtual_chip_of_the_run(job: Deployment) -> None:
    """So that unexplained is measured − simulated, of the same virtual chips that the verdict rests on."""
    game = Coalitions(job, 0.01, 2)
    own = job.virtual_chips(conditioned=True, chips=2).run(PIXELS, 0, Watch())
    outcome = game.outcome(EVERYTHING, game.corrections(EVERYTHING), 2, PIXELS, LABELS, {})
    differ = (outcome.right != correct_answers(own, LABELS)).mean()
    assert differ <= 0.01  # cells are added up in another order: a last bit may differ


def test_exact_converters_give_the_same_errors_in_either_engine(job: Deployment) -> None:
    """Without ADC and wires the fast product has the error energy of sixteen times finer conversions."""
    parts = EVERYTHING & ~(ErrorSource.ADC | ErrorSource.IR_DROP)
    game = Coalitions(job, 0.01, 1)
    corrections = game.corrections(parts)
    program, record = with_sources(job.program, job.record, parts)
    drawn = SampledDevice(game.cells_us(parts, 0), game.columns(parts, 0), corrections)
    energies = {
        engine: [
            np.mean([np.square(chip.layer_sample(name, codes)[0] - sums).mean() for chip in chips])
            for name, (codes, sums) in exact_layers(job.program, PIXELS).items()
        ]
        for engine in ("fast", "exact")
        for chips in [[build_chip(program, record, drawn, seed=k, number=0, mode=engine) for k in range(8)]]
    }
    np.testing.assert_allclose(energies["fast"], energies["exact"], rtol=0.05)


def test_parts_that_the_record_does_not_have_are_not_simulated(job: Deployment) -> None:
    record = dataclasses.replace(job.record, wire=dataclasses.replace(job.record.wire, ohm=0.0))
    game = Coalitions(dataclasses.replace(job, record=record), 0.01, 1)
    wanted = coalitions([p for p in ErrorSource])
    assert len(wanted) == 126
    assert len(game.distinct(wanted)) == 30
    assert game.effective(ErrorSource.IR_DROP | ErrorSource.INPUTS) == NOTHING  # one-bit reads


def test_inputs_have_a_part_where_they_err(job: Deployment) -> None:
    """A table of row drivers or cells at several voltages; switched off, both are as the file's ideal."""
    k = tuple(np.linspace(2.8, 1.0, len(job.program.spec.macro.levels_us)))
    inputs = dataclasses.replace(job.program.spec.macro.inputs, coding=InputCoding.AMPLITUDE, bits_per_cycle=2)
    cubic = dataclasses.replace(job.program.spec.macro, cell_iv=CellIv.CUBIC, cell_iv_k_per_v2=k, inputs=inputs)
    program = dataclasses.replace(job.program, spec=dataclasses.replace(job.program.spec, macro=cubic))
    record = dataclasses.replace(job.record, drive=InputDrive(np.array([0.0, 1.2, 2.1, 3.0]), np.zeros(4)))
    assert not inputs_err(job.program.spec.macro, job.record)
    assert inputs_err(cubic, job.record)
    assert inputs_err(job.program.spec.macro, record)
    with_all, without = (
        with_sources(program, record, EVERYTHING),
        with_sources(program, record, EVERYTHING & ~ErrorSource.INPUTS),
    )
    assert (with_all[0].spec.macro, with_all[1].drive) == (cubic, record.drive)
    assert not inputs_err(without[0].spec.macro, without[1])


def test_readings_are_pulled_towards_what_writing_makes_likely(job: Deployment) -> None:
    """Of cells drawn from the law and read with noise, estimates are nearer to the cells than the readings are."""
    rng = np.random.default_rng(8)
    targets = macro_targets_us(job.program, 0)
    law = dataclasses.replace(job.record.programming, unreached_share=0.0)
    record = dataclasses.replace(job.record, programming=law)
    cells = draw_programming(targets, record, 0, 3600.0, rng, record.programming)
    reads = 2
    noise = np.sqrt(record.read_noise.at(np.nan_to_num(cells)) / reads) * rng.standard_normal(cells.shape)
    found = estimate_cells(targets, cells + noise, reads, record, 0, 3600.0)
    used = np.isfinite(targets)
    assert np.array_equal(np.isfinite(found), used)
    assert np.square(found - cells)[used].mean() < 0.97 * np.square(noise)[used].mean()


def test_the_shrinkage_of_a_gaussian_law_is_the_textbook_one(job: Deployment) -> None:
    """Law of 1 µS about the target, reading of variance 0.25 µS²: 22 µS read at 20 µS means 21.6 µS."""
    law = job.record.programming
    one = np.ones_like(law.loc_us)
    plain = dataclasses.replace(
        law, loc_us=0 * one, scale_us=one, df=1e9 * one, tail=STUDENT, skew=0 * one, covariance=np.zeros(0)
    )
    noise = ReadNoise(np.array([2.0, 40.0]), np.full(2, 0.5), np.zeros(2))
    record = dataclasses.replace(job.record, programming=plain, read_noise=noise)
    targets = np.full(job.record.macro(0).cells.shape, 20.0)
    found = estimate_cells(targets, targets + 2.0, 2, record, 0, 3600.0)
    stuck = np.isfinite(job.record.macro(0).stuck_us)
    assert found[~stuck] == pytest.approx(21.6, abs=1e-6)
    assert found[stuck] == pytest.approx(22.0)


def test_without_read_noise_readings_are_believed(job: Deployment) -> None:
    _, quiet = with_sources(job.program, job.record, EVERYTHING & ~ErrorSource.READ_NOISE)
    targets = macro_targets_us(job.program, 0)
    found = estimate_cells(targets, targets + 3.0, 1, quiet, 0, 3600.0)
    assert found == pytest.approx(targets + 3.0, nan_ok=True, abs=1e-4)


# --- whole runs ---------------------------------------------------------------------------------


def test_cells_are_read_young_and_the_file_keeps_it(small: Small, tmp_path: Path) -> None:
    report = small.deploy(CHIP, tmp_path / "run", options=OPTIONS)
    split = report.causes
    assert split is not None
    assert split.early_age_s is not None
    assert 0.001 < split.early_age_s < 0.2
    cells = read_run(tmp_path / "run" / "data.h5").macros[0]
    assert cells.early_us is not None
    used = np.isfinite(cells.targets_us)
    assert np.isfinite(cells.early_us[used]).all()
    spread = [float(np.std((read - cells.targets_us)[used])) for read in (cells.early_us, cells.readings_us)]
    assert spread[0] < spread[1]


def test_where_nothing_was_lost_no_cause_is_switched_off_and_on(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Coalitions, "play", lambda *_: pytest.fail("a cause was switched off and on"))
    report = small.deploy(CHIP, tmp_path / "run", options=OPTIONS)
    split = report.causes
    assert split is not None
    assert split.low <= 0
    assert [p.name for p in split.parts] == ["quantisation", "all simulated errors", "unexplained"]
    assert sum(p.loss for p in split.parts) == pytest.approx(split.gap, abs=1e-12)
    assert "so no cause was switched off and on" in lost_to(report).words(split.metric)
    assert "no cause was switched off and on" in (tmp_path / "run" / "report.md").read_text("utf-8")


def test_parts_of_a_run_sum_to_its_gap_and_to_each_layers_energy(small: Small, tmp_path: Path) -> None:
    report = small.deploy(LOSSY, tmp_path / "run", options=OPTIONS)
    split = report.causes
    assert split is not None
    assert [p.name for p in split.parts] == [
        *("quantisation", "programming", "relaxation", "read noise", "ADC", "IR drop"),
        *("calibration error", "unexplained"),
    ]
    assert sum(p.loss for p in split.parts) == pytest.approx(split.gap, abs=1e-12)
    assert split.gap == pytest.approx((report.float_accuracy or 0.0) - report.decisive.measured.mean)
    assert split.part("unexplained").loss == pytest.approx(-report.decisive.difference, abs=1e-9)
    for layer in split.layers:
        assert sum(layer.parts.values()) == pytest.approx(layer.energy)
        assert layer.parts["relaxation"] > 0.05 * layer.energy
        assert abs(layer.parts["unexplained"]) < 0.3 * layer.energy


def test_a_program_that_the_chip_held_leaves_two_causes_together(small: Small, tmp_path: Path) -> None:
    with served(tmp_path, address=f"{CHIP}&column_crosstalk=0.6") as (_, where):  # its cells read as they were written
        small.deploy(where, tmp_path / "first", options=OPTIONS)
        again = small.deploy(where, tmp_path / "again", options=OPTIONS)
    split = again.causes
    assert split is not None
    assert split.early_age_s is None
    names = [p.name for p in split.parts]
    assert "programming and relaxation" in names
    assert "relaxation" not in names


def test_a_run_without_causes_reads_no_young_cells(small: Small, tmp_path: Path) -> None:
    report = small.deploy(CHIP, tmp_path / "run", options=dataclasses.replace(OPTIONS, causes=False))
    assert report.causes is None
    assert read_run(tmp_path / "run" / "data.h5").macros[0].early_us is None


def one_cause(switched_on: dict[str, float], *, calibrated_before: bool = False) -> AgreementReport:
    """The small network on a chip with one non-ideality, which may have come after the chip was calibrated."""
    spec = load_chip("lab-128", macros=2)
    spec = dataclasses.replace(spec, sample=dict.fromkeys(spec.sample, 0.0))
    program = compile_network(small_network(), spec)
    pixels, labels = images(300, seed=3)
    record = None
    if calibrated_before:
        with connect(InProcessTransport(EmulatedChip(spec, 5), "emulated:ideal"), chip=spec) as driver:
            record = calibrate(driver, program.macros)
    with connect(InProcessTransport(EmulatedChip(spec, 5, switched_on), "emulated:one-cause"), chip=spec) as driver:
        clothes = load_dataset("fashion-mnist-bundled", "test")
        data = dataclasses.replace(clothes, images=pixels, labels=labels, classes=program.classes)
        options = dataclasses.replace(OPTIONS, samples=300)
        report, _ = deploy_on(driver, program, data, graph=small_network().graph, record=record, options=options)
    return report


@pytest.mark.parametrize(
    ("cause", "switched_on"), [("programming", {"stuck_high_share": 0.12}), ("relaxation", {"relaxation": 2.5})]
)
def test_the_cause_that_was_put_in_gets_nearly_all_of_the_gap(cause: str, switched_on: dict[str, float]) -> None:
    split = one_cause(switched_on).causes
    assert split is not None
    assert split.gap >= 0.03
    assert split.part(cause).loss >= 0.8 * split.gap


def test_what_came_after_the_calibration_stays_unexplained() -> None:
    split = one_cause({"column_crosstalk": 0.5}, calibrated_before=True).causes
    assert split is not None
    assert split.gap >= 0.03
    assert split.part("unexplained").loss >= 0.8 * split.gap
