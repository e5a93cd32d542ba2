"""Finished steps of a calibration, kept beside the record until it is complete (``hil.report.work_folder``).

A folder ``NAME.partial`` holds one HDF5 file a step, by macro.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import h5py

from cim.hdf5_file import open_hdf5
from cim.record.file import read_fields, write_fields
from hil.report.work_folder import MAX_PART_BYTES

T = TypeVar("T")


def partial_folder(record: Path) -> Path:
    """Folder for finished steps of a calibration whose record is unfinished: ``chip.h5`` -> ``chip.h5.partial``."""
    return record.with_name(record.name + ".partial")


def read_step(path: Path, kind: type[T]) -> dict[int, T]:
    with open_hdf5(path, MAX_PART_BYTES) as file:
        return {int(macro): kind(**read_fields(file[macro], kind)) for macro in sorted(file, key=int)}


def write_step(parts: Mapping[int, object], path: Path) -> None:
    with h5py.File(path, "w") as file:
        for macro, part in parts.items():
            write_fields(file.create_group(str(macro)), part)
