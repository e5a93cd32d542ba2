"""Residual slices on an emulated chip and on virtual chips: the same steps, smaller errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cim.chip.file import load_chip
from cim.record.calibration import CalibrationRecord
from cim.record.published import nominal_record
from hil.calibration.procedure import calibrate
from hil.driver.open_chip import open_chip
from hil.improvement.residual_slices import (
    ResidualPlan,
    changed_targets,
    virtual_residual_slices,
    write_residual_slices,
)
from hil.samples import INFER
from hil.watch import Watch
from mapping.compile import compile_network
from mapping.program.conductance import ConductanceProgram
from mapping.program.execute import IdealMultiply, run
from mapping.tune.residual import of_slice

from ..small_net import images, small_network

MACROS = 16
PLAN = ResidualPlan(top_copies=2, reads=4, tune_images=32)


@pytest.fixture(scope="module")
def program() -> ConductanceProgram:
    return compile_network(replace(small_network(), weight_bits=8), load_chip("lab-128", macros=MACROS))


def off(logits: np.ndarray, program: ConductanceProgram, pixels: np.ndarray) -> float:
    """Rms error of logits as a share of what varies in the exact ones."""
    exact = run(program, pixels, IdealMultiply(program)).astype(float)
    return float(np.sqrt(((logits - exact) ** 2).mean()) / exact.std())


def nominal(program: ConductanceProgram) -> CalibrationRecord:
    return nominal_record(program.spec, range(MACROS))


def test_a_virtual_chip_comes_close_to_exact_integers_and_is_the_same_each_time(program: ConductanceProgram) -> None:
    record = nominal(program)
    prepared, (pixels, _) = PLAN.prepared(program, record), images(64, seed=5)
    chip = virtual_residual_slices(prepared, record, PLAN, number=0)
    assert chip.left < 0.3
    assert off(chip.logits(pixels), program, pixels) < 0.15
    again = virtual_residual_slices(prepared, record, PLAN, number=0)
    assert (again.logits(pixels) == chip.logits(pixels)).all()
    other = virtual_residual_slices(prepared, record, PLAN, number=1)
    assert (other.logits(pixels) != chip.logits(pixels)).any()


def test_an_emulated_chip_does_as_virtual_chips_of_its_record(program: ConductanceProgram) -> None:
    (pixels, _), address = images(64, seed=5), f"emulated:lab-128?seed=3&macros={MACROS}"
    with open_chip(address, spec=program.spec) as driver:
        prepared = PLAN.prepared(program, nominal(program))
        record = calibrate(driver, prepared.macros, age_s=3600.0)
        chip = write_residual_slices(driver, prepared, record, PLAN, Watch())
        measured = off(chip.logits(pixels, INFER), program, pixels)
    virtual = [virtual_residual_slices(prepared, record, PLAN, number=n) for n in range(3)]
    expected = [off(one.logits(pixels), program, pixels) for one in virtual]
    assert measured < 2.0 * max(expected)
    assert measured < 0.3


def test_only_cells_of_lower_slices_are_written_a_second_time(program: ConductanceProgram) -> None:
    record = nominal(program)
    prepared = PLAN.prepared(program, record)
    chip = virtual_residual_slices(prepared, record, PLAN, number=0)
    changed = changed_targets(prepared, chip.program)
    tops = {t.macro for m in of_slice(prepared, highest=True)[0].matrices for t in m.group.tiles}
    assert changed
    assert not tops & set(changed)


@pytest.mark.parametrize(
    "wrong", [{"top_copies": 0}, {"reads": 0}, {"cell_reads": 256}, {"wait_s": 0.0}, {"age_s": -1.0}]
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"copies|wait"):
        ResidualPlan(**wrong)  # type: ignore[arg-type]
