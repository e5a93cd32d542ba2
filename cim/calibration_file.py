"""The calibration record as an HDF5 file (format ``hil.calibration``, version 1.0)."""

from __future__ import annotations

import io
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cim.calibration import CalibrationRecord, GainKnown, MacroCalibration
from cim.programming_law import ProgrammingLaw
from cim.read_noise import ReadNoise
from cim.wire_law import Wire, WireEnd

FORMAT = "hil.calibration"
VERSION = (1, 0)
MAX_BYTES = 1 << 30  # a record of 64 macros of 128 x 128 takes 3 MB

_TEXTS = ("chip_name", "revision", "serial", "firmware", "kind", "spec_digest", "date", "method")


class RecordFileError(Exception):
    """A calibration file is missing, broken or no calibration; fields ``path`` and ``text``."""

    def __init__(self, path: str | Path, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path, self.text = str(path), text


class NewerRecord(RecordFileError):
    """The file was written by a newer major version; fields ``found`` and ``known``."""

    def __init__(self, path: str | Path, found: str) -> None:
        self.known = f"{VERSION[0]}.{VERSION[1]}"
        super().__init__(path, f"calibration format {found}; this program reads up to {self.known}")
        self.found = found


def save_record(record: CalibrationRecord, path: str | Path) -> None:
    """Write a record; the file appears under its name only when it is complete."""
    path = Path(path)
    content = io.BytesIO()  # in memory first: HDF5 itself does not survive a full disk
    with h5py.File(content, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = f"{VERSION[0]}.{VERSION[1]}"
        for name in _TEXTS:
            file.attrs[name] = getattr(record, name)
        for name in ("temperature_c", "seed", "age_s", "pulses"):
            file.attrs[name] = getattr(record, name)
        file.attrs["goodness"] = json.dumps(dict(record.goodness))
        _write(file.create_group("programming"), record.programming)
        _write(file.create_group("read_noise"), record.read_noise)
        _write(file.create_group("wire"), record.wire)
        for number, macro in sorted(record.macros.items()):
            _write(file.create_group(f"macros/{number}"), macro)
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(content.getvalue())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_record(path: str | Path) -> CalibrationRecord:
    """Read a record.

    Raises:
        RecordFileError: no such file, broken, too large, or not a calibration.
        NewerRecord: a newer major version.
    """
    path = Path(path)
    if not path.is_file():
        raise RecordFileError(path, "no such file")
    if path.stat().st_size > MAX_BYTES:
        raise RecordFileError(path, f"{path.stat().st_size} bytes; a calibration has at most {MAX_BYTES}")
    try:
        with h5py.File(path, "r") as file:
            if _text(file.attrs["format"]) != FORMAT:
                raise RecordFileError(path, f"format {file.attrs['format']!r}, not {FORMAT!r}")
            version = _text(file.attrs["version"])
            if int(version.split(".")[0]) > VERSION[0]:
                raise NewerRecord(path, version)
            return CalibrationRecord(
                **{name: _text(file.attrs[name]) for name in _TEXTS},
                temperature_c=float(file.attrs["temperature_c"]),
                seed=int(file.attrs["seed"]),
                age_s=float(file.attrs["age_s"]),
                pulses=int(file.attrs["pulses"]),
                goodness={str(k): float(v) for k, v in json.loads(_text(file.attrs["goodness"])).items()},
                programming=ProgrammingLaw(**_read(file["programming"], ProgrammingLaw)),
                read_noise=ReadNoise(**_read(file["read_noise"], ReadNoise)),
                wire=Wire(**_read(file["wire"], Wire)),
                macros={int(n): MacroCalibration(**_read(g, MacroCalibration)) for n, g in file["macros"].items()},
            )
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise RecordFileError(path, f"not a readable calibration: {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text expected, found {type(value).__name__}")
    return value


def _write(group: Any, part: Any) -> None:
    """Every field of a dataclass: arrays as data sets, numbers and texts as attributes."""
    for item in fields(part):
        value = getattr(part, item.name)
        if isinstance(value, np.ndarray):
            small = value.size < 64
            group.create_dataset(item.name, data=value, compression=None if small else "gzip", shuffle=not small)
        else:
            group.attrs[item.name] = str(value) if isinstance(value, str) else value


_ENUMS: dict[str, Any] = {"gain_known": GainKnown, "end": WireEnd}
_WHOLE = {"macro": int}
_DTYPES = {"cells": np.int8, "adc": np.int64, "stuck_us": np.float32}


def _read(group: Any, kind: type) -> dict[str, Any]:
    """The fields that ``kind`` needs; names that a newer minor version added are left alone."""
    values: dict[str, Any] = {}
    for item in fields(kind):
        if item.name in group:
            data = group[item.name]
            if data.size > MAX_BYTES // 8:
                raise ValueError(f"{item.name} declares {data.size} values")
            values[item.name] = data[()].astype(_DTYPES.get(item.name, np.float64))
        elif item.name in _ENUMS:
            values[item.name] = _ENUMS[item.name](_text(group.attrs[item.name]))
        else:
            values[item.name] = _WHOLE.get(item.name, float)(group.attrs[item.name])
    return values
