"""Calibration finds the hidden truth of emulated chips through the wire, within its own errors.

Tests may look at the truth (``chip._sample``); no message carries it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import cim
from cim.fit.cells import TooFewCells
from cim.record.calibration import CalibrationRecord, CellState, GainKnown, MacroCalibration
from cim.record.file import load_record, save_record
from hil.calibration.account import first_of
from hil.calibration.procedure import calibrate, check_record
from hil.driver.open_chip import connect
from hil.emulator.address import chip_from_address
from hil.emulator.chip import EmulatedChip
from hil.emulator.sample import STUCK_HIGH, STUCK_LOW, MacroSample
from hil.errors import MismatchError
from hil.transports.in_process import InProcessTransport
from hil.watch import Watch

CHIPS = Path(cim.__file__).parent / "chips"


def measured(
    address: str, macros: tuple[int, ...] = (0,), watch: Watch | None = None
) -> tuple[EmulatedChip, CalibrationRecord]:
    chip = chip_from_address(address)
    with connect(InProcessTransport(chip, address), chip=chip.spec) as driver:
        return chip, calibrate(driver, macros, watch=watch)


def truth(chip: EmulatedChip, macro: int = 0) -> MacroSample:
    return chip._sample.macros[macro]


@pytest.fixture(scope="module")
def plain() -> tuple[EmulatedChip, CalibrationRecord]:
    """Converters on a straight line, no wires: every parameter can be told from every other."""
    return measured("emulated:lab-128?macros=1&seed=5&inl_lsb=0&wire_ohm=0")


@pytest.fixture(scope="module")
def usual() -> tuple[EmulatedChip, CalibrationRecord]:
    """Two macros of a worse chip than the file's, with everything on."""
    odd = "column_gain_sigma=0.1&adc_offset_codes=3&stuck_low_share=0.05&stuck_high_share=0.02&read_variance_us2=3"
    return measured(f"emulated:lab-128?macros=3&seed=6&{odd}", (0, 2))


def test_gain_and_offset_of_columns_lie_within_their_standard_errors(
    plain: tuple[EmulatedChip, CalibrationRecord],
) -> None:
    chip, record = plain
    found, hidden = record.macros[0], truth(chip)
    gain = (found.gain - hidden.gain / hidden.sense_gain) / found.gain_se
    offset = (found.offset_codes - hidden.offset_codes[found.adc]) / found.offset_se
    for name, z in (("gain", gain), ("offset", offset)):
        assert 0.6 < np.sqrt(np.mean(z**2)) < 1.6, name
        assert np.abs(z).max() < 5, name
    assert np.median(found.gain_se) < 0.005
    assert np.median(found.offset_se) < 0.1


def test_a_chip_without_wires_has_none(plain: tuple[EmulatedChip, CalibrationRecord]) -> None:
    wire = plain[1].wire
    assert abs(wire.ohm) < 0.1
    assert abs(wire.ohm) < 4 * wire.ohm_se


def test_columns_are_found_on_a_chip_with_everything_on(usual: tuple[EmulatedChip, CalibrationRecord]) -> None:
    """Gain and curve share one direction then, so the errors are wider than the standard errors of either."""
    chip, record = usual
    for macro, found in record.macros.items():
        hidden = truth(chip, macro)
        gain = hidden.gain / hidden.sense_gain
        assert found.gain_known is GainKnown.SENSE
        assert np.corrcoef(found.gain, gain)[0, 1] > 0.97
        assert np.abs(found.gain - gain).mean() < 0.03
        assert np.abs(found.offset_codes - hidden.offset_codes[found.adc]).mean() < 0.5
    assert record.goodness["columns_r2"] > 0.98


def test_stuck_cells_are_found_and_few_others_are_called_stuck(usual: tuple[EmulatedChip, CalibrationRecord]) -> None:
    chip, record = usual
    for macro, found in record.macros.items():
        kind = truth(chip, macro).kind
        for state, hidden in ((CellState.STUCK_LOW, STUCK_LOW), (CellState.STUCK_HIGH, STUCK_HIGH)):
            called, real = found.cells == state, kind == hidden
            assert real.sum() > 200
            assert (called & real).sum() >= 0.99 * real.sum()
            assert (called & ~real).sum() <= 0.03 * real.sum()
        stuck = found.cells == CellState.STUCK_HIGH
        assert np.isfinite(found.stuck_us[stuck]).all()
        assert found.stuck_us[stuck].min() > 25
    assert record.programming.stuck_low_share == pytest.approx(0.05, abs=0.005)
    assert record.programming.stuck_high_share == pytest.approx(0.02, abs=0.005)


def test_read_noise_is_found_at_every_level(usual: tuple[EmulatedChip, CalibrationRecord]) -> None:
    """But the lowest, where readings end at zero and the spread is cut."""
    noise = usual[1].read_noise
    z = (noise.variance_us2 - 3.0) / noise.se_us2
    assert np.abs(z[1:]).max() < 4
    assert 0.6 * 3.0 < noise.variance_us2[0] < 1.05 * 3.0


