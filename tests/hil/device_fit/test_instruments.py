"""Files of instruments as they come, read by ``hil fit``: written here as the instruments write them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hil.device_fit.measured_tables import read_table
from hil.device_fit.readings import by_age
from hil.errors import FileError

TIMES = np.array([0.5, 1.5, 10.5, 100.5])
CELLS_US = np.array([[20.0, 19.0, 18.5, 18.0], [5.0, 5.5, 6.0, 6.5], [33.0, 33.0, 32.0, 31.0]])
VOLTS = 0.2


def b1500a(path: Path) -> None:
    """EasyEXPERT: a record a cell, with its settings before it."""
    lines = []
    for cell in CELLS_US:
        lines += ["SetupTitle, I/V-t Sampling", "PrimitiveTest, I/V-t Sampling", "TestParameter, Channel.UnitType, SMU"]
        lines += ["MetaData, TestRecord.Remarks, ", "AnalysisSetup, Analysis.Setup.Title, ", "Dimension1, 4, 4, 4"]
        lines.append("DataName, Time, Vtop, Itop")
        lines += [f"DataValue, {t}, {VOLTS}, {g * 1e-6 * VOLTS:.9E}" for t, g in zip(TIMES, cell, strict=True)]
    path.write_text("\n".join(lines) + "\n", "utf-8-sig")


def keithley(path: Path) -> None:
    """Clarius: appended runs side by side, numbered from the second on."""
    names = [f"{name}{'' if k == 0 else f'({k})'}" for k in range(3) for name in ("Time", "AnodeI", "AnodeV")]
    rows = [
        ",".join(f"{t:.6f},{-g * 1e-6 * VOLTS:.9E},{-VOLTS:.6f}" for g in CELLS_US[:, k]) for k, t in enumerate(TIMES)
    ]
    path.write_text("\n".join([",".join(names), *rows]) + "\n")


def arc2(path: Path) -> None:
    """arc2control: the Retention module's tables under each crosspoint."""
    kind = [("read_voltage", "<f4"), ("current", "<f4"), ("tstamp_s", "<u8"), ("tstamp_us", "<u8")]
    with h5py.File(path, "w") as file:
        file.attrs["H5DS_VERSION_MAJOR"], file.attrs["words"] = 0, 32
        for k, cell in enumerate(CELLS_US):
            table = np.zeros(len(TIMES), kind)
            table["read_voltage"], table["current"] = VOLTS, cell * 1e-6 * VOLTS
            table["tstamp_s"], table["tstamp_us"] = 1_700_000_000 + np.floor(TIMES), 1e6 * (TIMES % 1)
            file.create_dataset(f"crosspoints/W{k:02d}B07/experiments/RET_170000000000000000{k}", data=table)
            file.create_dataset(f"crosspoints/W{k:02d}B07/timeseries", data=np.zeros(3, kind))


FILES = {"b1500a.csv": b1500a, "keithley.csv": keithley, "arc2.h5": arc2}


@pytest.mark.parametrize("name", FILES)
def test_cells_over_time_come_out_of_the_file_of_an_instrument(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    table = read_table(tmp_path / name)
    readings = by_age(table)
    np.testing.assert_allclose(readings.targets_us, CELLS_US[:, 0], rtol=1e-5)
    np.testing.assert_allclose(readings.readings_us.T, CELLS_US[:, 1:], rtol=1e-5)
    np.testing.assert_allclose(readings.ages_s, TIMES[1:] - TIMES[0], rtol=1e-5)
    assert "3 cells, targets are first readings" in table.notes[0]


def test_a_record_without_a_voltage_is_named(tmp_path: Path) -> None:
    b1500a(tmp_path / "b.csv")
    text = (tmp_path / "b.csv").read_text("utf-8-sig").replace("Vtop", "Gate")
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(FileError, match="record 1: no columns of voltage among Time, Gate, Itop"):
        read_table(tmp_path / "b.csv")


def test_a_reading_at_no_voltage_is_no_conductance(tmp_path: Path) -> None:
    keithley(tmp_path / "k.csv")
    text = (tmp_path / "k.csv").read_text().replace(f"{-VOLTS:.6f}", "0.000000", 1)
    (tmp_path / "k.csv").write_text(text)
    with pytest.raises(FileError, match="run 1: a reading at 0 V"):
        read_table(tmp_path / "k.csv")


def test_a_table_of_ones_own_stays_one(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("cell,time_s,conductance_us,target_us\n0,1,20,21\n1,1,30,31\n")
    assert len(read_table(tmp_path / "own.csv")) == 2
