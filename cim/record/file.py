"""The calibration record as an HDF5 file (format ``hil.calibration``, version 1.2).

A dataclass is a group: arrays are data sets; numbers, texts and enums attributes; a part that is a dataclass itself is
a group again, a part that was not measured is left out. The annotation of a field gives its type, so a new field with a
default needs no code here, and older files load. Version 1.1 added ``thermal``, ``writes`` and fields of the laws; 1.2
added ``drive``.
"""

from __future__ import annotations

import enum
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import h5py
import numpy as np

from cim.cells.laws.registry import tail_named
from cim.cells.laws.tail import Tail
from cim.errors import CimFileError, CimMismatch
from cim.files import write_bytes
from cim.hdf5_file import open_hdf5
from cim.json_text import parse_json
from cim.record.calibration import CalibrationRecord, CellState

FORMAT = "hil.calibration"
VERSION = (1, 2)
MAX_BYTES = 1 << 30  # a record of 64 macros of 128 x 128 takes 3 MB, of 384 of 256 x 512 28 MB, 270 MB of arrays

T = TypeVar("T")


class RecordFileError(CimFileError):
    """A calibration file is missing, broken or no calibration; fields ``path`` and ``text``."""

    def __init__(self, path: str | Path, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path, self.text = str(path), text


class NewerRecord(RecordFileError, CimMismatch):
    """The file was written by a newer major version; fields ``found`` and ``known``."""

    def __init__(self, path: str | Path, found: str) -> None:
        self.known = f"{VERSION[0]}.{VERSION[1]}"
        super().__init__(path, f"calibration format {found}; this program reads up to {self.known}")
        self.found = found


def save_record(record: CalibrationRecord, path: str | Path) -> None:
    """Write a record; the file appears under its name only when it is complete. Raises ``OSError``.

    Args:
        record: to write.
        path: of the record.

    Example:
        >>> save_record(nominal_record(spec), "model.h5")
        >>> load_record("model.h5").kind
        'model'
    """
    content = io.BytesIO()  # in memory first: HDF5 itself does not survive a full disk
    with h5py.File(content, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = f"{VERSION[0]}.{VERSION[1]}"
        write_fields(file, record)
    write_bytes(path, content.getbuffer())


@dataclass(frozen=True, slots=True)
class RecordHead:
    """The chip that a record is of, and when it was measured (ISO 8601)."""

    chip_name: str
    serial: str
    firmware: str
    kind: str
    spec_digest: str
    date: str


def load_head(path: str | Path) -> RecordHead:
    """Read the head of a record, without its arrays. Raises what ``load_record`` raises."""
    return _load(Path(path), RecordHead)


def load_record(path: str | Path) -> CalibrationRecord:
    """Read a record.

    Args:
        path: of the record.

    Returns:
        the record.

    Raises:
        RecordFileError: no such file, broken, too large, or not a calibration.
        NewerRecord: a newer major version.

    Example:
        >>> load_record("record.h5").chip_name
        'lab-128'
    """
    return _load(Path(path), CalibrationRecord)


def _load(path: Path, kind: type[T]) -> T:
    if not path.exists():
        raise RecordFileError(path, "no such file")
    try:
        with open_hdf5(path, MAX_BYTES) as file:
            if _text(file.attrs["format"]) != FORMAT:
                raise RecordFileError(path, f"format {file.attrs['format']!r}, not {FORMAT!r}")
            version = _text(file.attrs["version"])
            if int(version.split(".")[0]) > VERSION[0]:
                raise NewerRecord(path, version)
            found = kind(**read_fields(file, kind))
            check_plausible(found)  # whoever believes what is not would fail far from here
            return found
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise RecordFileError(path, f"not a readable calibration: {error}") from error


def write_fields(group: Any, part: Any) -> None:
    """Write every field of the dataclass ``part`` into an HDF5 group."""
    for item in fields(part):
        _put(group, item.name, getattr(part, item.name))


def _put(group: Any, name: str, value: Any) -> None:
    if value is None:
        return
    if is_dataclass(value):
        write_fields(group.create_group(name), value)
    elif isinstance(value, np.ndarray):
        small = value.size < 64
        group.create_dataset(name, data=value, compression=None if small else "gzip", shuffle=not small)
    elif isinstance(value, Mapping):
        if all(isinstance(v, float) for v in value.values()):
            group.attrs[name] = json.dumps(dict(value))
        else:
            parts = group.create_group(name)
            for key, entry in sorted(value.items()):
                _put(parts, str(key), entry)
    elif isinstance(value, (str, Tail)):
        group.attrs[name] = value.name if isinstance(value, Tail) else str(value)
    elif isinstance(value, (int, float)):
        group.attrs[name] = value
    else:
        raise TypeError(f"{name}: a record holds no {type(value).__name__}")


def read_fields(group: Any, kind: type) -> dict[str, Any]:
    """The fields that ``kind`` needs; names that a newer minor version added are left alone,
    fields that an older one lacks keep their defaults."""
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for item in fields(kind):
        if item.name in group or item.name in group.attrs:
            values[item.name] = _get(group, item.name, hints[item.name])
        elif item.default is MISSING and item.default_factory is MISSING:
            raise KeyError(f"{kind.__name__}.{item.name} is missing")
    return values


def _get(group: Any, name: str, hint: Any) -> Any:
    """One value of the annotated kind."""
    if isinstance(hint, UnionType):  # "X | None", and it is there
        (hint,) = [h for h in get_args(hint) if h is not NoneType]
    origin, about = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return hint(**read_fields(group[name], hint))
    if origin is np.ndarray:
        data = group[name]
        (dtype,) = get_args(about[1])
        return data[()].astype(dtype)
    if origin is Mapping and name in group.attrs:
        return {about[0](k): about[1](v) for k, v in parse_json(_text(group.attrs[name])).items()}
    if origin is Mapping:
        parts = group[name]
        return {about[0](key): _get(parts, key, about[1]) for key in parts}
    value = group.attrs[name]
    if hint is Tail:
        return tail_named(_text(value))
    if hint is str or issubclass(hint, enum.StrEnum):
        return hint(_text(value))
    return hint(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text expected, found {type(value).__name__}")
    return value


MAY_BE_NAN = ("stuck_us", "goodness")  # cells that are not stuck; figures that too few cells gave
MOST_US, MOST_S, MOST_CODES = 1e6, 1e12, 1e6  # a cell of 1 S; 30,000 years; a converter of 20 bits
ANY = (-1e12, 1e12)
RANGES: Mapping[str, tuple[float, float]] = {
    "temperature_c": (-273.15, 500.0),
    "reference_c": (-273.15, 500.0),
    "age_s": (0.0, MOST_S),
    "pulses": (0.0, 1e18),
    "seed": (-math.inf, math.inf),
    # converters
    "gain": (-1e3, 1e3),
    "offset_codes": (-MOST_CODES, MOST_CODES),
    "conversion_noise_codes": (0.0, MOST_CODES),
    "inl_codes": (-MOST_CODES, MOST_CODES),
    "cells": (min(CellState), max(CellState)),
    "stuck_us": (0.0, MOST_US),
    # cells
    "ages_s": (0.0, MOST_S),
    "levels_us": (0.0, MOST_US),
    "loc_us": (-MOST_US, MOST_US),
    "scale_us": (0.0, MOST_US),
    "unreached_us": (-MOST_US, MOST_US),
    "stuck_low_share": (0.0, 1.0),
    "stuck_high_share": (0.0, 1.0),
    "unreached_share": (0.0, 1.0),
    "wide_share": (0.0, 1.0),
    "skew": (-10.0, 10.0),
    "wide_ratio": (1.0, 1e6),
    "memory_power": (0.0, 100.0),
    "covariance": (-1e9, 1e9),  # 1e8 where readings say nothing of a law (cim.fit.law_likelihood)
    "variance_us2": (0.0, MOST_US),
    "flicker_us2": (0.0, MOST_US),
    "telegraph_us": (-MOST_US, MOST_US),
    # wires, rows, heat, writing
    "ohm": (-1e4, 1e4),  # within its error of 0 it may be below
    "units": (-1e3, 1e3),
    "conductance_per_k": (-1.0, 1.0),
    "read_variance_per_k": (-10.0, 10.0),
    "activation_ev": (-10.0, 10.0),
    "pulse_points": (0.0, 1.0),
    "reached": (0.0, 1e18),
}
ERRORS = (0.0, 1e9)  # standard errors, whose names hold "_se"
OF_WRITES = {"cells": (0.0, 1e18), "pulses": (0.0, 1e9)}  # counts of ``WriteStatistics``


def check_plausible(record: object) -> None:
    """Raise ``ValueError`` that names the first field with a number that is not finite or not plausible."""
    for place, value in _numbers("", record):
        *_, parent, name = ("", *place.split("."))
        low, high = OF_WRITES.get(name, ANY) if parent == "writes" else RANGES.get(name, ANY)
        if "_se" in name:
            low, high = ERRORS
        may_be_nan = name in MAY_BE_NAN or parent in MAY_BE_NAN
        numbers = np.atleast_1d(np.asarray(value))
        if numbers.dtype.kind == "f":
            numbers = numbers[~np.isnan(numbers)] if may_be_nan else numbers
            if not np.isfinite(numbers).all():
                raise ValueError(f"{place} holds numbers that are none (NaN or infinite)")
        beyond = numbers[(numbers < low) | (numbers > high)]
        if beyond.size:
            raise ValueError(f"{place} holds {beyond.flat[0]:g}; from {low:g} to {high:g} are plausible")


def _numbers(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every number and array of numbers, with its dotted name."""
    if is_dataclass(value):
        for item in fields(value):
            yield from _numbers(f"{place}.{item.name}".lstrip("."), getattr(value, item.name))
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(f"{place}.{key}", part)
    elif isinstance(value, int | float) or (isinstance(value, np.ndarray) and value.dtype.kind in "iuf"):
        yield place, value
