"""The calibration record and its file."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from cim.array.input_drive import InputDrive
from cim.array.wire_law import Wire, WireEnd
from cim.cells.programming_law import ProgrammingLaw
from cim.cells.read_noise import ReadNoise
from cim.cells.temperature import Thermal
from cim.cells.write_statistics import WriteStatistics
from cim.chip.file import load_chip
from cim.chip.spec import Encoding, PairSubtraction
from cim.record.calibration import CalibrationRecord, NotCalibrated, nominal_macro, tile_conversions
from cim.record.file import RecordFileError, load_record, save_record
from cim.record.published import nominal_record

SAMPLES = {version: Path(__file__).parent.parent / f"calibration-{version}.h5" for version in ("1.0", "1.1")}


def small_record() -> CalibrationRecord:
    spec = load_chip("yao-2020").macro
    levels = np.array(spec.levels_us)
    shape = (2, len(levels))
    law = ProgrammingLaw(
        np.array([1.0, 3600.0]),
        levels,
        np.full(shape, -0.3),
        np.full(shape, 1.1),
        np.full(shape, 2.5),
        np.full(shape, 0.02),
        np.full(shape, 0.03),
        np.full(shape, 0.05),
        0.02,
        0.002,
        0.003,
        np.array([-4.0, 5.5]),
    )
    part = nominal_macro(spec, 3)
    part.cells[2, 5] = 1
    part.stuck_us[2, 5] = 1.5
    noise = ReadNoise(levels, np.full(8, 1.7), np.full(8, 0.05))
    return CalibrationRecord(
        chip_name="yao-2020",
        revision="A",
        serial="7",
        firmware="1.0",
        kind="emulated",
        spec_digest="0" * 64,
        temperature_c=25.0,
        date="2025-01-31T12:00:00+00:00",
        method="test",
        seed=5,
        age_s=3600.0,
        macros={3: part},
        programming=law,
        read_noise=noise,
        wire=Wire(1.0, 0.01, WireEnd.FIRST),
        goodness={"programming_ks": 0.02},
        pulses=12345,
    )


def same(a: object, b: object) -> None:
    for item in fields(a):  # type: ignore[arg-type]
        left, right = getattr(a, item.name), getattr(b, item.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        elif item.name == "macros":
            assert left.keys() == right.keys()
            for number in left:
                same(left[number], right[number])
        elif hasattr(left, "__dataclass_fields__"):
            same(left, right)
        else:
            assert left == right
            assert type(left) is type(right)


def test_a_saved_record_comes_back_the_same(tmp_path: Path) -> None:
    record = small_record()
    save_record(record, tmp_path / "chip.cal.h5")
    same(record, load_record(tmp_path / "chip.cal.h5"))
    assert [p.name for p in tmp_path.iterdir()] == ["chip.cal.h5"]


def record_1_1() -> CalibrationRecord:
    """All that version 1.1 could hold."""
    levels = np.array([2.0, 40.0])
    writes = WriteStatistics(
        levels, np.array([500, 480]), np.array([499, 470]), np.array([0.5, 0.99]), np.array([[3.0, 40.0], [2.0, 9.0]])
    )
    return replace(small_record(), thermal=Thermal(25.0, 5e-4, 1e-5), writes=writes)


def test_samples_of_earlier_versions_are_still_read() -> None:
    same(small_record(), load_record(SAMPLES["1.0"]))
    same(record_1_1(), load_record(SAMPLES["1.1"]))


def test_optional_parts_are_kept_when_there_and_absent_when_not(tmp_path: Path) -> None:
    drive = InputDrive(np.array([0.0, 1.1, 1.9, 3.0]), np.array([0.0, 0.01, 0.02, 0.0]))
    full = replace(record_1_1(), drive=drive)
    save_record(full, tmp_path / "full.h5")
    same(full, load_record(tmp_path / "full.h5"))
    with h5py.File(tmp_path / "full.h5", "r+") as file:
        del file["thermal"]
        del file["writes"]
        del file["drive"]
    same(small_record(), load_record(tmp_path / "full.h5"))


def test_a_newer_minor_version_is_read_and_its_new_names_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.h5"
    save_record(small_record(), path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = "1.7"
        file.attrs["humidity"] = 40.0
        file["wire"].attrs["inductance"] = 1e-9
    same(small_record(), load_record(path))


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: f.attrs.__setitem__("format", "something.else"),
        lambda f: f.attrs.__delitem__("format"),
        lambda f: f.attrs.__setitem__("version", "x"),
        lambda f: f.attrs.__setitem__("goodness", "[1"),
        lambda f: f.__delitem__("programming"),
        lambda f: f.__delitem__("macros/3/gain"),
        lambda f: f["macros/3/adc"].__setitem__(0, 99),
        lambda f: f["programming/scale_us"].__setitem__((0, 0), -1.0),
        lambda f: f["wire"].attrs.__setitem__("end", "sideways"),
        lambda f: f.__setitem__("macros/x", f["macros/3"]),
    ],
)
def test_a_damaged_record_is_one_typed_error(tmp_path: Path, harm: object) -> None:
    path = tmp_path / "bad.h5"
    save_record(small_record(), path)
    with h5py.File(path, "r+") as file:
        harm(file)  # type: ignore[operator]
    with pytest.raises(RecordFileError) as caught:
        load_record(path)
    assert caught.value.path == str(path)


def test_a_record_of_hundreds_of_large_macros_is_read_again(tmp_path: Path) -> None:
    spec, macros = load_chip("mnsim-256"), tuple(range(200))
    save_record(nominal_record(spec, macros), tmp_path / "large.h5")
    assert load_record(tmp_path / "large.h5").macro(199).cells.shape == (spec.macro.rows, spec.macro.columns)


def test_a_record_in_parts_that_disagree_cannot_exist() -> None:
    part = small_record().macros[3]
    with pytest.raises(ValueError, match="offset_codes"):
        replace(part, offset_codes=part.offset_codes[:-1])
    law = small_record().programming
    with pytest.raises(ValueError, match="ascend"):
        replace(law, ages_s=law.ages_s[::-1])


def test_a_macro_that_was_not_measured_is_named() -> None:
    with pytest.raises(NotCalibrated, match=r"macro 5 .*\(3,\)"):
        small_record().macro(5)


def test_conversions_of_a_tile_are_found_in_the_order_of_the_macro() -> None:
    spec = load_chip("lab-128").macro
    assert tile_conversions(spec, 2, 2).tolist() == [2, 3]
    digital = replace(spec, pair_subtraction=PairSubtraction.DIGITAL)
    assert tile_conversions(digital, 2, 2).tolist() == [2, 3, 66, 67]
    offset = replace(spec, encoding=Encoding.OFFSET_COLUMN)
    assert tile_conversions(offset, 2, 2).tolist() == [2, 3, 127]
