"""Series of readings as files: CSV that ``hil fit`` takes, ramps of currents, and HDF5 as arc2control keeps it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import h5py
import numpy as np

from hil.atomic import new_file, write_text
from hil.calibration.pulsing.experiments import Act, Staircase
from hil.calibration.pulsing.run import CellAddress, Series
from hil.errors import UsageError

COLUMNS = (
    "cell", "time_s", "conductance_us", "initial_us", "read_v", "pulses",
    "macro", "row", "column", "pulse", "pulse_v", "pulse_s",
)  # fmt: skip
SUFFIXES = (".csv", ".h5", ".hdf5")
_READ, _PULSE_AND_READ = 1, 3  # op_type of arc2control
_HISTORY = [("current", "<f4"), ("voltage", "<f4"), ("pulse_width", "<f4"), ("read_voltage", "<f4"), ("op_type", "<u4")]
_OVER_TIME = [("read_voltage", "<f4"), ("current", "<f4"), ("tstamp_s", "<u8"), ("tstamp_us", "<u8")]


def check_out(out: Path, macros: int) -> None:
    """Refuse a file that a series cannot be written to, before anything is done."""
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{out} ends in none of {', '.join(SUFFIXES)}")
    if out.suffix.lower() != ".csv" and macros > 1:
        raise UsageError(f"a file of arc2control has one array, and cells of {macros} macros were named")


def write_series(series: Series, out: Path) -> list[Path]:
    """Write readings to ``out``, by its suffix; of a staircase its ramps of currents, too. Gives the files."""
    if out.suffix.lower() != ".csv":
        with new_file(out) as path:
            _write_hdf5(series, path)
        return [out]
    write_text(out, _table(series))
    if not isinstance(series.experiment, Staircase):
        return [out]
    ramps = out.with_suffix(".ramps.csv")
    write_text(ramps, _ramps(series))
    return [out, ramps]


def _table(series: Series) -> str:
    first: dict[CellAddress, float] = {}
    numbers = {cell: number for number, cell in enumerate(series.cells)}
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for one in series.readings:
        initial, at, last = first.setdefault(one.cell, one.conductance_us), one.cell, one.last
        pulse = ("", "", "") if last.act is Act.READ else (last.act.value, f"{last.volts_v:g}", f"{last.seconds:g}")
        lines.writerow(
            (
                numbers[at], f"{one.time_s:.9g}", f"{one.conductance_us:.6g}", f"{initial:.6g}",
                f"{series.spec.macro.v_read_v:g}", one.pulses, at.macro, at.row, at.column, *pulse,
            )
        )  # fmt: skip
    return text.getvalue()


def _ramps(series: Series) -> str:
    """Currents in A after each pulse, one cell a column."""
    columns = [[1e-6 * series.spec.macro.v_read_v * r.conductance_us for r in series.of(c)] for c in series.cells]
    lines = [",".join(f"{series.experiment.name} {number + 1}" for number in range(len(columns)))]
    lines += [",".join(f"{value:.6e}" for value in row) for row in zip(*columns, strict=False)]
    return "\n".join(lines) + "\n"


def _write_hdf5(series: Series, path: Path) -> None:
    """The file that arc2control would have: each crosspoint's history, and what was read over time as retention."""
    read_v, macro = series.spec.macro.v_read_v, series.spec.macro
    last = np.zeros((2, macro.columns, macro.rows), np.float32)  # voltage and current, (bits, words)
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {"CLASS": "GROUP", "PYTABLES_FORMAT_VERSION": "2.1", "H5DS_VERSION_MAJOR": 0, "H5DS_VERSION_MINOR": 1,
             "TITLE": f"{series.experiment.name} on {series.kind} {series.spec.name}", "words": macro.rows,
             "bits": macro.columns}
        )  # fmt: skip
        for name in ("crossbar", "crosspoints", "synthetics"):
            file.create_group(name).attrs["CLASS"] = "GROUP"
        file["crossbar"].attrs.update({"words": macro.rows, "bits": macro.columns})
        stamp_ns = round(series.begun * 1e9)
        for cell in series.cells:
            readings = series.of(cell)
            name, currents = f"W{cell.row:02d}B{cell.column:02d}", [1e-6 * read_v * r.conductance_us for r in readings]
            rows, before = [], 0
            for one, current in zip(readings, currents, strict=True):
                pulsed = one.pulses > before
                sign = {Act.SET: 1.0, Act.RESET: -1.0}.get(one.last.act, 0.0) if pulsed else 0.0
                volts_v = sign * one.last.volts_v if pulsed else read_v
                kind = _PULSE_AND_READ if pulsed else _READ
                rows.append((current, volts_v, one.last.seconds if pulsed else 0.0, read_v, kind))
                before = one.pulses
            history = file.create_dataset(
                f"crosspoints/{name}/timeseries", data=np.array(rows, _HISTORY), maxshape=(None,), chunks=True
            )
            history.attrs.update({"NROWS": len(rows), "TITLE": name, "CLASS": "TABLE", "BASE_SIZE": max(len(rows), 1)})
            if series.experiment.over_time and readings:
                table = np.zeros(len(readings), _OVER_TIME)
                micros = stamp_ns // 1000 + np.rint([1e6 * r.time_s for r in readings]).astype(np.int64)
                table["read_voltage"], table["current"] = read_v, currents
                table["tstamp_s"], table["tstamp_us"] = micros // 1_000_000, micros % 1_000_000
                over = file.create_dataset(f"crosspoints/{name}/experiments/RET_{stamp_ns}", data=table)
                over.attrs.update({"TSTAMP": stamp_ns, "crosspoints": [[cell.row, cell.column]], "NROWS": len(table)})
            if readings:
                last[:, cell.column, cell.row] = read_v, currents[-1]
        file["crossbar"].create_dataset("voltage", data=last[0])
        file["crossbar"].create_dataset("current", data=last[1])
