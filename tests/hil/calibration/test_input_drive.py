"""Inputs of several bits a read on emulated chips: row drivers are found through the wire, cubic cells followed.

Tests may look at the truth (``chip._sample``); no message carries it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cim.array.cell_iv import unit_parts
from cim.array.input_drive import InputDrive
from cim.array.wire_law import Wire
from cim.cells.read_noise import ReadNoise
from cim.chip.correction import SHIFT, Correction
from cim.chip.file import idealised, load_chip
from cim.chip.spec import CellIv, ChipSpec, InputCoding, MacroSpec
from cim.record.calibration import CalibrationRecord
from cim.record.device import Columns
from cim.simulator.layer import NoiseKey, simulated_tile
from cim.simulator.simulator import LayerSimulator
from firmware_protocols.messages import Returns, TileAddress
from hil.calibration.patterns import network_vectors, step_vectors, wide_range
from hil.calibration.plan import PLANS, Budget
from hil.calibration.procedure import make_record
from hil.calibration.steps import CalibrationSteps
from hil.driver.chip_driver import ChipDriver
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.emulator.sample import draw_drive
from hil.report.work_folder import WorkFolder
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch

from ..emulated_bench import QUIET, multiply, write_levels

A111 = load_chip("a111", macros=1)


@dataclass(frozen=True)
class Calibrated:
    """A chip with its record, the record of a calibration that knows nothing of row drivers, and fresh products:
    input codes, and sums as measured, means of ``REPEATS`` reads."""

    chip: EmulatedChip
    record: CalibrationRecord
    blind: CalibrationRecord
    codes: NDArray[np.int16]
    sums: NDArray[np.float64]
    cells_us: NDArray[np.float32]


REPEATS = 60


def random_levels(chip: EmulatedChip, rows: int, outputs: int) -> NDArray[np.int8]:
    top = chip.spec.macro.max_level
    return np.random.default_rng(2).integers(-top, top + 1, (rows, outputs)).astype(np.int8)


@pytest.fixture(scope="module")
def calibrated() -> Calibrated:
    address = "emulated:a111?macros=1&seed=8&dac_inl=1.0"
    chip = chip_from_address(address)
    assert isinstance(chip, EmulatedChip)
    with connect(InProcessTransport(chip, address), chip=chip.spec) as driver:
        watch = Watch()
        found = CalibrationSteps(driver, (0,), PLANS[Budget.QUICK], 0, WorkFolder(None, {}), watch).run(3600.0, None)
        record = make_record(driver, (0,), found, seed=0, budget=Budget.QUICK, watch=watch)
        found.steps = {}
        blind = make_record(driver, (0,), found, seed=0, budget=Budget.QUICK, watch=watch)
        codes = network_vectors(chip.spec.macro, 60, np.random.default_rng(5))
        return Calibrated(chip, record, blind, codes, measured_sums(driver, codes), found.aged[-1][0].readings_us)


def measured_sums(driver: ChipDriver, codes: NDArray[np.int16]) -> NDArray[np.float64]:
    spec = driver.spec.macro
    tile = TileAddress(0, 0, spec.logical_rows, 0, spec.outputs)
    return np.mean(
        [
            driver.mvm(
                tile, codes, range_code=wide_range(spec), input_bits=8, input_signed=False, sample=77000 + repeat,
                vectors_per_sample=len(codes), returns=Returns.SUMS,
            ).values
            for repeat in range(REPEATS)
        ],
        axis=0,
    )  # fmt: skip


def simulated_sums(spec: MacroSpec, found: Calibrated, record: CalibrationRecord) -> NDArray[np.float64]:
    """What the record says of the same cells and inputs, without noise but the converter's rounding."""
    part = record.macros[0]
    quiet = np.zeros_like(part.conversion_noise_codes)
    none = np.zeros(spec.outputs, np.int64)
    tile = simulated_tile(
        spec,
        np.nan_to_num(found.cells_us),
        Columns(part.gain, part.offset_codes, quiet, part.adc, part.inl_codes),
        Correction(np.full(spec.outputs, 1 << SHIFT, np.int32), none, none.astype(np.int32), SHIFT),
        inputs=range(spec.logical_rows),
        outputs=range(spec.outputs),
        multiplier=1,
        row0=0,
        output0=0,
    )
    levels = record.read_noise.levels_us
    layer = LayerSimulator(
        spec, [tile], window=None, inputs=spec.logical_rows, outputs=spec.outputs, range_code=wide_range(spec),
        input_bits=8, input_signed=False, read_noise=ReadNoise(levels, np.zeros(len(levels)), np.zeros(len(levels))),
        wire=record.wire, drive=record.drive,
    )  # fmt: skip
    return layer.level_sums(found.codes, NoiseKey(3))[0].astype(np.float64)


