"""``program.h5``: one compiled network in HDF5, whole or not at all, checked when read.

The file holds a JSON description (attribute ``description``), one data set per array, and
the text of the chip file. The program's digest is the SHA-256 of description and arrays, so
what is loaded is what was saved.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cim.chip.file import ChipFileError, parse_chip
from cim.files import write_bytes
from cim.hdf5_file import open_hdf5
from cim.json_text import parse_json
from mapping.errors import NewerVersion, ProgramFileError
from mapping.network.file import image_digest
from mapping.operators.step import ProgramRecordError
from mapping.program.checks import check_program
from mapping.program.conductance import ConductanceProgram
from mapping.program.records import Arrays, from_record, to_record

FORMAT = "hil.program"
VERSION = (1, 8)
"""1.1: copies, rounds, cells and signs of tiles; orders, groups and bits of layers; level values; adapted_to.
1.2: trained_on, aims, tuned_to, held_as. 1.3: steps on tensors of any rank, outputs.
1.4: task, preprocess. 1.5: residual reads, adapters of layers. 1.6: recipe.
1.7: calibration_keys. 1.8: mean_reads."""
MAX_FILE_BYTES = 1 << 30
MAX_OBJECTS = 1 << 18  # three a tile
MAX_ELEMENTS = 1 << 28  # of all arrays together
MAX_TEXT_BYTES = 1 << 24


def program_digest(program: ConductanceProgram) -> str:
    """SHA-256 (hex) of everything but the digest itself; the same before and after saving."""
    record, arrays = to_record(program)
    total = hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape}".encode())
        total.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return total.hexdigest()


def held_digest_at(digest: str, age_s: float) -> str:
    """The digest under which a chip holds a program whose cells are aimed for an age: that of program and age."""
    return hashlib.sha256(f"{digest} aimed for {age_s:g} s".encode()).hexdigest()


def save_program(program: ConductanceProgram, path: str | Path) -> None:
    """Write a program; the name appears only when the file is whole. Raises ``OSError``.

    Args:
        program: to write.
        path: of the program.h5.

    Example:
        >>> save_program(program, "copy.h5")
        >>> load_program("copy.h5").digest == program.digest
        True
    """
    record, arrays = to_record(program)
    content = io.BytesIO()  # in memory first: HDF5 itself does not survive a full disk
    with h5py.File(content, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = f"{VERSION[0]}.{VERSION[1]}"
        file.attrs["digest"] = program.digest
        _write_text(file, "description", json.dumps(record))
        _write_text(file, "chip", program.spec.text)
        file.create_dataset("calibration_images", data=program.calibration_images, compression="gzip")
        groups: dict[str, h5py.Group] = {}  # a name with slashes is looked up piece by piece
        for name, array in arrays.items():
            place, _, last = f"arrays/{name}".rpartition("/")
            group = groups.get(place) or groups.setdefault(place, file.require_group(place))
            # Zero-length data sets cannot be chunked, hence not compressed.
            group.create_dataset(last, data=array, compression="gzip" if array.size > 1024 else None)
    write_bytes(path, content.getbuffer())


def load_program(path: str | Path) -> ConductanceProgram:
    """Read a program and check that it holds together.

    Args:
        path: of a program.h5.

    Returns:
        the program, checked against its digest.

    Raises:
        ProgramFileError: missing, broken, too large, or its content is not that of its digest.
        NewerVersion: written for a later major version.

    Example:
        >>> load_program("program.h5").spec.name
        'lab-128'
    """
    name = str(path)
    try:
        if not Path(path).exists():
            raise ProgramFileError(name, "does not exist")
        with open_hdf5(path, MAX_FILE_BYTES, most_objects=MAX_OBJECTS) as file:
            return _read(file, name)
    except (OSError, KeyError, RuntimeError) as error:  # what h5py raises on broken files
        said = getattr(error, "strerror", None) or str(error)
        raise ProgramFileError(name, f"cannot be read: {said.strip().removeprefix(f'{name}: ')[:200]}") from error
    except (ProgramRecordError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
        raise ProgramFileError(name, f"is not a valid program: {str(error)[:400]}") from error


def stored_recipe(path: str | Path) -> str | None:
    """The recipe that a program file holds, as text; None: it holds none, or is no readable file of a program.

    Whatever is wrong with the file is said by ``load_program``.
    """
    try:
        with open_hdf5(path, MAX_FILE_BYTES, most_objects=MAX_OBJECTS) as file:
            found = parse_json(_read_text(file, "description"))["recipe"]
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, ProgramRecordError):
        return None
    return found if isinstance(found, str) else None


def _read(file: h5py.File, name: str) -> ConductanceProgram:
    if file.attrs.get("format") != FORMAT:
        raise ProgramFileError(name, "is not a compiled program (hil compile net.pt); of Keras: tf2onnx, hil import")
    version = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", str(file.attrs.get("version")))
    if version is None:
        raise ProgramFileError(name, f"version {str(file.attrs.get('version'))[:40]!r} is not 'major.minor'")
    if int(version[1]) > VERSION[0]:
        raise NewerVersion(name, f"file version {version[0]}, this program reads {VERSION[0]}.x; try     a newer hil")
    record = parse_json(_read_text(file, "description"))
    arrays = _read_arrays(file)
    images = _read_array(file, "calibration_images")
    program = from_record(record, arrays, _chip(_read_text(file, "chip"), record), images)
    check_program(program)
    digest = file.attrs.get("digest")
    if program_digest(program) != digest:
        raise ProgramFileError(name, "its content is not that of its digest: changed or damaged after it was written")
    if image_digest(images) != program.calibration_digest:
        raise ProgramFileError(name, "its calibration images are not those of its digest")
    return replace(program, digest=str(digest))


def _chip(text: str, record: Mapping[str, Any]) -> Any:
    try:
        spec = parse_chip(text, "program.h5", macros=int(record["macros"]))
    except ChipFileError as error:
        raise ProgramRecordError(f"its chip file: {error}") from error
    if spec.digest != record["spec_digest"]:
        stated = str(record["spec_digest"])
        raise ProgramRecordError(f"its chip file has digest {spec.digest[:12]}…, {stated[:12]}… was stated")
    return spec


def _read_arrays(file: h5py.File) -> Arrays:
    names: list[str] = []
    group = file["arrays"]
    group.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    total = sum(int(np.prod(group[name].shape, dtype=np.float64)) for name in names)
    if total > MAX_ELEMENTS:
        raise ProgramRecordError(f"{total} numbers are more than {MAX_ELEMENTS}")
    return {name: _read_array(group, name) for name in names}


def _read_array(group: h5py.Group, name: str) -> NDArray[Any]:
    item = group[name]
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "iu" or item.is_virtual or item.external:
        raise ProgramRecordError(f"{name!r} is not a plain array of integers")
    if np.prod(item.shape, dtype=np.float64) > MAX_ELEMENTS:
        raise ProgramRecordError(f"{name!r} has shape {item.shape}, more than {MAX_ELEMENTS} numbers")
    values: NDArray[Any] = item[()]
    return values


def _write_text(file: h5py.File, name: str, text: str) -> None:
    file.create_dataset(name, data=np.frombuffer(text.encode(), np.uint8))


def _read_text(file: h5py.File, name: str) -> str:
    item = file[name]
    if not isinstance(item, h5py.Dataset) or item.dtype != np.uint8 or item.ndim != 1 or item.size > MAX_TEXT_BYTES:
        raise ProgramRecordError(f"{name!r} is not a text of at most {MAX_TEXT_BYTES} bytes")
    return bytes(_read_array(file, name)).decode()
