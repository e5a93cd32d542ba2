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
from collections.abc import Mapping
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
from cim.record.calibration import CalibrationRecord
from cim.record.plausible import check_plausible

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