def test_the_table_of_the_row_drivers_is_found_within_its_errors(calibrated: Calibrated) -> None:
    drive, truth = calibrated.record.drive, calibrated.chip._sample.drive
    assert drive is not None
    z = ((drive.units - truth) / np.maximum(drive.units_se, 1e-12))[1:-1]
    assert np.sqrt(np.mean(z**2)) < 1.8  # one chip's errors hang together: full drive is in all of them
    assert np.abs(z).max() < 4.0
    assert drive.units_se.max() < 0.05
    assert np.abs(truth - np.arange(16.0)).max() == pytest.approx(1.0)
    assert (drive.units[0], drive.units[15]) == (0.0, 15.0)


def test_simulated_sums_follow_the_chip_with_the_table_and_not_without(calibrated: Calibrated) -> None:
    spec = calibrated.chip.spec.macro
    known, blind = (
        float(np.std(calibrated.sums - simulated_sums(spec, calibrated, record)))
        for record in (calibrated.record, calibrated.blind)
    )
    assert blind > 1.3 * known
    lost = calibrated.record.goodness["network_r2"] - calibrated.blind.goodness["network_r2"]
    assert lost > 0.0
    assert calibrated.blind.drive is None


def test_chips_of_one_bit_reads_are_not_asked(tmp_path: Path) -> None:
    chip = chip_from_address("emulated:yao-2020?macros=1&seed=2&dac_inl=0.5")
    assert isinstance(chip, EmulatedChip)
    np.testing.assert_array_equal(chip._sample.drive, [0.0, 1.0])
    with connect(InProcessTransport(chip, "x"), chip=chip.spec) as driver:
        work = WorkFolder(tmp_path / "steps", {})
        CalibrationSteps(driver, (0,), PLANS[Budget.QUICK], 0, work, Watch()).run(60.0, None)
    assert not work.has("steps.h5")
    assert work.has("network.h5")


def test_every_subset_of_rows_is_driven_with_every_unit() -> None:
    vectors = step_vectors(A111.macro, 8, np.random.default_rng(1)).reshape(8, 15, -1)
    for subset in vectors:
        np.testing.assert_array_equal(subset, subset[0] * np.arange(1, 16)[:, None])
        rows = np.flatnonzero(subset[0])
        assert len(rows) > 10
        assert len(set(rows % 2)) == 1


def test_row_drivers_are_drawn_once_a_chip_and_change_nothing_else() -> None:
    straight, bent, again = (
        chip_from_address(f"emulated:a111?macros=1&seed=4&dac_inl={size}")._sample for size in (0.0, 0.3, 0.3)
    )
    np.testing.assert_array_equal(straight.drive, np.arange(16.0))
    np.testing.assert_array_equal(bent.drive, again.drive)
    assert np.abs(bent.drive - np.arange(16.0)).max() == pytest.approx(0.3)
    np.testing.assert_array_equal(straight.macros[0].gain, bent.macros[0].gain)
    np.testing.assert_array_equal(straight.macros[0].kind, bent.macros[0].kind)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(draw_drive(1, 0.5, rng), [0.0, 1.0])


