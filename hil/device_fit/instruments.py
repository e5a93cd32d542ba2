"""Files of instruments as they come, read as columns of a table of cells: time from the first reading, and conductance.

* Keysight B1500A, CSV of EasyEXPERT: each record from ``SetupTitle`` to its last ``DataValue`` is a cell
* Keithley 4200A-SCS, CSV of Clarius: ``Time`` with a current and a voltage is a cell; ``Time(2)``, … of appended runs
  are further ones
* ArC 2, HDF5 of arc2control: each retention experiment (``RET_…``) of a crosspoint is a cell

Conductance is current over voltage. What a cell was meant to be is in none of them: its first reading stands for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cim.hdf5_file import open_hdf5
from hil.errors import FileError

MOST_BYTES = 256 << 20
MOST_ROWS = 10_000_000
Floats = NDArray[np.float64]
ARC, EXPERIMENT = "H5DS_VERSION_MAJOR", "RET_"
TIME = re.compile(r"time(?: ?\(s\))?", re.IGNORECASE)
CURRENT, VOLTAGE = (re.compile(rf"(?:{x}[A-Za-z]*\d*|[A-Za-z]+{x}\d*)") for x in "IV")
RUN = re.compile(r"(.*?)(?:\((\d+)\))?")


@dataclass(frozen=True, slots=True)
class Trace:
    """One cell over time: seconds, amperes, volts."""

    name: str
    time_s: Floats
    current_a: Floats
    voltage_v: Floats


def instrument_columns(path: Path) -> tuple[dict[str, Floats], tuple[str, ...]] | None:
    """Columns ``cell``, ``time_s``, ``conductance_s`` and ``initial_us``, and notes; None: no such file.

    Raises:
        FileError: a file of an instrument without what a cell over time needs.
    """
    traces, what = traces_of(path)
    if not what:
        return None
    if not traces:
        raise FileError(f"no cell over time in this file of {what}", where=str(path), hint=NEEDED[what])
    parts = [_columns(number, trace, path) for number, trace in enumerate(traces)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns, (f"read as {what}: {len(traces)} cells, targets are first readings",)


def traces_of(path: Path) -> tuple[list[Trace], str]:
    """Traces of a file, and which instrument wrote it; "": none that is known."""
    if path.suffix.lower() in (".h5", ".hdf5"):
        return _arc(path)
    if path.suffix.lower() != ".csv" or path.stat().st_size > MOST_BYTES:
        return [], ""
    lines = path.read_bytes().decode("utf-8-sig", "replace").splitlines()
    head = [line.split(",")[0].strip() for line in lines[:200]]
    if "SetupTitle" in head or "DataName" in head:
        return list(_b1500a(path, lines)), B1500A
    names = [name.strip().strip('"') for name in lines[0].split(",")] if lines else []
    if any(TIME.fullmatch(RUN.fullmatch(n)[1]) for n in names if RUN.fullmatch(n)):  # type: ignore[index]
        found = list(_keithley(path, names, lines[1:]))
        return found, KEITHLEY if found else ""
    return [], ""


B1500A, KEITHLEY, ARC2 = "a Keysight B1500A", "a Keithley 4200A", "an ArC 2"
NEEDED = {
    B1500A: "I/V-t Sampling with Time, a current and a voltage among its DataNames",
    KEITHLEY: "a run with Time, a current and a voltage, as AnodeI and AnodeV",
    ARC2: "the Retention module writes RET_… under each crosspoint",
}


def _columns(number: int, trace: Trace, path: Path) -> dict[str, Floats]:
    good = np.isfinite(trace.time_s) & np.isfinite(trace.current_a) & np.isfinite(trace.voltage_v)
    time_s, current, voltage = trace.time_s[good], trace.current_a[good], trace.voltage_v[good]
    if len(time_s) < 2 or (voltage == 0).any():
        why = "fewer than two readings" if len(time_s) < 2 else "a reading at 0 V"
        raise FileError(f"{trace.name}: {why}, no conductance over time", where=str(path), hint="leave that cell out")
    siemens = np.abs(current / voltage)
    return {
        "cell": np.full(len(time_s), float(number)),
        "time_s": time_s - time_s[0],
        "conductance_s": siemens,
        "initial_us": np.full(len(time_s), siemens[0] * 1e6),
    }


def _chosen(names: Sequence[str], path: Path, of: str) -> tuple[int, int, int]:
    """Places of time, current and voltage among names."""
    places = []
    for pattern, what in ((TIME, "time"), (CURRENT, "current"), (VOLTAGE, "voltage")):
        found = [k for k, name in enumerate(names) if pattern.fullmatch(name) and (what == "time" or len(name) > 0)]
        found = [k for k in found if what == "time" or not TIME.fullmatch(names[k])]
        if len(found) != 1:
            shown = ", ".join(names[:12])
            raise FileError(
                f"{of}: {len(found) or 'no'} columns of {what} among {shown}", where=str(path),
                hint="export one time, one current and one voltage a cell",
            )  # fmt: skip
        places.append(found[0])
    return places[0], places[1], places[2]


def _numbers(rows: Sequence[Sequence[str]], place: int) -> Floats:
    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return float("nan")

    return np.array([number(row[place]) if place < len(row) else float("nan") for row in rows])


def _b1500a(path: Path, lines: Sequence[str]) -> Iterator[Trace]:
    """Records of EasyEXPERT: DataName, then DataValue line by line."""
    names: list[str] = []
    rows: list[list[str]] = []
    count = 0

    def trace() -> Trace:
        time, current, voltage = _chosen(names, path, f"record {count}")
        return Trace(f"record {count}", *(_numbers(rows, k) for k in (time, current, voltage)))

    for line in lines[:MOST_ROWS]:
        key, *values = (part.strip() for part in line.split(","))
        if key == "DataValue":
            rows.append(values)
        elif rows:
            yield trace()
            rows = []
        if key == "DataName":
            names, count = values, count + 1
    if rows:
        yield trace()


def _keithley(path: Path, names: Sequence[str], lines: Sequence[str]) -> Iterator[Trace]:
    """Runs side by side: names without a number, then with (1), (2), …"""
    rows = [line.split(",") for line in lines[:MOST_ROWS] if line.strip()]
    split = [(m[1].strip(), m[2] or "") for m in (RUN.fullmatch(n) for n in names) if m is not None]
    for run in dict.fromkeys(number for name, number in split if TIME.fullmatch(name)):
        places = [k for k, (_, number) in enumerate(split) if number == run]
        mine = [split[k][0] for k in places]
        if not any(CURRENT.fullmatch(n) for n in mine) or not any(VOLTAGE.fullmatch(n) for n in mine):
            continue
        chosen = _chosen(mine, path, f"run {run or 1}")
        yield Trace(f"run {run or 1}", *(_numbers(rows, places[k]) for k in chosen))


def _arc(path: Path) -> tuple[list[Trace], str]:
    """Retention experiments of arc2control, crosspoint by crosspoint."""
    try:
        with open_hdf5(path, MOST_BYTES, records=True) as file:
            if ARC not in file.attrs or "crosspoints" not in file:
                return [], ""
            found: list[Trace] = []
            for crosspoint, group in file["crosspoints"].items():
                for name, table in group.get("experiments", {}).items():
                    if name.startswith(EXPERIMENT):
                        found.append(_retention(f"{crosspoint}/{name}", table[()]))
            return found, ARC2
    except (KeyError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        raise FileError(f"not a readable HDF5 file: {error}", where=str(path)) from error


def _retention(name: str, table: Any) -> Trace:
    seconds = table["tstamp_s"].astype(np.int64) - int(table["tstamp_s"][0])
    time_s = seconds + 1e-6 * table["tstamp_us"].astype(np.float64)
    return Trace(name, time_s, table["current"].astype(np.float64), table["read_voltage"].astype(np.float64))