def test_wires_are_found_with_their_end(usual: tuple[EmulatedChip, CalibrationRecord]) -> None:
    """The emulator solves the network, the record holds a first-order law: the size agrees, not the last digit."""
    chip, record = usual
    assert 0.5 < record.wire.ohm / chip._sample.parameters.wire_ohm < 3.0


def test_cells_move_with_age_and_the_law_says_how(usual: tuple[EmulatedChip, CalibrationRecord]) -> None:
    law = usual[1].programming
    assert law.ages_s[0] < 60
    assert law.ages_s[-1] == pytest.approx(3600, rel=0.05)
    assert usual[1].age_s == law.ages_s[-1]
    assert np.mean(law.scale_us[-1]) > np.mean(law.scale_us[0]) > 0.3
    assert usual[1].goodness["programming_ks"] < 0.1


def test_the_age_is_that_of_the_measurement() -> None:
    chip = chip_from_address("emulated:yao-2020?macros=1")
    with connect(InProcessTransport(chip, "here"), chip=chip.spec) as driver:
        record = calibrate(driver, (0,), age_s=60.0)
    assert record.age_s == pytest.approx(60.0, abs=5.0)


def test_where_cells_are_read_through_the_column_only_the_product_is_told(tmp_path: Path) -> None:
    text = (CHIPS / "yao-2020.toml").read_text("utf-8")
    edited = text.replace('read_path = { value = "sense"', 'read_path = { value = "column_adc"')
    assert edited != text
    (tmp_path / "own.toml").write_text(edited, "utf-8")
    chip, record = measured(f"emulated:{tmp_path / 'own.toml'}?macros=1&seed=3&column_gain_sigma=0.1")
    found = record.macros[0]
    assert found.gain_known is GainKnown.PRODUCT
    assert truth(chip).gain.std() > 0.06
    assert np.abs(found.gain - 1).mean() < 0.05, "readings hold the column's gain already"
    assert any("only the product is seen" in line for line in first_of(record).lines())


def test_the_same_chip_and_seed_give_the_same_record_and_another_seed_nearly_the_same() -> None:
    address = "emulated:yao-2020?macros=1&seed=2"
    chip = chip_from_address(address)
    first, second = measured(address)[1], measured(address)[1]
    assert np.array_equal(first.macros[0].gain, second.macros[0].gain)
    assert first.pulses == second.pulses
    with connect(InProcessTransport(chip, address), chip=chip.spec) as driver:
        other = calibrate(driver, (0,), seed=9)
    assert other.seed == 9
    assert not np.array_equal(first.macros[0].gain, other.macros[0].gain)
    assert np.abs(first.macros[0].gain - other.macros[0].gain).max() < 0.1


def test_a_record_is_the_same_after_saving(plain: tuple[EmulatedChip, CalibrationRecord], tmp_path: Path) -> None:
    record = plain[1]
    save_record(record, tmp_path / "record.h5")
    again = load_record(tmp_path / "record.h5")
    for field in dataclasses.fields(MacroCalibration):
        ours, theirs = getattr(record.macros[0], field.name), getattr(again.macros[0], field.name)
        assert np.array_equal(ours, theirs, equal_nan=field.name == "stuck_us"), field.name
    assert np.array_equal(record.programming.scale_us, again.programming.scale_us)
    assert first_of(again) == first_of(record)
    assert [p.name for p in tmp_path.iterdir()] == ["record.h5"]


def test_a_record_names_the_chip_the_method_and_the_wear(plain: tuple[EmulatedChip, CalibrationRecord]) -> None:
    chip, record = plain
    assert record.serial == chip.describe().serial
    assert record.spec_digest == chip.spec.digest
    assert record.kind == "emulated"
    assert record.temperature_c == chip.status().temperature_c
    assert record.pulses == chip.status().pulses_total
    text = "\n".join(first_of(record).lines())
    for word in ("emulated lab-128", "NOT SILICON", "1 measured, cells to ", "stuck low 2.", "µS² a read", "Ω a cell"):
        assert word in text


def test_a_record_of_another_chip_or_description_is_refused(plain: tuple[EmulatedChip, CalibrationRecord]) -> None:
    chip, record = plain
    with connect(InProcessTransport(chip, "here"), chip=chip.spec) as driver:
        check_record(record, driver, (0,))
        for field, what in (
            ("serial", "serial number: 'else'"),
            ("chip_name", "chip: 'else'"),
            ("spec_digest", r"chip description: 'another file than lab-128\.toml is \(digest else"),
        ):
            with pytest.raises(MismatchError, match=f"another {what}"):
                check_record(dataclasses.replace(record, **{field: "else"}), driver, (0,))
        with pytest.raises(MismatchError, match="macro 1"):
            check_record(record, driver, (0, 1))


def test_outputs_are_off_after_a_calibration(plain: tuple[EmulatedChip, CalibrationRecord]) -> None:
    assert not plain[0].status().outputs_on


def test_a_chip_whose_cells_are_all_stuck_is_said_to_be_so() -> None:
    with pytest.raises(TooFewCells):
        measured("emulated:yao-2020?macros=1&stuck_low_share=1")