# --- cells of cubic current -----------------------------------------------------------------------


def cubic_chip() -> ChipSpec:
    """An ideal chip but for its cells, whose inputs are voltages; k as measured of cells of these conductances."""
    spec = idealised(A111)
    k = tuple(np.interp(spec.macro.levels_us, [2.0, 18.0], [2.8, 1.7]))
    inputs = replace(spec.macro.inputs, coding=InputCoding.AMPLITUDE)
    macro = replace(spec.macro, cell_iv=CellIv.CUBIC, cell_iv_k_per_v2=k, inputs=inputs, v_read_v=0.3)
    return replace(spec, macro=macro)


@pytest.mark.parametrize("dac_inl", [0.0, 0.4])
def test_simulated_sums_are_the_emulated_ones_on_an_ideal_chip_with_cubic_cells(dac_inl: float) -> None:
    """Emulator and simulator interpolate k each in its own way, but agree at the levels."""
    spec = cubic_chip()
    chip = EmulatedChip(spec, 3, {**QUIET, "dac_inl": dac_inl})
    levels = random_levels(chip, 120, 20)
    tile = write_levels(chip, levels)
    codes = np.random.default_rng(6).integers(0, 256, (40, 120)).astype(np.int16)
    emulated = multiply(chip, tile, codes, range_code=0).values
    drive = None if dac_inl == 0.0 else InputDrive(chip._sample.drive, np.zeros(16))
    cells = chip._cells[0].conductance_us(chip._settled_ns)
    straight = replace(spec.macro, cell_iv=CellIv.LINEAR, cell_iv_k_per_v2=())
    simulated, linear = (ideal_sums(m, cells, codes, levels.shape, drive) for m in (spec.macro, straight))
    assert (simulated != emulated).mean() < 0.05  # sums next to half a code
    assert np.abs(simulated - emulated).max() <= 17  # one code of each plane
    assert np.std(linear - emulated) > 30.0


def ideal_sums(
    spec: MacroSpec,
    cells_us: NDArray[np.floating],
    codes: NDArray[np.int16],
    shape: tuple[int, ...],
    drive: InputDrive | None,
) -> NDArray[np.int32]:
    rows, outputs = shape
    count = spec.outputs
    none = np.zeros(outputs, np.int64)
    tile = simulated_tile(
        spec,
        cells_us,
        Columns(np.ones(count), np.zeros(count), np.zeros(count), np.zeros(count, np.int64), np.zeros((1, 17))),
        Correction(np.full(outputs, 1 << SHIFT, np.int32), none, none.astype(np.int32), SHIFT),
        inputs=range(rows),
        outputs=range(outputs),
        multiplier=1,
        row0=0,
        output0=0,
    )
    quiet = ReadNoise(np.array([1.0, 40.0]), np.zeros(2), np.zeros(2))
    layer = LayerSimulator(
        spec, [tile], window=None, inputs=rows, outputs=outputs, range_code=0, input_bits=8, input_signed=False,
        read_noise=quiet, wire=Wire(0.0, 0.0), drive=drive,
    )  # fmt: skip
    return layer.level_sums(codes, NoiseKey(1))[0]


def test_a_cell_at_full_input_is_the_cell_that_was_read() -> None:
    spec = cubic_chip()
    chip = EmulatedChip(spec, 3, QUIET)
    tile = write_levels(chip, random_levels(chip, 30, 4))
    full = np.full((1, 30), 255, np.int16)
    straight = EmulatedChip(replace(spec, macro=replace(spec.macro, cell_iv=CellIv.LINEAR)), 3, QUIET)
    write_levels(straight, random_levels(straight, 30, 4))
    np.testing.assert_array_equal(multiply(chip, tile, full).values, multiply(straight, tile, full).values)
    linear, cubic = unit_parts(spec.macro, np.array(spec.macro.levels_us))
    assert cubic is not None
    np.testing.assert_allclose(linear * 15 + cubic * 15**3, 15 * np.array(spec.macro.levels_us))
