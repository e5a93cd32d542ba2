"""Chips with uneven levels: through the wire the chip gives the integer product of the values."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cim.chip.converters import input_planes
from cim.chip.file import idealised, load_chip, parse_chip, render_chip
from cim.chip.spec import AdcSpec, ChipSpec, Encoding, PairSubtraction
from firmware_protocols.messages import TileAddress
from hil.deployment.targets.measured_sums import MeasuredSums
from hil.deployment.targets.wired import program_chip
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.emulator.chip import EmulatedChip
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch
from mapping.compile import CannotMap, compile_network
from mapping.operators.step import ProgramRecordError
from mapping.program.conductance import ConductanceProgram
from mapping.program.corrections import nominal_corrections
from mapping.program.execute import IdealMultiply, run
from mapping.program.file import load_program, save_program
from mapping.program.records import from_record, to_record

from .mapping.small_networks import every_node, network, slow_run
from .test_exact import DIGITAL, check, chip

DOUBLING = (2.0, 4.0, 8.0, 16.0, 32.0)
LOGARITHMIC = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
CHIPS = {
    "column pairs": chip(levels_us=DOUBLING),
    "column pairs, logarithmic": chip(levels_us=LOGARITHMIC),
    "row pairs": chip(levels_us=DOUBLING, encoding=Encoding.ROW_PAIRS, **DIGITAL),
    "offset column": chip(levels_us=DOUBLING, encoding=Encoding.OFFSET_COLUMN, **DIGITAL),
    "single-ended": chip(levels_us=LOGARITHMIC, encoding=Encoding.SINGLE_ENDED, **DIGITAL),
}


def compiled(spec: ChipSpec, weight_bits: int = 4) -> ConductanceProgram:
    rng = np.random.default_rng(3)
    return compile_network(network(every_node(rng), rng, weight_bits, images=8), spec)


@pytest.mark.parametrize("weight_bits", [2, 4])
@pytest.mark.parametrize("kind", CHIPS)
def test_every_kind_of_node_on_an_ideal_chip_with_uneven_levels(kind: str, weight_bits: int, tmp_path: Path) -> None:
    assert not CHIPS[kind].macro.even_levels
    rng = np.random.default_rng(3)
    check(network(every_node(rng), rng, weight_bits, images=8), CHIPS[kind], tmp_path)


def test_programs_hold_only_values_of_the_cells_and_run_exactly() -> None:
    program = compiled(CHIPS["column pairs"])
    held = {v for m in program.matrices for t in m.group.tiles for v in np.unique(t.levels).tolist()}
    assert held == set(program.spec.macro.weight_values)
    images = program.calibration_images[:2]
    assert run(program, images, IdealMultiply(program)).tolist() == [slow_run(program, image) for image in images]


def test_few_bits_take_few_of_the_values() -> None:
    program = compiled(CHIPS["column pairs"], 2)
    held = {v for m in program.matrices for t in m.group.tiles for v in np.unique(t.levels).tolist()}
    assert held == {-15, 0, 15}
    three = compiled(CHIPS["column pairs"], 3)
    held = {v for m in three.matrices for t in m.group.tiles for v in np.unique(t.levels).tolist()}
    assert held == {-15, -7, -3, 0, 3, 7, 15}


def test_bit_slices_need_even_levels() -> None:
    with pytest.raises(CannotMap, match="slices need evenly spaced levels") as caught:
        compiled(CHIPS["column pairs"], 6)
    assert caught.value.would_fit == ("hil compile --weight-bits 5",)
    assert compiled(CHIPS["column pairs"], 5)


def test_a_program_from_before_values_is_refused_on_such_a_chip(tmp_path: Path) -> None:
    program = compiled(parse_chip(render_chip(CHIPS["column pairs"]), "mine.toml"))
    save_program(program, tmp_path / "program.h5")
    assert load_program(tmp_path / "program.h5").digest == program.digest
    record, arrays = to_record(program)
    assert record.pop("level_values") == [0, 1, 3, 7, 15]
    with pytest.raises(ProgramRecordError, match="compile it again"):
        from_record(record, arrays, program.spec, program.calibration_images)


def quiet(spec: ChipSpec, adc: AdcSpec) -> ChipSpec:
    """The chip without any error of its own, as its file says otherwise."""
    macro = dataclasses.replace(spec.macro, adc=adc)
    return dataclasses.replace(spec, macro=macro, sample=dict.fromkeys(spec.sample, 0.0))


def connected(spec: ChipSpec) -> ChipDriver:
    return connect(InProcessTransport(EmulatedChip(spec, 0), "quiet"), chip=spec)


@pytest.mark.parametrize("levels_us", [DOUBLING, (2.0, 4.1, 8.0, 16.2, 32.0)])
def test_an_errorless_chip_is_off_by_no_more_than_rounding_and_the_error_of_its_values(
    levels_us: tuple[float, ...],
) -> None:
    base = load_chip("lab-128", macros=1)
    spec = quiet(
        dataclasses.replace(base, macro=dataclasses.replace(base.macro, levels_us=levels_us)), AdcSpec(12, (8192.0,), 8)
    )
    macro, rng = spec.macro, np.random.default_rng(5)
    levels = rng.choice(macro.weight_values, (96, 8)).astype(np.int8)
    codes = rng.integers(0, 256, (20, 96)).astype(np.int16)
    with connected(spec) as driver:
        tile = TileAddress(0, 0, 96, 0, 8)
        driver.program_tile(tile, levels)
        result = driver.mvm(tile, codes)
    planes = sum(abs(p.weight) for p in input_planes(macro.inputs, 8, False))
    rounding = 0.5 * macro.lsb_us(0) / macro.level_step_us * planes
    values = codes.sum(1)[:, None] * macro.values.error_us / macro.level_step_us
    found = result.values * macro.lsb_us(0) / macro.level_step_us
    error = np.abs(found - codes @ levels.astype(np.int64))
    assert (error <= rounding + values + 1e-6).all()
    assert (macro.values.error_us > 0) == (levels_us != DOUBLING)


def test_a_network_on_an_errorless_chip_with_uneven_levels_and_its_own_converters_answers_nearly_as_ideal() -> None:
    base = load_chip("lab-128", macros=60)
    spec = quiet(dataclasses.replace(base, macro=dataclasses.replace(base.macro, levels_us=DOUBLING)), base.macro.adc)
    program = compiled(spec)
    images = program.calibration_images
    with connected(spec) as driver:
        program_chip(driver, program, sample=0, watch=Watch())
        measured = run(program, images, MeasuredSums(driver, nominal_corrections(program)))
    ideal = run(program, images, IdealMultiply(program))
    assert np.corrcoef(measured.reshape(-1), ideal.reshape(-1))[0, 1] > 0.99


def test_pair_subtraction_makes_no_difference_to_values() -> None:
    for subtraction in PairSubtraction:
        macro = dataclasses.replace(CHIPS["column pairs"].macro, pair_subtraction=subtraction)
        assert idealised(dataclasses.replace(CHIPS["column pairs"], macro=macro)).macro.values.values == (
            0,
            1,
            3,
            7,
            15,
        )
