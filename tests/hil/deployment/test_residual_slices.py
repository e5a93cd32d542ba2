"""Residual slices on an emulated chip and on virtual chips: the same steps, smaller errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.record.published import nominal_record
from firmware_protocols.messages import Capability
from hil.calibration.procedure import calibrate
from hil.cli import run as run_command
from hil.datasets.image_set import load_dataset
from hil.deployment.deploy import write_whole
from hil.deployment.dry_run import estimate
from hil.deployment.inference import MeasuredLayers, measured_multiply
from hil.deployment.options import DeployOptions, NetworkOptions, usual_recipe
from hil.deployment.running.network_runs import Planned
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.driver.counting.wire_cost import EVERYTHING
from hil.driver.open_chip import open_chip
from hil.errors import ExitCode, UsageError
from hil.improvement.retune import retune
from hil.payload.subject import open_subject
from hil.prediction.predict import predict
from hil.simulation.virtual_chips import VirtualChips
from hil.watch import Watch
from mapping.compile import compile_network, plan
from mapping.layout.lay_out import LayoutOptions
from mapping.layout.place import macro_targets_us
from mapping.network.file import save_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.counts import tile_counts, total
from mapping.program.execute import IdealMultiply, run
from mapping.program.explain import explain
from mapping.program.file import load_program, save_program
from mapping.program.training_inputs import training_inputs
from mapping.recipe.lower_slices import stuck_cells
from mapping.recipe.technique import RecipeError
from mapping.tune.channel_affine import tune_targets
from mapping.tune.residual import around_stuck

from ..small_net import images, small_network, write_files

MACROS = 16
OPTIONS = DeployOptions(samples=40, virtual_chips=2, causes=False)


def compiled(residual: int, macros: int = MACROS) -> ConductanceProgram:
    network = replace(small_network(), weight_bits=8)
    return compile_network(network, load_chip("lab-128", macros=macros), options=LayoutOptions(residual=residual))


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    return compiled(2)


def off(logits: np.ndarray, program: ConductanceProgram, pixels: np.ndarray) -> float:
    """Rms error of logits as a share of what varies in the exact ones."""
    exact = run(program, pixels, IdealMultiply(program)).astype(float)
    return float(np.sqrt(((logits - exact) ** 2).mean()) / exact.std())


def virtual(program: ConductanceProgram, mode: str = "fast", tuned: bool = True) -> VirtualChips:
    record = nominal_record(program.spec, range(MACROS))
    program = OPTIONS.recipe_of(program).prepared(program, record, Watch())
    targets = tune_targets(program, program.calibration_images[:32]) if tuned else None
    inputs = training_inputs(program)
    return VirtualChips(program, record, OPTIONS.recipe_of(program), 2, 0, inputs=inputs, mode=mode, targets=targets)


def logits_of(chips: VirtualChips, number: int, pixels: np.ndarray) -> np.ndarray:
    chip = chips.chip(number)
    return run(chips.running(number, chip), pixels, chip)


def test_a_virtual_chip_comes_closer_to_exact_integers_than_in_plain_slices(program: ConductanceProgram) -> None:
    pixels, _ = images(64, seed=5)
    chips = virtual(program)
    found = logits_of(chips, 0, pixels)
    assert off(found, program, pixels) < 0.15
    assert off(found, program, pixels) < 0.5 * off(logits_of(virtual(compiled(0)), 0, pixels), program, pixels)
    assert (logits_of(virtual(program), 0, pixels) == found).all()
    assert (logits_of(chips, 1, pixels) != found).any()


def test_both_modes_of_the_simulator_read_the_highest_slices_several_times(program: ConductanceProgram) -> None:
    pixels, _ = images(16, seed=5)
    fast, exact = (off(logits_of(virtual(program, mode), 0, pixels), program, pixels) for mode in ("fast", "exact"))
    assert 0.5 < fast / exact < 2.0
    once = compile_network(replace(small_network(), weight_bits=8), program.spec, options=LayoutOptions(residual=1))
    assert total(tile_counts(once)).conversions > 3 * total(tile_counts(compiled(0))).conversions


def test_an_emulated_chip_does_as_virtual_chips_of_its_record(program: ConductanceProgram) -> None:
    pixels, _ = images(64, seed=5)
    with open_chip(f"emulated:lab-128?seed=3&macros={MACROS}", chip=program.spec) as driver:
        record = calibrate(driver, program.macros, age_s=3600.0)
        aimed = OPTIONS.recipe_of(program).prepared(program, record, Watch())
        inputs = training_inputs(aimed)
        targets = tune_targets(aimed, aimed.calibration_images[:32])
        whole = write_whole(driver, aimed, record, inputs, targets, pixels[:2], OPTIONS, Watch(), force=False)
        measured = off(whole.measure(pixels, 0, Watch())[0], program, pixels)
        assert isinstance(whole._chip, Planned)  # the chip runs the whole network, and adds up repeated reads, too
        planned = whole._chip.logits(pixels[:8], 5)[0]
        assert whole.tuned is not None
        running, corrections = whole.tuned.program, whole.corrections
        assert max(max(m.group.reads) for m in running.matrices) > 1
        layers = measured_multiply(driver, running, corrections)
        assert isinstance(layers, MeasuredLayers)
        whole_layers, tile_by_tile = (
            run(running, pixels[:8], chip, sample=5) for chip in (layers, MeasuredSums(driver, corrections))
        )
        np.testing.assert_array_equal(whole_layers, tile_by_tile)
        np.testing.assert_array_equal(planned, tile_by_tile)
    chips = VirtualChips(aimed, record, OPTIONS.recipe_of(program), 3, 0, inputs=inputs, mode="fast", targets=targets)
    expected = [off(logits_of(chips, n, pixels), program, pixels) for n in range(3)]
    assert measured < 2.0 * max(expected)
    assert measured < 0.3
    written = whole.written
    assert written is not None
    assert written.unreached < 0.05 * written.cells
    tops = {t.macro for m in aimed.matrices for t in m.group.tiles if t.multiplier == 64}
    first = around_stuck(aimed, stuck_cells(aimed, record))
    for macro in aimed.macros:  # the highest slices keep nearly all of their cells, lower ones change most of theirs
        was, now = (macro_targets_us(p, macro) for p in (first, whole.program))
        changed = (was != now)[np.isfinite(was)].mean()
        assert changed < 0.05 if macro in tops else changed > 0.2


def test_a_deployment_from_the_command_line_agrees_and_says_what_lower_slices_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, data = write_files(tmp_path)
    net = tmp_path / "net8.pt"
    save_network(replace(small_network(), weight_bits=8), net)
    address = f"emulated:lab-128?seed=3&macros={MACROS}"
    how = [str(net), "--data", str(data), "--with", "residual=2", "--macros", str(MACROS)]
    run_options = ["--samples", "300", "--repeat", "2", "--tolerance", "3", "-o", str(tmp_path / "run")]
    assert run_command(["deploy", *how, "--port", address, *run_options]) == ExitCode.DONE
    said = "".join(capsys.readouterr())
    assert "residual slices: lower slices hold" in said
    assert "causes are not split with residual slices" in said
    assert load_program(tmp_path / "run" / "program.h5").residual
    assert run_command(["simulate", *how, "--samples=60", "--chips=2", "--mode=fast"]) == ExitCode.DONE


def test_plan_reasons_and_file_tell_of_residual_slices(program: ConductanceProgram, tmp_path: Path) -> None:
    assert "each product with them the mean of 32 reads" in "\n".join(plan(program).lines())
    reasons = [tile.reason for tile in explain(program).tiles]
    assert any("one of 2 copies of the highest slice, each product the mean of 8 reads" in text for text in reasons)
    assert any("one of 2 copies of the highest slice, each product the mean of 32 reads" in text for text in reasons)
    assert any("to take up what the highest slice missed" in text for text in reasons)
    save_program(program, tmp_path / "program.h5")
    assert load_program(tmp_path / "program.h5").digest == program.digest


def test_a_dry_run_counts_reads_and_the_second_writing(program: ConductanceProgram) -> None:
    plain, residual = estimate(compiled(0), OPTIONS, calibrate=False), estimate(program, OPTIONS, calibrate=False)
    assert residual.inference == plain.inference  # the chip adds up its reads
    single = EVERYTHING & ~Capability.REPEATED_READS
    each = estimate(program, OPTIONS, calibrate=False, capabilities=single).inference
    assert each.bytes_both > 10 * residual.inference.bytes_both
    assert residual.rewrite_pulses > 0
    assert residual.program.bytes_both > 2 * plain.program.bytes_both


@pytest.mark.parametrize(
    "wrong",
    [
        ["residual=0"],
        ["residual=65"],
        ["residual=2,reads=0"],
        ["residual=2,reads=257"],
        ["residual=2", "rewrite=1"],
        ["residual=2,wait=0"],
    ],
)
def test_settings_that_make_no_residual_slices_are_refused(wrong: list[str]) -> None:
    with pytest.raises(RecipeError, match="residual"):
        usual_recipe(*wrong)


def test_what_knows_nothing_of_residual_slices_refuses_them(program: ConductanceProgram, tmp_path: Path) -> None:
    path = tmp_path / "program.h5"
    save_program(program, path)
    with pytest.raises(UsageError, match="missions and campaigns: the program has residual slices"):
        open_subject(path, NetworkOptions(), Watch())
    with open_chip(f"emulated:lab-128?seed=3&macros={MACROS}") as driver:
        record = nominal_record(program.spec, range(MACROS))
        with pytest.raises(UsageError, match="hil tune: the program has residual slices"):
            retune(driver, program, record)
    _, data = write_files(tmp_path)
    with pytest.raises(UsageError, match="2 ages of a program with residual slices"):
        predict(program, load_dataset(str(data), "test"), record, OPTIONS, Watch(), ages_s=(1.0, 3600.0))
